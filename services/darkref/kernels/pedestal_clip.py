"""Compiled kernels of flight mode: pedestals removed, then a clip that knows how many values it has.

`services.darkref.combine.methods` says what the kernels compute, and calls them. A pixel's result does not
depend on its neighbours. Sets of fewer than `combine.small_samples.LEAST_FOR_STD` integrations are clipped by
their median absolute deviation (MAD), `LANES` pixels at a time in registers; larger ones by their standard
deviation. What notebook mode needs as well is in `services.darkref.kernels.blocks`.
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
    and_,
    eq,
    fabs,
    halved,
    le,
    load,
    lt,
    movemask,
    sort_lanes,
    splat,
    sqrt,
    store,
    to_f32,
    to_f64,
    where,
)
from shared.statistics.jit import kernel

# Rounds of the clip by standard deviations: as many as notebook mode's.
_ROUNDS = 5
_INFINITE = np.uint32(0x7F800000)


@kernel
def combine_pedestal_free(  # type: ignore[no-untyped-def]
    signal,
    first_bad,
    first_group,
    weights,
    moment,
    line,
    pedestal,
    ends,
    before,
    falls,
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
    n_valid,
    tally,
    clipped_at,
    clipped,
):
    """Combine pixels of a window; see `combine.methods.pedestal_free_mean`."""
    n, groups = signal.shape[:2]
    bits = np.empty(n * STEP, np.uint32)
    values = bits.view(np.float32)
    raw = np.empty(BLOCK, np.uint32)
    down = np.empty(BLOCK, np.float32)
    count = np.empty(BLOCK, np.int32)
    n_kept = np.empty(BLOCK, np.int32)
    off = np.empty(n * LANES, np.float32)
    total = np.empty(BLOCK)
    squares = np.empty(BLOCK)
    results = np.empty((2, BLOCK), np.float32)
    for start in range(first_pixel, last_pixel, BLOCK):
        stop = min(start + BLOCK, last_pixel)
        for g in range(groups):
            group = first_bad.dtype.type(first_group + g)
            if first_group + g == 0:
                _keep_pedestals(signal, g, start, stop, pedestal)
            _gather(
                signal,
                first_bad,
                group,
                g,
                start,
                stop,
                bits,
                raw,
                count,
                moment,
                weights[g],
                pedestal,
                ends,
                before,
                falls,
                down,
            )
            if first_group + g == 0:
                results[:] = 0
                n_kept[:] = count
            else:
                _clip(
                    values,
                    n,
                    count,
                    stop - start,
                    pairs,
                    sigma,
                    least_for_std,
                    reach,
                    least_reach,
                    factors,
                    off,
                    total,
                    squares,
                    n_kept,
                    results,
                )
            _keep_clipped(values, count, n_kept, g, start, stop, clipped_at, clipped, tally)
            _put(results, count, start, stop, mean[g], error[g], n_valid[g], tally)
            add_to_line(results[0], count, weights[g], start, stop, line)


@kernel
def _clip(  # type: ignore[no-untyped-def]
    values,
    n,
    count,
    pixels,
    pairs,
    sigma,
    least_for_std,
    reach,
    least_reach,
    factors,
    off,
    total,
    squares,
    n_kept,
    results,
):
    # Clip by what so many integrations allow.
    if n < least_for_std:
        _clip_by_mad(
            values, n, count, pixels, reach, least_reach, factors, off, n_kept, results[0], results[1]
        )
    else:
        _moments(values, n, count, pairs, total, squares)
        _clip_by_std(
            values,
            count,
            pixels,
            sigma,
            least_for_std,
            reach,
            least_reach,
            factors,
            total,
            squares,
            n_kept,
            results,
        )


@kernel
def _keep_clipped(values, count, n_kept, g, start, stop, clipped_at, clipped, tally):  # type: ignore[no-untyped-def]
    # Note the places where the clip removed something, and what all values were there.
    for p in range(stop - start):
        tally[1] += n_kept[p]
        if n_kept[p] < count[p]:
            at = tally[4]
            clipped_at[at, 0] = g
            clipped_at[at, 1] = start + p
            clipped_at[at, 2] = count[p] - n_kept[p]
            _unclipped(values[p::STEP], count[p], clipped[at])
            tally[4] += 1


@kernel
def _middle(rows, at, step, n, size):  # type: ignore[no-untyped-def]
    # The median of the first `size` of n sorted rows.
    half, before = halved(size), halved(size - splat(np.int32(1)))
    lower = upper = splat(np.float32(0.0))
    for i in range(n // 2 + 1):
        row, number = load(rows, i * step + at), splat(np.int32(i))
        lower = where(eq(number, before), row, lower)
        upper = where(eq(number, half), row, upper)
    halves = splat(np.float32(0.5))
    return halves * lower + halves * upper


@kernel
def _clip_by_mad(values, n, count, pixels, reach, least_reach, factors, off, n_kept, means, errors):  # type: ignore[no-untyped-def]
    # Clip by the MAD, in one round, then store the mean, its standard error and the number kept. Only where
    # every pixel has fewer than `small_samples.LEAST_FOR_STD` values. Both the values and their distances
    # from the median are sorted. Sums are of distances from the median, which are no larger than the scatter,
    # so no significant digits cancel in float64.
    zero, one = splat(0.0), splat(np.int32(1))
    for at in range(0, pixels, LANES):
        sort_lanes(values, at, STEP, n)
        size = load(count, at)
        centre = _middle(values, at, STEP, n, size)
        for i in range(n):
            store(off, i * LANES, fabs(load(values, i * STEP + at) - centre))
        sort_lanes(off, 0, LANES, n)
        mad = _middle(off, 0, LANES, n, size)
        # The factors by number of values: nearly always n, or one or two fewer.
        mads, least, factor = (
            splat(np.float32(reach[n])),
            splat(np.float32(least_reach[n])),
            splat(factors[n]),
        )
        for fewer_values in range(n - 1, -1, -1):
            if movemask(lt(size, splat(np.int32(fewer_values + 1)))) == 0:
                break
            those = eq(size, splat(np.int32(fewer_values)))
            mads = where(those, splat(np.float32(reach[fewer_values])), mads)
            least = where(those, splat(np.float32(least_reach[fewer_values])), least)
            factor = where(those, splat(factors[fewer_values]), factor)
        width = mads * mad
        width = where(lt(least, width), width, least)
        total, squares, kept = zero, zero, splat(np.int32(0))
        origin = to_f64(centre)
        for i in range(n):
            row = load(values, i * STEP + at)
            inside = and_(le(fabs(row - centre), width), lt(splat(np.int32(i)), size))
            distance = where(inside, to_f64(row) - origin, zero)
            total = total + distance
            squares = squares + distance * distance
            kept = kept + where(inside, one, splat(np.int32(0)))
        store(n_kept, at, kept)
        number = to_f64(kept)
        several = lt(splat(1.0), number)
        mean = origin + total / where(lt(zero, number), number, splat(1.0))
        # Without a measurement the centre has no meaning.
        store(means, at, to_f32(where(lt(zero, number), mean, zero)))
        scatter = squares - total * total / where(several, number, splat(1.0))
        scatter = where(lt(zero, scatter), scatter, zero)
        degrees = where(several, number * (number - splat(1.0)), splat(1.0))
        store(errors, at, to_f32(where(several, sqrt(factor * scatter / degrees), zero)))


@kernel
def _keep_pedestals(signal, g, start, stop, pedestal):  # type: ignore[no-untyped-def]
    kept = pedestal.view(np.uint32)
    for i in range(signal.shape[0]):
        stored, row = signal[i, g, start:stop], kept[i, start:stop]
        for p in range(stop - start):
            row[p] = byteswapped(stored[p])


@kernel
def _gather(  # type: ignore[no-untyped-def]
    signal,
    first_bad,
    group,
    g,
    start,
    stop,
    bits,
    raw,
    count,
    moment,
    weight,
    pedestal,
    ends,
    before,
    falls,
    down,
):
    # One integration after another, not one pixel after another: on a full frame the samples of a pixel lie
    # a power of two apart and would evict each other from the cache.
    count[:] = 0
    native = raw.view(np.float32)
    for i in range(signal.shape[0]):
        stored = signal[i, g, start:stop]
        first = first_bad[i, start:stop]
        zero = pedestal[i, start:stop]
        sums = moment[i, start:stop]
        row = bits[i * STEP : i * STEP + BLOCK]
        row[stop - start :] = _INFINITE
        for p in range(stop - start):
            raw[p] = byteswapped(stored[p])
        for p in range(stop - start):
            native[p] -= zero[p]
        for p in range(stop - start):
            # A pedestal that is not finite makes the whole integration invalid.
            valid = (first[p] > group) & ((raw[p] & _INFINITE) != _INFINITE)
            row[p] = raw[p] if valid else _INFINITE
            count[p] += np.int32(valid)
        for p in range(stop - start):
            sums[p] += weight * np.float64(native[p]) if first[p] > group else 0.0
        _add_falls(
            native,
            ends[i, start:stop],
            group,
            before[i, start:stop],
            down,
            falls[0, start:stop],
            falls[1, start:stop],
            falls[2, start:stop],
        )
        prefetch_next_block(stored, 16)
        if g == 0:
            prefetch_next_block(zero, 16)
            prefetch_next_block(sums, 8)
            prefetch_next_block(first, 64)


@kernel
def _add_falls(native, ends, group, before, down, lowest, second, total):  # type: ignore[no-untyped-def]
    # The two largest steps down from the group before, of any integration, and the sum of all; whether a hit
    # came before does not matter, only that the integration has not ended. Loops over few arrays each, which
    # the compiler can tell apart and vectorises.
    zero = np.float32(0.0)
    if group > 0:
        for p in range(before.size):
            step = native[p] - before[p]
            # Not a number is no fall.
            down[p] = step if (ends[p] > group) & (step < zero) else zero
        for p in range(before.size):
            step, least = down[p], lowest[p]
            larger = least if step < least else step
            lowest[p] = step if step < least else least
            second[p] = larger if larger < second[p] else second[p]
        for p in range(before.size):
            total[p] += down[p]
    for p in range(before.size):
        before[p] = native[p]


@kernel
def _unclipped(column, size, result):  # type: ignore[no-untyped-def]
    # Mean and variance of all values, sorted, and the variance without the one that is farthest from the
    # mean. Sums are of distances from the middle value, so no significant digits cancel in float64.
    origin = np.float64(column[size // 2])
    total, squares = 0.0, 0.0
    for i in range(size):
        distance = column[i] - origin
        total += distance
        squares += distance * distance
    shift = total / size
    scatter = max(squares - total * shift, 0.0)
    below, above = origin + shift - column[0], column[size - 1] - origin - shift
    farthest = max(below, above)
    result[0] = origin + shift
    result[1] = scatter / (size - 1)
    # Without a value that is d from the mean of n, the sum of squares is less by d^2 n / (n - 1).
    less = farthest * farthest * size / (size - 1)
    result[2] = max(scatter - less, 0.0) / max(size - 2, 1)


@kernel
def _moments(values, n, count, pairs, total, squares):  # type: ignore[no-untyped-def]
    # Sums of the distances from the pixel's smallest value, and of their squares. These distances are no
    # larger than the scatter, so no significant digits cancel in float64.
    for at in range(0, BLOCK, LANES):
        sort_rows(values, n, at, pairs)
        size = load(count, at)
        origin = to_f64(load(values, at))
        sums, scatter = splat(0.0), splat(0.0)
        for i in range(n):
            distance = to_f64(load(values, i * STEP + at)) - origin
            distance = where(lt(splat(np.int32(i)), size), distance, splat(0.0))
            sums = sums + distance
            scatter = scatter + distance * distance
        store(total, at, sums)
        store(squares, at, scatter)


@kernel
def _clip_by_std(  # type: ignore[no-untyped-def]
    values, count, pixels, sigma, least_for_std, reach, least_reach, factors, total, squares, n_kept, results
):
    for p in range(pixels):
        size = count[p]
        results[0, p] = 0.0
        results[1, p] = 0.0
        n_kept[p] = 0
        if size == 0:
            continue
        column = values[p::STEP]
        centre = _median(column, 0, size)
        # The sum of squares about the mean gives both the width and the error.
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
        kept = last - first
        results[0, p] = mean
        if kept > 1:
            results[1, p] = np.sqrt(factors[size] * scatter / ((kept - 1) * kept))
        n_kept[p] = kept


@kernel
def _median(column, first, last):  # type: ignore[no-untyped-def]
    size = last - first
    return 0.5 * (np.float64(column[first + (size - 1) // 2]) + np.float64(column[first + size // 2]))


@kernel
def _mad(column, size, centre):  # type: ignore[no-untyped-def]
    # The deviations increase from the middle outwards on both sides: merge them up to half of their number.
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
    # The bounds of the last round; as in astropy's sigma_clip they apply to every value.
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
def _put(results, count, start, stop, mean, error, n_valid, tally):  # type: ignore[no-untyped-def]
    bits = results.view(np.uint32)
    means, errors, counts = mean[start:stop], error[start:stop], n_valid[start:stop]
    total, without, single = 0, 0, 0
    for p in range(stop - start):
        means[p] = byteswapped(bits[0, p])
        errors[p] = byteswapped(bits[1, p])
        counts[p] = count[p]
        total += count[p]
        without += count[p] == 0
        single += count[p] == 1
    tally[0] += total
    tally[2] += without
    tally[3] += single
