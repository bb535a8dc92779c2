"""NIRCam's detectors: their constants, and the performance expected of them.

``nircam_detectors.csv`` beside this file holds the numbers of each detector; docs/detectors.md gives the
source of each column. The expected values of each channel are those of the NRC-09 notebook and of the JWST
user documentation ("NIRCam Detector Performance").
"""

import csv
import functools
import statistics
from dataclasses import dataclass
from importlib import resources
from typing import Literal

from shared.statistics.verdicts import Value

Channel = Literal["SW", "LW"]

#: Width of the border of reference pixels on a full frame, in pixels.
REFERENCE_BORDER = 4
FULL_FRAME = 2048
#: Pixel pitch, micrometres.
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
class ChannelExpectation:
    """Expected performance of the detectors of one channel.

    Attributes
    ----------
    dark_current_nrc09, dark_current_jdox : Value
        e- per 1000 s; from the table of the NRC-09 notebook, and from the JWST documentation.
    cds_noise : Value
        e-.
    effective_noise : Value
        e-, for 1000 s in 93 RAPID groups.
    gain : Value
        e-/DN.
    theory_dark, theory_read_noise, theory_p0, theory_p1 : float
        e-/s, e-, and the two terms (e-) of the theory curve (Rauscher 2007 as the notebook extends it).
    """

    dark_current_nrc09: Value
    dark_current_jdox: Value
    cds_noise: Value
    effective_noise: Value
    gain: Value
    theory_dark: float
    theory_read_noise: float
    theory_p0: float
    theory_p1: float


EXPECTED: dict[Channel, ChannelExpectation] = {
    "SW": ChannelExpectation(
        Value(1.9, 1.1),
        Value(1.9, 1.1),
        Value(15.77, 0.94),
        Value(7.79, 0.68),
        Value(2.05, 0.4),
        theory_dark=0.002,
        theory_read_noise=11.5,
        theory_p0=1.0,
        theory_p1=5.0,
    ),
    "LW": ChannelExpectation(
        Value(27.0, 5.0),
        Value(34.2, 5.0),
        Value(13.25, 0.08),
        Value(9.28, 0.12),
        Value(1.82, 0.4),
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
        The values that the keywords must have for this detector.
    dark_current_cv3 : float
        e- per 1000 s; ground test.
    amplifier_spread_cv3 : float
        Standard deviation of that over the four amplifiers, e- per 1000 s.
    cds_noise_cv3_dn : (float, float)
        Range of the total CDS noise, 1/f noise included; ground test, DN.
    cds_noise_e : tuple of float
        CDS noise from the noise of single reads in flight, e-; empty where it is not known.
    """

    name: str
    channel: Channel
    module: str
    gain: float
    ktc_dn: float
    fastaxis: int
    slowaxis: int
    dark_current_cv3: float
    amplifier_spread_cv3: float
    cds_noise_cv3_dn: tuple[float, float]
    cds_noise_e: tuple[float, ...] = ()

    @property
    def expected(self) -> ChannelExpectation:
        """Expected performance of the detector's channel."""
        return EXPECTED[self.channel]


@functools.cache
def detectors() -> dict[str, Detector]:
    """Return the ten NIRCam detectors by name."""
    text = resources.files("shared.nircam").joinpath("nircam_detectors.csv").read_text()
    by_name = {}
    for row in csv.DictReader(text.splitlines()):
        name = row["detector"]
        flipped = name in _FLIPPED_X
        lowest, highest = row["cds_temporal_total_cv3_dn_approx_range"].split("-")
        by_name[name] = Detector(
            name=name,
            channel="LW" if name.endswith("LONG") else "SW",
            module=name[3],
            gain=float(row["gain_jdox_e_per_dn"]),
            ktc_dn=float(row["ktc_cv3_dn"]),
            fastaxis=-1 if flipped else 1,
            slowaxis=2 if flipped else -2,
            dark_current_cv3=float(row["dark_cv3_e_per_ks_derived"]),
            amplifier_spread_cv3=_amplifier_spread(row),
            cds_noise_cv3_dn=(float(lowest), float(highest)),
            cds_noise_e=(float(derived),) if (derived := row["cds_e_derived_sqrt2"]) else (),
        )
    return by_name


def _amplifier_spread(row: dict[str, str]) -> float:
    rates = [float(row[f"dark_cv3_amp{number}"]) for number in range(1, 5)]
    return statistics.stdev(rates) * float(row["gain_jdox_e_per_dn"]) * 1000
