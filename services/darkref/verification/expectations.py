"""What is expected of a detector: its dark current, and the read noise of each amplifier.

Dark current. Three figures are known: NRC-09's table and the JWST documentation by channel, and the ground
test (CV3) by detector. They differ by up to 30 % in the long-wave channel, which is as much as is known. So a
rate is held against the nearest of them, and a distance of more than 5 sigma, of the measurement and of the
table's spread in quadrature, is nothing that a program can put down to chance. It may be light, a drifting
bias, or the detector: a person decides. A rate whose own error is above twice the spread could not have told,
and is recorded as not enough data unless it is off by 5 sigma all the same.

Read noise. The READNOISE map of CRDS that the jump step used, per amplifier, where that file is on this
machine; its pixels are the CDS noise of single frames, DN. Limit: 10 %. Otherwise the table: the lowest and
the highest CDS noise that it has for the detector (channel, ground test with its range over amplifiers, and
single reads), 5 % beyond either end. That is wide, as the figures differ by half; a range that is too narrow
rejects good darks: CRDS's own map of NRCBLONG has 14.9 to 15.4 e-, the channel's one number is 13.25. Pixels
of a subarray without reference pixels keep the 1/f noise that reference pixels take out, up to the ground
test's total noise; for them the upper end is never below that.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits

from shared.nircam.configuration import ConfigurationKey
from shared.nircam.detectors import Detector, detectors
from shared.nircam.geometry import amplifiers, science_pixels
from shared.products.reference import VerificationCheck
from shared.statistics.verdicts import TOO_UNCERTAIN, Acceptance, Value

#: Distance from what is expected, in sigmas, beyond which a reference is held.
HELD_BEYOND = 5.0
#: Relative: of the read noise in a map of CRDS, and at the ends of the table's range.
_MAP_LIMIT, _TABLE_LIMIT = 0.10, 0.05


@dataclass(frozen=True)
class ReadNoiseRange:
    """The CDS noise that an amplifier should have, e-, and where that is known from."""

    low: float
    high: float
    source: str

    @property
    def middle(self) -> float:
        """Centre of the range, e-."""
        return (self.low + self.high) / 2

    @property
    def tolerance(self) -> float:
        """Half of its width, in units of the centre."""
        return (self.high - self.low) / (self.high + self.low)


def dark_current_expectations(detector: Detector) -> dict[str, Value]:
    """Return the dark currents that are known for a detector, e- per 1000 s, by their source."""
    channel = detector.expected
    return {
        "NRC-09's table": channel.dark_current_nrc09,
        "JWST documentation": channel.dark_current_jdox,
        f"ground test of {detector.name}": Value(detector.dark_current_cv3, channel.dark_current_nrc09.error),
    }


def check_dark_current(key: ConfigurationKey, measured: Value) -> VerificationCheck:
    """Check that a dark current, e- per 1000 s, lies within 5 sigma of what is known of the detector."""
    known = dark_current_expectations(detectors()[key.detector])
    low, high = (end(known.values(), key=lambda value: value.value) for end in (min, max))
    nearest = low if measured.value < low.value else high if measured.value > high.value else measured
    spread = high.error if measured.value > high.value else low.error
    sigma = (measured.value - nearest.value) / math.hypot(measured.error, spread)
    reach = HELD_BEYOND * math.hypot(measured.error, spread)
    blind = measured.error > TOO_UNCERTAIN * spread
    aims = ", ".join(f"{value} in {source}" for source, value in known.items())
    detail = f"{measured} e-/1000 s; expected {aims}"
    if blind:
        detail += f"; only below {low.value - reach:.3g} or above {high.value + reach:.3g} would it show"
    within = abs(sigma) <= HELD_BEYOND
    return VerificationCheck(
        name="dark current",
        where="detector",
        passed=None if within and blind else within,
        on_failure=Acceptance.HELD,
        value=sigma,
        limit=HELD_BEYOND,
        unit="sigma",
        detail=detail,
    )


def expected_read_noise(key: ConfigurationKey, gain: float, crds_map: Path | None) -> list[ReadNoiseRange]:
    """Return the CDS noise that each amplifier should have.

    Parameters
    ----------
    key : ConfigurationKey
    gain : float
        e-/DN.
    crds_map : Path or None
        A READNOISE reference that covers the subarray; None, or a file that does not: the table.
    """
    known = detectors()[key.detector]
    figures = [known.expected.cds_noise.value, *(known.cds_noise_e or ())]
    ground = known.cds_noise_cv3_dn[1] * known.gain
    low = (1 - _TABLE_LIMIT) * min(figures)
    high = (1 + _TABLE_LIMIT) * max(*figures, ground)
    table = ReadNoiseRange(low, high, "the table of the detector")
    medians = [] if crds_map is None else _amplifier_medians(crds_map, key)
    ranges = []
    for number in range(key.noutputs):
        median = medians[number] * gain if medians else math.nan
        if math.isfinite(median) and median > 0:
            highest = (1 + _MAP_LIMIT) * median
            if not _has_reference_pixels(key):
                highest = max(highest, ground)
            source = f"READNOISE of CRDS ({crds_map.name if crds_map else ''}: {median:.2f} e-)"
            ranges.append(ReadNoiseRange((1 - _MAP_LIMIT) * median, highest, source))
        else:
            ranges.append(table)
    return ranges


def _has_reference_pixels(key: ConfigurationKey) -> bool:
    return not bool(science_pixels(key).all())


def _amplifier_medians(path: Path, key: ConfigurationKey) -> Sequence[float]:
    """Return the median of a map over the science pixels of each amplifier, DN; empty if it does not fit."""
    try:
        with fits.open(path, memmap=True) as hdus:
            header = hdus[0].header
            y = key.substrt2 - int(header.get("SUBSTRT2", 1))
            x = key.substrt1 - int(header.get("SUBSTRT1", 1))
            if min(x, y) < 0:
                return []
            section = hdus["SCI"].section[y : y + key.subsize2, x : x + key.subsize1]
            values = np.array(section, np.float64)
    except (OSError, ValueError, TypeError, LookupError):
        return []
    if values.shape != (key.subsize2, key.subsize1):
        return []
    usable = science_pixels(key) & np.isfinite(values) & (values > 0)
    medians = []
    for columns in amplifiers(key):
        mine = values[:, columns][usable[:, columns]]
        medians.append(float(np.median(mine)) if mine.size else math.nan)
    return medians
