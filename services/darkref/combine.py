"""Reference mode: the notebook's steps 2, 3, 5 and 6, as ``jwst_reffiles`` 1.0.1 does them with the mean.

The clip is ``astropy.stats.sigma_clip(sigma, maxiters=5, cenfunc="median", stdfunc="std", axis=0)``,
invalid values left out, then the mean and the population standard deviation of what is left.

The values of a pixel are sorted, by a network of comparators that runs over a block of pixels at a time,
so that medians are read off and every clip is a range of the sorted values. Sorting also makes the
result independent of the order in which exposures are given. Sums are float64, where jwst_reffiles has
float32: the two differ by its rounding.
"""

import functools
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

#: GROUPDQ bit of a cosmic-ray hit (`stdatamodels.jwst.datamodels.dqflags.group["JUMP_DET"]`).
JUMP_DET = 4
#: Rounds of the clip, jwst_reffiles' and astropy's default.
MAX_ITERATIONS = 5
_BLOCK = 64


@dataclass(frozen=True)
class Combined:
    """One value a (group, pixel), combined over integrations; every array is 3D (groups, rows, x).

    Attributes
    ----------
    mean : ndarray of float32
        Mean of what the clip left, DN; 0 where there was no measurement.
    std : ndarray of float32
        Population standard deviation about that mean, DN; 0 where there was no measurement.
    used : ndarray of uint16
        Measurements before the clip: finite, and before the first hit of their integration.
    kept : ndarray of uint16
        Measurements after the clip.
    """

    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    used: NDArray[np.uint16]
    kept: NDArray[np.uint16]


def drop_after_hit(
    samples: NDArray[np.float32],
    groupdq: NDArray[np.uint8],
    hit: NDArray[np.bool_],
    moment: NDArray[np.float64],
    weights: NDArray[np.float64],
) -> None:
    """Set a window's samples to NaN from each pixel's first hit on; carry the state to the next window.

    To be called for one integration's windows in ascending order of groups. All arrays but `groupdq` and
    `weights` are changed in place.

    Parameters
    ----------
    samples : ndarray, 3D (groups, rows, x)
        Signal, DN.
    groupdq : ndarray, 3D (groups, rows, x)
        Flags; `JUMP_DET` counts, nothing else.
    hit : ndarray of bool, 2D (rows, x)
        Whether the integration was hit before this window; after the call, in or before it.
    moment : ndarray, 2D (rows, x)
        Running sum of weight * signal over the groups before the hit, from which the caller makes the
        integration's slope.
    weights : ndarray, 1D (groups,)
        Weight of each group of this window in `moment`.
    """
    _drop_after_hit(
        samples.reshape(len(samples), -1),
        groupdq.reshape(len(samples), -1),
        hit.reshape(-1),
        moment.reshape(-1),
        weights,
    )


def sigma_clipped_mean(samples: NDArray[np.float32], sigma: float = 3.0) -> Combined:
    """Sigma-clip over integrations, then mean and population standard deviation.

    Parameters
    ----------
    samples : ndarray of float32, 4D (integrations, groups, rows, x)
        Signal, DN; NaN or infinite where there is no measurement. C-contiguous.
    sigma : float
        Width of the clip at both ends, in standard deviations.

    Returns
    -------
    Combined
    """
    n = len(samples)
    shape = samples.shape[1:]
    flat = samples.reshape(n, -1)
    mean = np.empty(flat.shape[1], np.float32)
    std = np.empty_like(mean)
    used = np.empty(flat.shape[1], np.uint16)
    kept = np.empty_like(used)
    _combine(flat, _comparators(n), sigma, mean, std, used, kept)
    return Combined(mean.reshape(shape), std.reshape(shape), used.reshape(shape), kept.reshape(shape))


@functools.cache
def _comparators(n: int) -> NDArray[np.int64]:
    # Batcher's odd-even merge sort for any n: Knuth, The Art of Computer Programming 3, 5.2.2, algorithm M.
    pairs = []
    run = 1
    while run < n:
        reach = run
        while reach >= 1:
            for start in range(reach % run, n - reach, 2 * reach):
                pairs += [
                    (low, low + reach)
                    for low in range(start, start + min(reach, n - start - reach))
                    if low // (2 * run) == (low + reach) // (2 * run)
                ]
            reach //= 2
        run *= 2
    return np.array(pairs, np.int64).reshape(-1, 2)


