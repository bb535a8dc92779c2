"""Least-squares slopes of the first n groups of a ramp, for every n in one pass.

For y[g] at g = 0 .. n-1 the slope is (12 sum(g y) - 6 (n-1) sum(y)) / (n (n^2-1)): two running sums give the
slopes for all n.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.nircam.dq import BAD_GROUP_FLAGS
from shared.statistics.jit import kernel

#: Pixels that the kernels work on at once.
BLOCK = 512
_INFINITE = np.uint32(0x7F800000)
_BAD_GROUP = int(BAD_GROUP_FLAGS)


class SlopePlanes:
    """Slopes of all pixels of a ramp, one group after the other.

    Parameters
    ----------
    shape : (int, int)
        (y, x) of the planes to come.
    columns : sequence of slice
        Columns of each amplifier; together, all columns.
    """

    def __init__(self, shape: tuple[int, int], columns: Sequence[slice]) -> None:
        self._sum = np.zeros(shape)
        self._weighted = np.zeros(shape)
        # In single precision, like the signal: its rounding is far below any noise.
        self._slopes = [np.empty((shape[0], part.stop - part.start), np.float32) for part in columns]
        self._columns = columns
        self._group = 0

    def add(self, group: int, signal: NDArray[Any], use: NDArray[np.bool_]) -> list[NDArray[np.float32]]:
        """Add a group, in ascending order; group 0 begins the next ramp.

        Parameters
        ----------
        group : int
        signal : ndarray, 2D (y, x)
            DN.
        use : ndarray of bool, 2D (y, x)
            Pixels whose slopes are needed.

        Returns
        -------
        list of ndarray of float32, 1D
            Slopes of each amplifier over groups 0 to `group`, row by row, DN/group; NaN where `use` is False,
            meaningless for group 0. The next call overwrites them.
        """
        if group == 0:
            self._sum[:] = 0
            self._weighted[:] = 0
        self._group = group
        for slopes, columns in zip(self._slopes, self._columns, strict=True):
            _advance(self._sum, self._weighted, slopes, signal, use, group, columns.start)
        return [slopes.reshape(-1) for slopes in self._slopes]

    def of(self, pixels: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the slopes of a few pixels (flat indices) over the groups so far, DN/group."""
        total, weighted = self._sum.reshape(-1)[pixels], self._weighted.reshape(-1)[pixels]
        centre, norm = _factors(self._group)
        slopes: NDArray[np.float32] = ((12.0 * weighted - centre * total) * norm).astype(np.float32)
        return slopes


@dataclass(frozen=True)
class RampSums:
    """Running sums of all ramps in a band of rows, carried from one window of groups to the next.

    Attributes
    ----------
    total, weighted : ndarray of float64, 2D (ramps, pixels)
        Sums of y and of g y; initially 0.
    alive : ndarray of bool, 2D (ramps, pixels)
        False from the first bad group on; initially, whether the pixel is usable at all.
    """

    total: NDArray[np.float64]
    weighted: NDArray[np.float64]
    alive: NDArray[np.bool_]


def variances_over_ramps(
    signal: NDArray[np.uint32],
    quality: NDArray[np.uint8],
    first_group: int,
    sums: RampSums,
    factors: NDArray[np.float64],
    minimum: int,
    pixels: slice,
    into: NDArray[np.float32],
) -> None:
    """Compute the variance over ramps of the slopes of the first n groups, for every n of a window.

    Sample variances (ddof 1) over the ramps whose first n groups are good, about their mean: a plain sum of
    squares would lose the noise of a hot pixel.

    Parameters
    ----------
    signal : ndarray of uint32, 3D (ramps, groups, pixels)
        Bits of the float32 signal, DN, in the byte order of FITS.
    quality : ndarray of uint8, 3D (ramps, groups, pixels)
        GROUPDQ; a ramp ends at the first group with one of `BAD_GROUP_FLAGS`.
    first_group : int
        Number of the first group of the window; windows come in ascending order.
    sums : RampSums
        Updated with the groups of the window.
    factors : ndarray of float64, 1D
        What a variance of so many ramps is divided by, see `variance_median_factor`.
    minimum : int
        Fewest ramps for a variance.
    pixels : slice
        Pixels to work on; threads may work on different ones at once.
    into : ndarray of float32, 2D (groups, pixels)
        Receives the variances, (DN/group)^2; NaN of too few ramps, meaningless for group 0.
    """
    _variances(
        signal,
        quality,
        first_group,
        sums.total,
        sums.weighted,
        sums.alive,
        factors,
        minimum,
        pixels.start,
        pixels.stop,
        into,
    )


