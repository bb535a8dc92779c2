"""Sizes of the steps at which pixels are flagged for the first time: which are from hits, which from noise.

Particles leave charge, noise has no sign: steps down are from noise, and as many of the steps up.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.noise.planes import ExposurePixels, Plane

#: Edges of the histogram, DN: 32 bins per decade, from far below the noise to more than a full well.
_EDGES = np.logspace(-1, 6, 7 * 32 + 1)
#: A smaller step down, in sigma, may be a neighbour of a hit, flagged with it whatever its own step.
_NOISE_SIGMA = 3.0


class FlaggedSteps:
    """Histogram of the steps at which JUMP_DET removes pixels from the noise figures, by size and sign."""

    def __init__(self) -> None:
        self._up = np.zeros(_EDGES.size - 1, np.int64)
        self._down = np.zeros(_EDGES.size - 1, np.int64)
        self._searched = 0
        self._alive: NDArray[np.bool_] | None = None
        self._signal: NDArray[Any] | None = None

    def add(self, plane: Plane, pixels: ExposurePixels) -> None:
        """Add the next plane, in ascending order of integration and group."""
        if plane.group and self._alive is not None and self._signal is not None:
            self._alive &= pixels.active
            self._searched += int(np.count_nonzero(self._alive))
            at = np.flatnonzero(plane.jumps.reshape(-1) & self._alive.reshape(-1))
            steps = plane.signal.reshape(-1)[at].astype(float) - self._signal.reshape(-1)[at]
            self._up += np.histogram(steps, _EDGES)[0]
            self._down += np.histogram(-steps, _EDGES)[0]
        # The arrays of a plane are overwritten by those of the next one, except for the signal.
        if self._alive is None:
            self._alive = np.empty_like(plane.alive)
        np.copyto(self._alive, plane.alive)
        self._signal = plane.signal

    def by_noise(self, sigma: float) -> float:
        """Return the fraction of all differences that are flagged because of their noise.

        Parameters
        ----------
        sigma : float
            Noise of a difference, DN.
        """
        if not self._searched:
            return 0.0
        return 2 * float(self._down[_EDGES[:-1] >= _NOISE_SIGMA * sigma].sum()) / self._searched

    def by_hits(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the charges that hits leave on a pixel, DN, and the fraction of all differences with each.

        Steps up minus steps down, bin by bin.

        Returns
        -------
        charge, fraction : ndarray, 1D (bins)
        """
        sizes = np.sqrt(_EDGES[:-1] * _EDGES[1:])
        return sizes, (self._up - self._down) / max(self._searched, 1)
