"""Least-squares slopes of the first n groups, for every n in one pass.

For y[g] at g = 0 .. n-1 the slope is (12 sum(g y) - 6 (n-1) sum(y)) / (n (n^2-1)), so two running sums
give all of them.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray


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


class RampVariance:
    """Variance over ramps of the slopes of a window of rows.

    Parameters
    ----------
    shape : (int, int)
        (y, x) of the window.
    first, last : int
        Slopes of `first` to `last` groups are kept, both included; `first` at least 2.
    """

    def __init__(self, shape: tuple[int, int], first: int, last: int) -> None:
        pixels = shape[0] * shape[1]
        self._shape = (last - first + 1, *shape)
        self._first = first
        self._count = np.zeros((last - first + 1, pixels), np.uint32)
        self._mean = np.zeros(self._count.shape)
        self._squares = np.zeros(self._count.shape)

    #: Bytes per pixel for each number of groups kept.
    BYTES = 4 + 8 + 8

    def add(self, signal: NDArray[Any], usable: NDArray[np.bool_]) -> None:
        """Add one ramp: groups 0 to at least `last`.

        Parameters
        ----------
        signal : ndarray, 3D (groups, y, x)
            DN.
        usable : ndarray of bool, 3D (groups, y, x)
            A pixel takes part in the slopes of the groups before its first False.
        """
        groups = self._first + self._count.shape[0] - 1
        _add_ramp(
            signal[:groups].reshape(groups, -1),
            usable[:groups].reshape(groups, -1),
            self._first,
            self._count,
            self._mean,
            self._squares,
        )

    def variance(self) -> tuple[NDArray[np.float64], NDArray[np.uint32]]:
        """Return the sample variances (ddof 1) and how many ramps each is from.

        Returns
        -------
        variance : ndarray of float64, 3D (number of groups, y, x)
            (DN/group)^2; NaN from fewer than two ramps.
        count : ndarray of uint32, the same shape
        """
        freedom = np.where(self._count > 1, self._count.astype(np.float64) - 1, np.nan)
        return (self._squares / freedom).reshape(self._shape), self._count.reshape(self._shape)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
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


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _add_ramp(
    signal: NDArray[Any],
    usable: NDArray[np.bool_],
    first: int,
    count: NDArray[np.uint32],
    mean: NDArray[np.float64],
    squares: NDArray[np.float64],
) -> None:
    groups, pixels = signal.shape
    total = np.zeros(pixels)
    weighted = np.zeros(pixels)
    alive = np.ones(pixels, np.bool_)
    for group in range(groups):
        n = group + 1.0
        centre = 6.0 * (n - 1.0)
        norm = 1.0 / max(n * (n * n - 1.0), 1.0)
        at = group + 1 - first
        for pixel in range(pixels):
            if not (alive[pixel] and usable[group, pixel]):
                alive[pixel] = False
                continue
            value = np.float64(signal[group, pixel])
            total[pixel] += value
            weighted[pixel] += group * value
            if at >= 0:
                slope = (12.0 * weighted[pixel] - centre * total[pixel]) * norm
                count[at, pixel] += 1
                deviation = slope - mean[at, pixel]
                mean[at, pixel] += deviation / count[at, pixel]
                squares[at, pixel] += deviation * (slope - mean[at, pixel])
