"""Variance of each pixel, one value at a time."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.compiled import kernel


class PixelVariance:
    """Mean and variance of every pixel over the values that were added to it (Welford's recurrence).

    A plain sum of squares would lose a hot pixel's noise in the digits of its square.

    Parameters
    ----------
    shape : tuple of int
        Of the planes to come.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.count = np.zeros(shape, np.uint32)
        self._mean = np.zeros(shape)
        self._squares = np.zeros(shape)

    def add(self, values: NDArray[Any], use: NDArray[np.bool_]) -> None:
        """Add one plane, at the pixels where `use` is True."""
        _add(
            self.count.ravel(),
            self._mean.ravel(),
            self._squares.ravel(),
            np.ascontiguousarray(values).ravel(),
            np.ascontiguousarray(use).ravel(),
        )

    def variance(self, rows: slice = slice(None)) -> NDArray[np.float64]:
        """Return the sample variance (ddof 1) of each pixel, NaN with fewer than two values."""
        count = self.count[rows]
        freedom = np.where(count > 1, count.astype(np.float64) - 1, np.nan)
        variance: NDArray[np.float64] = self._squares[rows] / freedom
        return variance


@kernel
def _add(
    count: NDArray[np.uint32],
    mean: NDArray[np.float64],
    squares: NDArray[np.float64],
    values: NDArray[Any],
    use: NDArray[np.bool_],
) -> None:
    for pixel in range(values.size):
        if use[pixel]:
            count[pixel] += 1
            deviation = values[pixel] - mean[pixel]
            mean[pixel] += deviation / count[pixel]
            squares[pixel] += deviation * (values[pixel] - mean[pixel])
