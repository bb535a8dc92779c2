"""Reference mode: the notebook's steps 2, 3, 5 and 6, as ``jwst_reffiles`` 1.0.1 does them with the mean.

The clip is ``astropy.stats.sigma_clip(sigma, maxiters=5, cenfunc="median", stdfunc="std", axis=0)``,
invalid values left out, then the mean and the population standard deviation of what is left.

The values of a pixel are sorted, by a network of comparators that runs over pixels side by side, so that
medians are read off and every clip is a range of the sorted values. Sorting also makes the result independent
of the order in which exposures are given. Sums are float64, where jwst_reffiles has float32: the two differ
by its rounding.

Everything from the file's bytes to the product's is done to a block of pixels while it is in the
processor's cache: byte order, hits, sorting, clip, and the running sums of the slopes.
"""

import functools

import numpy as np
from numpy.typing import NDArray

from services.darkref import block_kernels, lanes, sorting
from services.darkref.block_kernels import BLOCK, STEP, add_to_line, fetch_next, sort_rows, swapped
from services.darkref.lanes import (
    LANES,
    below,
    bits_of,
    either,
    equal,
    fewer,
    floating,
    halved,
    load,
    root,
    rounded,
    spread,
    store,
    where,
    widened,
)
from services.darkref.sorting import comparators
from services.darkref.windows import BandState, Combined, Window
from shared import compiled

#: GROUPDQ bit of a cosmic-ray hit (`stdatamodels.jwst.datamodels.dqflags.group["JUMP_DET"]`).
JUMP_DET = 4
#: Rounds of the clip, jwst_reffiles' and astropy's default.
MAX_ITERATIONS = 5
_INFINITE = np.uint32(0x7F800000)

_kernel = functools.partial(compiled.kernel, built_on=(block_kernels, lanes, sorting))


def add_first_hits(
    groupdq: NDArray[np.uint8], first_group: int, first_hit: NDArray[np.unsignedinteger]
) -> None:
    """Note the first hit of each pixel in some groups of an integration.

    Parameters
    ----------
    groupdq : ndarray, 2D (groups, pixels)
        Flags; `JUMP_DET` counts, nothing else.
    first_group : int
        Which group the first of `groupdq` is.
    first_hit : ndarray, 1D (pixels)
        The earliest group known to be hit; changed in place. Begin with the largest number of its type.
    """
    _first_hits(groupdq, first_group, first_hit)


def sigma_clipped_mean(
    window: Window, state: BandState, sigma: float, pixels: slice, into: Combined
) -> NDArray[np.int64]:
    """Sigma-clip over integrations, then mean and population standard deviation.

    Parameters
    ----------
    window : Window
    state : BandState
        Its sums are brought forward by the groups of the window.
    sigma : float
        Width of the clip at both ends, in standard deviations.
    pixels : slice
        Which pixels of the window to do; different threads may do different ones at once.
    into : Combined
        Takes the results.

    Returns
    -------
    ndarray, 1D (3)
        Measurements before and after the clip; (group, pixel) places without any.
    """
    tally = np.zeros(3, np.int64)
    _combine(
        window.signal,
        window.first_hit,
        window.first_group,
        window.weights,
        state.moment,
        state.line,
        comparators(len(window.signal)),
        sigma,
        pixels.start,
        pixels.stop,
        into.mean,
        into.std,
        into.used,
        tally,
    )
    return tally


@_kernel
def _first_hits(groupdq, first_group, first_hit):  # type: ignore[no-untyped-def]
    for g in range(groupdq.shape[0]):
        group = first_hit.dtype.type(first_group + g)
        flags = groupdq[g]
        for p in range(flags.size):
            if flags[p] & JUMP_DET and group < first_hit[p]:
                first_hit[p] = group


@_kernel
def _combine(  # type: ignore[no-untyped-def]
    signal,
    first_hit,
    first_group,
    weights,
    moment,
    line,
    pairs,
    sigma,
    first_pixel,
    last_pixel,
    mean,
    std,
    used,
    tally,
):
    n, groups = signal.shape[:2]
    bits = np.empty(n * STEP, np.uint32)
    values = bits.view(np.float32)
    raw = np.empty(BLOCK, np.uint32)
    count = np.empty(BLOCK, np.int32)
    results = np.empty((2, BLOCK), np.float32)
    for start in range(first_pixel, last_pixel, BLOCK):
        stop = min(start + BLOCK, last_pixel)
        for g in range(groups):
            group = first_hit.dtype.type(first_group + g)
            _gather(signal, first_hit, group, g, start, stop, bits, raw, count, moment, weights[g])
            lost = _clip_block(values, n, count, pairs, sigma, stop - start, results[0], results[1])
            measured = _put(results, count, start, stop, mean[g], std[g], used[g])
            tally[0] += measured
            tally[1] += measured - lost
            tally[2] += add_to_line(results[0], count, weights[g], start, stop, line)


