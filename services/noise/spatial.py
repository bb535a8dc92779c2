"""Spatial noise: how the slopes of one ramp spread over its pixels."""

import numpy as np
from numpy.typing import NDArray

from services.noise.pixels import Pixels, Plane
from services.noise.robust import gather
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
            self._running = SlopePlanes(plane.signal.shape)
        slopes = self._running.add(plane.group, plane.signal)
        if plane.group == 0:
            self.medians.append([])
            self.sigmas.append([])
            self.reference_sigmas.append([])
            self._with_reference = bool(pixels.reference.any())
            return
        use = plane.alive & pixels.active
        _, parts = gather(slopes, use, pixels.amplifiers, self._room)
        both = [self._spread(part) for part in parts]
        self.medians[-1].append([centre for centre, _ in both])
        self.sigmas[-1].append([sigma for _, sigma in both])
        sigma = np.nan
        if self._with_reference:
            everywhere = [slice(0, use.shape[1])]
            values, _ = gather(slopes, plane.alive & pixels.reference, everywhere, self._room)
            _, sigma = self._spread(values)
        self.reference_sigmas[-1].append(sigma)

    def _spread(self, values: NDArray[np.float64]) -> tuple[float, float]:
        if values.size < _FEWEST_PIXELS:
            return np.nan, np.nan
        return median_and_sigma(values, self._room)
