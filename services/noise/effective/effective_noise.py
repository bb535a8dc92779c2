"""Effective noise: how well a dark ramp of n groups measures a signal, in electrons.

It is sigma(slope_n) (n-1) times the gain, with the least-squares slope of the first n groups in DN per group:
the noise of the rise of the line from the first to the n-th group. Spatial noise is the spread of slopes over
the pixels of a ramp, temporal noise that of a pixel over ramps. Here are the figures of a detector from those
of its amplifiers and ramps, their errors, and where on a curve an expected value can be compared.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.statistics.medians import median
from shared.statistics.robust import MAD_ERROR, MEDIAN_ERROR

#: Fewest ramps for temporal noise.
MINIMUM_RAMPS = 10
#: Fewest unflagged ramps of a pixel for it to take part in temporal noise.
MINIMUM_PER_PIXEL = 5

#: Time from the first to the last group for which the expected effective noise is given, s; RAPID.
TABLE_SECONDS = 1000.0


def table_point(seconds: Sequence[float], readpatt: str) -> int | None:
    """Return the point of a curve at which it can be compared with the expected table, or None.

    The table gives one point: 1000 s in 93 RAPID groups. Noise falls with the number of groups and rises with
    the time, and the theory curve does not pass through that point (5.1 against 7.79 e- in the short-wave
    channel). So a curve is only compared if it has a point within a tenth of that time.

    Parameters
    ----------
    seconds : sequence of float
        Time from the first to the n-th group, in ascending order.
    readpatt : str
        Readout pattern.
    """
    if readpatt != "RAPID" or not seconds:
        return None
    nearest = min(range(len(seconds)), key=lambda n: abs(seconds[n] - TABLE_SECONDS))
    return nearest if abs(seconds[nearest] - TABLE_SECONDS) <= TABLE_SECONDS / 10 else None


def combine_amplifiers(sigmas: NDArray[Any]) -> NDArray[Any]:
    """Return the noise of a detector: the root mean square over its amplifiers.

    Parameters
    ----------
    sigmas : ndarray, last axis (amplifiers)
        NaN for an amplifier without a usable pixel, which is left out.

    Examples
    --------
    >>> import numpy as np
    >>> float(combine_amplifiers(np.array([3.0, 4.0, np.nan])).round(3))
    3.536
    """
    known = np.isfinite(sigmas)
    total = np.where(known, sigmas, 0.0) ** 2
    with np.errstate(invalid="ignore"):
        combined: NDArray[Any] = np.sqrt(total.sum(axis=-1) / np.where(known.any(-1), known.sum(-1), np.nan))
    return combined


def median_over_ramps(sigmas: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the median over ramps (first axis); ramps without a value (NaN) are left out."""
    flat = sigmas.reshape(len(sigmas), -1).T
    medians = [median(values[np.isfinite(values)]) for values in flat]
    return np.array(medians).reshape(sigmas.shape[1:])


def rise_step(groups: int) -> float:
    """Return the step in which (n-1) times the slope of n groups comes, where groups are whole numbers.

    The slope is 12 / (n (n^2-1)) times the sum of (g - (n-1)/2) y[g]. For odd n the weights are whole, for
    even n they are halves, so that the sum is a multiple of 1 or of 1/2.

    Parameters
    ----------
    groups : int
        n, at least 2.

    Examples
    --------
    >>> rise_step(2), rise_step(3), rise_step(4)
    (1.0, 1.0, 0.3)
    """
    return (12 if groups % 2 else 6) / (groups * (groups + 1))


def spatial_error(sigmas: NDArray[np.float64], pixels: int) -> float:
    """Return the 1-sigma error of spatial noise, in the unit of `sigmas`.

    It is that of a median over ramps, from their scatter, and at least that of so many independent pixels:
    noise that neighbouring pixels have in common (1/f) makes the scatter larger.

    Parameters
    ----------
    sigmas : ndarray, 2D (ramps, amplifiers)
        Robust standard deviation of the slopes; NaN where there is none.
    pixels : int
        Number of pixels that the figure of a ramp is from.
    """
    per_ramp = combine_amplifiers(sigmas)
    per_ramp = per_ramp[np.isfinite(per_ramp)]
    from_pixels = MAD_ERROR * float(per_ramp.mean()) / math.sqrt(max(pixels, 1))
    scatter = float(per_ramp.std(ddof=1)) if len(per_ramp) > 1 else 0.0
    return MEDIAN_ERROR * max(scatter, from_pixels) / math.sqrt(len(per_ramp))


