"""Effective noise: how well a dark ramp of n groups measures a signal, in electrons.

sigma(slope_n) * (n-1) groups * gain: the noise of the line's rise from the first to the n-th group.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.noise.robust import MAD_ERROR, MEDIAN_ERROR, variance_median_factor
from shared.detectors import ChannelExpectation
from shared.medians import SIGMA_PER_MAD, median

#: Ramps that temporal noise needs.
MINIMUM_RAMPS = 10
#: Ramps that are left of a pixel when its hits are out, for it to take part in temporal noise.
MINIMUM_PER_PIXEL = 5

#: Condition of the expected table's effective noise: s from the first to the last of its RAPID groups.
TABLE_SECONDS = 1000.0


def theory_variance(
    groups: int, nframes: int, seconds: float, frame_time: float, expectation: ChannelExpectation
) -> float:
    """Return the variance of the signal of a ramp of n groups, e-^2 (Rauscher 2007, as NRC-09 extends it).

    var = rn^2 12(n-1)/(m n(n+1)) + f T 6(n^2+1)/(5n(n+1)) - f tf 2(m^2-1)(n-1)/(m n(n+1))
    + [12(n-1)/(n+1) p0^2 - p1/sqrt(m)]

    Parameters
    ----------
    groups, nframes : int
        n, at least 2, and m, the frames averaged into a group.
    seconds, frame_time : float
        T from the first to the last group, and tf, s.
    expectation : ChannelExpectation
        rn and f, the read noise (e-) and the dark current (e-/s) of the channel, and p0, p1 (e-).
    """
    n, m = groups, nframes
    read_noise, flux = expectation.theory_read_noise, expectation.theory_dark
    read = read_noise**2 * 12 * (n - 1) / (m * n * (n + 1))
    photon = flux * seconds * 6 * (n**2 + 1) / (5 * n * (n + 1))
    averaging = flux * frame_time * 2 * (m**2 - 1) * (n - 1) / (m * n * (n + 1))
    excess = 12 * (n - 1) / (n + 1) * expectation.theory_p0**2 - expectation.theory_p1 / math.sqrt(m)
    return max(read + photon - averaging + excess, 0.0)


def theory(
    groups: int, nframes: int, seconds: float, frame_time: float, expectation: ChannelExpectation
) -> float:
    """Return the theory curve's effective noise, e-: the root of `theory_variance`."""
    return math.sqrt(theory_variance(groups, nframes, seconds, frame_time, expectation))


def table_point(seconds: Sequence[float], readpatt: str) -> int | None:
    """Return where on the curve the expected table may be held against it; None if nowhere.

    The table has one point: 1000 s in 93 RAPID groups. Noise falls with the groups and rises with the
    time, and the theory curve does not pass through that point (5.1 against 7.79 e- in the short-wave
    channel), so nothing is said of ramps that do not come within a tenth of it.

    Parameters
    ----------
    seconds : sequence of float
        From the first to the n-th group, for ascending n.
    readpatt : str
        Readout pattern.
    """
    if readpatt != "RAPID" or not seconds:
        return None
    nearest = min(range(len(seconds)), key=lambda n: abs(seconds[n] - TABLE_SECONDS))
    return nearest if abs(seconds[nearest] - TABLE_SECONDS) <= TABLE_SECONDS / 10 else None


def combine_amplifiers(sigmas: NDArray[Any]) -> NDArray[Any]:
    """Return the noise of a detector from that of its amplifiers (last axis): the root mean square.

    An amplifier without a usable pixel (NaN) takes no part.
    """
    known = np.isfinite(sigmas)
    total = np.where(known, sigmas, 0.0) ** 2
    with np.errstate(invalid="ignore"):
        combined: NDArray[Any] = np.sqrt(total.sum(axis=-1) / np.where(known.any(-1), known.sum(-1), np.nan))
    return combined


