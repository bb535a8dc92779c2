"""Which pixels of a dark are hot, warm, dead, RC or unreliable: the DQ plane of flight mode.

Only science pixels are flagged. DO_NOT_USE is never set: jwst's dark_current step would carry it into
every science exposure, and which pixels are beyond use is said by the mask reference file, which is made
from darks and flats together. A hot pixel that is subtracted well may be of use to somebody.

HOT and WARM. A pixel is hot where its rate is more than 5 robust sigmas (1.4826 MAD about the median of the
science pixels, so read noise is in it) above the median in at least 75 % of the integrations that measured
it from end to end, and its mean ramp rises by 0.5 e-/s or more; warm likewise with 3 sigmas and 0.1 e-/s.
In 75 % of them, as a hit comes once and a hot pixel stays. The two rates are those of the NIRISS team's
mask, for H2RG of the same kind (makebpm.py of github.com/chriswillott/jwst: hot above 0.5 e-/s, warm
from 0.1 e-/s). Without them the 5 sigmas of a long, quiet set would call 0.03 e-/s hot. They are in e-/s, and
not in units of the median (JWQL's dark monitor: twice the baseline), as what a pixel spoils is its own
Poisson noise. Where fewer than two integrations measured a pixel from end to end, above all where it
saturates, its mean ramp has to stand 5 sigmas out, of as many measurements and groups as it has.

RC. The pixel settles after the reset: the first difference of its mean ramp is more than 5 robust sigmas
above its later slope, by 5 of its own standard errors (a merely noisy pixel is none), and by half of that
slope (the Poisson noise of a hot pixel is none). The median over pixels is taken out first: that is the
whole detector's. Later is what follows the first quarter of the ramp (as in jwst_reffiles,
badpix_from_darks.py). A pixel that settles so fast that the jump step takes it for a hit, in the second
group of 75 % of its integrations or more, is RC too.

DEAD. The signal does not move: the variance over integrations, averaged over groups, is below (0.1)^2 of the
median pixel's. A pixel that collects nothing but reads with the usual noise cannot be told from a quiet
one in a dark: that takes a flat.

UNRELIABLE_DARK. Fewer measurements than `min_measurements` in any group; or noisy: a variance over
integrations above 3^2 times that of the median pixel and of the pixel's own Poisson noise together (jwst's
words for this flag are "Dark variance large"; 3 is the factor of the NIRISS mask). A noisy pixel is not
called warm: a few of its integrations would often enough say so.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.darkref.flag_thresholds import PixelCounts, Thresholds
from shared.medians import median, median_and_sigma

#: Bits of DQ (`stdatamodels.jwst.datamodels.dqflags.pixel`, whose import takes a second).
DEAD, HOT, WARM, RC, UNRELIABLE_DARK = (np.uint32(1 << bit) for bit in (10, 11, 12, 14, 23))

#: Groups that the variance is taken from, evenly spaced over the ramp.
_VARIANCE_GROUPS = 8
#: Degrees of freedom of a variance from which on a pixel is judged by it. The part that groups do not share
#: stays below 0.01 of its expectation with a probability of 2e-6 (chi-square of 8).
_LEAST_FREEDOM = 8
#: With fewer integrations that measured a pixel from end to end, its mean ramp is looked at.
_LEAST_INTEGRATIONS = 2
#: Groups from which on there is a later slope to compare the first difference with.
_LEAST_GROUPS = 4


@dataclass(frozen=True)
class PixelMaps:
    """What pixels are judged by. Every plane is 2D (y, x), and only few are in memory at once.

    Attributes
    ----------
    slope : ndarray of float32
        Slope of the mean ramp, DN per group; NaN where there is none.
    integration_slope : callable
        Gives one integration's slopes (same unit; NaN where it was not measured to its end), by its index.
    integrations : int
    sci, err, nmeas : callable
        Give one group of the mean ramp (DN), of its standard error (DN), and of the number of measurements,
        by its index.
    groups : int
    science : ndarray of bool
    gain : float
        e-/DN.
    group_time : float
        s from group to group.
    """

    slope: NDArray[np.float32]
    integration_slope: Callable[[int], NDArray[np.float32]]
    integrations: int
    sci: Callable[[int], NDArray[np.float32]]
    err: Callable[[int], NDArray[np.float32]]
    nmeas: Callable[[int], NDArray[np.unsignedinteger]]
    groups: int
    science: NDArray[np.bool_]
    gain: float
    group_time: float


def flag_pixels(maps: PixelMaps, thresholds: Thresholds) -> tuple[NDArray[np.uint32], PixelCounts]:
    """Return the DQ plane, 2D (y, x), and what is in it."""
    hot, warm, cuts = hot_and_warm(maps, thresholds)
    variance, freedom = relative_variance(maps)
    judged = maps.science & (freedom >= _LEAST_FREEDOM)
    dead = judged & (variance < thresholds.dead_noise**2)
    noisy = judged & (variance > thresholds.noisy_noise**2)
    warm &= ~noisy
    few = too_few_measurements(maps, thresholds.min_measurements)
    settling = settling_pixels(maps, thresholds)
    quality = np.zeros(maps.science.shape, np.uint32)
    for flag, flagged in ((HOT, hot), (WARM, warm), (DEAD, dead), (UNRELIABLE_DARK, few | noisy)):
        quality[flagged] |= flag
    if settling is not None:
        quality[settling[0]] |= RC

    def count(flagged: NDArray[np.bool_]) -> int:
        return int(np.count_nonzero(flagged))

    return quality, PixelCounts(
        science=count(maps.science),
        hot=count(hot),
        warm=count(warm),
        dead=count(dead),
        rc=None if settling is None else count(settling[0]),
        few_measurements=count(few),
        noisy=count(noisy),
        unreliable=count(few | noisy),
        hot_cut_e_per_s=cuts[0],
        warm_cut_e_per_s=cuts[1],
        rc_cut_e=float("nan") if settling is None else settling[1],
    )


def hot_and_warm(
    maps: PixelMaps, thresholds: Thresholds
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], tuple[float, float]]:
    """Return the hot and the warm pixels, and the cuts in one integration's rates, e-/s."""
    scale = maps.gain / maps.group_time
    sigmas = np.array([thresholds.hot_sigma, thresholds.warm_sigma])
    measured, hot_in, warm_in = np.zeros((3, *maps.science.shape), np.uint16)
    cuts = []
    for index in range(maps.integrations):
        plane = maps.integration_slope(index)
        here = maps.science & np.isfinite(plane)
        if not here.any():
            continue
        centre, sigma = median_and_sigma(plane[here])
        hot_cut, warm_cut = centre + sigmas * sigma
        measured += here
        # A comparison with NaN is False.
        hot_in += plane > np.float32(hot_cut)
        warm_in += plane > np.float32(warm_cut)
        cuts.append((hot_cut * scale, warm_cut * scale))
    found = []
    rate = maps.slope * np.float32(scale)
    several = measured >= _LEAST_INTEGRATIONS
    stands_out = _stands_out(maps, thresholds.hot_sigma, ~several)
    for above, least in ((hot_in, thresholds.hot_e_per_s), (warm_in, thresholds.warm_e_per_s)):
        often = np.where(several, above >= thresholds.fraction * measured, stands_out)
        found.append(maps.science & often & (rate >= least))
    hot, warm = found
    typical = np.median(cuts, axis=0) if cuts else np.full(2, np.nan)
    return hot, warm & ~hot, (float(typical[0]), float(typical[1]))


