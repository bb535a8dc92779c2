"""What the kernels of both modes do to a block of pixels: byte order, sorting, sums of the mean ramp's slope.

A block's values are rows, one an integration, that begin `STEP` elements apart in a 1-D array.
"""

import functools

from services.darkref import lanes, sorting
from services.darkref.lanes import LANES, MOST_IN_REGISTERS, below, load, prefetch, sort_lanes, store, where
from shared import compiled

#: Pixels that are combined side by side.
BLOCK = 256
#: From one row of a block to the next: a little more, as rows a power of two apart would push each other out
#: of the cache.
STEP = BLOCK + LANES

_kernel = functools.partial(compiled.kernel, built_on=(lanes, sorting))


@_kernel
def swapped(value):  # type: ignore[no-untyped-def]
    """Return a 32-bit number with its bytes the other way round."""
    return (value << 24 & 0xFF000000) | ((value & 0xFF00) << 8) | ((value >> 8) & 0xFF00) | (value >> 24)


@_kernel
def fetch_next(row, each):  # type: ignore[no-untyped-def]
    """Let the next block's part of a row come into the cache, a cache line (`each` elements) at a time.

    A block's rows are short and far apart, so that the processor does not see by itself what comes next.
    """
    for p in range(BLOCK, 2 * BLOCK, each):
        prefetch(row, p)


@_kernel
def sort_rows(values, n, at, pairs):  # type: ignore[no-untyped-def]
    """Sort the `LANES` pixels of a block from `at` on; `pairs` are `services.darkref.sorting.comparators`."""
    if n <= MOST_IN_REGISTERS:
        sort_lanes(values, at, STEP, n)
        return
    for k in range(pairs.shape[0]):
        one, other = pairs[k, 0] * STEP + at, pairs[k, 1] * STEP + at
        a, b = load(values, one), load(values, other)
        ascending = below(a, b)
        store(values, one, where(ascending, a, b))
        store(values, other, where(ascending, b, a))


@_kernel
def add_to_line(mean, count, position, start, stop, line):  # type: ignore[no-untyped-def]
    """Bring `services.darkref.windows.BandState.line` forward a group; count the pixels without a value."""
    n, g, gg = line[0, start:stop], line[1, start:stop], line[2, start:stop]
    y, gy = line[3, start:stop], line[4, start:stop]
    without = 0
    for p in range(stop - start):
        measured = 1.0 if count[p] > 0 else 0.0
        without += count[p] == 0
        n[p] += measured
        g[p] += position * measured
        gg[p] += position * position * measured
        # The mean of no measurement is 0, so it adds nothing here.
        y[p] += mean[p]
        gy[p] += position * mean[p]
    return without
