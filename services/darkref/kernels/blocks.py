"""Steps that the kernels of both modes share: byte order, sorting, and sums for the slope of the mean ramp.

A kernel works on a block of `BLOCK` pixels at a time. Its values form one row per integration; the rows start
`STEP` elements apart in a 1-D array.
"""

from services.darkref.kernels.simd import (
    LANES,
    MOST_IN_REGISTERS,
    load,
    lt,
    prefetch,
    sort_lanes,
    store,
    where,
)
from shared.statistics.jit import kernel

#: Pixels that are combined side by side.
BLOCK = 256
#: Elements from one row of a block to the next. A little more than the block, because rows a power of two
#: apart would evict each other from the cache.
STEP = BLOCK + LANES


@kernel
def byteswapped(value):  # type: ignore[no-untyped-def]
    """Return a 32-bit number with its bytes in reverse order."""
    return (value << 24 & 0xFF000000) | ((value & 0xFF00) << 8) | ((value >> 8) & 0xFF00) | (value >> 24)


@kernel
def prefetch_next_block(row, each):  # type: ignore[no-untyped-def]
    """Prefetch the next block's part of a row, one cache line (`each` elements) at a time.

    The rows of a block are short and far apart, so the processor does not predict by itself what comes next.
    """
    for p in range(BLOCK, 2 * BLOCK, each):
        prefetch(row, p)


@kernel
def sort_rows(values, n, at, pairs):  # type: ignore[no-untyped-def]
    """Sort the n values of each of `LANES` pixels, from `at` on; `pairs` are `comparators(n)`."""
    if n <= MOST_IN_REGISTERS:
        sort_lanes(values, at, STEP, n)
        return
    for k in range(pairs.shape[0]):
        low, high = pairs[k, 0] * STEP + at, pairs[k, 1] * STEP + at
        a, b = load(values, low), load(values, high)
        ascending = lt(a, b)
        store(values, low, where(ascending, a, b))
        store(values, high, where(ascending, b, a))


@kernel
def add_to_line(mean, count, position, start, stop, line):  # type: ignore[no-untyped-def]
    """Add a group to the sums of `BandState.line`; return how many pixels have no value in it."""
    n, g, gg = line[0, start:stop], line[1, start:stop], line[2, start:stop]
    y, gy = line[3, start:stop], line[4, start:stop]
    without = 0
    for p in range(stop - start):
        measured = 1.0 if count[p] > 0 else 0.0
        without += count[p] == 0
        n[p] += measured
        g[p] += position * measured
        gg[p] += position * position * measured
        # Without a measurement the mean is 0 and adds nothing.
        y[p] += mean[p]
        gy[p] += position * mean[p]
    return without


@kernel
def first_bad_group(groupdq, flags, first_group, first):  # type: ignore[no-untyped-def]
    """Lower each pixel's first bad group to the earliest of these groups that has any of some flags.

    Parameters
    ----------
    groupdq : ndarray of uint8, 2D (groups, pixels)
        Some consecutive groups of an integration.
    flags : uint8
        Bits of GROUPDQ that make a group bad.
    first_group : int
        Index in the ramp of the first of `groupdq`.
    first : ndarray of unsigned int, 1D (pixels)
        The first bad group so far; updated in place. Start from the largest number of its type.
    """
    for g in range(groupdq.shape[0]):
        group = first.dtype.type(first_group + g)
        row = groupdq[g]
        for p in range(row.size):
            if row[p] & flags and group < first[p]:
                first[p] = group
