"""Variance of each pixel over planes that come one at a time, by Welford's recurrence."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.statistics.jit import kernel


class PixelVariance:
    """Count, mean and sample variance of each pixel over the values that were added to it.

    Mean and sum of squared deviations are updated with each value (Welford 1962, Technometrics 4, 419). A
    plain sum of squares would lose the noise of a hot pixel in the digits of its square.

    Parameters
    ----------
    shape : tuple of int
        Of the planes to come: (y, x), or (pixels,).
    dtype : dtype
        Precision of mean and variance. Single precision takes half the memory; it is enough for at most
        65,535 values with a mean near 0.

    Attributes
    ----------
    count : ndarray of unsigned int, of `shape`
        Values that were added to each pixel.
    """

    def __init__(
        self, shape: tuple[int, ...], dtype: type[np.float32] | type[np.float64] = np.float64
    ) -> None:
        self.count = np.zeros(shape, np.uint32 if dtype is np.float64 else np.uint16)
        self._mean = np.zeros(shape, dtype)
        self._squares = np.zeros(shape, dtype)

    def add(
        self,
        values: NDArray[Any],
        use: NDArray[np.bool_],
        columns: slice = slice(None),
        centre: float = 0.0,
    ) -> None:
        """Add a value to each pixel where `use` is True.

        Parameters
        ----------
        values : ndarray
            Plane of the shape given, in any unit; its values are used less `centre`.
        use : ndarray of bool, the same shape
        columns : slice
            Part of the last axis that is looked at.
        centre : float
            In the unit and precision of `values`.
        """
        planes = (self.count, self._mean, self._squares, values, use)
        _add(*(np.atleast_2d(plane)[:, columns] for plane in planes), values.dtype.type(centre))

    def variance(self, pixels: Any = ...) -> NDArray[Any]:
        """Return the sample variance (ddof 1) of some pixels; NaN with fewer than two values.

        Parameters
        ----------
        pixels : index
            Any that numpy takes, such as a slice of rows; by default all.
        """
        count = self.count[pixels]
        freedom = np.where(count > 1, count.astype(self._squares.dtype) - 1, np.nan)
        variance: NDArray[Any] = self._squares[pixels] / freedom.astype(self._squares.dtype)
        return variance


@kernel
def _add(count, mean, squares, values, use, centre):  # type: ignore[no-untyped-def]
    for row in range(values.shape[0]):
        for column in range(values.shape[1]):
            if use[row, column]:
                count[row, column] += 1
                value = values[row, column] - centre
                deviation = value - mean[row, column]
                mean[row, column] += deviation / mean.dtype.type(count[row, column])
                squares[row, column] += deviation * (value - mean[row, column])
