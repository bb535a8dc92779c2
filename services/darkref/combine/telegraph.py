"""Which pixels change between levels: by steps down within a ramp, or from one integration to the next.

Steps down. Light and cosmic rays only ever add charge. A pixel whose signal falls, twice or more, by more
than its noise from a group to the next is one that jumps between two levels (random telegraph noise). Such a
pixel has quiet stretches of minutes: over a few integrations its variance may be ordinary, and the jump step,
which flags rises and falls alike, takes each for a hit. One fall may be the way back from a single bad read.

The noise of a step is the larger one of the detector's and of the pixel's own. The own one is from the mean
of all steps with the rises counted as 0, which is sigma / sqrt(2 pi) for a Gaussian: hits, which only rise,
are not in it, and the few falls of a telegraph pixel move it little.

Two levels. A pixel that is hot in some of the integrations only has rates in two clusters, of two
integrations or more each. They differ by what makes a pixel hot, and by more than a hit can do that the jump
step misses: a hit of `_MISSED_SIGMAS` steps in the middle of a ramp tilts its line by 1.5 times as much over
the whole ramp. The best division of the sorted rates in two explains nearly all of their scatter. Of Gaussian
values it explains about two thirds (Otsu 1979, IEEE Trans. Syst. Man Cybern. 9, 62).
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from shared.statistics.medians import median

#: Sigmas of a step that count as a fall: of 600 steps of Gaussian noise, two are as large in 2 of 10^6
#: pixels.
FALL_SIGMAS = 4.5
#: A fall that whole frames share is none of a pixel's: it has to be larger than this times the usual second
#: largest fall, which Gaussian noise puts at 3 to 3.6 sigma.
_ABOVE_THE_USUAL = 1.3
#: Size of a hit, in sigmas of a step, that the jump step does not miss (its threshold is 4).
_MISSED_SIGMAS = 5.0
#: Fraction of the scatter of rates that two clusters have to explain.
_EXPLAINED = 0.9
#: Fewest integrations of a cluster: one that stands out may have been hit.
_FEWEST = 2


def falling_pixels(
    second_fall: NDArray[np.float32],
    typical_fall: NDArray[np.float32],
    step_variance: NDArray[np.float32],
    science: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Return the pixels that fall twice or more.

    Parameters
    ----------
    second_fall, typical_fall : ndarray of float32, 2D (y, x)
        As in `services.darkref.combine.combine_set.CombinedSet`, DN.
    step_variance : ndarray of float32, 2D (y, x)
        Variance that is expected of a step, DN^2: read noise of two groups and the pixel's Poisson noise.
    science : ndarray of bool, 2D (y, x)
    """
    own = np.square(typical_fall * np.float32(math.sqrt(2 * math.pi)))
    least = np.float32(FALL_SIGMAS) * np.sqrt(np.maximum(step_variance, own))
    usual = -_ABOVE_THE_USUAL * median(second_fall[science]) if science.any() else 0.0
    result: NDArray[np.bool_] = science & (-second_fall > np.maximum(least, np.float32(usual)))
    return result


def least_difference(step_sigma: float, hot: float, groups: int) -> float:
    """Return by how much two levels have to differ, in the unit of `step_sigma` per group.

    Parameters
    ----------
    step_sigma : float
        Noise of a step from group to group.
    hot : float
        Rate from which on a pixel is hot, per group.
    groups : int
    """
    return max(hot, 1.5 * _MISSED_SIGMAS * step_sigma / (groups - 1))


def pixels_hot_at_times(
    rates: Sequence[Callable[[], NDArray[np.float32]]], science: NDArray[np.bool_], difference: float
) -> NDArray[np.bool_]:
    """Return the pixels that are hot in some of the integrations and not in others, 2D (y, x).

    Parameters
    ----------
    rates : sequence of callable
        Each returns the rates of an integration, 2D (y, x); NaN where it was not measured to its end.
    science : ndarray of bool, 2D (y, x)
    difference : float
        `least_difference`.
    """
    above, below = np.zeros((2, *science.shape), np.uint16)
    for rate in rates:
        plane = rate()
        here = science & np.isfinite(plane)
        if here.any():
            # Comparisons with NaN are False.
            cut = np.float32(median(plane[here]) + difference)
            above += plane > cut
            below += plane <= cut
    candidates = np.flatnonzero(science & (above >= _FEWEST) & (below >= _FEWEST))
    result = np.zeros(science.shape, np.bool_)
    result.reshape(-1)[candidates] = has_two_levels(
        np.array([rate().reshape(-1)[candidates] for rate in rates])
    )
    return result


def has_two_levels(rates: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Return which pixels have rates in two clusters.

    Parameters
    ----------
    rates : ndarray, 2D (integrations, pixels)
        NaN where an integration was not measured.

    Examples
    --------
    >>> rates = np.array([[0.1, 0.1], [1.9, 0.7], [0.2, 1.2], [2.0, 1.5], [0.0, 2.1]])
    >>> has_two_levels(rates).tolist()
    [True, False]
    """
    ordered = np.sort(rates.astype(np.float64), axis=0)
    measured = np.isfinite(ordered)
    count = measured.sum(axis=0)
    values = np.where(measured, ordered, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = values.sum(axis=0) / count
        off = np.where(measured, values - mean, 0.0)
        scatter = np.sum(off**2, axis=0)
        below = np.cumsum(off, axis=0)
        explained = np.zeros(count.shape)
        for low in range(_FEWEST, len(rates) - _FEWEST + 1):
            # Of n values, k lie below and sum to s about the mean: n s^2 / (k (n - k)) is between the
            # clusters.
            between = count * below[low - 1] ** 2 / (low * (count - low))
            explained = np.where(count - low >= _FEWEST, np.fmax(explained, between / scatter), explained)
    result: NDArray[np.bool_] = explained >= _EXPLAINED
    return result