@kernel
def _factors(group):  # type: ignore[no-untyped-def]
    n = group + 1.0
    return 6.0 * (n - 1.0), 1.0 / max(n * (n * n - 1.0), 1.0)


@kernel
def _advance(total, weighted, slopes, signal, use, group, column):  # type: ignore[no-untyped-def]
    width = slopes.shape[1]
    for row in range(slopes.shape[0]):
        sums = total[row, column : column + width]
        weighted_sums = weighted[row, column : column + width]
        _add_to_sums(group, signal[row, column : column + width], sums, weighted_sums)
        _slopes_of(group, sums, weighted_sums, use[row, column : column + width], slopes[row])


# Loops over few arrays each, so that the compiler vectorizes them.
@kernel
def _add_to_sums(group, values, total, weighted):  # type: ignore[no-untyped-def]
    place = np.float64(group)
    for p in range(total.size):
        value = np.float64(values[p])
        total[p] += value
        weighted[p] += place * value


@kernel
def _slopes_of(group, total, weighted, use, slopes):  # type: ignore[no-untyped-def]
    centre, norm = _factors(group)
    for p in range(slopes.size):
        slope = np.float32((12.0 * weighted[p] - centre * total[p]) * norm)
        slopes[p] = slope if use[p] else np.float32(np.nan)


@kernel
def _variances(  # type: ignore[no-untyped-def]
    signal,
    quality,
    first_group,
    total,
    weighted,
    alive,
    factors,
    minimum,
    first_pixel,
    last_pixel,
    into,
):
    ramps = signal.shape[0]
    raw = np.empty(BLOCK, np.uint32)
    slopes = np.empty((ramps, BLOCK))
    count = np.empty(BLOCK, np.int32)
    mean = np.empty(BLOCK)
    squares = np.empty(BLOCK)
    for start in range(first_pixel, last_pixel, BLOCK):
        stop = min(start + BLOCK, last_pixel)
        for g in range(signal.shape[1]):
            count[:] = 0
            mean[:] = 0.0
            squares[:] = 0.0
            for ramp in range(ramps):
                good = alive[ramp, start:stop]
                _gather(signal[ramp, g, start:stop], quality[ramp, g, start:stop], good, raw)
                sums, weighted_sums = total[ramp, start:stop], weighted[ramp, start:stop]
                _add_group(first_group + g, raw, sums, weighted_sums, slopes[ramp])
                _count(slopes[ramp], good, count, mean)
            for p in range(stop - start):
                mean[p] /= max(count[p], 1)
            for ramp in range(ramps):
                _add_squares(slopes[ramp], alive[ramp, start:stop], mean, squares)
            variances = into[g, start:stop]
            for p in range(stop - start):
                variance = squares[p] / (count[p] - 1.0) if count[p] > 1 else np.nan
                variances[p] = variance / factors[count[p]] if count[p] >= minimum else np.nan


@kernel
def _gather(signal, quality, alive, raw):  # type: ignore[no-untyped-def]
    for p in range(signal.size):
        value = signal[p]
        value = (
            ((value & np.uint32(0xFF)) << np.uint32(24))
            | ((value & np.uint32(0xFF00)) << np.uint32(8))
            | ((value >> np.uint32(8)) & np.uint32(0xFF00))
            | (value >> np.uint32(24))
        )
        good = alive[p] & ((quality[p] & _BAD_GROUP) == 0) & ((value & _INFINITE) != _INFINITE)
        alive[p] = good
        # The sums of a ramp that has ended are not used any more.
        raw[p] = value if good else np.uint32(0)


@kernel
def _add_group(group, raw, total, weighted, slopes):  # type: ignore[no-untyped-def]
    values = raw.view(np.float32)
    place = np.float64(group)
    centre, norm = _factors(group)
    for p in range(total.size):
        value = np.float64(values[p])
        sums = total[p] + value
        weighted_sums = weighted[p] + place * value
        total[p] = sums
        weighted[p] = weighted_sums
        slopes[p] = (12.0 * weighted_sums - centre * sums) * norm


@kernel
def _count(slopes, alive, count, mean):  # type: ignore[no-untyped-def]
    for p in range(alive.size):
        count[p] += np.int32(alive[p])
        mean[p] += slopes[p] if alive[p] else 0.0


@kernel
def _add_squares(slopes, alive, mean, squares):  # type: ignore[no-untyped-def]
    for p in range(alive.size):
        off = slopes[p] - mean[p]
        squares[p] += off * off if alive[p] else 0.0
