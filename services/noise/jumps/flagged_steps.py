"""The steps at which pixels are flagged for the first time: what hits leave, and what noise alone flags."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.noise.pixels import Pixels, Plane

#: Edges of the histogram, DN: 32 bins a decade, from far below any noise to more than a full well.
_EDGES = np.logspace(-1, 6, 7 * 32 + 1)
#: A step down of fewer sigma may be a neighbour of a hit, which is flagged with it whatever its own step.
_NOISE_SIGMA = 3.0


class FlaggedSteps:
    """Counts, by size and sign, the steps of pixels that JUMP_DET takes out of the noise figures.

    Particles leave charge, noise has no sign: what steps down is noise's, and as much that steps up.
    """

    def __init__(self) -> None:
        self._up = np.zeros(_EDGES.size - 1, np.int64)
        self._down = np.zeros(_EDGES.size - 1, np.int64)
        self._searched = 0
        self._alive: NDArray[np.bool_] | None = None
        self._signal: NDArray[Any] | None = None

    def add(self, plane: Plane, pixels: Pixels) -> None:
        """Add the next plane, groups and integrations ascending."""
        if plane.group and self._alive is not None and self._signal is not None:
            self._alive &= pixels.active
            self._searched += int(np.count_nonzero(self._alive))
            at = np.flatnonzero(plane.jumps.reshape(-1) & self._alive.reshape(-1))
            steps = plane.signal.reshape(-1)[at].astype(float) - self._signal.reshape(-1)[at]
            self._up += np.histogram(steps, _EDGES)[0]
            self._down += np.histogram(-steps, _EDGES)[0]
        # What the plane holds is overwritten by the next one, all but the signal.
        if self._alive is None:
            self._alive = np.empty_like(plane.alive)
        np.copyto(self._alive, plane.alive)
        self._signal = plane.signal

    def by_noise(self, sigma: float) -> float:
        """Return the part of all differences that is flagged because of its own noise.

        Parameters
        ----------
        sigma : float
            Noise of a difference, DN.
        """
        if not self._searched:
            return 0.0
        return 2 * float(self._down[_EDGES[:-1] >= _NOISE_SIGMA * sigma].sum()) / self._searched

    def by_hits(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the charge that hits leave on a pixel, DN, and the part of all differences with so much.

        Steps up less as many steps down, bin by bin.
        """
        sizes = np.sqrt(_EDGES[:-1] * _EDGES[1:])
        return sizes, (self._up - self._down) / max(self._searched, 1)
