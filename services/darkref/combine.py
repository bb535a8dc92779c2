"""Reference mode: the notebook's steps 2, 3, 5 and 6, as ``jwst_reffiles`` 1.0.1 does them with the mean.

The clip is ``astropy.stats.sigma_clip(sigma, maxiters=5, cenfunc="median", stdfunc="std", axis=0)``,
invalid values left out, then the mean and the population standard deviation of what is left.

The values of a pixel are sorted, by a network of comparators that runs over a block of pixels at a time,
so that medians are read off and every clip is a range of the sorted values. Sorting also makes the
result independent of the order in which exposures are given. Sums are float64, where jwst_reffiles has
float32: the two differ by its rounding.

Everything from the file's bytes to the product's is done to a block of pixels while it is in the
processor's cache: byte order, hits, sorting, clip, and the running sums of the slopes.
"""

import numpy as np
from numpy.typing import NDArray

from services.darkref.sorting import comparators
from services.darkref.windows import BandState, Combined, Window
from shared.compiled import kernel

#: GROUPDQ bit of a cosmic-ray hit (`stdatamodels.jwst.datamodels.dqflags.group["JUMP_DET"]`).
JUMP_DET = 4
#: Rounds of the clip, jwst_reffiles' and astropy's default.
MAX_ITERATIONS = 5
#: Pixels that are sorted side by side.
BLOCK = 256
_INFINITE = np.uint32(0x7F800000)


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


@kernel
def _first_hits(groupdq, first_group, first_hit):  # type: ignore[no-untyped-def]
    for g in range(groupdq.shape[0]):
        group = first_hit.dtype.type(first_group + g)
        flags = groupdq[g]
        for p in range(flags.size):
            if flags[p] & JUMP_DET and group < first_hit[p]:
                first_hit[p] = group


@kernel
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
    bits = np.empty((n, BLOCK), np.uint32)
    values = bits.view(np.float32)
    raw = np.empty(BLOCK, np.uint32)
    count = np.empty(BLOCK, np.int32)
    centre = np.empty(BLOCK)
    width = np.empty(BLOCK)
    rounded = np.empty((2, BLOCK), np.float32)
    for start in range(first_pixel, last_pixel, BLOCK):
        stop = min(start + BLOCK, last_pixel)
        for g in range(groups):
            group = first_hit.dtype.type(first_group + g)
            _gather(signal, first_hit, group, g, start, stop, bits, raw, count, moment, weights[g])
            _sort(values, pairs)
            _mean_and_std_of_all(values, count, centre, width)
            tally[1] += _clip_block(values, count, sigma, stop - start, centre, width, rounded)
            tally[0] += _put(rounded, count, start, stop, mean[g], std[g], used[g])
            tally[2] += _add_to_line(rounded[0], count, weights[g], start, stop, line)


@kernel
def _swapped(value):  # type: ignore[no-untyped-def]
    return (
        ((value & np.uint32(0xFF)) << np.uint32(24))
        | ((value & np.uint32(0xFF00)) << np.uint32(8))
        | ((value >> np.uint32(8)) & np.uint32(0xFF00))
        | (value >> np.uint32(24))
    )


@kernel
def _gather(  # type: ignore[no-untyped-def]
    signal, first_hit, group, g, start, stop, bits, raw, count, moment, weight
):
    # Row by row of the block, not pixel by pixel: the samples of a pixel lie a power of two apart on a
    # full frame, and would push each other out of the cache.
    count[:] = 0
    bits[:, stop - start :] = _INFINITE
    values = raw.view(np.float32)
    for i in range(signal.shape[0]):
        stored = signal[i, g, start:stop]
        first = first_hit[i, start:stop]
        sums = moment[i, start:stop]
        row = bits[i]
        for p in range(stop - start):
            value = _swapped(stored[p])
            raw[p] = value
            valid = (first[p] > group) & ((value & _INFINITE) != _INFINITE)
            row[p] = value if valid else _INFINITE
            count[p] += np.int32(valid)
        for p in range(stop - start):
            weighted = weight * np.float64(values[p])
            sums[p] += weighted if first[p] > group else 0.0


@kernel
def _sort(values, pairs):  # type: ignore[no-untyped-def]
    for k in range(pairs.shape[0]):
        low, high = values[pairs[k, 0]], values[pairs[k, 1]]
        for p in range(BLOCK):
            a, b = low[p], high[p]
            low[p] = a if a < b else b
            high[p] = b if a < b else a


@kernel
def _mean_and_std_of_all(values, count, centre, width):  # type: ignore[no-untyped-def]
    # The first round of every pixel's clip, which for most is the last; the sums of a pixel run over its
    # sorted values in order, as `_mean_and_std` has them.
    centre[:] = 0.0
    width[:] = 0.0
    for i in range(values.shape[0]):
        row = values[i]
        for p in range(BLOCK):
            centre[p] += np.float64(row[p]) if i < count[p] else 0.0
    for p in range(BLOCK):
        centre[p] /= max(count[p], 1)
    for i in range(values.shape[0]):
        row = values[i]
        for p in range(BLOCK):
            off = np.float64(row[p]) - centre[p]
            width[p] += off * off if i < count[p] else 0.0
    for p in range(BLOCK):
        width[p] = np.sqrt(width[p] / max(count[p], 1))


@kernel
def _clip_block(values, count, sigma, pixels, centre, width, rounded):  # type: ignore[no-untyped-def]
    total = 0
    for p in range(pixels):
        size = count[p]
        mean, std, kept = centre[p], width[p], size
        if size > 0:
            middle = size // 2
            median = np.float64(values[middle, p])
            if size % 2 == 0:
                median = 0.5 * (median + values[middle - 1, p])
            if values[0, p] < median - sigma * std or values[size - 1, p] > median + sigma * std:
                mean, std, kept = _clip(values[:, p], size, sigma)
        rounded[0, p] = mean
        rounded[1, p] = std
        total += kept
    return total


@kernel
def _put(rounded, count, start, stop, mean, std, used):  # type: ignore[no-untyped-def]
    bits = rounded.view(np.uint32)
    means, stds, counts = mean[start:stop], std[start:stop], used[start:stop]
    total = 0
    for p in range(stop - start):
        means[p] = _swapped(bits[0, p])
        stds[p] = _swapped(bits[1, p])
        counts[p] = count[p]
        total += count[p]
    return total


@kernel
def _add_to_line(mean, count, position, start, stop, line):  # type: ignore[no-untyped-def]
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
        y[p] += np.float64(mean[p])
        gy[p] += position * np.float64(mean[p])
    return without


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
