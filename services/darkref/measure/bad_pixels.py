"""Which pixels of a dark are hot, warm, dead, RC or unreliable: the DQ plane of flight mode.

Only science pixels are flagged. DO_NOT_USE is never set: jwst's dark_current step would carry it into every
science exposure, and which pixels are beyond use is for the mask reference file to say, which is made from
darks and flats together. A hot pixel that is subtracted well may be of use to somebody.

HOT and WARM. A pixel is hot where its rate is more than 5 robust sigmas (1.4826 MAD about the median of the
science pixels, so read noise is in it) above the median in at least 75 % of the integrations that measured it
from end to end, and its mean ramp rises by 0.5 e-/s or more; warm likewise with 3 sigmas and 0.1 e-/s. The 75
% tell a hot pixel, which stays, from a hit, which comes once. The two rates are those of the NIRISS team's
mask, for H2RG detectors of the same kind (makebpm.py of github.com/chriswillott/jwst: hot above 0.5 e-/s,
warm from 0.1 e-/s). Without them the 5 sigmas of a long, quiet set would call 0.03 e-/s hot. They are in
e-/s, and not in units of the median (JWQL's dark monitor: twice the baseline), because what a pixel spoils is
its own Poisson noise. Where fewer than two integrations measured a pixel from end to end, above all where it
saturates, its mean ramp has to stand out by 5 sigmas of as many measurements and groups as it has.

RC. The pixel settles after the reset: the first difference of its mean ramp exceeds its later slope by more
than 5 robust sigmas, by 5 of its own standard errors (a merely noisy pixel does not), and by half of that
slope (the Poisson noise of a hot pixel does not). The median over pixels is subtracted first: that is the
whole detector's settling. Later is what follows the first quarter of the ramp (as in jwst_reffiles,
badpix_from_darks.py). A pixel that settles so fast that the jump step takes it for a hit, in the second group
of 75 % of its integrations or more, is RC too.

DEAD. The signal does not move: the variance over integrations, averaged over groups, is below (0.1)^2 of the
median pixel's. A pixel that collects nothing but reads with the usual noise cannot be told from a quiet one
in a dark: that takes a flat.

UNRELIABLE_DARK. Fewer measurements than `min_measurements` in any group; or noisy: a variance over
integrations above 3^2 times that of the median pixel and of the pixel's own Poisson noise together (jwst's
words for this flag are "Dark variance large"; 3 is the factor of the NIRISS mask). The variance is that
before the clip, which hides a pixel that is hot in some of the integrations:
`services.darkref.combine.pooled_errors`.

TELEGRAPH. The pixel falls twice or more within ramps, or is noisy with rates of two kinds
(`services.darkref.combine.telegraph`); it is UNRELIABLE_DARK as well. Neither it nor a noisy pixel is called
warm: in enough of its integrations it would be by chance.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.darkref.measure.planes import MeanRamp
from shared.nircam.dq import PixelFlag
from shared.statistics.robust import median_and_sigma


@dataclass(frozen=True)
class Thresholds:
    """Limits from which on a pixel is flagged; the module's docstring explains them.

    Attributes
    ----------
    hot_sigma, warm_sigma, rc_sigma : float
        Robust sigmas over the science pixels.
    fraction : float
        Fraction of the integrations in which a pixel must be above the cut.
    hot_e_per_s, warm_e_per_s : float
        Least rate of the mean ramp.
    rc_excess : float
        Least excess of the first difference, in units of the later slope.
    dead_noise, noisy_noise : float
        In units of the median pixel's noise.
    min_measurements : int
        Fewest measurements of a reliable (group, pixel). Manifests hold it under this name; elsewhere it is
        `min_valid`.
    """

    hot_sigma: float = 5.0
    warm_sigma: float = 3.0
    fraction: float = 0.75
    hot_e_per_s: float = 0.5
    warm_e_per_s: float = 0.1
    rc_sigma: float = 5.0
    rc_excess: float = 0.5
    dead_noise: float = 0.1
    noisy_noise: float = 3.0
    min_measurements: int = 3


@dataclass(frozen=True)
class PixelCounts:
    """How many pixels were flagged, and the cuts that resulted for this set.

    Attributes
    ----------
    science : int
        All science pixels.
    hot, warm, dead : int
    rc : int or None
        None where the ramp has too few groups to tell.
    few_measurements, noisy, telegraph : int
        The reasons for UNRELIABLE_DARK; a pixel may have several.
    unreliable : int
    hot_cut_e_per_s, warm_cut_e_per_s : float
        Median over integrations of the cut in one integration's rates; NaN without any.
    rc_cut_e : float
        Cut in the excess of the first difference, e-; NaN where RC pixels were not looked for.
    """

    science: int
    hot: int
    warm: int
    dead: int
    rc: int | None
    few_measurements: int
    noisy: int
    unreliable: int
    hot_cut_e_per_s: float
    warm_cut_e_per_s: float
    rc_cut_e: float
    telegraph: int = 0


@dataclass(frozen=True)
class PixelScatter:
    """How the values of each pixel scatter over integrations; every plane is 2D (y, x).

    Attributes
    ----------
    ratio : ndarray of float32
        Variance before the clip in units of the usual one, averaged over groups; NaN where it is unknown.
    freedom : ndarray of float32
        Its degrees of freedom.
    telegraph : ndarray of bool
        Pixels that change between levels.
    """

    ratio: NDArray[np.float32]
    freedom: NDArray[np.float32]
    telegraph: NDArray[np.bool_]


#: Least degrees of freedom of a variance that decides about a pixel. The part that groups do not share is
#: below 0.01 of its expectation with a probability of 2e-6 (chi-square of 8).
LEAST_FREEDOM = 8
#: Where fewer integrations measured a pixel from end to end, its mean ramp decides.
_LEAST_INTEGRATIONS = 2
#: With fewer groups there is no later slope to compare the first difference with.
_LEAST_GROUPS = 4


def flag_pixels(
    ramp: MeanRamp, scatter: PixelScatter, thresholds: Thresholds
) -> tuple[NDArray[np.uint32], PixelCounts]:
    """Flag the bad pixels of a mean ramp.

    Parameters
    ----------
    ramp : MeanRamp
        Of flight mode: ERR is the standard error of the mean.
    scatter : PixelScatter
    thresholds : Thresholds

    Returns
    -------
    quality : ndarray of uint32, 2D (y, x)
        DQ.
    counts : PixelCounts
    """
    hot, warm, cuts = hot_and_warm(ramp, thresholds)
    enough = ramp.science & (scatter.freedom >= LEAST_FREEDOM)
    dead = enough & (scatter.ratio < thresholds.dead_noise**2)
    noisy = enough & (scatter.ratio > thresholds.noisy_noise**2)
    telegraph = ramp.science & scatter.telegraph
    unstable = noisy | telegraph
    warm &= ~unstable
    few = too_few_measurements(ramp, thresholds.min_measurements)
    settling = settling_pixels(ramp, thresholds)
    quality = np.zeros(ramp.science.shape, np.uint32)
    for flag, flagged in (
        (PixelFlag.HOT, hot),
        (PixelFlag.WARM, warm),
        (PixelFlag.DEAD, dead),
        (PixelFlag.TELEGRAPH, telegraph),
        (PixelFlag.UNRELIABLE_DARK, few | unstable),
    ):
        quality[flagged] |= flag.mask
    if settling is not None:
        quality[settling[0]] |= PixelFlag.RC.mask

    def count(flagged: NDArray[np.bool_]) -> int:
        return int(np.count_nonzero(flagged))

    return quality, PixelCounts(
        science=count(ramp.science),
        hot=count(hot),
        warm=count(warm),
        dead=count(dead),
        rc=None if settling is None else count(settling[0]),
        few_measurements=count(few),
        noisy=count(noisy),
        unreliable=count(few | unstable),
        hot_cut_e_per_s=cuts[0],
        warm_cut_e_per_s=cuts[1],
        rc_cut_e=float("nan") if settling is None else settling[1],
        telegraph=count(telegraph),
    )


def hot_and_warm(
    ramp: MeanRamp, thresholds: Thresholds
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], tuple[float, float]]:
    """Return the hot and the warm pixels, and the cuts in one integration's rates, e-/s."""
    scale = ramp.gain / ramp.group_time
    sigmas = np.array([thresholds.hot_sigma, thresholds.warm_sigma])
    measured, hot_in, warm_in = np.zeros((3, *ramp.science.shape), np.uint16)
    cuts = []
    for index in range(ramp.integrations):
        plane = ramp.integration_slope(index)
        here = ramp.science & np.isfinite(plane)
        if not here.any():
            continue
        centre, sigma = median_and_sigma(plane[here])
        hot_cut, warm_cut = centre + sigmas * sigma
        measured += here
        # Comparisons with NaN are False.
        hot_in += plane > np.float32(hot_cut)
        warm_in += plane > np.float32(warm_cut)
        cuts.append((hot_cut * scale, warm_cut * scale))
    flagged = []
    rate = ramp.slope * np.float32(scale)
    several = measured >= _LEAST_INTEGRATIONS
    stands_out = _stands_out(ramp, thresholds.hot_sigma, ~several)
    for above, least in ((hot_in, thresholds.hot_e_per_s), (warm_in, thresholds.warm_e_per_s)):
        often = np.where(several, above >= thresholds.fraction * measured, stands_out)
        flagged.append(ramp.science & often & (rate >= least))
    hot, warm = flagged
    typical = np.median(cuts, axis=0) if cuts else np.full(2, np.nan)
    return hot, warm & ~hot, (float(typical[0]), float(typical[1]))