@njit(cache=True, nogil=True)  # type: ignore[misc]
def _drop_after_hit(samples, groupdq, hit, moment, weights):  # type: ignore[no-untyped-def]
    for g in range(samples.shape[0]):
        weight = weights[g]
        for p in range(samples.shape[1]):
            if groupdq[g, p] & JUMP_DET:
                hit[p] = True
            if hit[p]:
                samples[g, p] = np.nan
            else:
                moment[p] += weight * samples[g, p]


@njit(cache=True, nogil=True)  # type: ignore[misc]
def _combine(samples, pairs, sigma, mean, std, used, kept):  # type: ignore[no-untyped-def]
    n, pixels = samples.shape
    block = np.empty((n, _BLOCK), np.float32)
    count = np.empty(_BLOCK, np.int64)
    for start in range(0, pixels, _BLOCK):
        width = min(_BLOCK, pixels - start)
        _gather(samples, start, width, block, count)
        _sort(block, pairs)
        for p in range(width):
            one = _clip(block[:, p], count[p], sigma)
            mean[start + p] = one[0]
            std[start + p] = one[1]
            used[start + p] = count[p]
            kept[start + p] = one[2]


@njit(cache=True, nogil=True)  # type: ignore[misc]
def _gather(samples, start, width, block, count):  # type: ignore[no-untyped-def]
    # Row by row of the block, not pixel by pixel: the samples of a pixel lie a power of two apart on a
    # full frame, and would push each other out of the cache.
    count[:] = 0
    block[:, width:] = np.inf
    for i in range(samples.shape[0]):
        for p in range(width):
            value = samples[i, start + p]
            valid = np.isfinite(value)
            block[i, p] = value if valid else np.float32(np.inf)
            count[p] += valid


@njit(cache=True, nogil=True)  # type: ignore[misc]
def _sort(block, pairs):  # type: ignore[no-untyped-def]
    for k in range(pairs.shape[0]):
        low, high = pairs[k, 0], pairs[k, 1]
        for p in range(_BLOCK):
            a, b = block[low, p], block[high, p]
            block[low, p] = a if a < b else b
            block[high, p] = b if a < b else a


@njit(cache=True, nogil=True)  # type: ignore[misc]
def _mean_and_std(values, first, last):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(first, last):
        total += values[i]
    mean = total / (last - first)
    squares = 0.0
    for i in range(first, last):
        squares += (values[i] - mean) ** 2
    return mean, np.sqrt(squares / (last - first))


@njit(cache=True, nogil=True)  # type: ignore[misc]
def _clip(values, count, sigma):  # type: ignore[no-untyped-def]
    if count == 0:
        return 0.0, 0.0, 0
    first, last = 0, count
    low, high = -np.inf, np.inf
    mean, std = 0.0, 0.0
    settled = False
    for _ in range(MAX_ITERATIONS):
        mean, std = _mean_and_std(values, first, last)
        size = last - first
        middle = first + size // 2
        median = np.float64(values[middle])
        if size % 2 == 0:
            median = 0.5 * (median + values[middle - 1])
        low = median - sigma * std
        high = median + sigma * std
        if values[first] >= low and values[last - 1] <= high:
            settled = True
            break
        inner, outer = first, last
        while inner < outer and values[inner] < low:
            inner += 1
        while outer > inner and values[outer - 1] > high:
            outer -= 1
        if inner == outer:
            break
        first, last = inner, outer
    # The last bounds are put to every value, as astropy does: when the median moved, one that an earlier
    # round took out may lie within them again.
    inner, outer = 0, count
    while inner < outer and values[inner] < low:
        inner += 1
    while outer > inner and values[outer - 1] > high:
        outer -= 1
    if inner == outer:
        return 0.0, 0.0, 0
    if not settled or inner != first or outer != last:
        mean, std = _mean_and_std(values, inner, outer)
    return mean, std, outer - inner
