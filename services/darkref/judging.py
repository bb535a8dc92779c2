"""What flight mode does with a combined set: errors of single measurements, and the DQ plane."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import special

from services.darkref.flag_thresholds import PixelCounts, Thresholds
from services.darkref.pixel_flags import PixelMaps, flag_pixels
from services.darkref.streaming import CombinedSet
from shared.medians import middles


def estimate_single_errors(combined: CombinedSet, integrations: int, science: NDArray[np.bool_]) -> None:
    """Give the mean of one measurement, whose error its pixel cannot tell, that of the group's usual one.

    That is the median of ``ERR * sqrt(N)`` over the science pixels with two measurements or more of that
    group, each divided by the root of the median of chi2(N-1)/(N-1), below which half of the variances of
    N values lie. Where no pixel has two, nothing is known of errors, and ERR stays 0; and so it does in group
    0, where it is 0 by construction.

    Parameters
    ----------
    combined : CombinedSet
        Its ERR is changed.
    integrations : int
    science : ndarray of bool, 2D (y, x)
    """
    if combined.single == 0:
        return
    freedom = np.arange(1.0, integrations)
    # For N = 0 and 1 without meaning, and not looked at.
    per_error = np.ones(integrations + 1, np.float32)
    per_error[2:] = np.sqrt((freedom + 1) / (2 * special.gammaincinv(freedom / 2, 0.5) / freedom))
    for group in range(1, combined.nmeas.shape[0]):
        count = combined.nmeas.plane(group)
        alone, several = count == 1, science & (count > 1)
        if not (alone.any() and several.any()):
            continue
        error = combined.err.plane(group)
        first, second = middles(error[several] * per_error[count[several]])
        error[alone] = (float(first) + float(second)) / 2
        combined.err.write(group, 0, error[None])


def judge_pixels(
    combined: CombinedSet,
    integrations: int,
    science: NDArray[np.bool_],
    gain: float,
    group_time: float,
    thresholds: Thresholds,
) -> tuple[NDArray[np.uint32], PixelCounts]:
    """Return the DQ plane of a combined set, 2D (y, x), and what is in it.

    Parameters
    ----------
    combined : CombinedSet
    integrations : int
    science : ndarray of bool, 2D (y, x)
    gain : float
        e-/DN.
    group_time : float
        s.
    thresholds : Thresholds
    """
    maps = PixelMaps(
        slope=combined.slope,
        integration_slope=combined.slopes.plane,
        integrations=integrations,
        sci=combined.sci.plane,
        err=combined.err.plane,
        nmeas=combined.nmeas.plane,
        groups=combined.sci.shape[0],
        science=science,
        gain=gain,
        group_time=group_time,
    )
    return flag_pixels(maps, thresholds)


def as_facts(values: dict[str, float | int | None]) -> dict[str, float | int | None]:
    """Return numbers of which JSON knows all: None in place of NaN."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }
