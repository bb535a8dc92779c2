"""Medians, which single outliers cannot move, and what they say about a Gaussian's width."""

import math
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import stats

#: Standard deviation of a Gaussian over its median absolute deviation.
MAD_TO_SIGMA = 1 / float(stats.norm.ppf(0.75))
#: Standard error of a Gaussian sample's median over that of its mean.
MEDIAN_ERROR = math.sqrt(math.pi / 2)
#: Standard error of a MAD-based sigma times sqrt(N) / sigma: its efficiency is 36.74 per cent.
MAD_ERROR = 1 / math.sqrt(2 * 0.3674)

# Below this a plain partition is as quick.
_SMALL = 1 << 14
_SAMPLE = 1 << 11


def median(values: NDArray[Any]) -> float:
    """Return the exact median, NaN of nothing.

    Parameters
    ----------
    values : ndarray, 1D
        Finite numbers, in any order.
    """
    count = values.size
    if count < _SMALL:
        return _plain(values)
    # Only what lies close to a sample's median has to be put in order, which is several times faster
    # than a partition of a whole amplifier.
    sample = np.sort(values[:: count // _SAMPLE])
    margin = int(3 * math.sqrt(sample.size))
    low, high = sample[sample.size // 2 - margin], sample[sample.size // 2 + margin]
    inside = np.empty(count, values.dtype)
    below, found = _between(values, low, high, inside)
    first, second = (count - 1) // 2 - below, count // 2 - below
    if first < 0 or second >= found:
        # The sample misled: structure of the detector can beat with its stride.
        return _plain(values)
    inside = inside[:found]
    inside.partition((first, second))
    return (float(inside[first]) + float(inside[second])) / 2


def median_and_sigma(values: NDArray[Any]) -> tuple[float, float]:
    """Return the median and the robust standard deviation (1.4826 MAD about it); NaN of nothing.

    Parameters
    ----------
    values : ndarray, 1D
        Finite numbers.
    """
    centre = median(values)
    return centre, MAD_TO_SIGMA * median(np.abs(values - values.dtype.type(centre)))


def variance_median_factor(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Return the median of a Gaussian's sample variance (ddof 1) over its true variance.

    The sample variance of N values is sigma^2 chi2(N-1) / (N-1), whose median lies below its mean: 0.927
    at N = 10. With ddof 0 it is 0.834, so the noise comes out low by 0.91.

    Parameters
    ----------
    counts : ndarray of int
        N of each; the factor is NaN below 2.
    """
    degrees = np.arange(1, max(int(counts.max(initial=2)), 2))
    table = np.concatenate([[np.nan, np.nan], stats.chi2.median(degrees) / degrees])
    factors: NDArray[np.float64] = table[counts]
    return factors


def _plain(values: NDArray[Any]) -> float:
    # In double precision, or the mean of the two in the middle would be rounded to single.
    return float(np.median(values.astype(np.float64))) if values.size else math.nan


def gather(plane: NDArray[Any], mask: NDArray[np.bool_], columns: slice) -> NDArray[Any]:
    """Return a plane's values where `mask` is True, within `columns`.

    Returns
    -------
    ndarray, 1D
        A new array; row by row.
    """
    found = np.empty(plane.shape[0] * (columns.stop - columns.start), plane.dtype)
    return found[: _gather(plane, mask, columns.start, columns.stop, found)]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _between(values: NDArray[Any], low: float, high: float, inside: NDArray[Any]) -> tuple[int, int]:
    below = 0
    found = 0
    for value in values:
        below += value < low
        # Written always and kept sometimes: no branch for the processor to guess wrong.
        inside[found] = value
        found += (value >= low) & (value <= high)
    return below, found


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _gather(plane: NDArray[Any], mask: NDArray[np.bool_], start: int, stop: int, found: NDArray[Any]) -> int:
    count = 0
    for row in range(plane.shape[0]):
        for column in range(start, stop):
            if mask[row, column]:
                found[count] = plane[row, column]
                count += 1
    return count