def settling_pixels(maps: PixelMaps, thresholds: Thresholds) -> tuple[NDArray[np.bool_], float] | None:
    """Return the RC pixels and the cut in their first difference, e-; None where the ramp is too short."""
    if maps.groups < _LEAST_GROUPS:
        return None
    last = maps.groups - 1
    later = max(maps.groups // 4, 2)
    started, second = maps.nmeas(0), maps.nmeas(1)
    stopped = (
        maps.science
        & (started >= thresholds.min_measurements)
        & (second <= (1 - thresholds.fraction) * started)
    )
    measured = maps.science & (second > 0) & (maps.nmeas(last) > 0)
    if not measured.any():
        return stopped, float("nan")
    rise = (maps.sci(last) - maps.sci(later)) / np.float32(last - later)
    excess = maps.sci(1) - maps.sci(0) - rise
    centre, sigma = median_and_sigma(excess[measured])
    cut = thresholds.rc_sigma * sigma
    excess -= np.float32(centre)
    settles = excess > np.maximum(cut, thresholds.rc_sigma * maps.err(1))
    settles &= excess > thresholds.rc_excess * np.abs(rise)
    return stopped | (measured & settles), cut * maps.gain


def relative_variance(maps: PixelMaps) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return each pixel's variance over integrations, relative to what is usual, and its freedom.

    Usual is the median pixel's, and the Poisson noise of the pixel's own rate. Averaged over some groups,
    each with its degrees of freedom: one less than its measurements.
    """
    total, freedom = np.zeros((2, *maps.science.shape), np.float32)
    # In DN^2 a group: charge in e-, over the square of the gain.
    poisson = np.maximum(np.nan_to_num(maps.slope), 0) / np.float32(maps.gain)
    for group in np.unique(np.linspace(1, maps.groups - 1, _VARIANCE_GROUPS).astype(int)):
        count = maps.nmeas(int(group)).astype(np.float32)
        # The standard error of N measurements, times the root of N.
        variance = maps.err(int(group)) ** 2 * count
        here = maps.science & (count >= 2) & np.isfinite(variance)
        if not here.any():
            continue
        typical = median(variance[here])
        if typical <= 0:
            continue
        weight = np.where(here, count - 1, np.float32(0))
        usual = np.float32(typical) + np.float32(group) * poisson
        total += weight * np.where(here, variance, 0) / usual
        freedom += weight
    return np.divide(total, freedom, out=np.full_like(total, np.nan), where=freedom > 0), freedom


def too_few_measurements(maps: PixelMaps, least: int) -> NDArray[np.bool_]:
    """Return the science pixels with fewer measurements than `least` in any group."""
    few = np.zeros(maps.science.shape, np.bool_)
    for group in range(maps.groups):
        few |= maps.nmeas(group) < least
    return few & maps.science


def average_rates(
    rate: NDArray[np.float32],
    quality: NDArray[np.uint32],
    science: NDArray[np.bool_],
    dark_current: float,
) -> NDArray[np.float32]:
    """Return the map AVDRKCUR, e-/s, from which jwst takes the Poisson noise of the dark.

    The rate of a single pixel is mostly noise, and what of it lies below zero has no Poisson noise: in
    sum the map would claim too much. So hot and warm pixels have their own rate, all others the
    detector's, reference pixels 0.

    Parameters
    ----------
    rate : ndarray of float32, 2D (y, x)
        Of each pixel's mean ramp, e-/s.
    quality : ndarray of uint32, 2D (y, x)
        DQ, of `flag_pixels`.
    science : ndarray of bool, 2D (y, x)
    dark_current : float
        The detector's, e-/s; taken as 0 where it is below.
    """
    own = (quality & (HOT | WARM) != 0) & np.isfinite(rate)
    return np.where(own, rate, science * np.float32(max(dark_current, 0.0))).astype(np.float32)


def _stands_out(maps: PixelMaps, sigmas: float, pixels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which of `pixels` have a mean ramp that rises so many sigmas more than the median.

    Sigma is that of whole ramps; fewer measurements have more, and so has a line through fewer groups: one
    through n of N groups has the root of N (N^2-1) / (n (n^2-1)) times the read noise. Without the latter, a
    pixel is called hot for the noise of the few groups that a hit and its persistence left of it.
    """
    here = maps.science & np.isfinite(maps.slope)
    at = np.flatnonzero(here & pixels)
    result = np.zeros(here.shape, np.bool_)
    if not at.size:
        return result
    centre, sigma = median_and_sigma(maps.slope[here])
    groups = np.zeros(at.size)
    left = np.ones(at.size)
    for group in range(maps.groups):
        count = maps.nmeas(group).reshape(-1)[at]
        groups += count > 0
        # Of the last group that has any.
        left = np.where(count > 0, count, left)
    shorter = maps.groups * (maps.groups**2 - 1.0) / np.maximum(groups * (groups**2 - 1), 1)
    cut = sigmas * sigma * np.sqrt(shorter * maps.integrations / left)
    result.reshape(-1)[at] = (groups > 1) & (maps.slope.reshape(-1)[at] - centre > cut)
    return result