def settling_pixels(ramp: MeanRamp, thresholds: Thresholds) -> tuple[NDArray[np.bool_], float] | None:
    """Return the RC pixels and the cut in their first difference, e-; None where the ramp is too short."""
    if ramp.groups < _LEAST_GROUPS:
        return None
    last = ramp.groups - 1
    later = max(ramp.groups // 4, 2)
    started, second = ramp.n_valid(0), ramp.n_valid(1)
    stopped = (
        ramp.science
        & (started >= thresholds.min_measurements)
        & (second <= (1 - thresholds.fraction) * started)
    )
    measured = ramp.science & (second > 0) & (ramp.n_valid(last) > 0)
    if not measured.any():
        return stopped, float("nan")
    rise = (ramp.sci(last) - ramp.sci(later)) / np.float32(last - later)
    excess = ramp.sci(1) - ramp.sci(0) - rise
    centre, sigma = median_and_sigma(excess[measured])
    cut = thresholds.rc_sigma * sigma
    excess -= np.float32(centre)
    settles = excess > np.maximum(cut, thresholds.rc_sigma * ramp.err(1))
    settles &= excess > thresholds.rc_excess * np.abs(rise)
    return stopped | (measured & settles), cut * ramp.gain


def too_few_measurements(ramp: MeanRamp, least: int) -> NDArray[np.bool_]:
    """Return the science pixels with fewer than `least` measurements in any group."""
    few = np.zeros(ramp.science.shape, np.bool_)
    for group in range(ramp.groups):
        few |= ramp.n_valid(group) < least
    return few & ramp.science


def average_rates(
    rate: NDArray[np.float32],
    quality: NDArray[np.uint32],
    science: NDArray[np.bool_],
    dark_current: float,
) -> NDArray[np.float32]:
    """Return the map AVDRKCUR, e-/s, from which jwst takes the Poisson noise of the dark.

    The rate of a single pixel is mostly noise. As rates below zero have no Poisson noise, a map of all rates
    would overestimate it on average. Hot and warm pixels therefore have their own rate, all others that of
    the detector, and reference pixels 0.

    Parameters
    ----------
    rate : ndarray of float32, 2D (y, x)
        Of each pixel's mean ramp, e-/s.
    quality : ndarray of uint32, 2D (y, x)
        DQ, of `flag_pixels`.
    science : ndarray of bool, 2D (y, x)
    dark_current : float
        The detector's, e-/s; a negative one counts as 0.
    """
    own = (quality & (PixelFlag.HOT | PixelFlag.WARM).mask != 0) & np.isfinite(rate)
    return np.where(own, rate, science * np.float32(max(dark_current, 0.0))).astype(np.float32)


def _stands_out(ramp: MeanRamp, sigmas: float, pixels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which of `pixels` have a mean ramp whose slope is so many sigmas above the median.

    Sigma is that of whole ramps. It grows with fewer measurements, and with fewer groups: a line through n of
    N groups has the root of N (N^2-1) / (n (n^2-1)) times the read noise. Without the latter, a pixel would
    be called hot for the noise of the few groups that a hit and its persistence left of it.
    """
    here = ramp.science & np.isfinite(ramp.slope)
    at = np.flatnonzero(here & pixels)
    result = np.zeros(here.shape, np.bool_)
    if not at.size:
        return result
    centre, sigma = median_and_sigma(ramp.slope[here])
    groups = np.zeros(at.size)
    last_count = np.ones(at.size)
    for group in range(ramp.groups):
        count = ramp.n_valid(group).reshape(-1)[at]
        groups += count > 0
        # Of the last group that has any measurement.
        last_count = np.where(count > 0, count, last_count)
    shorter = ramp.groups * (ramp.groups**2 - 1.0) / np.maximum(groups * (groups**2 - 1), 1)
    cut = sigmas * sigma * np.sqrt(shorter * ramp.integrations / last_count)
    result.reshape(-1)[at] = (groups > 1) & (ramp.slope.reshape(-1)[at] - centre > cut)
    return result
