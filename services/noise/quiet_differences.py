"""Differences of neighbouring groups where nothing was flagged: a pixel's usual step, and its noise."""

import numpy as np
from numpy.typing import NDArray

from services.noise.pixels import DO_NOT_USE, JUMP_DET
from shared.compiled import kernel
from shared.medians import SIGMA_PER_MAD

#: JWST data quality bit.
SATURATED = 2
#: jwst's jump step does not look at differences of groups with one of these.
UNUSABLE = DO_NOT_USE | SATURATED
#: Rows in which the noise is sampled: 65 000 pixels of a full frame, which say its width to 0.5 %.
_SAMPLED_ROWS = 32


class QuietDifferences:
    """Adds up unflagged differences, one at a time.

    Parameters
    ----------
    active, inner : ndarray of bool, 2D (y, x)
        Usable pixels that see the sky; those in which an event counts.
    """

    def __init__(self, active: NDArray[np.bool_], inner: NDArray[np.bool_]) -> None:
        self.searched = 0
        self._active, self._inner = active, inner
        self._total = np.zeros(active.shape, np.float32)
        self._count = np.zeros(active.shape, np.uint16)
        self._variances: list[tuple[float, float]] = []

    def start(self) -> None:
        """Begin an integration."""
        self._total[:] = 0
        self._count[:] = 0

    def add(
        self,
        signal: NDArray[np.float32],
        previous: NDArray[np.float32],
        quality: NDArray[np.uint8],
        previous_quality: NDArray[np.uint8],
    ) -> None:
        """Add the difference of two groups.

        Parameters
        ----------
        signal, previous : ndarray of float32, 2D (y, x)
            DN.
        quality, previous_quality : ndarray of uint8, 2D (y, x)
            GROUPDQ.
        """
        self.searched += _search(
            signal, previous, quality, previous_quality, self._inner, self._total, self._count
        )
        height = signal.shape[0]
        rows = np.unique(np.linspace(0, max(height - 2, 0), min(_SAMPLED_ROWS, height)).astype(int))
        lower, upper = (
            np.where(
                self._active[at] & ((quality[at] | previous_quality[at]) & (UNUSABLE | JUMP_DET) == 0),
                signal[at] - previous[at],
                np.nan,
            )
            for at in (rows, np.minimum(rows + 1, height - 1))
        )
        covariances = [_covariance(lower[:, 1:], lower[:, :-1]), _covariance(lower, upper)]
        self._variances.append((_squared_width(lower), float(np.mean(covariances))))

    def of(self, at: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the mean difference of some pixels in this integration, DN, and of how many it is.

        Parameters
        ----------
        at : ndarray of int, 1D
            Flat indices.

        Returns
        -------
        mean : ndarray, 1D
            0 where every difference is flagged: in a dark it is close to that.
        count : ndarray, 1D
        """
        count = self._count.ravel()[at].astype(np.float64)
        return self._total.ravel()[at] / np.maximum(count, 1), count

    @property
    def latest_noise(self) -> float:
        """The noise of the last difference, DN: robust sigma about zero; NaN if all is flagged."""
        return float(np.sqrt(self._variances[-1][0]))

    def noise(self) -> tuple[float, float]:
        """Return the variance of a difference, DN^2, and the correlation of neighbouring pixels.

        About zero, so that what moves whole amplifiers counts as noise; mean over all differences. The
        correlation is that of pixels side by side and one above the other, on average, and not below 0.
        """
        known = np.array(self._variances).reshape(-1, 2)
        known = known[np.isfinite(known).all(axis=1)]
        if not len(known):
            return 0.0, 0.0
        variance, covariance = known.mean(axis=0)
        return float(variance), float(np.clip(covariance / variance, 0, 1)) if variance > 0 else 0.0


def _squared_width(values: NDArray[np.float32]) -> float:
    values = np.abs(values[np.isfinite(values)])
    return float((SIGMA_PER_MAD * np.median(values)) ** 2) if values.size else float("nan")


def _covariance(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the covariance by the widths of sum and difference, which outliers cannot move."""
    return (_squared_width(one + other) - _squared_width(one - other)) / 4


@kernel
def _search(signal, previous, quality, previous_quality, inner, total, count):  # type: ignore[no-untyped-def]
    searched = 0
    for row in range(signal.shape[0]):
        for column in range(signal.shape[1]):
            step = signal[row, column] - previous[row, column]
            flags = quality[row, column]
            usable = ((flags | previous_quality[row, column]) & UNUSABLE) == 0 and np.isfinite(step)
            searched += usable and inner[row, column]
            if usable and (flags & JUMP_DET) == 0:
                total[row, column] += step
                count[row, column] += 1
    return searched
