"""How many jumps jwst's jump step should flag, from deposited charge and from noise alone.

In the two-point difference method, a difference is a jump if it lies more than T sigma from the pixel's
median difference. With fewer than ten differences per integration the step works iteratively on absolute
differences, which raises the threshold by at least their median, 0.674 sigma; it uses 5 and 6 sigma if an
exposure has three and two differences. A jump of 10 to 1000 sigma also flags its four neighbours.
"""

import functools
import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats
from stcal.jump.jump import detect_jumps_data
from stcal.jump.jump_class import JumpData
from stdatamodels.jwst.datamodels import RampModel, dqflags

from nircam_darks.simulation.cosmic_rays import NEIGHBOURS, Deposit
from nircam_darks.simulation.expected_noise import errors_only
from shared.nircam.dq import GroupFlag

_NEIGHBOUR_LOW, _NEIGHBOUR_HIGH = 10.0, 1000.0
#: Minimum number of differences per integration for which the step flags in a single pass.
_SINGLE_PASS = 10
#: Minimum number of groups in which jwst flags jumps.
_FEWEST_GROUPS = 3
#: Pixels x groups of the noise in which false positives are counted.
_SAMPLES = 6_000_000


@dataclass(frozen=True)
class FalsePositives:
    """Fractions of (pixel, difference) pairs, and of pixels of an integration, that noise alone flags.

    `relative_error` is the 1-sigma error of both.
    """

    per_difference: float
    per_pixel: float
    relative_error: float