@dataclass(frozen=True)
class SampleSpread:
    """What each plane (a slope, or a CDS difference) shows of the noise, per amplifier.

    Attributes
    ----------
    medians, sigmas : ndarray, 2D (planes, amplifiers)
        Median and robust standard deviation over active pixels, DN.
    """

    medians: NDArray[np.float64]
    sigmas: NDArray[np.float64]

    @property
    def drift(self) -> float:
        """Variance (ddof 1) of the medians of the planes, mean over amplifiers, DN^2; 0 of a single plane."""
        known = self.medians[np.isfinite(self.medians).all(axis=1)]
        return float(known.var(axis=0, ddof=1).mean()) if len(known) > 1 else 0.0

    def variances(self, about_own_median: bool) -> NDArray[np.float64]:
        """Return the variance that each plane shows, mean over its amplifiers, DN^2, 1D (planes).

        It is sigma^2, plus, unless it is `about_own_median`, the square of the offset of the median from that
        of all planes: to first order the median square about a centre is sigma^2 + offset^2.
        """
        offsets = np.zeros_like(self.medians)
        if not about_own_median:
            offsets = self.medians - median_over_ramps(self.medians)
        shown: NDArray[np.float64] = self.sigmas**2 + offsets**2
        known = np.isfinite(shown)
        counts = known.sum(axis=-1)
        means: NDArray[np.float64] = np.where(known, shown, 0.0).sum(axis=-1) / np.maximum(counts, 1)
        measured: NDArray[np.float64] = means[counts > 0]
        return measured


def temporal_error(sigma: float, variances: NDArray[np.float64], samples: int, drift: float = 0.0) -> float:
    """Return the 1-sigma error of temporal noise, in its unit.

    Each ramp (or pair of groups) is a sample of the noise, so that the scatter of their variances shows how
    well the mean is known, whatever pixels have in common. The error is at least that of so many independent
    pixels.

    Parameters
    ----------
    sigma : float
        The temporal noise.
    variances : ndarray, 1D (ramps or pairs)
        See `SampleSpread.variances`.
    samples : int
        Number of values, of all pixels, that the noise is from.
    drift : float
        Part of the variance that is from the offsets of the ramps, see `SampleSpread.drift`.
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


def drift_ratio(groups: int, exponent: float = 1.0) -> float:
    """Return the variance from 1/f noise of the rise of a line, over that of the difference of two groups.

    The rise is (n-1) times the slope of the offsets of n frames. Two samples of 1/f^exponent noise a time t
    apart have the covariance (1 - t^h) / h with h = exponent - 1, but for a constant; -ln(t) with exponent 1.
    It is averaged over both frames.

    Parameters
    ----------
    groups : int
        n, at least 2.
    exponent : float
        Above 0 and below 3.
    """
    apart = np.arange(groups, dtype=float)
    h = exponent - 1

    def integrated(t: NDArray[np.float64]) -> NDArray[np.float64]:
        # Twice the integral over both frames.
        if abs(h) < 1e-6:
            return t**2 * (0.75 - np.log(np.where(t > 0, t, 1.0)) / 2)
        twice: NDArray[np.float64] = (t**2 / 2 - t ** (h + 2) / ((h + 1) * (h + 2))) / h
        return twice

    covariance = integrated(apart + 1) - 2 * integrated(apart) + integrated(np.abs(apart - 1))
    at = apart - (groups - 1) / 2
    weights = at / np.sum(at**2) * (groups - 1)
    between = covariance[np.abs(np.subtract.outer(np.arange(groups), np.arange(groups)))]
    return float(weights @ between @ weights / (2 * (covariance[0] - covariance[1])))


def common_drift(medians: NDArray[np.float64]) -> float:
    """Return the variance (ddof 1) of the mean over amplifiers of the medians of planes, DN^2.

    What amplifiers drift by in common does not average out, as what each drifts by of its own does.

    Parameters
    ----------
    medians : ndarray, 2D (planes, amplifiers)
        NaN where there is none.

    Returns
    -------
    float
        NaN with fewer than two planes.
    """
    known = medians[np.isfinite(medians).all(axis=1)].mean(axis=1)
    return float(known.var(ddof=1)) if len(known) > 1 else math.nan


def temporal_refusal(ramps: int) -> str | None:
    """Return why temporal effective noise is not measured, or None if there are enough ramps."""
    if ramps >= MINIMUM_RAMPS:
        return None
    have = "1 ramp" if ramps == 1 else f"{ramps} ramps"
    return (
        f"temporal effective noise needs at least {MINIMUM_RAMPS} ramps of one configuration, "
        f"and this set has {have}; the spatial effective noise is measured"
    )
