"""What to simulate: a plan, checked against what the instrument can do."""

import csv
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from astropy.time import Time

from services.simulation.cosmic_rays import charge_library
from shared.detectors import FULL_FRAME, READ_PATTERNS, Detector, detectors
from shared.errors import BadInput

#: Most groups of an integration a readout pattern allows. Source: NIRCam read pattern definitions
#: (nircam_read_pattern_definitions.list, PRD).
MAX_GROUPS = {
    "RAPID": 108,
    "BRIGHT1": 10,
    "BRIGHT2": 10,
    "SHALLOW2": 10,
    "SHALLOW4": 10,
    "MEDIUM2": 10,
    "MEDIUM8": 10,
    "DEEP2": 20,
    "DEEP8": 20,
}

#: Time to read one pixel, s, and pixels of line overhead.
PIXEL_TIME = 10e-6
LINE_OVERHEAD = 12


@dataclass(frozen=True)
class Subarray:
    """Where a subarray lies on one detector, 1-based, in science orientation.

    Source: NIRCam subarray definitions of the PRD (`subarrays.csv` condenses NIRCam_Subarrays.xml).
    """

    name: str
    detector: str
    substrt1: int
    substrt2: int
    subsize1: int
    subsize2: int
    noutputs: int
    coronmsk: str


@functools.cache
def subarrays() -> dict[tuple[str, str], Subarray]:
    """Return the known subarrays by (detector, name)."""
    text = resources.files("services.simulation").joinpath("subarrays.csv").read_text()
    found = {}
    for row in csv.DictReader(text.splitlines()):
        subarray = Subarray(
            name=row["subarray"],
            detector=row["detector"],
            substrt1=int(row["substrt1"]),
            substrt2=int(row["substrt2"]),
            subsize1=int(row["subsize1"]),
            subsize2=int(row["subsize2"]),
            noutputs=int(row["noutputs"]),
            coronmsk=row["coronmsk"],
        )
        found[subarray.detector, subarray.name] = subarray
    return found


def frame_time(columns: int, rows: int, noutputs: int) -> float:
    """Return the time to read a frame, s.

    Pixels of 10 us, 12 pixels of overhead a line, one line more (and one pixel) with four outputs, two
    lines more with one. Source: JWST user documentation, "NIRCam Detector Subarrays"; it gives the
    10.73677 s of a full frame and the 4.18584 s of SUB640.
    """
    line = columns // noutputs + LINE_OVERHEAD
    pixels = line * (rows + 1) + 1 if noutputs > 1 else line * (rows + 2)
    return round(pixels * PIXEL_TIME, 5)


