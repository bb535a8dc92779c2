"""The compiled kernels of flight mode; `services.darkref.flight` says what they do, and calls them.

Nothing in them depends on which pixels lie side by side. What reference mode does as well stands in
`services.darkref.block_kernels`.
"""

import functools

import numpy as np

from services.darkref import block_kernels, lanes, mad_kernels, sorting
from services.darkref.block_kernels import BLOCK, STEP, add_to_line, fetch_next, sort_rows, swapped
from services.darkref.lanes import (
    LANES,
    fewer,
    load,
    spread,
    store,
    where,
    widened,
)
from services.darkref.mad_kernels import clip_by_mad
from shared import compiled

#: GROUPDQ bits that end the use of an integration at a pixel, from their first group on: DO_NOT_USE,
#: SATURATED, JUMP_DET, PERSISTENCE (`stdatamodels.jwst.datamodels.dqflags.group`).
ENDS_USE = 1 | 2 | 4 | 32
# Rounds of the clip where N is large enough for standard deviations: reference mode's.
_ROUNDS = 5
_INFINITE = np.uint32(0x7F800000)

_kernel = functools.partial(compiled.kernel, built_on=(block_kernels, lanes, mad_kernels, sorting))


@_kernel
def add_ends(groupdq, first_group, first):  # type: ignore[no-untyped-def]
    """Note the first group with any of `ENDS_USE`, as `services.darkref.flight.add_ends` says."""
    for g in range(groupdq.shape[0]):
        group = first.dtype.type(first_group + g)
        flags = groupdq[g]
        for p in range(flags.size):
            if flags[p] & ENDS_USE and group < first[p]:
                first[p] = group


@_kernel
def combine(  # type: ignore[no-untyped-def]
    signal,
    first_hit,
    first_group,
    weights,
    moment,
    line,
    pedestal,
    pairs,
    sigma,
    least_for_std,
    reach,
    least_reach,
    factors,
    first_pixel,
    last_pixel,
    mean,
    error,
    used,
    tally,
):
    """Combine some pixels of a window, as `services.darkref.flight.pedestal_free_mean` says."""
    n, groups = signal.shape[:2]
    bits = np.empty(n * STEP, np.uint32)
    values = bits.view(np.float32)
    raw = np.empty(BLOCK, np.uint32)
    count = np.empty(BLOCK, np.int32)
    left = np.empty(BLOCK, np.int32)
    off = np.empty(n * LANES, np.float32)
    total = np.empty(BLOCK)
    squares = np.empty(BLOCK)
    results = np.empty((2, BLOCK), np.float32)
    for start in range(first_pixel, last_pixel, BLOCK):
        stop = min(start + BLOCK, last_pixel)
        for g in range(groups):
            group = first_hit.dtype.type(first_group + g)
            if first_group + g == 0:
                _keep_pedestals(signal, g, start, stop, pedestal)
            _gather(signal, first_hit, group, g, start, stop, bits, raw, count, moment, weights[g], pedestal)
            if first_group + g == 0:
                results[:] = 0
                left[:] = count
            elif n < least_for_std:
                clip_by_mad(
                    values,
                    n,
                    count,
                    stop - start,
                    reach,
                    least_reach,
                    factors,
                    off,
                    left,
                    results[0],
                    results[1],
                )
            else:
                _moments(values, n, count, pairs, total, squares)
                _clip_block(
                    values,
                    count,
                    stop - start,
                    sigma,
                    least_for_std,
                    reach,
                    least_reach,
                    factors,
                    total,
                    squares,
                    left,
                    results,
                )
            for p in range(stop - start):
                tally[1] += left[p]
            _put(results, count, start, stop, mean[g], error[g], used[g], tally)
            add_to_line(results[0], count, weights[g], start, stop, line)


@_kernel
def _keep_pedestals(signal, g, start, stop, pedestal):  # type: ignore[no-untyped-def]
    kept = pedestal.view(np.uint32)
    for i in range(signal.shape[0]):
        stored, row = signal[i, g, start:stop], kept[i, start:stop]
        for p in range(stop - start):
            row[p] = swapped(stored[p])


@_kernel
def _gather(  # type: ignore[no-untyped-def]
    signal, first_hit, group, g, start, stop, bits, raw, count, moment, weight, pedestal
):
    # One integration's pixels after the other: a pixel's samples lie a power of two apart on a full frame,
    # and would push each other out of the cache.
    count[:] = 0
    native = raw.view(np.float32)
    for i in range(signal.shape[0]):
        stored = signal[i, g, start:stop]
        first = first_hit[i, start:stop]
        zero = pedestal[i, start:stop]
        sums = moment[i, start:stop]
        row = bits[i * STEP : i * STEP + BLOCK]
        row[stop - start :] = _INFINITE
        for p in range(stop - start):
            raw[p] = swapped(stored[p])
        for p in range(stop - start):
            native[p] -= zero[p]
        for p in range(stop - start):
            # A pedestal that is not finite makes all of its integration so.
            valid = (first[p] > group) & ((raw[p] & _INFINITE) != _INFINITE)
            row[p] = raw[p] if valid else _INFINITE
            count[p] += np.int32(valid)
        for p in range(stop - start):
            sums[p] += weight * np.float64(native[p]) if first[p] > group else 0.0
        fetch_next(stored, 16)
        if g == 0:
            fetch_next(zero, 16)
            fetch_next(sums, 8)
            fetch_next(first, 64)


