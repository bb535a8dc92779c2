"""Facts about each NIRCam detector, from one table.

``nircam_detectors.csv`` beside this file holds the per-detector numbers; docs/detectors.md says where
each column comes from. The expected values per channel are those of the NRC-09 notebook and the JWST
user documentation ("NIRCam Detector Performance").
"""

import csv
import functools
from dataclasses import dataclass
from importlib import resources
from typing import Literal

Channel = Literal["SW", "LW"]

#: Width of the border of reference pixels on a full frame, in pixels.
REFERENCE_BORDER = 4
FULL_FRAME = 2048
#: Side of a pixel in micrometres.
PIXEL_PITCH_UM = 18.0

#: Readout pattern -> (NFRAMES, GROUPGAP). Source: NIRCam read pattern definitions.
READ_PATTERNS: dict[str, tuple[int, int]] = {
    "RAPID": (1, 0),
    "BRIGHT1": (1, 1),
    "BRIGHT2": (2, 0),
    "SHALLOW2": (2, 3),
    "SHALLOW4": (4, 1),
    "MEDIUM2": (2, 8),
    "MEDIUM8": (8, 2),
    "DEEP2": (2, 18),
    "DEEP8": (8, 12),
}

_FLIPPED_X = frozenset({"NRCA1", "NRCA3", "NRCALONG", "NRCB2", "NRCB4"})


@dataclass(frozen=True)
class Expected:
    """A value and its 1-sigma width."""

    value: float
    sigma: float


@dataclass(frozen=True)
class ChannelExpectation:
    """What the detectors of one channel are expected to do.

    Attributes
    ----------
    dark_current_nrc09, dark_current_jdox : Expected
        e- per 1000 s; the NRC-09 notebook's table, and the JWST documentation.
    cds_noise : Expected
        e-.
    effective_noise : Expected
        e-, for 1000 s in 93 RAPID groups.
    gain : Expected
        e-/DN.
    theory_dark, theory_read_noise, theory_p0, theory_p1 : float
        e-/s, e-, and the two terms (e-) of the theory curve (Rauscher 2007 as the notebook extends it).
    """

    dark_current_nrc09: Expected
    dark_current_jdox: Expected
    cds_noise: Expected
    effective_noise: Expected
    gain: Expected
    theory_dark: float
    theory_read_noise: float
    theory_p0: float
    theory_p1: float


EXPECTED: dict[Channel, ChannelExpectation] = {
    "SW": ChannelExpectation(
        Expected(1.9, 1.1),
        Expected(1.9, 1.1),
        Expected(15.77, 0.94),
        Expected(7.79, 0.68),
        Expected(2.05, 0.4),
        theory_dark=0.002,
        theory_read_noise=11.5,
        theory_p0=1.0,
        theory_p1=5.0,
    ),
    "LW": ChannelExpectation(
        Expected(27.0, 5.0),
        Expected(34.2, 5.0),
        Expected(13.25, 0.08),
        Expected(9.28, 0.12),
        Expected(1.82, 0.4),
        theory_dark=0.034,
        theory_read_noise=10.0,
        theory_p0=1.5,
        theory_p1=10.0,
    ),
}


@dataclass(frozen=True)
class Detector:
    """One NIRCam detector.

    Attributes
    ----------
    name : str
        As in the DETECTOR keyword: ``NRCA1`` .. ``NRCB4``, ``NRCALONG``, ``NRCBLONG``.
    gain : float
        e-/DN, JWST documentation.
    ktc_dn : float
        Reset (kTC) noise measured in the ground test, DN.
    fastaxis, slowaxis : int
        The only values the keywords may have for this detector.
    """

    name: str
    channel: Channel
    module: str
    gain: float
    ktc_dn: float
    fastaxis: int
    slowaxis: int

    @property
    def expected(self) -> ChannelExpectation:
        """What is expected of this detector's channel."""
        return EXPECTED[self.channel]


@functools.cache
def detectors() -> dict[str, Detector]:
    """Return the ten NIRCam detectors by name."""
    text = resources.files("shared").joinpath("nircam_detectors.csv").read_text()
    found = {}
    for row in csv.DictReader(text.splitlines()):
        name = row["detector"]
        flipped = name in _FLIPPED_X
        found[name] = Detector(
            name=name,
            channel="LW" if name.endswith("LONG") else "SW",
            module=name[3],
            gain=float(row["gain_jdox_e_per_dn"]),
            ktc_dn=float(row["ktc_cv3_dn"]),
            fastaxis=-1 if flipped else 1,
            slowaxis=2 if flipped else -2,
        )
    return found