@_kernel
def _gather(  # type: ignore[no-untyped-def]
    signal, first_hit, group, g, start, stop, bits, raw, count, moment, weight
):
    # Row by row of the block, not pixel by pixel: the samples of a pixel lie a power of two apart on a
    # full frame, and would push each other out of the cache.
    count[:] = 0
    values = raw.view(np.float32)
    for i in range(signal.shape[0]):
        stored = signal[i, g, start:stop]
        first = first_hit[i, start:stop]
        sums = moment[i, start:stop]
        row = bits[i * STEP : i * STEP + BLOCK]
        row[stop - start :] = _INFINITE
        for p in range(stop - start):
            value = swapped(stored[p])
            raw[p] = value
            valid = (first[p] > group) & ((value & _INFINITE) != _INFINITE)
            row[p] = value if valid else _INFINITE
            count[p] += np.int32(valid)
        for p in range(stop - start):
            weighted = weight * np.float64(values[p])
            sums[p] += weighted if first[p] > group else 0.0
        fetch_next(stored, 16)
        if g == 0:
            fetch_next(sums, 8)
            fetch_next(first, 64)


@_kernel
def _clip_block(values, n, count, pairs, sigma, pixels, means, stds):  # type: ignore[no-untyped-def]
    # What is done to all is the first round of the clip, which for most is the last; the sums of a pixel run
    # over its sorted values in order, as `_mean_and_std` has them.
    lost = 0
    for at in range(0, pixels, LANES):
        sort_rows(values, n, at, pairs)
        size = load(count, at)
        half, before = halved(size), halved(size - spread(np.int32(1)))
        sums, squares = spread(0.0), spread(0.0)
        first = load(values, at)
        lower = upper = last = spread(np.float32(0.0))
        for i in range(n):
            row = load(values, i * STEP + at)
            measured = fewer(spread(np.int32(i)), size)
            last = where(measured, row, last)
            sums = sums + widened(where(measured, row, spread(np.float32(0.0))))
        for i in range(n // 2 + 1):
            row, number = load(values, i * STEP + at), spread(np.int32(i))
            lower = where(equal(number, before), row, lower)
            upper = where(equal(number, half), row, upper)
        divisor = where(fewer(spread(np.int32(0)), size), floating(size), spread(1.0))
        mean = sums / divisor
        for i in range(n):
            off = widened(load(values, i * STEP + at)) - mean
            squares = squares + where(fewer(spread(np.int32(i)), size), off * off, spread(0.0))
        std = root(squares / divisor)
        store(means, at, rounded(mean))
        store(stds, at, rounded(std))
        median = spread(0.5) * (widened(lower) + widened(upper))
        reach = spread(sigma) * std
        low, high = below(widened(first), median - reach), below(median + reach, widened(last))
        clipped = bits_of(either(low, high))
        p = at
        while clipped != 0:
            if clipped & 1 and count[p] > 0:
                means[p], stds[p], kept = _clip(values[p::STEP], count[p], sigma)
                lost += count[p] - kept
            clipped >>= 1
            p += 1
    return lost


@_kernel
def _put(rounded, count, start, stop, mean, std, used):  # type: ignore[no-untyped-def]
    bits = rounded.view(np.uint32)
    means, stds, counts = mean[start:stop], std[start:stop], used[start:stop]
    total = 0
    for p in range(stop - start):
        means[p] = swapped(bits[0, p])
        stds[p] = swapped(bits[1, p])
        counts[p] = count[p]
        total += count[p]
    return total


@_kernel
def _mean_and_std(values, first, last):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(first, last):
        total += values[i]
    mean = total / (last - first)
    squares = 0.0
    for i in range(first, last):
        squares += (values[i] - mean) ** 2
    return mean, np.sqrt(squares / (last - first))


@_kernel
def _clip(values, count, sigma):  # type: ignore[no-untyped-def]
    first, last = 0, np.int64(count)
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
    inner, outer = 0, np.int64(count)
    while inner < outer and values[inner] < low:
        inner += 1
    while outer > inner and values[outer - 1] > high:
        outer -= 1
    if inner == outer:
        return 0.0, 0.0, 0
    if not settled or inner != first or outer != last:
        mean, std = _mean_and_std(values, inner, outer)
    return mean, std, outer - inner
