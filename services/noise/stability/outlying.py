"""Finds the exposures and integrations of a set that stand apart, so that they do not make its noise.

A lamp in one exposure of eight makes the noise of the set four times as large, and darkref leaves it out of
the mean. The services do not know each other, so the same test (`shared.statistics.outliers.extreme_values`),
with the same floors, is made here of what the exposures' own noise products hold: dark rate, CDS noise and
level of each integration, and the jump rate of each exposure.
"""

import math
from collections.abc import Sequence

import numpy as np

from services.noise.stability.stability import level_slope
from shared.products.noise import ExposureNoiseResults
from shared.products.reference import LeftOutExposure
from shared.statistics.outliers import FEWEST, extreme_values

#: Largest share of a set that is left out: where more disagree, which part is right is for people to say.
_MOST_LEFT_OUT = 0.2
#: Least scatter of noise relative to its median, of levels (DN) and of jump rates (per cent).
_NOISE_FLOOR, _LEVEL_FLOOR, _JUMPS_FLOOR = 0.02, 20.0, 2.0

_Places = Sequence[tuple[str, int | None]]


def outlying_integrations(
    exposures: Sequence[ExposureNoiseResults], gain: float, group_time: float
) -> list[LeftOutExposure]:
    """Return the exposures and integrations of a set that stand apart from it.

    Parameters
    ----------
    exposures : sequence of ExposureNoiseResults
        All of the set.
    gain : float
        e-/DN.
    group_time : float
        s.

    Returns
    -------
    list of LeftOutExposure
        Each under the first figure that says so. `left_out` is False for all of them where together they are
        more than a fifth of the set. Empty with fewer than five integrations.
    """
    places: list[tuple[str, int | None]] = []
    rates, noise, levels = [], [], []
    for exposure in exposures:
        count = len(exposure.median_dn) + len(exposure.lost_integrations)
        in_use = [n for n in range(count) if n not in exposure.lost_integrations]
        places += [(exposure.exposure_id, n if count > 1 else None) for n in in_use]
        ramps = np.array(exposure.median_dn, dtype=float)
        rates += [level_slope(ramp) * gain / group_time * 1000 for ramp in ramps]
        levels += ramps[:, 0].tolist()
        noise += exposure.cds_noise_e
    names = [exposure.exposure_id for exposure in exposures]
    jumps = [exposure.science_jump_pixel_percent for exposure in exposures]
    entries = [
        *_apart("dark rate", "e-/1000 s", rates, places, 0.0),
        *_apart("noise", "e-", noise, places, _NOISE_FLOOR * _median(noise)),
        *_apart("level", "DN", levels, places, _LEVEL_FLOOR),
        *_apart("jump rate", "% of pixels", jumps, [(name, None) for name in names], _JUMPS_FLOOR),
    ]
    found: dict[tuple[str, int | None], LeftOutExposure] = {}
    for entry in entries:
        if (entry.exposure, None) not in found:
            found.setdefault((entry.exposure, entry.integration), entry)
    gone = sum(bool({(exposure, n), (exposure, None)} & found.keys()) for exposure, n in places)
    leave = gone <= _MOST_LEFT_OUT * len(places)
    return [entry.model_copy(update={"left_out": leave}) for entry in found.values()]


def _median(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return float(np.median(known)) if known else 0.0


def _apart(
    quantity: str, unit: str, values: Sequence[float], places: _Places, floor: float
) -> list[LeftOutExposure]:
    known = np.flatnonzero(np.isfinite(values))
    if known.size < FEWEST:
        return []
    compared = np.array(values, dtype=float)[known]
    extreme = extreme_values(compared, floor)
    rest = np.delete(compared, extreme)
    scatter = math.hypot(float(rest.std(ddof=1)), floor)
    expected = float(rest.mean())
    return [
        LeftOutExposure(
            exposure=places[known[index]][0],
            integration=places[known[index]][1],
            quantity=quantity,
            value=float(compared[index]),
            expected=expected,
            scatter=scatter,
            sigma=(float(compared[index]) - expected) / scatter if scatter > 0 else None,
            unit=unit,
        )
        for index in extreme
    ]
