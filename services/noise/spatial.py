"""Spatial noise: how the slopes of one ramp spread over its pixels."""

import numpy as np
from numpy.typing import NDArray

from services.noise.pixels import Pixels, Plane
from services.noise.slopes import SlopePlanes
from shared.medians import Room, median_and_sigma

# Fewer pixels than this have no robust width.
_FEWEST_PIXELS = 10


class SlopeSpread:
    """The spread over pixels of the slopes of the first n groups, for every n of every ramp.

    Attributes
    ----------
    medians, sigmas : list of list of list of float
        Per (ramp, number of groups from 2 on, amplifier): median and robust sigma of the slopes.
    reference_sigmas : list of list of float
        Robust sigma of reference pixels' slopes per (ramp, number of groups).
    """

    def __init__(self) -> None:
        self.medians: list[list[list[float]]] = []
        self.sigmas: list[list[list[float]]] = []
        self.reference_sigmas: list[list[float]] = []
        self._room = Room()

    def add(self, plane: Plane, pixels: Pixels) -> None:
        """Add the next plane, groups and integrations ascending."""
        if not self.medians:
            self._running = SlopePlanes(plane.signal.shape, pixels.amplifiers)
        if plane.group == 0:
            self.medians.append([])
            self.sigmas.append([])
            self.reference_sigmas.append([])
            self._reference = np.flatnonzero(pixels.reference)
        use = plane.alive & pixels.active
        parts = self._running.add(plane.group, plane.signal, use)
        if plane.group == 0:
            return
        both = [
            self._spread(part, int(np.count_nonzero(use[:, columns])))
            for part, columns in zip(parts, pixels.amplifiers, strict=True)
        ]
        self.medians[-1].append([centre for centre, _ in both])
        self.sigmas[-1].append([sigma for _, sigma in both])
        alive = self._reference[plane.alive.reshape(-1)[self._reference]]
        self.reference_sigmas[-1].append(self._spread(self._running.of(alive), alive.size)[1])

    def _spread(self, slopes: NDArray[np.float32], known: int) -> tuple[float, float]:
        if known < _FEWEST_PIXELS:
            return np.nan, np.nan
        return median_and_sigma(slopes, self._room)
