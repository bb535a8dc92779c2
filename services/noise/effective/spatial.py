"""Spatial noise: how the slopes of a ramp spread over its pixels.

For every number n of groups from 2 on, the robust standard deviation of slope_n over the active pixels of
each amplifier, and over the reference pixels, which see no dark signal. They are the figures of one ramp; the
noise of a set is their median over ramps.

Groups are stored as whole numbers of DN, those averaged on board too. Where no reference that is subtracted
or multiplied hides it, slopes come in steps, and so would their median and MAD, by several per cent of the
noise of an averaged pattern. Then they are dithered, and the variance of that is subtracted again.
"""

import math

import numpy as np
from numpy.typing import NDArray

from services.noise.effective.effective_noise import rise_step
from services.noise.effective.slopes import SlopePlanes
from services.noise.planes import ExposurePixels, Plane
from shared.statistics.medians import Workspace
from shared.statistics.robust import DITHER_VARIANCE, come_in_steps, dither, median_and_sigma

#: Fewer pixels than this have no robust sigma.
_FEWEST_PIXELS = 10


class SlopeSpread:
    """Median and robust sigma of slopes over pixels, collected one plane at a time.

    Parameters
    ----------
    unit : float
        What groups are multiples of, DN, where they are multiples of anything.

    Attributes
    ----------
    medians, sigmas : list of list of list of float
        Of active pixels, per (ramp, number of groups from 2 on, amplifier), DN/group; NaN with too few
        pixels.
    reference_sigmas : list of list of float
        Robust sigma of reference pixels, per (ramp, number of groups from 2 on), DN/group.
    """

    def __init__(self, unit: float = 1.0) -> None:
        self._unit = unit
        self._in_steps: bool | None = None
        self.medians: list[list[list[float]]] = []
        self.sigmas: list[list[list[float]]] = []
        self.reference_sigmas: list[list[float]] = []
        self._workspace = Workspace()

    def add(self, plane: Plane, pixels: ExposurePixels) -> None:
        """Add the next plane, in ascending order of integration and group."""
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
        if self._in_steps is None:
            # Reference pixels may have shifted each amplifier by an amount of its own.
            self._in_steps = any(come_in_steps(part, self._unit) for part in parts)
        step = self._unit * rise_step(plane.group + 1) / plane.group if self._in_steps else 0.0
        spreads = [
            self._median_and_sigma(part, int(np.count_nonzero(use[:, columns])), step)
            for part, columns in zip(parts, pixels.amplifiers, strict=True)
        ]
        self.medians[-1].append([centre for centre, _ in spreads])
        self.sigmas[-1].append([sigma for _, sigma in spreads])
        alive = self._reference[plane.alive.reshape(-1)[self._reference]]
        self.reference_sigmas[-1].append(self._median_and_sigma(self._running.of(alive), alive.size, step)[1])

    def _median_and_sigma(
        self, slopes: NDArray[np.float32], n_known: int, step: float
    ) -> tuple[float, float]:
        if n_known < _FEWEST_PIXELS:
            return np.nan, np.nan
        if not step:
            return median_and_sigma(slopes, self._workspace)
        centre, sigma = median_and_sigma(dither(slopes, step, self._workspace), self._workspace)
        return centre, math.sqrt(max(sigma**2 - DITHER_VARIANCE * step**2, 0.0))
