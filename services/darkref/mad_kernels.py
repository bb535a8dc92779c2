"""Flight mode's clip of few values by their median absolute deviation (MAD), `LANES` pixels side by side."""

import functools

import numpy as np

from services.darkref import block_kernels, lanes, sorting
from services.darkref.block_kernels import STEP
from services.darkref.lanes import (
    LANES,
    at_most,
    below,
    bits_of,
    both,
    equal,
    fewer,
    floating,
    halved,
    load,
    root,
    rounded,
    size_of,
    sort_lanes,
    spread,
    store,
    where,
    widened,
)
from shared import compiled

_kernel = functools.partial(compiled.kernel, built_on=(block_kernels, lanes, sorting))


@_kernel
def _middle(rows, at, step, n, size):  # type: ignore[no-untyped-def]
    # The median of the first `size` of n sorted rows.
    half, before = halved(size), halved(size - spread(np.int32(1)))
    lower = upper = spread(np.float32(0.0))
    for i in range(n // 2 + 1):
        row, number = load(rows, i * step + at), spread(np.int32(i))
        lower = where(equal(number, before), row, lower)
        upper = where(equal(number, half), row, upper)
    halves = spread(np.float32(0.5))
    return halves * lower + halves * upper


@_kernel
def clip_by_mad(values, n, count, pixels, reach, least_reach, factors, off, left, means, errors):  # type: ignore[no-untyped-def]
    """Clip a block's pixels by their MADs, then put the mean, its standard error and how many are left.

    Only where all have fewer than `services.darkref.small_samples.LEAST_FOR_STD` values. A pixel's values are
    sorted, then their distances from the median, for the MAD; one round of the clip. Sums are of distances
    from the median: no more than the scatter's own size, so that nothing cancels that matters in float64.
    """
    nothing, one = spread(0.0), spread(np.int32(1))
    for at in range(0, pixels, LANES):
        sort_lanes(values, at, STEP, n)
        size = load(count, at)
        centre = _middle(values, at, STEP, n, size)
        for i in range(n):
            store(off, i * LANES, size_of(load(values, i * STEP + at) - centre))
        sort_lanes(off, 0, LANES, n)
        mad = _middle(off, 0, LANES, n, size)
        # By the number of values: nearly always all, or one or two less.
        mads, least, factor = (
            spread(np.float32(reach[n])),
            spread(np.float32(least_reach[n])),
            spread(factors[n]),
        )
        for fewer_values in range(n - 1, -1, -1):
            if bits_of(fewer(size, spread(np.int32(fewer_values + 1)))) == 0:
                break
            those = equal(size, spread(np.int32(fewer_values)))
            mads = where(those, spread(np.float32(reach[fewer_values])), mads)
            least = where(those, spread(np.float32(least_reach[fewer_values])), least)
            factor = where(those, spread(factors[fewer_values]), factor)
        width = mads * mad
        width = where(below(least, width), width, least)
        total, squares, kept = nothing, nothing, spread(np.int32(0))
        origin = widened(centre)
        for i in range(n):
            row = load(values, i * STEP + at)
            inside = both(at_most(size_of(row - centre), width), fewer(spread(np.int32(i)), size))
            distance = where(inside, widened(row) - origin, nothing)
            total = total + distance
            squares = squares + distance * distance
            kept = kept + where(inside, one, spread(np.int32(0)))
        store(left, at, kept)
        number = floating(kept)
        several = below(spread(1.0), number)
        mean = origin + total / where(below(nothing, number), number, spread(1.0))
        # Where nothing was measured, the centre is of no value.
        store(means, at, rounded(where(below(nothing, number), mean, nothing)))
        scatter = squares - total * total / where(several, number, spread(1.0))
        scatter = where(below(nothing, scatter), scatter, nothing)
        degrees = where(several, number * (number - spread(1.0)), spread(1.0))
        store(errors, at, rounded(where(several, root(factor * scatter / degrees), nothing)))
