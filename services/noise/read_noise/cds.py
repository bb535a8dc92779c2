"""CDS noise (correlated double sampling): the noise of the difference of two groups.

`CdsPairs` measures that of active pixels, in total and with the median of each difference subtracted;
`ReferencePairs` that of reference pixels, which have no photodiode and show the readout alone; `cds_summary`
is a quick look at the first two groups of any ramp.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.noise.effective.effective_noise import SampleSpread
from services.noise.jumps.flagged_steps import FlaggedSteps
from services.noise.planes import ExposurePixels, Plane
from shared.ramps.ramp import Ramp
from shared.statistics.medians import Workspace, gather, median
from shared.statistics.robust import (
    DITHER_VARIANCE,
    FEWEST_PIXELS,
    come_in_steps,
    corrected_variance,
    cut_tail_shift,
    dither,
    median_and_sigma,
    median_variance_error,
    scatter_shift,
)
from shared.statistics.welford import PixelVariance

#: Rows of a plane that are converted to double precision at once.
_BAND = 128


@dataclass(frozen=True)
class CdsSummary:
    """A quick look at the first two groups of any up-the-ramp file, over all its pixels.

    Attributes
    ----------
    group0_medians, cds_medians : list of float
        Median of group 0 and of group 1 - group 0 in each integration, DN; the latter empty with a single
        group.
    temporal_std_dn : float or None
        Median over pixels of the standard deviation (ddof 1) over integrations of group 1 - group 0, DN;
        None with a single integration or group.
    temporal_std_median_removed_dn : float or None
        The same after the median of each integration was subtracted.
    """

    group0_medians: list[float]
    cds_medians: list[float]
    temporal_std_dn: float | None
    temporal_std_median_removed_dn: float | None


class CdsPairs:
    """Differences of the pairs of groups (0, 1), (2, 3), .. of every ramp, collected one plane at a time.

    Pairs do not overlap, so that their noise is independent. Dark signal is the same in each pair, so that it
    adds no variance. A pixel takes part in a pair if it is unflagged up to the second group.

    Parameters
    ----------
    shape : (int, int)
        (y, x) of the planes to come.
    per_pixel : bool
        Whether to collect the variance of each pixel too.

    Attributes
    ----------
    flagged : FlaggedSteps
        Of all planes, where the variance of each pixel is collected.
    whole : bool
        Whether signals are whole numbers of DN, as raw ones are.
    """

    def __init__(self, shape: tuple[int, int], per_pixel: bool = True) -> None:
        self._total = PixelVariance(shape) if per_pixel else None
        self._removed = PixelVariance(shape) if per_pixel else None
        self.flagged = FlaggedSteps()
        self.whole = False
        self._pairs_a_ramp = 0
        self._ramp = -1
        self._ramps: list[int] = []
        self._workspace = Workspace()
        self._spread: list[list[tuple[float, float]]] = []

    def add(self, plane: Plane, pixels: ExposurePixels) -> None:
        """Add the next plane, in ascending order of integration and group."""
        if self._total is not None:
            self.flagged.add(plane, pixels)
        if plane.group == 0:
            self._ramp += 1
        if plane.group % 2 == 0:
            self._first = plane.signal
            return
        shape = plane.signal.shape
        difference = self._workspace.array("difference", plane.signal.size, plane.signal.dtype).reshape(shape)
        np.subtract(plane.signal, self._first, out=difference)
        use = plane.alive & pixels.active
        whole, parts = gather(difference, use, pixels.amplifiers, self._workspace)
        if not self._ramps:
            self.whole = come_in_steps(whole, 1.0)
        self._pairs_a_ramp = max(self._pairs_a_ramp, plane.group // 2 + 1)
        self._ramps.append(self._ramp)
        self._spread.append([median_and_sigma(self._dithered(part), self._workspace) for part in parts])
        if self._total is None or self._removed is None:
            return
        self._total.add(difference, use)
        # The median of whole numbers is one too, as much as half a DN off what the pixels have in common.
        shared = self._dithered(whole) if self.whole else whole
        difference -= difference.dtype.type(median(shared, self._workspace))
        self._removed.add(difference, use)

    def _dithered(self, values: NDArray[Any]) -> NDArray[np.float32]:
        return dither(values, 1.0, self._workspace)

    @property
    def spread(self) -> SampleSpread:
        """Median and robust sigma of each pair, over active pixels, DN.

        Raw signals are whole numbers of DN, and so would be the median absolute deviation of their
        differences. They are dithered by one DN, whose variance is subtracted again.
        """
        both = np.array(self._spread) if self._spread else np.empty((0, 1, 2))
        return SampleSpread(both[..., 0], np.sqrt(np.maximum(both[..., 1] ** 2 - DITHER_VARIANCE, 0.0)))

    def by_ramp(self) -> list[float]:
        """Return the CDS noise of each ramp, DN: the root mean square over pairs and amplifiers.

        From the robust sigma over pixels about the median of each pair. NaN for a ramp without a pair.
        """
        variances = self.spread.sigmas**2
        ramps = np.array(self._ramps, dtype=int)
        noise = []
        for ramp in range(self._ramp + 1):
            mine = variances[ramps == ramp]
            mine = mine[np.isfinite(mine)]
            noise.append(float(np.sqrt(mine.mean())) if mine.size else float("nan"))
        return noise

    def by_amplifier(self, pixels: ExposurePixels, removed: bool) -> NDArray[np.float64]:
        """Return the temporal CDS noise of each amplifier, DN.

        The root of the median over pixels of the variance over pairs, corrected for the median of a sample
        variance, for pixels that are not alike, and for noise that was taken for jumps
        (`shared.statistics.robust`).

        Parameters
        ----------
        pixels : ExposurePixels
        removed : bool
            Whether the median of each pair over active pixels is subtracted first; else in total.
        """
        pairs = self._variances(removed)
        variance = np.empty(pairs.count.shape, np.float32)
        for rows in _bands(len(variance)):
            variance[rows] = corrected_variance(pairs.variance(rows), pairs.count[rows], minimum=2)
        known = np.isfinite(variance) & pixels.sky
        _, parts = gather(variance, known, pixels.amplifiers)
        counts = [pairs.count[:, columns][known[:, columns]] for columns in pixels.amplifiers]
        return np.sqrt([self._typical(*both) for both in zip(parts, counts, strict=True)])

    def _typical(self, variances: NDArray[np.float32], counts: NDArray[np.uint32]) -> float:
        """Return the variance of the typical pixel; NaN where there is none."""
        middle = median(variances)
        if variances.size < FEWEST_PIXELS or middle <= 0:
            return middle
        count = int(median(counts))
        low = scatter_shift(variances, count) + self.taken_for_jumps(float(np.sqrt(middle)), count)
        return middle * (1 + low)

    def taken_for_jumps(self, sigma: float, count: int) -> float:
        """Return by what fraction the variance is low because noise was taken for jumps.

        `by_amplifier` is corrected for it.

        Parameters
        ----------
        sigma : float
            CDS noise, DN.
        count : int
            Number of pairs of a pixel.
        """
        flagged = self.flagged.by_noise(sigma)
        # The difference before a pair is searched for jumps too; it has one read in common with the pair,
        # and so a quarter of the effect.
        return cut_tail_shift(count, flagged * (1 + (self._pairs_a_ramp - 1) / (4 * self._pairs_a_ramp)))

    def per_pixel(self) -> NDArray[np.float32]:
        """Return the CDS noise of each pixel, DN: standard deviation over pairs, NaN with fewer than two.

        Returns
        -------
        ndarray of float32, 2D (y, x)
        """
        pairs = self._variances(removed=False)
        noise = np.empty(pairs.count.shape, np.float32)
        for rows in _bands(len(noise)):
            noise[rows] = np.sqrt(pairs.variance(rows))
        return noise

    def _variances(self, removed: bool) -> PixelVariance:
        variances = self._removed if removed else self._total
        if variances is None:
            raise ValueError("the variance per pixel was not collected: create CdsPairs with per_pixel=True")
        return variances


class ReferencePairs:
    """The same of reference pixels, all amplifiers together.

    Reference pixel correction subtracts the mean of the reference pixels from them too, so that what they
    have in common is not included.
    """

    def __init__(self) -> None:
        self._variance: PixelVariance | None = None
        self._pairs = 0

    def add(self, plane: Plane, pixels: ExposurePixels) -> None:
        """Add the next plane, in ascending order of integration and group."""
        if plane.group % 2 == 0:
            self._first = plane.signal
            return
        # The border is the same in all exposures of a configuration; which pixels of it are usable may
        # differ.
        border = ~pixels.sky
        if self._variance is None:
            self._variance = PixelVariance((int(border.sum()),))
        self._pairs += 1
        self._variance.add(
            plane.signal[border] - self._first[border], (plane.alive & pixels.reference)[border]
        )

    def noise(self) -> tuple[float, float]:
        """Return the temporal CDS noise and its 1-sigma error, in the unit of the planes.

        See `CdsPairs.by_amplifier`; NaN without a reference pixel that has two pairs.
        """
        if self._variance is None:
            return np.nan, np.nan
        variance = corrected_variance(self._variance.variance(), self._variance.count, minimum=2)
        known = variance[np.isfinite(variance)]
        if not known.size:
            return np.nan, np.nan
        noise = float(np.sqrt(median(known)))
        return noise, noise * median_variance_error(self._pairs) / (2 * float(np.sqrt(known.size)))


def cds_summary(ramp: Ramp) -> CdsSummary:
    """Return medians and noise of the first two groups of a ramp, of any instrument.

    One integration is in memory at a time.

    Parameters
    ----------
    ramp : Ramp
        SCI of shape (integrations, groups, y, x), raw or calibrated, DN. Pixels that are not finite are
        ignored.

    Returns
    -------
    CdsSummary
        NaN where no pixel is finite.

    Raises
    ------
    BadInput
        If SCI is missing or is not 4-D.
    """
    shape = ramp.shape("SCI")
    integrations = shape[0]
    first_medians: list[float] = []
    medians: list[float] = []
    raw, removed = PixelVariance(shape[-2:]), PixelVariance(shape[-2:])
    for integration in range(integrations):
        # Raw data are unsigned: their difference would wrap around.
        groups = ramp.read("SCI", integration, slice(0, 2)).astype(np.float64)
        first_medians.append(_finite_median(groups[0]))
        if len(groups) < 2:
            continue
        difference = groups[1] - groups[0]
        medians.append(_finite_median(difference))
        finite = np.isfinite(difference)
        raw.add(difference, finite)
        removed.add(difference - medians[-1], finite)
    measured = len(medians) > 1
    return CdsSummary(
        group0_medians=first_medians,
        cds_medians=medians,
        temporal_std_dn=_finite_median(np.sqrt(raw.variance())) if measured else None,
        temporal_std_median_removed_dn=_finite_median(np.sqrt(removed.variance())) if measured else None,
    )


def _bands(rows: int) -> Iterator[slice]:
    # A whole plane in double precision would take more memory than all that is collected.
    return (slice(at, at + _BAND) for at in range(0, rows, _BAND))


def _finite_median(values: NDArray[Any]) -> float:
    return median(values[np.isfinite(values)])
