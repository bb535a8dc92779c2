"""CDS noise of the reference pixels: of the readout alone, without a photodiode."""

import numpy as np

from services.noise.effective_noise import corrected_variance
from services.noise.median_bias import median_variance_error
from services.noise.moments import PixelVariance
from services.noise.pixels import Pixels, Plane
from shared.medians import median


class ReferencePairs:
    """Differences of the pairs of groups (0, 1), (2, 3), .. of reference pixels, one plane at a time.

    Reference pixel correction subtracts their own mean from them, so what they share is not in it.
    """

    def __init__(self) -> None:
        self._variance: PixelVariance | None = None
        self._pairs = 0

    def add(self, plane: Plane, pixels: Pixels) -> None:
        """Add the next plane, groups and integrations ascending."""
        if plane.group % 2 == 0:
            self._first = plane.signal
            return
        # The border is the same in all exposures of a configuration; which of it is usable may not be.
        border = ~pixels.sky
        if self._variance is None:
            self._variance = PixelVariance((int(border.sum()),))
        self._pairs += 1
        self._variance.add(
            plane.signal[border] - self._first[border], (plane.alive & pixels.reference)[border]
        )

    def noise(self) -> tuple[float, float]:
        """Return the temporal CDS noise and its 1-sigma error, in the planes' unit.

        The root of the median over pixels of the variance over pairs, see `CdsPairs.by_amplifier`; NaN
        without a reference pixel that has two pairs.
        """
        if self._variance is None:
            return np.nan, np.nan
        variance = corrected_variance(self._variance.variance(), self._variance.count, minimum=2)
        known = variance[np.isfinite(variance)]
        if not known.size:
            return np.nan, np.nan
        noise = float(np.sqrt(median(known)))
        return noise, noise * median_variance_error(self._pairs) / (2 * float(np.sqrt(known.size)))
