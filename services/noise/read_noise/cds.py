"""Correlated double sampling: the noise of the difference of two groups."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.noise.effective_noise import SampleSpread, corrected_variance
from services.noise.flagged_steps import FlaggedSteps
from services.noise.median_bias import FEWEST_PIXELS, cut_tail_shift, scatter_shift
from services.noise.moments import PixelVariance
from services.noise.pixels import Pixels, Plane
from services.noise.robust import gather
from shared.compiled import kernel
from shared.medians import Room, median, median_and_sigma
from shared.ramps import Ramp

_GOLDEN = (5**0.5 - 1) / 2
#: Rows of a plane that are worked on at once where double precision is needed.
_BAND = 128
#: Values that are looked at to tell whether signals are whole numbers, and how far off one they may be:
#: linearity moves a difference of 10 DN in a dark by some 0.01 DN.
_LOOKED_AT, _NEARLY = 10_000, 0.05


@dataclass(frozen=True)
class CdsSummary:
    """A quick look at the first two groups of any up-the-ramp file, over all its pixels.

    Attributes
    ----------
    group0_medians, cds_medians : list of float
        Per integration, DN; of group 0, and of group 1 - group 0 (empty with a single group).
    temporal_std_dn : float or None
        Median over pixels of the standard deviation (ddof 1) over integrations of group 1 - group 0, DN;
        None with a single integration or group.
    temporal_std_median_removed_dn : float or None
        The same after each integration's own median was taken away.
    """

    group0_medians: list[float]
    cds_medians: list[float]
    temporal_std_dn: float | None
    temporal_std_median_removed_dn: float | None


class CdsPairs:
    """Differences of the pairs of groups (0, 1), (2, 3), .. of every ramp, one plane at a time.

    Pairs do not overlap, so that their noise is independent; dark signal is the same in each, so it
    does not widen them. A pair counts for a pixel that is unflagged up to its second group.

    Parameters
    ----------
    shape : (int, int)
        (y, x) of the planes to come.
    per_pixel : bool
        Keep each pixel's variance too.

    Attributes
    ----------
    flagged : FlaggedSteps
        Of all planes, where each pixel's variance is kept.
    whole : bool
        The first pair's differences are whole numbers of DN, as those of raw signals are.
    """

    def __init__(self, shape: tuple[int, int], per_pixel: bool = True) -> None:
        self._total = PixelVariance(shape) if per_pixel else None
        self._removed = PixelVariance(shape) if per_pixel else None
        self.flagged = FlaggedSteps()
        self.whole = False
        self._pairs_a_ramp = 0
        self._ramp = -1
        self._ramps: list[int] = []
        self._room = Room()
        self._spread: list[list[tuple[float, float]]] = []

    def add(self, plane: Plane, pixels: Pixels) -> None:
        """Add the next plane, groups and integrations ascending."""
        if self._total is not None:
            self.flagged.add(plane, pixels)
        if plane.group == 0:
            self._ramp += 1
        if plane.group % 2 == 0:
            self._first = plane.signal
            return
        shape = plane.signal.shape
        difference = self._room.array("difference", plane.signal.size, plane.signal.dtype).reshape(shape)
        np.subtract(plane.signal, self._first, out=difference)
        use = plane.alive & pixels.active
        whole, parts = gather(difference, use, pixels.amplifiers, self._room)
        if not self._ramps:
            off = np.abs(whole - np.rint(whole))[:: max(whole.size // _LOOKED_AT, 1)]
            self.whole = bool(off.size) and float(np.median(off)) < _NEARLY
        self._pairs_a_ramp = max(self._pairs_a_ramp, plane.group // 2 + 1)
        self._ramps.append(self._ramp)
        self._spread.append([median_and_sigma(self._dithered(part), self._room) for part in parts])
        if self._total is None or self._removed is None:
            return
        self._total.add(difference, use)
        # Whole numbers have a whole median, as much as half a DN off what the pixels share.
        shared = self._dithered(whole) if self.whole else whole
        difference -= difference.dtype.type(median(shared, self._room))
        self._removed.add(difference, use)

    def _dithered(self, values: NDArray[Any]) -> NDArray[np.float32]:
        dithered = self._room.array("dithered", values.size, np.float32)
        _dither(values, dithered)
        return dithered

    @property
    def spread(self) -> SampleSpread:
        """Median and robust sigma of each pair, over active pixels, DN.

        Raw signals are whole numbers of DN, and so would be the MAD of their differences: a dither of
        one DN breaks the steps, and its variance is taken off again.
        """
        both = np.array(self._spread)
        return SampleSpread(both[..., 0], np.sqrt(np.maximum(both[..., 1] ** 2 - 1 / 12, 0.0)))

    def by_ramp(self) -> list[float]:
        """Return each ramp's CDS noise, DN: the root mean square over pairs and amplifiers.

        From the robust sigma over pixels, so the pairs' own medians are out of it. NaN where a ramp has
        no pair.
        """
        shown = self.spread.sigmas**2 if self._spread else np.empty((0, 1))
        ramps = np.array(self._ramps, dtype=int)
        noise = []
        for ramp in range(self._ramp + 1):
            mine = shown[ramps == ramp]
            mine = mine[np.isfinite(mine)]
            noise.append(float(np.sqrt(mine.mean())) if mine.size else float("nan"))
        return noise

    def by_amplifier(self, pixels: Pixels, removed: bool) -> NDArray[np.float64]:
        """Return each amplifier's temporal CDS noise, DN: root of the median over pixels of the variance.

        Corrected for the median of a sample variance, see `variance_median_factor`, for pixels that are not
        alike, and for the noise that was taken for jumps (`services.noise.median_bias`).

        Parameters
        ----------
        pixels : Pixels
        removed : bool
            After each pair's median over active pixels was taken away; else in total.
        """
        pairs = self._kept(removed)
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
        """Return by what part of the variance noise that was taken for jumps lowers `by_amplifier`.

        It is corrected there.

        Parameters
        ----------
        sigma : float
            CDS noise, DN.
        count : int
            Pairs of a pixel.
        """
        flagged = self.flagged.by_noise(sigma)
        # The difference before a pair was looked at as well, and shares a read with it: a quarter as much.
        return cut_tail_shift(count, flagged * (1 + (self._pairs_a_ramp - 1) / (4 * self._pairs_a_ramp)))

    def per_pixel(self) -> NDArray[np.float32]:
        """Return each pixel's CDS noise, DN: std (ddof 1) over pairs; NaN with fewer than two.

        Returns
        -------
        ndarray of float32, 2D (y, x)
        """
        pairs = self._kept(removed=False)
        noise = np.empty(pairs.count.shape, np.float32)
        for rows in _bands(len(noise)):
            noise[rows] = np.sqrt(pairs.variance(rows))
        return noise

    def _kept(self, removed: bool) -> PixelVariance:
        kept = self._removed if removed else self._total
        if kept is None:
            raise ValueError("no variance per pixel was kept")
        return kept


def cds_summary(ramp: Ramp) -> CdsSummary:
    """Look at the first two groups of a ramp of any instrument, one integration at a time.

    Parameters
    ----------
    ramp : Ramp
        SCI of shape (integrations, groups, y, x), raw or calibrated, DN. What is not finite takes no
        part; a median of nothing is NaN.

    Raises
    ------
    BadInput
        If SCI is missing or is not 4-D.
    """
    shape = ramp.shape("SCI")
    integrations = shape[0]
    zeros: list[float] = []
    medians: list[float] = []
    raw, removed = PixelVariance(shape[-2:]), PixelVariance(shape[-2:])
    for integration in range(integrations):
        # Raw data are unsigned: their difference would wrap.
        groups = ramp.read("SCI", integration, slice(0, 2)).astype(np.float64)
        zeros.append(_finite_median(groups[0]))
        if len(groups) < 2:
            continue
        difference = groups[1] - groups[0]
        medians.append(_finite_median(difference))
        finite = np.isfinite(difference)
        raw.add(difference, finite)
        removed.add(difference - medians[-1], finite)
    measured = len(medians) > 1
    return CdsSummary(
        group0_medians=zeros,
        cds_medians=medians,
        temporal_std_dn=_finite_median(np.sqrt(raw.variance())) if measured else None,
        temporal_std_median_removed_dn=_finite_median(np.sqrt(removed.variance())) if measured else None,
    )


@kernel
def _dither(values: NDArray[Any], dithered: NDArray[np.float32]) -> None:
    # Multiples of the golden ratio are spread evenly, and the same every time.
    for n in range(values.size):
        turn = n * _GOLDEN
        dithered[n] = values[n] + (turn - (np.floor(turn) + 0.5))


def _bands(rows: int) -> Iterator[slice]:
    # Whole planes in double precision would take more memory than all that is kept of the pairs.
    return (slice(at, at + _BAND) for at in range(0, rows, _BAND))


def _finite_median(values: NDArray[Any]) -> float:
    return median(values[np.isfinite(values)])
