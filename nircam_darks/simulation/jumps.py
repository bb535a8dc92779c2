"""How many jumps jwst's jump step should flag, from what was deposited and from noise alone.

The two-point difference method: a difference is a jump where it lies more than T sigma from the pixel's
median difference. With fewer than ten differences an integration the step works iteratively on absolute
differences, which moves the threshold up by their median, 0.674 sigma, and more; it uses 5 and 6 sigma
where an exposure has three and two differences. A jump of 10 to 1000 sigma flags its four neighbours too.
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

from services.simulation.cosmic_rays import NEIGHBOURS, Deposit
from services.simulation.rehearsal import quiet as hushed

_NEIGHBOUR_LOW, _NEIGHBOUR_HIGH = 10.0, 1000.0
#: Differences of an integration from which on the step flags in a single pass.
_SINGLE_PASS = 10
#: jwst flags no jumps in fewer groups.
_FEWEST_GROUPS = 3
#: Pixels x groups of the realisation from which false positives are counted.
_SAMPLES = 6_000_000


@dataclass(frozen=True)
class FalsePositives:
    """Part of the (pixel, difference)s, and of the pixels of an integration, flagged by noise alone.

    `relative_error` is 1 sigma of both.
    """

    per_difference: float
    per_pixel: float
    relative_error: float


@functools.lru_cache(maxsize=64)
def false_positives(ngroups: int, nints: int, cds_noise: float) -> FalsePositives:
    """Count what stcal's jump detection, with jwst's defaults, flags in white noise of a known width.

    Parameters
    ----------
    ngroups, nints : int
        Of an exposure: the median that a difference is compared with is over all of its integrations.
    cds_noise : float
        e-. It matters: the step takes the median difference, noise as it is, for a signal with Poisson
        noise, and so widens its sigma by more the less read noise there is.
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
    with hushed("stcal"):
        data = JumpData(model, ones, np.float32(cds_noise) * ones, dqflags.pixel)
        data.max_cores = "1"
        flags = detect_jumps_data(data)[0] & dqflags.pixel["JUMP_DET"] != 0
    found = int(flags.sum())
    return FalsePositives(
        per_difference=found / (nints * (ngroups - 1) * side**2),
        per_pixel=float(flags.any(axis=1).mean()),
        relative_error=1 / math.sqrt(max(found, 1)),
    )


def threshold(ngroups: int, nints: int, sigma: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return from how many sigma on a difference is flagged as a jump (two-sided), shaped as `sigma`.

    Parameters
    ----------
    sigma : ndarray of float32
        Of a group difference, e-.
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
    # The step adds the Poisson noise of the median difference, which is nothing but noise here: with v
    # the mean absolute median in units of sigma, the variance grows from sigma^2 to sigma^2 + v sigma.
    wider: NDArray[np.float32] = np.sqrt(1 + np.float32(_median_beside_hit(ngroups, nints)[1]) / sigma)
    return wider


@functools.lru_cache(maxsize=64)
def _median_beside_hit(ngroups: int, nints: int) -> tuple[float, float]:
    """Return mean and mean absolute value, in sigma, of the median of differences one of which was hit."""
    rng = np.random.default_rng([ngroups, nints])
    reads = rng.standard_normal((200_000 // (ngroups * nints) + 1000, nints, ngroups), dtype=np.float32)
    differences = np.diff(reads, axis=2).reshape(len(reads), -1) / math.sqrt(2)
    differences[:, differences.shape[1] // 2] = np.inf
    medians = np.median(differences, axis=1)
    medians = medians[np.isfinite(medians)]
    return (float(np.mean(medians)), float(np.mean(np.abs(medians)))) if medians.size else (0.0, 0.0)


@dataclass
class JumpTally:
    """Expected flags on usable science pixels, added up over the integrations of an exposure.

    Attributes
    ----------
    usable : ndarray of bool, 2D (rows, columns)
        False on reference pixels and on those that the mask says not to use.
    sigma : ndarray of float32, 2D
        Of a group difference as the jump step takes it, e-.
    false : FalsePositives
    flags, pixels : float
        Expected flags, and expected (integration, pixel)s with at least one flag.
    flags_variance, pixels_variance : float
        What chance makes of them.
    false_flags, false_pixels : float
        The part of them that noise alone makes: uncertain by ``false.relative_error``, all together.
    above_threshold : int
        (integration, pixel)s in which a deposit exceeds 4 sigma in one difference.
    """

    usable: NDArray[np.bool_]
    sigma: NDArray[np.float32]
    ngroups: int
    nints: int
    false: FalsePositives
    flags: float = 0.0
    pixels: float = 0.0
    flags_variance: float = 0.0
    pixels_variance: float = 0.0
    false_flags: float = 0.0
    false_pixels: float = 0.0
    above_threshold: int = 0
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
        """Add one group of the integration, ascending.

        Parameters
        ----------
        group : int
            0-based; the first has no difference before it.
        deposit : Deposit
            Added to the difference from the group before.
        saturated : ndarray of int, 1D
            Flat indices of pixels flagged saturated in this group: they carry no jump.
        """
        if group == 0 or self.ngroups < _FEWEST_GROUPS:
            return
        usable = self.usable.ravel().copy()
        usable[saturated] = False
        touched, chance, variance = self._chances(deposit, usable)
        noise = (int(usable.sum()) - touched.size) * self.false.per_difference
        self.flags += float(chance.sum()) + noise
        self.flags_variance += variance + noise
        self._hit_variance += variance
        self.false_flags += noise
        self._log_clean[touched] += np.log1p(-np.minimum(chance, 1 - 1e-12))
        self._above[deposit.pixels[deposit.charge > 4 * self.sigma.ravel()[deposit.pixels]]] = True

    def close(self) -> None:
        """End the integration."""
        usable = self.usable.ravel()
        hit = -np.expm1(self._log_clean[usable])
        noise = float(np.sum(1 - hit)) * self.false.per_pixel
        self.pixels += float(hit.sum()) + noise
        self.pixels_variance += self._hit_variance + noise
        self.false_pixels += noise
        self.above_threshold += int(self._above[usable].sum())
        self._start()

    def _chances(
        self, deposit: Deposit, usable: NDArray[np.bool_]
    ) -> tuple[NDArray[np.intp], NDArray[np.float64], float]:
        """Return the usable pixels that a deposit may flag, with what probability, and the variance."""
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
        # What is saturated or not to be used carries no jump, so it flags no neighbour: it is not in
        # `pixels`. Of a pixel's neighbours, all or none are flagged: their chances go together.
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