@dataclass(frozen=True)
class SimulationPlan:
    """Exposures of one configuration.

    Attributes
    ----------
    detector, subarray : str
        As in DETECTOR and SUBARRAY.
    readpatt : str
    ngroups, nints, exposures : int
    noutputs : int or None
        None: what the subarray uses.
    start : str or None
        UTC start of the first exposure, ISO; None: where the plan before ends, or 2022-04-18.
    seed : int
        Of the detector's pixels and of everything random; exposures do not depend on one another.
    cosmic_ray_rate : float or None
        hits/cm2/s; None: the scene's own.
    scene : str
        Charge library: ``"SUNMIN"``, ``"SUNMAX"`` or ``"FLARES"``.
    snowballs : int
        Snowballs in each exposure.
    program : str
        Five digits.

    Raises
    ------
    BadInput
        If the instrument cannot do this.
    """

    detector: str
    subarray: str = "SUB320"
    readpatt: str = "RAPID"
    ngroups: int = 20
    nints: int = 1
    exposures: int = 1
    noutputs: int | None = None
    start: str | None = None
    seed: int = 1062
    cosmic_ray_rate: float | None = None
    scene: str = "SUNMIN"
    snowballs: int = 0
    program: str = "01062"

    def __post_init__(self) -> None:
        if self.detector not in detectors():
            raise BadInput(
                "detector", f"unknown detector {self.detector!r}; choose one of {', '.join(detectors())}"
            )
        if (self.detector, self.subarray) not in subarrays():
            there = sorted(name for detector, name in subarrays() if detector == self.detector)
            raise BadInput(
                "subarray",
                f"{self.detector} has no subarray {self.subarray!r}; choose one of {', '.join(there)}",
            )
        if self.readpatt not in READ_PATTERNS:
            raise BadInput(
                "readpatt",
                f"unknown readout pattern {self.readpatt!r}; choose one of {', '.join(READ_PATTERNS)}",
            )
        most = MAX_GROUPS[self.readpatt]
        if not 2 <= self.ngroups <= most:
            raise BadInput(
                "ngroups", f"NGROUPS {self.ngroups} is outside 2..{most}, which {self.readpatt} allows"
            )
        for name, value, least in (
            ("nints", self.nints, 1),
            ("exposures", self.exposures, 1),
            ("snowballs", self.snowballs, 0),
            ("seed", self.seed, 0),
        ):
            if value < least:
                raise BadInput(name, f"{name} is {value}; it must be at least {least}")
        self._check_outputs()
        if self.scene not in charge_library().scenes:
            raise BadInput(
                "scene",
                f"unknown scene {self.scene!r}; choose one of {', '.join(charge_library().scenes)}",
            )
        rate = self.cosmic_ray_rate
        if rate is not None and not (math.isfinite(rate) and rate >= 0):
            raise BadInput(
                "cosmic_ray_rate", f"cosmic ray rate {rate} hits/cm2/s; give a finite number of 0 or more"
            )
        if not (len(self.program) == 5 and self.program.isdigit()):
            raise BadInput("program", f"program {self.program!r} is not five digits, such as 01062")
        if self.start is not None:
            try:
                Time(self.start, scale="utc")
            except ValueError:
                raise BadInput(
                    "start", f"start {self.start!r} is not an ISO date and time, such as 2022-04-18T00:00:00"
                ) from None

    def _check_outputs(self) -> None:
        allowed = (1, 4) if self.geometry.subsize1 == FULL_FRAME else (1,)
        if self.outputs not in allowed:
            raise BadInput(
                "noutputs",
                f"{self.subarray} is read through {' or '.join(map(str, allowed))} output(s), "
                f"not {self.noutputs}",
            )

    @property
    def device(self) -> Detector:
        """Facts about the detector."""
        return detectors()[self.detector]

    @property
    def geometry(self) -> Subarray:
        """Where the subarray lies."""
        return subarrays()[self.detector, self.subarray]

    @property
    def outputs(self) -> int:
        """Outputs used."""
        return self.geometry.noutputs if self.noutputs is None else self.noutputs

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.geometry.subsize2, self.geometry.subsize1

    @property
    def nframes(self) -> int:
        """Frames averaged into a group."""
        return READ_PATTERNS[self.readpatt][0]

    @property
    def groupgap(self) -> int:
        """Frames dropped between groups."""
        return READ_PATTERNS[self.readpatt][1]

    @property
    def tframe(self) -> float:
        """Frame time, s."""
        return frame_time(self.geometry.subsize1, self.geometry.subsize2, self.outputs)

    @property
    def tgroup(self) -> float:
        """From one group to the next, s."""
        return round(self.tframe * (self.nframes + self.groupgap), 5)

    @property
    def integration_time(self) -> float:
        """From the reset to the last frame's end, s."""
        return self.tgroup * (self.ngroups - 1) + self.tframe * self.nframes

    @property
    def exposure_seconds(self) -> float:
        """Of an exposure with its resets, one frame before each integration, s."""
        return self.nints * (self.integration_time + self.tframe)

    @property
    def hit_rate(self) -> float:
        """Cosmic rays, hits/cm2/s."""
        own = charge_library().scenes[self.scene].rate
        return own if self.cosmic_ray_rate is None else self.cosmic_ray_rate


def require_one_detector_each(plans: Sequence[SimulationPlan]) -> None:
    """Refuse two seeds for one detector: its pixels, hence its references, could not be both.

    Raises
    ------
    BadInput
        If there is no plan, or two plans of one detector differ in their seed.
    """
    if not plans:
        raise BadInput("plans", "nothing to simulate: give at least one detector and subarray")
    seeds: dict[str, int] = {}
    for plan in plans:
        first = seeds.setdefault(plan.detector, plan.seed)
        if first != plan.seed:
            raise BadInput(
                "seed",
                f"{plan.detector} is asked for with seeds {first} and {plan.seed}; "
                "one detector has one set of pixels, so give one seed",
            )