def median_over_ramps(sigmas: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the median over ramps (first axis), without those that have none (NaN)."""
    flat = sigmas.reshape(len(sigmas), -1).T
    medians = [median(values[np.isfinite(values)]) for values in flat]
    return np.array(medians).reshape(sigmas.shape[1:])


def whole_number_step(groups: int, nframes: int) -> float:
    """Return the step in which n-group slopes times (n-1) come where groups are whole DN over m, DN.

    A MAD of such slopes is a multiple of it, whatever the noise: 6 / (n (n+1)) / m.
    """
    return 6 / (groups * (groups + 1)) / nframes


def spatial_error(sigmas: NDArray[np.float64], pixels: int, step: float = 0.0) -> float:
    """Return the 1-sigma error of the spatial noise, in the unit of `sigmas`.

    That of a median over ramps, from their scatter. Noise that neighbours share (1/f) makes the scatter
    larger than so many pixels would have; it is never taken to be smaller.

    Parameters
    ----------
    sigmas : ndarray, 2D (ramps, amplifiers)
        Robust standard deviation of the slopes; NaN where there is none.
    pixels : int
        Pixels that each ramp's figure is from.
    step : float
        See `whole_number_step`; 1.4826 / sqrt(12) of it is added in quadrature.
    """
    per_ramp = combine_amplifiers(sigmas)
    per_ramp = per_ramp[np.isfinite(per_ramp)]
    from_pixels = MAD_ERROR * float(per_ramp.mean()) / math.sqrt(max(pixels, 1))
    scatter = float(per_ramp.std(ddof=1)) if len(per_ramp) > 1 else 0.0
    from_ramps = MEDIAN_ERROR * max(scatter, from_pixels) / math.sqrt(len(per_ramp))
    return math.hypot(from_ramps, SIGMA_PER_MAD * step / math.sqrt(12))


def corrected_variance(variance: NDArray[Any], count: NDArray[Any], minimum: int) -> NDArray[np.float32]:
    """Return variances whose median over pixels is the true one, NaN below `minimum` values.

    Parameters
    ----------
    variance : ndarray
        Sample variances (ddof 1).
    count : ndarray of int, the same shape
        How many values each is from: hits leave pixels with different numbers.
    """
    factor = variance_median_factor(count)
    with np.errstate(invalid="ignore"):
        corrected = np.where(count >= minimum, variance / factor, np.nan)
    return corrected.astype(np.float32)


@dataclass(frozen=True)
class SampleSpread:
    """What one plane (a slope or a CDS difference) says about the noise, per amplifier.

    Attributes
    ----------
    medians, sigmas : ndarray, 2D (planes, amplifiers)
        Median and robust standard deviation over active pixels, DN.
    """

    medians: NDArray[np.float64]
    sigmas: NDArray[np.float64]

    @property
    def drift(self) -> float:
        """The variance of the planes' own medians (ddof 1), mean over amplifiers, DN^2; 0 of one plane."""
        known = self.medians[np.isfinite(self.medians).all(axis=1)]
        return float(known.var(axis=0, ddof=1).mean()) if len(known) > 1 else 0.0

    def variances(self, about_own_median: bool) -> NDArray[np.float64]:
        """Return the variance that each plane shows, over its amplifiers, DN^2.

        sigma^2, plus the square of the median's distance from the median over all planes unless
        `about_own_median`: to first order the median square about a centre is sigma^2 + offset^2.
        """
        offsets = np.zeros_like(self.medians)
        if not about_own_median:
            offsets = self.medians - median_over_ramps(self.medians)
        shown: NDArray[np.float64] = self.sigmas**2 + offsets**2
        known = np.isfinite(shown)
        counts = known.sum(axis=-1)
        means: NDArray[np.float64] = np.where(known, shown, 0.0).sum(axis=-1) / np.maximum(counts, 1)
        kept: NDArray[np.float64] = means[counts > 0]
        return kept


def temporal_error(sigma: float, variances: NDArray[np.float64], samples: int, drift: float = 0.0) -> float:
    """Return the 1-sigma error of a temporal noise, in its unit.

    Each ramp (or pair of groups) is one sample of the noise, so their variances' scatter says how well
    the mean is known, whatever the pixels share; never better than so many independent pixels allow.

    Parameters
    ----------
    sigma : float
        The temporal noise.
    variances : ndarray, 1D
        Of each ramp or pair, see `SampleSpread.variances`.
    samples : int
        Values of all pixels that the noise is from.
    drift : float
        Part of the variance that is the ramps' own offsets', see `SampleSpread.drift`.
    """
    count = len(variances)
    relative = MAD_ERROR / math.sqrt(max(samples, 1))
    if count > 1:
        mean = float(variances.mean())
        if mean > 0:
            of_drift = math.sqrt(2 / (count - 1)) * drift / (2 * mean)
            scatter = float(variances.std(ddof=1)) / math.sqrt(count) / (2 * mean)
            relative = max(math.hypot(relative, of_drift), scatter)
    return sigma * relative


def drift_ratio(groups: int) -> float:
    """Return how much more 1/f noise moves the rise of a line through n groups than the next group.

    The variance of (n-1) times the slope of n frames' offsets, over that of the difference of two neighbours.
    Of noise of power 1/f two samples a time t apart have the covariance -ln(t), which is averaged over
    both frames.

    Parameters
    ----------
    groups : int
        n, at least 2.
    """
    apart = np.arange(groups, dtype=float)

    def integrated(t: NDArray[np.float64]) -> NDArray[np.float64]:
        # Twice the integral of -ln(t).
        return t**2 * (0.75 - np.log(np.where(t > 0, t, 1.0)) / 2)

    covariance = integrated(apart + 1) - 2 * integrated(apart) + integrated(np.abs(apart - 1))
    at = apart - (groups - 1) / 2
    weights = at / np.sum(at**2) * (groups - 1)
    between = covariance[np.abs(np.subtract.outer(np.arange(groups), np.arange(groups)))]
    return float(weights @ between @ weights / (2 * (covariance[0] - covariance[1])))


def temporal_refusal(ramps: int) -> str | None:
    """Say why temporal effective noise is refused, or None where there are ramps enough."""
    if ramps >= MINIMUM_RAMPS:
        return None
    have = "1 ramp" if ramps == 1 else f"{ramps} ramps"
    return (
        f"temporal effective noise is refused: it needs at least {MINIMUM_RAMPS} ramps of one configuration "
        f"and this set has {have}; the spatial effective noise is given"
    )
