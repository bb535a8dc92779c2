"""Least-squares slopes of the first n groups, for every n in one pass.

For y[g] at g = 0 .. n-1 the slope is (12 sum(g y) - 6 (n-1) sum(y)) / (n (n^2-1)), so two running sums
give all of them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.noise.pixels import ENDS_RAMP
from shared.compiled import kernel

#: Pixels that are worked on side by side.
BLOCK = 256
_INFINITE = np.uint32(0x7F800000)


class SlopePlanes:
    """Slopes of every pixel of one ramp at a time, one group after the other.

    Parameters
    ----------
    shape : (int, int)
        (y, x) of the planes to come.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self._sum = np.zeros(shape)
        self._weighted = np.zeros(shape)
        self._slopes = np.zeros(shape)

    def add(self, group: int, signal: NDArray[Any]) -> NDArray[np.float64]:
        """Add one group, in ascending order; group 0 begins the next ramp.

        Returns
        -------
        ndarray of float64, 2D (y, x)
            DN/group over groups 0 to `group`; meaningless for group 0. The next call overwrites it.
        """
        if group == 0:
            self._sum[:] = 0
            self._weighted[:] = 0
        _advance(self._sum, self._weighted, self._slopes, signal, group)
        return self._slopes


@dataclass(frozen=True)
class RampSums:
    """What the groups before leave to the next ones: running sums of every ramp in a band of rows.

    Attributes
    ----------
    total, weighted : ndarray of float64, 2D (ramps, pixels)
        Sums of y and of g*y; at first 0.
    alive : ndarray of bool, 2D (ramps, pixels)
        False from the first group on that must not be used; at first, whether the pixel may be used at all.
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
    """Give the variance over ramps of the slopes of the first n groups, for every n of a window.

    Sample variances (ddof 1) of the ramps whose first n groups are good, by Welford's recurrence over
    the ramps in their order: a plain sum of squares would lose a hot pixel's noise.

    Parameters
    ----------
    signal : ndarray of uint32, 3D (ramps, groups, pixels)
        Bits of the float32 signal in DN, in FITS's byte order.
    quality : ndarray of uint8, 3D (ramps, groups, pixels)
        GROUPDQ; `ENDS_RAMP` counts.
    first_group : int
        Which group the first of `signal` is; windows come in ascending order.
    sums : RampSums
        Brought forward by the groups of the window.
    factors : ndarray of float64, 1D
        What a variance of so many ramps is divided by, see `variance_median_factor`.
    minimum : int
        Ramps that a variance needs.
    pixels : slice
        Which to do; different threads may do different ones at once.
    into : ndarray of float32, 2D (groups, pixels)
        Takes the variances, (DN/group)^2, NaN of too few ramps; what it gets for group 0 means nothing.
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
def _advance(
    total: NDArray[np.float64],
    weighted: NDArray[np.float64],
    slopes: NDArray[np.float64],
    signal: NDArray[Any],
    group: int,
) -> None:
    n = group + 1.0
    centre = 6.0 * (n - 1.0)
    norm = 1.0 / max(n * (n * n - 1.0), 1.0)
    for row in range(signal.shape[0]):
        for column in range(signal.shape[1]):
            value = np.float64(signal[row, column])
            total[row, column] += value
            weighted[row, column] += group * value
            slopes[row, column] = (12.0 * weighted[row, column] - centre * total[row, column]) * norm


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
    raw = np.empty(BLOCK, np.uint32)
    use = np.empty(BLOCK)
    slope = np.empty(BLOCK)
    count = np.empty(BLOCK)
    mean = np.empty(BLOCK)
    squares = np.empty(BLOCK)
    for start in range(first_pixel, last_pixel, BLOCK):
        stop = min(start + BLOCK, last_pixel)
        for g in range(signal.shape[1]):
            count[:] = 0.0
            mean[:] = 0.0
            squares[:] = 0.0
            for ramp in range(signal.shape[0]):
                _gather(
                    signal[ramp, g, start:stop],
                    quality[ramp, g, start:stop],
                    alive[ramp, start:stop],
                    raw,
                    use,
                )
                _add_group(first_group + g, raw, total[ramp, start:stop], weighted[ramp, start:stop], slope)
                _add_ramp(slope, use, stop - start, count, mean, squares)
            variances = into[g, start:stop]
            for p in range(stop - start):
                variance = squares[p] / (count[p] - 1.0) if count[p] > 1.0 else np.nan
                ramps = np.int64(count[p])
                variances[p] = variance / factors[ramps] if ramps >= minimum else np.nan


@kernel
def _gather(signal, quality, alive, raw, use):  # type: ignore[no-untyped-def]
    for p in range(signal.size):
        value = signal[p]
        value = (
            ((value & np.uint32(0xFF)) << np.uint32(24))
            | ((value & np.uint32(0xFF00)) << np.uint32(8))
            | ((value >> np.uint32(8)) & np.uint32(0xFF00))
            | (value >> np.uint32(24))
        )
        good = alive[p] & ((quality[p] & ENDS_RAMP) == 0) & ((value & _INFINITE) != _INFINITE)
        alive[p] = good
        # The sums of a ramp that has ended are not looked at any more.
        raw[p] = value if good else np.uint32(0)
        use[p] = 1.0 if good else 0.0


# Loops of few arrays each, or the compiler would not do several pixels at once.
@kernel
def _add_group(group, raw, total, weighted, slope):  # type: ignore[no-untyped-def]
    values = raw.view(np.float32)
    n = group + 1.0
    centre = 6.0 * (n - 1.0)
    norm = 1.0 / max(n * (n * n - 1.0), 1.0)
    for p in range(total.size):
        value = np.float64(values[p])
        total[p] += value
        weighted[p] += group * value
        slope[p] = (12.0 * weighted[p] - centre * total[p]) * norm


@kernel
def _add_ramp(slope, use, pixels, count, mean, squares):  # type: ignore[no-untyped-def]
    for p in range(pixels):
        more = count[p] + use[p]
        off = slope[p] - mean[p]
        moved = mean[p] + use[p] * off / max(more, 1.0)
        squares[p] += use[p] * (off * (slope[p] - moved))
        mean[p] = moved
        count[p] = more