@functools.lru_cache(maxsize=64)
def false_positives(ngroups: int, nints: int, cds_noise: float) -> FalsePositives:
    """Count what stcal's jump detection, with jwst's defaults, flags in white noise of known width.

    Parameters
    ----------
    ngroups, nints : int
        Of one exposure, since the median to which a difference is compared is over all its integrations.
    cds_noise : float
        In e-. It matters because the step takes the median difference, although it is noise, for a signal
        with Poisson noise, and so widens its sigma the more, the lower the read noise is.
    """
    if ngroups < _FEWEST_GROUPS:
        return FalsePositives(0.0, 0.0, 0.0)
    side = max(32, math.isqrt(_SAMPLES // (ngroups * nints)))
    model = RampModel((nints, ngroups, side, side))
    rng = np.random.default_rng([ngroups, nints])
    model.data = np.float32(cds_noise / math.sqrt(2)) * rng.standard_normal(
        model.data.shape, dtype=np.float32
    )
    model.meta.exposure.nframes = 1
    ones = np.ones((side, side), np.float32)
    with errors_only("stcal"):
        data = JumpData(model, ones, np.float32(cds_noise) * ones, dqflags.pixel)
        data.max_cores = "1"
        flags = detect_jumps_data(data)[0] & GroupFlag.JUMP_DET.mask != 0
    flagged = int(flags.sum())
    return FalsePositives(
        per_difference=flagged / (nints * (ngroups - 1) * side**2),
        per_pixel=float(flags.any(axis=1).mean()),
        relative_error=1 / math.sqrt(max(flagged, 1)),
    )


def threshold(ngroups: int, nints: int, sigma: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the two-sided threshold (sigma) above which a difference is flagged, in the shape of `sigma`.

    Parameters
    ----------
    sigma : ndarray of float32
        Noise of a group difference (e-).
    """
    if ngroups - 1 >= _SINGLE_PASS:
        return np.float32(4.0) * _widening(ngroups, nints, sigma) + np.float32(
            _median_beside_hit(ngroups, nints)[0]
        )
    cut = {2: 6.0, 3: 5.0}.get((ngroups - 1) * nints, 4.0)
    middle = np.float32(stats.norm.ppf(0.75))
    raised: NDArray[np.float32] = np.float32(cut) * np.sqrt(1 + middle / sigma) + middle
    return raised


def _widening(ngroups: int, nints: int, sigma: NDArray[np.float32]) -> NDArray[np.float32]:
    # The step adds the Poisson noise of the median difference, which is only noise here: if v is the mean
    # absolute median in units of sigma, the variance grows from sigma^2 to sigma^2 + v sigma.
    wider: NDArray[np.float32] = np.sqrt(1 + np.float32(_median_beside_hit(ngroups, nints)[1]) / sigma)
    return wider


@functools.lru_cache(maxsize=64)
def _median_beside_hit(ngroups: int, nints: int) -> tuple[float, float]:
    """Return mean and mean absolute value (sigma) of the median of differences of which one was hit."""
    rng = np.random.default_rng([ngroups, nints])
    reads = rng.standard_normal((200_000 // (ngroups * nints) + 1000, nints, ngroups), dtype=np.float32)
    differences = np.diff(reads, axis=2).reshape(len(reads), -1) / math.sqrt(2)
    differences[:, differences.shape[1] // 2] = np.inf
    medians = np.median(differences, axis=1)
    medians = medians[np.isfinite(medians)]
    return (float(np.mean(medians)), float(np.mean(np.abs(medians)))) if medians.size else (0.0, 0.0)


@dataclass
class JumpTotals:
    """Expected flags on usable science pixels, summed over the integrations of an exposure.

    Attributes
    ----------
    flags, pixels : float
        Expected flags, and expected (integration, pixel) pairs with at least one flag.
    flags_variance, pixels_variance : float
        Their variances.
    false_flags, false_pixels : float
        The part due to noise alone, with a common relative error of ``false.relative_error``.
    above_threshold : int
        (integration, pixel) pairs in which a deposit exceeds 4 sigma in one difference.
    """

    flags: float = 0.0
    pixels: float = 0.0
    flags_variance: float = 0.0
    pixels_variance: float = 0.0
    false_flags: float = 0.0
    false_pixels: float = 0.0
    above_threshold: int = 0


@dataclass
class JumpTally:
    """Adds up the flags to expect of an exposure, group by group; its maps are as large as the subarray.

    Attributes
    ----------
    usable : ndarray of bool, 2D (rows, columns)
        False on reference pixels and on those that the mask excludes.
    sigma : ndarray of float32, 2D
        Noise of a group difference as used by the jump step (e-).
    false : FalsePositives
    totals : JumpTotals
        What was added so far; `pixels` and what goes with it up to the last `close`.
    """

    usable: NDArray[np.bool_]
    sigma: NDArray[np.float32]
    ngroups: int
    nints: int
    false: FalsePositives
    totals: JumpTotals = field(default_factory=JumpTotals)
    _log_clean: NDArray[np.float64] = field(init=False, repr=False)
    _above: NDArray[np.bool_] = field(init=False, repr=False)
    _hit_variance: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._log_clean = np.zeros(self.usable.size)
        self._above = np.zeros(self.usable.size, bool)
        self._hit_variance = 0.0

    def add(self, group: int, deposit: Deposit, saturated: NDArray[np.intp]) -> None:
        """Add the next group of the integration.

        Parameters
        ----------
        group : int
            0-based; the first has no difference.
        deposit : Deposit
            Charge added to the difference from the previous group.
        saturated : ndarray of int, 1D
            Flat indices of pixels flagged as saturated in this group, which carry no jump.
        """
        if group == 0 or self.ngroups < _FEWEST_GROUPS:
            return
        usable = self.usable.ravel().copy()
        usable[saturated] = False
        touched, chance, variance = self._chances(deposit, usable)
        noise = (int(usable.sum()) - touched.size) * self.false.per_difference
        self.totals.flags += float(chance.sum()) + noise
        self.totals.flags_variance += variance + noise
        self._hit_variance += variance
        self.totals.false_flags += noise
        self._log_clean[touched] += np.log1p(-np.minimum(chance, 1 - 1e-12))
        self._above[deposit.pixels[deposit.charge > 4 * self.sigma.ravel()[deposit.pixels]]] = True

    def close(self) -> None:
        """End the integration."""
        usable = self.usable.ravel()
        hit = -np.expm1(self._log_clean[usable])
        noise = float(np.sum(1 - hit)) * self.false.per_pixel
        self.totals.pixels += float(hit.sum()) + noise
        self.totals.pixels_variance += self._hit_variance + noise
        self.totals.false_pixels += noise
        self.totals.above_threshold += int(self._above[usable].sum())
        self._start()

    def _chances(
        self, deposit: Deposit, usable: NDArray[np.bool_]
    ) -> tuple[NDArray[np.intp], NDArray[np.float64], float]:
        """Return the usable pixels that a deposit may flag, their probabilities, and the variance."""
        keep = usable[deposit.pixels]
        pixels, charge = deposit.pixels[keep], deposit.charge[keep]
        sigma = self.sigma.ravel()[pixels]
        size = charge / sigma
        cut = threshold(self.ngroups, self.nints, sigma)
        own = np.zeros(usable.size)
        own[pixels] = special.ndtr(size - cut) + special.ndtr(-size - cut)
        wider = _widening(self.ngroups, self.nints, sigma)
        shift = _median_beside_hit(self.ngroups, self.nints)[0]
        spreads = special.ndtr(size - _NEIGHBOUR_LOW * wider - shift)
        spreads *= special.ndtr(_NEIGHBOUR_HIGH * wider + shift - size)
        # Saturated and excluded pixels carry no jump, so they flag no neighbour: they are not in `pixels`.
        # A jump flags all neighbours or none, so their probabilities are fully correlated.
        rows, columns = self.usable.shape
        row, column = np.divmod(pixels, columns)
        log_missed = np.zeros(usable.size)
        flagged_along = np.zeros(pixels.size)
        for down, right in NEIGHBOURS:
            y, x = row + down, column + right
            inside = (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
            inside[inside] = usable[(y * columns + x)[inside]]
            beside = (y * columns + x)[inside]
            np.add.at(log_missed, beside, np.log(np.maximum(1 - spreads[inside], 1e-12)))
            flagged_along[inside] += 1 - own[beside]
        touched = np.flatnonzero((own > 0) | (log_missed < 0))
        missed = np.exp(log_missed[touched])
        chance = 1 - (1 - own[touched]) * missed
        alone = own[touched] * (1 - own[touched]) * missed
        variance = float(alone.sum() + np.sum(spreads * (1 - spreads) * flagged_along**2))
        return touched, chance, variance
