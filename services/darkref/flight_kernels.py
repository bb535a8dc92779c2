"""The compiled kernels of flight mode; `services.darkref.flight` says what they do, and calls them.

Some are reference mode's too, and stand in `services.darkref.combine` again: a kernel may not call one of
another module, whose changes numba's cache would not notice (`shared.compiled`).
"""

import numpy as np

from shared.compiled import kernel

#: GROUPDQ bits that end the use of an integration at a pixel, from their first group on: DO_NOT_USE,
#: SATURATED, JUMP_DET, PERSISTENCE (`stdatamodels.jwst.datamodels.dqflags.group`).
ENDS_USE = 1 | 2 | 4 | 32
# Rounds of the clip where N is large enough for standard deviations: reference mode's.
_ROUNDS = 5
# Pixels that are sorted side by side.
_BLOCK = 256
_INFINITE = np.uint32(0x7F800000)


@kernel
def add_ends(groupdq, first_group, first):  # type: ignore[no-untyped-def]
    """Note the first group with any of `ENDS_USE`, as `services.darkref.flight.add_ends` says."""
    for g in range(groupdq.shape[0]):
        group = first.dtype.type(first_group + g)
        flags = groupdq[g]
        for p in range(flags.size):
            if flags[p] & ENDS_USE and group < first[p]:
                first[p] = group


@kernel
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
    bits = np.empty((n, _BLOCK), np.uint32)
    values = bits.view(np.float32)
    raw = np.empty(_BLOCK, np.uint32)
    count = np.empty(_BLOCK, np.int32)
    total = np.empty(_BLOCK)
    squares = np.empty(_BLOCK)
    mad = np.empty(_BLOCK)
    results = np.empty((2, _BLOCK), np.float32)
    for start in range(first_pixel, last_pixel, _BLOCK):
        stop = min(start + _BLOCK, last_pixel)
        for g in range(groups):
            group = first_hit.dtype.type(first_group + g)
            if first_group + g == 0:
                _keep_pedestals(signal, g, start, stop, pedestal)
            _gather(signal, first_hit, group, g, start, stop, bits, raw, count, moment, weights[g], pedestal)
            if first_group + g == 0:
                results[:] = 0
                for p in range(stop - start):
                    tally[1] += count[p]
            else:
                _sort(values, pairs)
                _moments(values, count, total, squares)
                if n < least_for_std:
                    _mads_of_all(values, mad)
                tally[1] += _clip_block(
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
                    mad,
                    results,
                )
            _put(results, count, start, stop, mean[g], error[g], used[g], tally)
            _add_to_line(results[0], count, weights[g], start, stop, line)


@kernel
def _swapped(value):  # type: ignore[no-untyped-def]
    return (
        (value << np.uint32(24))
        | ((value & np.uint32(0xFF00)) << np.uint32(8))
        | ((value >> np.uint32(8)) & np.uint32(0xFF00))
        | (value >> np.uint32(24))
    )


@kernel
def _keep_pedestals(signal, g, start, stop, pedestal):  # type: ignore[no-untyped-def]
    kept = pedestal.view(np.uint32)
    for i in range(signal.shape[0]):
        stored, row = signal[i, g, start:stop], kept[i, start:stop]
        for p in range(stop - start):
            row[p] = _swapped(stored[p])


@kernel
def _gather(  # type: ignore[no-untyped-def]
    signal, first_hit, group, g, start, stop, bits, raw, count, moment, weight, pedestal
):
    # One integration's pixels after the other: a pixel's samples lie a power of two apart on a full frame,
    # and would push each other out of the cache.
    count[:] = 0
    bits[:, stop - start :] = _INFINITE
    native = raw.view(np.float32)
    for i in range(signal.shape[0]):
        stored = signal[i, g, start:stop]
        first = first_hit[i, start:stop]
        zero = pedestal[i, start:stop]
        sums = moment[i, start:stop]
        row = bits[i]
        for p in range(stop - start):
            raw[p] = _swapped(stored[p])
        for p in range(stop - start):
            native[p] -= zero[p]
        for p in range(stop - start):
            # A pedestal that is not finite makes all of its integration so.
            valid = (first[p] > group) & ((raw[p] & _INFINITE) != _INFINITE)
            row[p] = raw[p] if valid else _INFINITE
            count[p] += np.int32(valid)
        for p in range(stop - start):
            sums[p] += weight * np.float64(native[p]) if first[p] > group else 0.0


@kernel
def _sort(values, pairs):  # type: ignore[no-untyped-def]
    for k in range(pairs.shape[0]):
        low, high = values[pairs[k, 0]], values[pairs[k, 1]]
        for p in range(_BLOCK):
            a, b = low[p], high[p]
            low[p] = a if a < b else b
            high[p] = b if a < b else a


