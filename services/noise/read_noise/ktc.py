"""Reset (kTC) noise: how the first group of a pixel varies from one reset to the next."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.noise.effective.effective_noise import combine_amplifiers
from services.noise.jumps.flagged_steps import FlaggedSteps
from services.noise.planes import ExposurePixels, Plane
from shared.statistics.medians import median
from shared.statistics.robust import FEWEST_PIXELS, corrected_variance, hit_shift, median_variance_error
from shared.statistics.welford import PixelVariance

#: Fewest integrations for kTC noise, and of a pixel for it to take part. With two, the variance of a pixel is
#: nearly 0 too often.
MINIMUM_INTEGRATIONS = 3
#: Relative uncertainty of the correction for hits before group 0: hits too faint for the jump step, and
#: neighbours that it flags because of a hit.
_HITS_UNKNOWN = 0.25


@dataclass(frozen=True)
class ResetNoise:
    """kTC noise of each amplifier, in the unit of the planes; NaN where there is none to be seen.

    Attributes
    ----------
    amplifiers, errors : ndarray, 1D (amplifiers)
        The noise and its 1-sigma error.
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
    """Variance of group 0 over integrations, collected one plane at a time.

    The median of each amplifier is subtracted from each plane first: kTC noise is independent from pixel to
    pixel, while a whole amplifier drifts.

    Parameters
    ----------
    shape : (int, int)
        (y, x) of the planes to come.

    Attributes
    ----------
    integrations : int
        Planes that were added.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self._variance = PixelVariance(shape, np.float32)
        self.integrations = 0

    def add(self, plane: Plane, pixels: ExposurePixels) -> None:
        """Add a plane, if it is a group 0."""
        if plane.group:
            return
        use = plane.alive & pixels.active
        self.integrations += bool(use.any())
        for columns in pixels.amplifiers:
            centre = median(plane.signal[:, columns][use[:, columns]])
            self._variance.add(plane.signal, use, columns, centre)

    def reset_noise(
        self,
        pixels: ExposurePixels,
        cds: NDArray[np.float64],
        cds_error: NDArray[np.float64],
        flagged: FlaggedSteps | None = None,
        before: float = 0.0,
    ) -> ResetNoise:
        """Return the kTC noise of each amplifier.

        From the median over pixels of the variance over integrations, corrected for the median of a sample
        variance of so few, less the variance of a single read: half of that of a difference of two.

        A hit between reset and first group cannot be flagged, having no group before it. The variance from
        such hits follows from the steps that are flagged later, and is subtracted.

        Parameters
        ----------
        pixels : ExposurePixels
        cds, cds_error : ndarray, 1D (amplifiers)
            CDS noise without what amplifiers have in common, and its 1-sigma error, in the unit of the
            planes.
        flagged : FlaggedSteps, optional
            Steps that were flagged in the groups after the first.
        before : float
            Time during which hits accumulate before group 0, over the time from group to group.

        Returns
        -------
        ResetNoise
        """
        parts = []
        for columns in pixels.amplifiers:
            active = pixels.active[:, columns]
            count = self._variance.count[:, columns][active]
            sample = self._variance.variance(np.s_[:, columns])[active]
            variance = corrected_variance(sample, count, MINIMUM_INTEGRATIONS)
            parts.append(variance[np.isfinite(variance)])
        total = np.array([median(part) for part in parts])
        sizes = np.array([part.size for part in parts])
        relative = median_variance_error(self.integrations) / np.sqrt(np.maximum(sizes, 1))
        of_hits = np.zeros_like(total)
        if flagged is not None:
            step, fraction = flagged.by_hits()
            for n in np.flatnonzero((total > 0) & (sizes >= FEWEST_PIXELS)):
                # A flagged step holds the noise of two reads beside the charge.
                charge = np.sqrt(np.maximum(step**2 - cds[n] ** 2, 0.0) / total[n])
                of_hits[n] = total[n] * hit_shift(self.integrations, charge, before * fraction)
        remaining = total - of_hits - cds**2 / 2
        with np.errstate(invalid="ignore"):
            amplifiers = np.sqrt(np.where(remaining > 0, remaining, np.nan))
        hits_error = _HITS_UNKNOWN * of_hits
        errors = np.sqrt((total * relative) ** 2 + (cds * cds_error) ** 2 + hits_error**2) / (2 * amplifiers)
        return ResetNoise(amplifiers, errors)


def ktc_refusal(integrations: int) -> str | None:
    """Return why kTC noise is not measured, or None if there are enough integrations."""
    if integrations >= MINIMUM_INTEGRATIONS:
        return None
    have = "1 integration" if integrations == 1 else f"{integrations} integrations"
    return (
        f"kTC noise needs at least {MINIMUM_INTEGRATIONS} integrations of one configuration, "
        f"and this set has {have}"
    )