@_kernel
def _moments(values, n, count, pairs, total, squares):  # type: ignore[no-untyped-def]
    # Sums of the values and their squares, less the smallest value of the pixel: the distance is no more
    # than the scatter's own size, so nothing cancels that matters in float64.
    for at in range(0, BLOCK, LANES):
        sort_rows(values, n, at, pairs)
        size = load(count, at)
        origin = widened(load(values, at))
        sums, scatter = spread(0.0), spread(0.0)
        for i in range(n):
            distance = widened(load(values, i * STEP + at)) - origin
            distance = where(fewer(spread(np.int32(i)), size), distance, spread(0.0))
            sums = sums + distance
            scatter = scatter + distance * distance
        store(total, at, sums)
        store(squares, at, scatter)


@_kernel
def _clip_block(  # type: ignore[no-untyped-def]
    values, count, pixels, sigma, least_for_std, reach, least_reach, factors, total, squares, kept, results
):
    for p in range(pixels):
        size = count[p]
        results[0, p] = 0.0
        results[1, p] = 0.0
        kept[p] = 0
        if size == 0:
            continue
        column = values[p::STEP]
        centre = _median(column, 0, size)
        # Sum of squares about the mean, for the width and for the error.
        scatter = max(squares[p] - total[p] * total[p] / size, 0.0)
        if size < least_for_std:
            width = max(reach[size] * _mad(column, size, centre), least_reach[size])
        else:
            width = sigma * np.sqrt(scatter / size)
        first, last = np.int64(0), np.int64(size)
        if centre - column[0] > width or column[size - 1] - centre > width:
            if size >= least_for_std:
                width, centre = _settle(column, size, sigma)
            first, last = _inside(column, first, last, centre, width)
            mean, scatter = _mean_and_scatter(column, first, last)
        else:
            mean = column[0] + total[p] / size
        left = last - first
        results[0, p] = mean
        if left > 1:
            results[1, p] = np.sqrt(factors[size] * scatter / ((left - 1) * left))
        kept[p] = left


@_kernel
def _median(column, first, last):  # type: ignore[no-untyped-def]
    size = last - first
    return 0.5 * (np.float64(column[first + (size - 1) // 2]) + np.float64(column[first + size // 2]))


@_kernel
def _mad(column, size, centre):  # type: ignore[no-untyped-def]
    # The deviations ascend from the middle to both sides: merged, as far as half of them.
    above = size // 2
    below = above - 1
    smaller, deviation = 0.0, 0.0
    for _ in range(size // 2 + 1):
        smaller = deviation
        left = centre - column[below] if below >= 0 else np.inf
        right = column[above] - centre if above < size else np.inf
        if left < right:
            deviation = left
            below -= 1
        else:
            deviation = right
            above += 1
    return deviation if size % 2 else 0.5 * (smaller + deviation)


@_kernel
def _inside(column, first, last, centre, width):  # type: ignore[no-untyped-def]
    while first < last and centre - column[first] > width:
        first += 1
    while last > first and column[last - 1] - centre > width:
        last -= 1
    return first, last


@_kernel
def _settle(column, size, sigma):  # type: ignore[no-untyped-def]
    # The last round's bounds; they hold for every value, as in astropy's sigma_clip.
    first, last = np.int64(0), np.int64(size)
    width, centre = np.inf, 0.0
    for _ in range(_ROUNDS):
        scatter = _mean_and_scatter(column, first, last)[1]
        centre = _median(column, first, last)
        width = sigma * np.sqrt(scatter / (last - first))
        inner, outer = _inside(column, first, last, centre, width)
        if inner == first and outer == last:
            break
        first, last = inner, outer
    return width, centre


@_kernel
def _mean_and_scatter(column, first, last):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(first, last):
        total += column[i]
    mean = total / (last - first)
    scatter = 0.0
    for i in range(first, last):
        scatter += (column[i] - mean) ** 2
    return mean, scatter


@_kernel
def _put(results, count, start, stop, mean, error, used, tally):  # type: ignore[no-untyped-def]
    bits = results.view(np.uint32)
    means, errors, counts = mean[start:stop], error[start:stop], used[start:stop]
    total, without, single = 0, 0, 0
    for p in range(stop - start):
        means[p] = swapped(bits[0, p])
        errors[p] = swapped(bits[1, p])
        counts[p] = count[p]
        total += count[p]
        without += count[p] == 0
        single += count[p] == 1
    tally[0] += total
    tally[2] += without
    tally[3] += single