@kernel
def _moments(values, count, total, squares):  # type: ignore[no-untyped-def]
    # Sums of the values and their squares, less the smallest value of the pixel: the distance is no more
    # than the scatter's own size, so nothing cancels that matters in float64.
    total[:] = 0.0
    squares[:] = 0.0
    origin = values[0]
    for i in range(values.shape[0]):
        row = values[i]
        for p in range(_BLOCK):
            distance = np.float64(row[p]) - np.float64(origin[p])
            off = distance if i < count[p] else 0.0
            total[p] += off
            squares[p] += off * off


@kernel
def _mads_of_all(values, mad):  # type: ignore[no-untyped-def]
    # Of pixels with all their values; what comes out for others is not looked at.
    n = values.shape[0]
    half = n // 2
    lower, upper = values[(n - 1) // 2], values[half]
    mad[:] = np.inf
    if n % 2:
        for i in range(n - half):
            low, high = values[i], values[i + half]
            for p in range(_BLOCK):
                centre = np.float64(upper[p])
                below, above = centre - np.float64(low[p]), np.float64(high[p]) - centre
                larger = below if below > above else above
                mad[p] = larger if larger < mad[p] else mad[p]
        return
    # Of an even number the mean of the two deviations in the middle.
    longer = np.empty(_BLOCK)
    longer[:] = np.inf
    for i in range(n - half + 1):
        low, high = values[i], values[i + half - 1]
        for p in range(_BLOCK):
            centre = 0.5 * (np.float64(lower[p]) + np.float64(upper[p]))
            below, above = centre - np.float64(low[p]), np.float64(high[p]) - centre
            larger = below if below > above else above
            mad[p] = larger if larger < mad[p] else mad[p]
    for i in range(n - half):
        low, high = values[i], values[i + half]
        for p in range(_BLOCK):
            centre = 0.5 * (np.float64(lower[p]) + np.float64(upper[p]))
            below, above = centre - np.float64(low[p]), np.float64(high[p]) - centre
            larger = below if below > above else above
            longer[p] = larger if larger < longer[p] else longer[p]
    for p in range(_BLOCK):
        mad[p] = 0.5 * (mad[p] + longer[p])


@kernel
def _clip_block(  # type: ignore[no-untyped-def]
    values, count, pixels, sigma, least_for_std, reach, least_reach, factors, total, squares, mad, results
):
    n = values.shape[0]
    kept = np.int64(0)
    for p in range(pixels):
        size = count[p]
        results[0, p] = 0.0
        results[1, p] = 0.0
        if size == 0:
            continue
        column = values[:, p]
        centre = _median(column, 0, size)
        # Sum of squares about the mean, for the width and for the error.
        scatter = max(squares[p] - total[p] * total[p] / size, 0.0)
        if size < least_for_std:
            spread = mad[p] if size == n else _mad(column, size, centre)
            width = max(reach[size] * spread, least_reach[size])
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
        kept += left
    return kept


@kernel
def _median(column, first, last):  # type: ignore[no-untyped-def]
    size = last - first
    return 0.5 * (np.float64(column[first + (size - 1) // 2]) + np.float64(column[first + size // 2]))


@kernel
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


@kernel
def _inside(column, first, last, centre, width):  # type: ignore[no-untyped-def]
    while first < last and centre - column[first] > width:
        first += 1
    while last > first and column[last - 1] - centre > width:
        last -= 1
    return first, last


@kernel
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


@kernel
def _mean_and_scatter(column, first, last):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(first, last):
        total += column[i]
    mean = total / (last - first)
    scatter = 0.0
    for i in range(first, last):
        scatter += (column[i] - mean) ** 2
    return mean, scatter


@kernel
def _put(results, count, start, stop, mean, error, used, tally):  # type: ignore[no-untyped-def]
    bits = results.view(np.uint32)
    means, errors, counts = mean[start:stop], error[start:stop], used[start:stop]
    total, without, single = 0, 0, 0
    for p in range(stop - start):
        means[p] = _swapped(bits[0, p])
        errors[p] = _swapped(bits[1, p])
        counts[p] = count[p]
        total += count[p]
        without += count[p] == 0
        single += count[p] == 1
    tally[0] += total
    tally[2] += without
    tally[3] += single


@kernel
def _add_to_line(mean, count, position, start, stop, line):  # type: ignore[no-untyped-def]
    n, g, gg = line[0, start:stop], line[1, start:stop], line[2, start:stop]
    y, gy = line[3, start:stop], line[4, start:stop]
    for p in range(stop - start):
        measured = 1.0 if count[p] > 0 else 0.0
        n[p] += measured
        g[p] += position * measured
        gg[p] += position * position * measured
        # Where there is no measurement the mean is 0, and adds nothing.
        y[p] += np.float64(mean[p])
        gy[p] += position * np.float64(mean[p])
