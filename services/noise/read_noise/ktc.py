"""Reset (kTC) noise: how a pixel's first group varies from one reset to the next."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.noise.effective_noise import combine_amplifiers, corrected_variance
from services.noise.flagged_steps import FlaggedSteps
from services.noise.median_bias import FEWEST_PIXELS, hit_shift, median_variance_error
from services.noise.pixels import Pixels, Plane
from shared.compiled import kernel
from shared.medians import median

#: Integrations that kTC noise needs, and that are left of a pixel for it to take part: with two, a
#: pixel's variance is within a third of its own size of nothing as often as not.
MINIMUM_INTEGRATIONS = 3
#: Part of the correction for hits before group 0 that is not known: those too faint for the jump step, and
#: neighbours that it flags for a hit's sake.
_HITS_UNKNOWN = 0.25


@dataclass(frozen=True)
class ResetNoise:
    """kTC noise of each amplifier, in the planes' unit; NaN where there is none to be seen.

    Attributes
    ----------
    amplifiers, errors : ndarray, 1D (amplifiers)
    """

    amplifiers: NDArray[np.float64]
    errors: NDArray[np.float64]

    @property
    def detector(self) -> tuple[float, float]:
        """Root mean square over amplifiers, and its 1-sigma error; NaN where there is none."""
        known = np.isfinite(self.amplifiers)
        value = float(combine_amplifiers(self.amplifiers))
        if not known.any():
            return value, math.nan
        weighted = self.amplifiers[known] * self.errors[known]
        return value, float(np.sqrt(np.sum(weighted**2))) / (int(known.sum()) * value)


class FirstGroups:
    """Group 0 of every integration, one plane at a time.

    Each plane's median over an amplifier is taken away first: what a whole amplifier drifts by is no
    kTC noise, which every pixel has of its own.

    Parameters
    ----------
    shape : (int, int)
        (y, x) of the planes to come.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        # Levels near 0 and few values: single precision is enough, and half the memory.
        self._count = np.zeros(shape, np.uint16)
        self._mean = np.zeros(shape, np.float32)
        self._squares = np.zeros(shape, np.float32)
        self.integrations = 0

    def add(self, plane: Plane, pixels: Pixels) -> None:
        """Add a plane, if it is a group 0."""
        if plane.group:
            return
        self.integrations += 1
        use = plane.alive & pixels.active
        for columns in pixels.amplifiers:
            here = use[:, columns]
            centre = np.float32(median(plane.signal[:, columns][here]))
            _add(
                self._count[:, columns],
                self._mean[:, columns],
                self._squares[:, columns],
                plane.signal[:, columns],
                here,
                centre,
            )

    def reset_noise(
        self,
        pixels: Pixels,
        cds: NDArray[np.float64],
        cds_error: NDArray[np.float64],
        flagged: FlaggedSteps | None = None,
        before: float = 0.0,
    ) -> ResetNoise:
        """Return the kTC noise of each amplifier.

        The root of the median over pixels of the variance over integrations, corrected for the median of
        a sample variance of so few, less the variance of one read: half of that of a difference of two.

        What hits a pixel between its reset and its first group has no group before it to be flagged by. How
        much that is, is known from what is flagged later, and is taken off.

        Parameters
        ----------
        pixels : Pixels
        cds, cds_error : ndarray, 1D (amplifiers)
            CDS noise without what amplifiers share, and its 1-sigma error, in the planes' unit.
        flagged : FlaggedSteps, optional
            What was flagged in the groups after the first.
        before : float
            How long pixels are open to hits before group 0, over the time from group to group.
        """
        parts = []
        for columns in pixels.amplifiers:
            count = self._count[:, columns][pixels.active[:, columns]]
            squares = self._squares[:, columns][pixels.active[:, columns]]
            variance = corrected_variance(
                squares / (np.maximum(count, 2) - np.float32(1)), count, MINIMUM_INTEGRATIONS
            )
            parts.append(variance[np.isfinite(variance)])
        total = np.array([median(part) for part in parts])
        sizes = np.array([part.size for part in parts])
        relative = median_variance_error(self.integrations) / np.sqrt(np.maximum(sizes, 1))
        unflagged = np.zeros_like(total)
        if flagged is not None:
            sizes_of_hits, share = flagged.by_hits()
            for n in np.flatnonzero((total > 0) & (sizes >= FEWEST_PIXELS)):
                # A step has the noise of two reads beside the charge.
                charge = np.sqrt(np.maximum(sizes_of_hits**2 - cds[n] ** 2, 0.0) / total[n])
                unflagged[n] = total[n] * hit_shift(self.integrations, charge, before * share)
        left = total - unflagged - cds**2 / 2
        with np.errstate(invalid="ignore"):
            amplifiers = np.sqrt(np.where(left > 0, left, np.nan))
        of_hits = _HITS_UNKNOWN * unflagged
        errors = np.sqrt((total * relative) ** 2 + (cds * cds_error) ** 2 + of_hits**2) / (2 * amplifiers)
        return ResetNoise(amplifiers, errors)


def ktc_refusal(integrations: int) -> str | None:
    """Say why kTC noise is refused, or None where there are integrations enough."""
    if integrations >= MINIMUM_INTEGRATIONS:
        return None
    have = "1 integration" if integrations == 1 else f"{integrations} integrations"
    return (
        f"kTC noise is refused: it needs at least {MINIMUM_INTEGRATIONS} integrations of one configuration "
        f"and this set has {have}"
    )


@kernel
def _add(count, mean, squares, values, use, centre):  # type: ignore[no-untyped-def]
    # Welford's recurrence, as `PixelVariance` has it.
    for row in range(values.shape[0]):
        for column in range(values.shape[1]):
            if use[row, column]:
                count[row, column] += 1
                value = values[row, column] - centre
                deviation = value - mean[row, column]
                mean[row, column] += deviation / np.float32(count[row, column])
                squares[row, column] += deviation * (value - mean[row, column])
