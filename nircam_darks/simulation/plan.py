"""The plan of a simulation, checked against what the instrument can do."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from shared.errors import BadInput
from shared.nircam.detectors import FULL_FRAME, READ_PATTERNS, Detector, detectors
from shared.nircam.subarrays import Subarray, frame_time, subarrays

if TYPE_CHECKING:
    from nircam_darks.simulation.cosmic_rays import Scene

#: Maximum number of groups per integration by readout pattern. Source: NIRCam read pattern definitions
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


def _scenes() -> "dict[str, Scene]":
    # Here, for the same reason as astropy.time below.
    from nircam_darks.simulation.cosmic_rays import charge_library

    return charge_library().scenes


@dataclass(frozen=True)
class SimulationPlan:
    """Exposures of one configuration. Each field says what it means; `nircam-darks simulate` shows it.

    Raises
    ------
    BadInput
        If the instrument cannot do this.
    """

    detector: Annotated[str, Field(description="DETECTOR, such as NRCA1 or NRCBLONG")]
    subarray: Annotated[str, Field(description="SUBARRAY, such as FULL, SUB640, SUB320 or SUB64P")] = "SUB320"
    readpatt: Annotated[str, Field(description="Readout pattern, such as RAPID or DEEP8")] = "RAPID"
    ngroups: Annotated[int, Field(description="Groups per integration")] = 20
    nints: Annotated[int, Field(description="Integrations per exposure")] = 1
    exposures: Annotated[int, Field(description="Number of exposures")] = 1
    noutputs: Annotated[
        int | None, Field(description="Number of outputs; by default what the subarray uses")
    ] = None
    start: Annotated[
        str | None,
        Field(
            description="UTC start of the first exposure, such as 2022-04-18T00:00:00; by default when the "
            "plan before it ends"
        ),
    ] = None
    seed: Annotated[
        int,
        Field(description="Seed of the detector's pixels and of all noise: the same seed, the same files"),
    ] = 1062
    cosmic_ray_rate: Annotated[
        float | None, Field(description="Cosmic rays in hits/cm2/s; by default the scene's own rate")
    ] = None
    scene: Annotated[
        str, Field(description="Charge library of the cosmic rays: SUNMIN, SUNMAX or FLARES")
    ] = "SUNMIN"
    snowballs: Annotated[int, Field(description="Snowballs per exposure")] = 0
    program: Annotated[str, Field(description="JWST program, five digits")] = "01062"

    def __post_init__(self) -> None:
        if self.detector not in detectors():
            raise BadInput(
                "detector", f"unknown detector {self.detector!r}; choose one of {', '.join(detectors())}"
            )
        if (self.detector, self.subarray) not in subarrays():
            names = sorted(name for detector, name in subarrays() if detector == self.detector)
            raise BadInput(
                "subarray",
                f"{self.detector} has no subarray {self.subarray!r}; choose one of {', '.join(names)}",
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
        if self.scene not in _scenes():
            raise BadInput("scene", f"unknown scene {self.scene!r}; choose one of {', '.join(_scenes())}")
        rate = self.cosmic_ray_rate
        if rate is not None and not (math.isfinite(rate) and rate >= 0):
            raise BadInput(
                "cosmic_ray_rate", f"cosmic ray rate {rate} hits/cm2/s; give a finite number of 0 or more"
            )
        if not (len(self.program) == 5 and self.program.isdigit()):
            raise BadInput("program", f"program {self.program!r} is not five digits, such as 01062")
        if self.start is not None:
            # Slow to import, and the command line reads this module for its options.
            from astropy.time import Time

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
        """The detector."""
        return detectors()[self.detector]

    @property
    def geometry(self) -> Subarray:
        """Position of the subarray on the detector."""
        return subarrays()[self.detector, self.subarray]

    @property
    def outputs(self) -> int:
        """Number of outputs used."""
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
        """Frame time (s)."""
        return frame_time(self.geometry.subsize1, self.geometry.subsize2, self.outputs)

    @property
    def tgroup(self) -> float:
        """Time from one group to the next (s)."""
        return round(self.tframe * (self.nframes + self.groupgap), 5)

    @property
    def integration_time(self) -> float:
        """Time from the reset to the end of the last frame (s)."""
        return self.tgroup * (self.ngroups - 1) + self.tframe * self.nframes

    @property
    def exposure_seconds(self) -> float:
        """Duration of an exposure, with a reset of one frame before each integration (s)."""
        return self.nints * (self.integration_time + self.tframe)

    @property
    def hit_rate(self) -> float:
        """Rate of cosmic rays (hits/cm2/s)."""
        own = _scenes()[self.scene].rate
        return own if self.cosmic_ray_rate is None else self.cosmic_ray_rate


def require_one_detector_each(plans: Sequence[SimulationPlan]) -> None:
    """Refuse two seeds for one detector, since its pixels and references follow from its seed.

    Raises
    ------
    BadInput
        If there is no plan, or two plans of one detector differ in their seed.
    """
    if not plans:
        raise BadInput("plans", "nothing to simulate: give at least one plan")
    seeds: dict[str, int] = {}
    for plan in plans:
        first = seeds.setdefault(plan.detector, plan.seed)
        if first != plan.seed:
            raise BadInput(
                "seed",
                f"{plan.detector} is requested with seeds {first} and {plan.seed}; "
                "a detector has only one set of pixels, so give one seed",
            )
