"""Compiled kernels of notebook mode: the notebook's steps 2, 3, 5 and 6, as in ``jwst_reffiles`` 1.0.1.

The clip is ``astropy.stats.sigma_clip(sigma, maxiters=5, cenfunc="median", stdfunc="std", axis=0)`` over the
valid values, followed by the mean and the population standard deviation of what is left.

A pixel's values are sorted first, so that medians can be read off and every clip is a range of the sorted
values. Sorting also makes the result independent of the order of the exposures. Sums are float64 where
jwst_reffiles has float32; the two differ by its rounding.

A block of pixels goes from the file's bytes to the product's while it is in the processor's cache: byte
order, hits, sorting, clip, and the running sums of the slopes.
"""

import numpy as np

from services.darkref.kernels.blocks import (
    BLOCK,
    STEP,
    add_to_line,
    byteswapped,
    prefetch_next_block,
    sort_rows,
)
from services.darkref.kernels.simd import (
    LANES,
    eq,
    halved,
    load,
    lt,
    movemask,
    or_,
    splat,
    sqrt,
    store,
    to_f32,
    to_f64,
    where,
)
from shared.statistics.jit import kernel

#: Rounds of the clip: the default of jwst_reffiles and astropy.
MAX_ITERATIONS = 5
_INFINITE = np.uint32(0x7F800000)


@kernel
def combine_window(  # type: ignore[no-untyped-def]
    signal,
    first_bad,
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
    n_valid,
    tally,
):
    """Combine pixels of a window; see `combine.methods.sigma_clipped_mean`."""
    n, groups = signal.shape[:2]
    bits = np.empty(n * STEP, np.uint32)
    values = bits.view(np.float32)
    raw = np.empty(BLOCK, np.uint32)
    count = np.empty(BLOCK, np.int32)
    results = np.empty((2, BLOCK), np.float32)
    for start in range(first_pixel, last_pixel, BLOCK):
        stop = min(start + BLOCK, last_pixel)
        for g in range(groups):
            group = first_bad.dtype.type(first_group + g)
            _gather(signal, first_bad, group, g, start, stop, bits, raw, count, moment, weights[g])
            lost = _clip_block(values, n, count, pairs, sigma, stop - start, results[0], results[1])
            measured = _put(results, count, start, stop, mean[g], std[g], n_valid[g])
            tally[0] += measured
            tally[1] += measured - lost
            tally[2] += add_to_line(results[0], count, weights[g], start, stop, line)


@kernel
def _gather(  # type: ignore[no-untyped-def]
    signal, first_bad, group, g, start, stop, bits, raw, count, moment, weight
):
    # One integration after another, not one pixel after another: on a full frame the samples of a pixel lie
    # a power of two apart and would evict each other from the cache.
    count[:] = 0
    values = raw.view(np.float32)
    for i in range(signal.shape[0]):
        stored = signal[i, g, start:stop]
        first = first_bad[i, start:stop]
        sums = moment[i, start:stop]
        row = bits[i * STEP : i * STEP + BLOCK]
        row[stop - start :] = _INFINITE
        for p in range(stop - start):
            value = byteswapped(stored[p])
            raw[p] = value
            valid = (first[p] > group) & ((value & _INFINITE) != _INFINITE)
            row[p] = value if valid else _INFINITE
            count[p] += np.int32(valid)
        for p in range(stop - start):
            weighted = weight * np.float64(values[p])
            sums[p] += weighted if first[p] > group else 0.0
        prefetch_next_block(stored, 16)
        if g == 0:
            prefetch_next_block(sums, 8)
            prefetch_next_block(first, 64)


@kernel
def _clip_block(values, n, count, pairs, sigma, pixels, means, stds):  # type: ignore[no-untyped-def]
    # The first round of the clip, which is the last for most pixels, runs on all lanes. A pixel's sums run
    # over its sorted values in order, as in `_mean_and_std`.
    lost = 0
    for at in range(0, pixels, LANES):
        sort_rows(values, n, at, pairs)
        size = load(count, at)
        half, before = halved(size), halved(size - splat(np.int32(1)))
        sums, squares = splat(0.0), splat(0.0)
        first = load(values, at)
        lower = upper = last = splat(np.float32(0.0))
        for i in range(n):
            row = load(values, i * STEP + at)
            measured = lt(splat(np.int32(i)), size)
            last = where(measured, row, last)
            sums = sums + to_f64(where(measured, row, splat(np.float32(0.0))))
        for i in range(n // 2 + 1):
            row, number = load(values, i * STEP + at), splat(np.int32(i))
            lower = where(eq(number, before), row, lower)
            upper = where(eq(number, half), row, upper)
        divisor = where(lt(splat(np.int32(0)), size), to_f64(size), splat(1.0))
        mean = sums / divisor
        for i in range(n):
            off = to_f64(load(values, i * STEP + at)) - mean
            squares = squares + where(lt(splat(np.int32(i)), size), off * off, splat(0.0))
        std = sqrt(squares / divisor)
        store(means, at, to_f32(mean))
        store(stds, at, to_f32(std))
        median = splat(0.5) * (to_f64(lower) + to_f64(upper))
        reach = splat(sigma) * std
        low, high = lt(to_f64(first), median - reach), lt(median + reach, to_f64(last))
        clipped = movemask(or_(low, high))
        p = at
        while clipped != 0:
            if clipped & 1 and count[p] > 0:
                means[p], stds[p], n_kept = _clip(values[p::STEP], count[p], sigma)
                lost += count[p] - n_kept
            clipped >>= 1
            p += 1
    return lost


@kernel
def _put(results, count, start, stop, mean, std, n_valid):  # type: ignore[no-untyped-def]
    bits = results.view(np.uint32)
    means, stds, counts = mean[start:stop], std[start:stop], n_valid[start:stop]
    total = 0
    for p in range(stop - start):
        means[p] = byteswapped(bits[0, p])
        stds[p] = byteswapped(bits[1, p])
        counts[p] = count[p]
        total += count[p]
    return total


@kernel
def _mean_and_std(values, first, last):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(first, last):
        total += values[i]
    mean = total / (last - first)
    squares = 0.0
    for i in range(first, last):
        squares += (values[i] - mean) ** 2
    return mean, np.sqrt(squares / (last - first))


@kernel
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
    # As in astropy, the last bounds apply to every value: where the median moved, a value that an earlier
    # round rejected may lie within them again.
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
