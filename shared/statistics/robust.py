"""Robust statistics: sigma from the median absolute deviation, and the variance of the typical pixel.

Hot pixels, hits that nothing flagged and bad columns move a mean and a standard deviation; they hardly move a
median. Noise figures are therefore built from medians, in two ways:

- *Over pixels or planes*: `median_and_sigma` and `robust_sigma` scale the median absolute deviation (MAD) to
  the standard deviation of a Gaussian. `MEDIAN_ERROR` and `MAD_ERROR` are their standard errors.
  Of whole numbers they come in steps; `dither` takes these away.
- *Over integrations*: each pixel has a sample variance, and the detector's figure is the median of these.
  That median is biased. The bias of a Gaussian's own sample variance is exact (`variance_median_factor`);
  what is left is a few parts in ten thousand, as large as the statistical error of so many pixels:
  pixels differ (`scatter_shift`), the jump step clips the tails of the noise (`cut_tail_shift`), and hits
  before the first group cannot be flagged (`hit_shift`).

The three shifts are closed forms to first order: whatever moves a fraction of a distribution from one side of
its median to the other moves the median by that fraction over the density there.
"""

import math
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from shared.statistics.jit import kernel
from shared.statistics.medians import Workspace, median, middle_deviations

_Precision = type[np.float32] | type[np.float64]

#: Standard deviation of a Gaussian over its median absolute deviation: 1.4826.
SIGMA_PER_MAD = 1 / NormalDist().inv_cdf(0.75)
#: Standard error of the median of a Gaussian sample over that of its mean: sqrt(pi / 2).
MEDIAN_ERROR = math.sqrt(math.pi / 2)
#: Standard error of a MAD-based sigma, times sqrt(N) / sigma. Its asymptotic efficiency is 36.74 per cent
#: (Rousseeuw and Croux 1993, JASA 88, 1273).
MAD_ERROR = 1 / math.sqrt(2 * 0.3674)
#: Multiples of both fill the unit square evenly (inverse powers of the plastic number; Roberts 2018, "The
#: unreasonable effectiveness of quasirandom sequences").
_PLASTIC, _PLASTIC_SQUARED = 0.7548776662466927, 0.5698402909980532
#: Variance that `dither` adds, in steps squared.
DITHER_VARIANCE = 1 / 6
#: Number of values that show whether they come in steps, and how well the remainders must agree: the length
#: of their mean as vectors on a circle, 1 if all are the same, 0 if they are spread evenly. Values that
#: scatter by more than a fifth of a step about its multiples have a smooth median.
_SAMPLE, _AGREEMENT = 10_000, 0.5
#: With fewer values, remainders agree by chance.
_FEWEST_VALUES = 100
#: With fewer pixels the median's own error is far larger than any shift below, and nothing is corrected.
FEWEST_PIXELS = 1000


def median_and_sigma(
    values: NDArray[Any], workspace: Workspace | None = None, dtype: _Precision = np.float64
) -> tuple[float, float]:
    """Return the median and the robust standard deviation about it (1.4826 MAD).

    Parameters
    ----------
    values : ndarray, 1D
        In any order; NaN is ignored.
    workspace : Workspace, optional
        Memory to work in, where many planes are measured one after the other.
    dtype : numpy.float64 or numpy.float32
        Precision to which median and MAD are rounded, as `numpy.median` rounds them to that of its argument.

    Returns
    -------
    (float, float)
        In the unit of `values`; NaN of no values. A single value has sigma 0.

    Examples
    --------
    >>> import numpy as np
    >>> median_and_sigma(np.array([1.0, 2.0, 3.0, 4.0, 100.0]))
    (3.0, 1.482602218505602)
    """
    centre = float(dtype(median(values, workspace)))
    return centre, robust_sigma(values, centre, workspace, dtype)


def robust_sigma(
    values: NDArray[Any],
    centre: float,
    workspace: Workspace | None = None,
    dtype: _Precision = np.float64,
) -> float:
    """Return the robust standard deviation of values about a given centre (1.4826 MAD).

    The parameters are those of `median_deviation`.
    """
    return SIGMA_PER_MAD * float(median_deviation(values, centre, workspace, dtype))


def median_deviation(
    values: NDArray[Any],
    centre: float,
    workspace: Workspace | None = None,
    dtype: _Precision = np.float64,
) -> np.float32 | np.float64:
    """Return the median absolute deviation (MAD) of values from a given centre.

    Parameters
    ----------
    values : ndarray, 1D
        In any order; NaN is ignored.
    centre : float
        Rounded to the type of `values` first. 0 where the offset that all values share is to count as noise.
    workspace : Workspace, optional
        Memory to work in.
    dtype : numpy.float64 or numpy.float32
        Precision to which the result is rounded.

    Returns
    -------
    scalar of `dtype`
        In the unit of `values`; NaN of no values.
    """
    lower, upper = middle_deviations(values, centre, workspace)
    return dtype((float(lower) + float(upper)) / 2)


def come_in_steps(values: NDArray[Any], step: float) -> bool:
    """Return whether values (1D, any NaN left out) are about multiples of a step, but for a common offset."""
    sample = values[:: max(values.size // _SAMPLE, 1)].astype(np.float64)
    sample = sample[np.isfinite(sample)]
    if sample.size < _FEWEST_VALUES:
        return False
    return bool(abs(np.mean(np.exp(2j * np.pi * sample / step))) > _AGREEMENT)


def dither(values: NDArray[Any], step: float, workspace: Workspace) -> NDArray[np.float32]:
    """Return values that come in steps, spread over a step to either side.

    Median and MAD of such values are themselves multiples of half a step. Dithered they are not. What is
    added is triangular, the sum of two uniform steps, of which one alone would leave ripples: the MAD of a
    sigma of 2 steps would be 1.3 per cent off. The variance grows by `DITHER_VARIANCE` steps^2. The result is
    reproducible.

    Parameters
    ----------
    values : ndarray, 1D
        Multiples of `step`, but for an offset; NaN stays NaN.
    step : float
    workspace : Workspace
        Memory for the result; the next call overwrites it.
    """
    dithered = workspace.array("dithered", values.size, np.float32)
    _dither(values, step, dithered)
    return dithered


def variance_median_factor(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Return the median of a Gaussian's sample variance (ddof 1) over its true variance.

    The sample variance of N values is distributed as sigma^2 chi2(N-1) / (N-1), whose median lies below its
    mean: 0.927 at N = 10. With ddof 0 the ratio is 0.834, so that the noise would come out low by 0.91.

    Parameters
    ----------
    counts : ndarray of int
        Number of values N that each variance is from.

    Returns
    -------
    ndarray of float64, same shape
        NaN where N is below 2.
    """
    degrees = np.arange(1, max(int(counts.max(initial=2)), 2))
    table = np.concatenate([[np.nan, np.nan], 2 * special.gammaincinv(degrees / 2, 0.5) / degrees])
    factors: NDArray[np.float64] = table[counts]
    return factors


def corrected_variance(variance: NDArray[Any], count: NDArray[Any], minimum: int) -> NDArray[np.float32]:
    """Return sample variances divided by `variance_median_factor`, so that their median is unbiased.

    Parameters
    ----------
    variance : ndarray
        Sample variances (ddof 1).
    count : ndarray of int, the same shape
        Number of values N that each is from: flagged values leave pixels with different numbers.
    minimum : int
        Fewest values of a pixel; with fewer, the result is NaN.
    """
    factor = variance_median_factor(count)
    with np.errstate(invalid="ignore"):
        corrected = np.where(count >= minimum, variance / factor, np.nan)
    return corrected.astype(np.float32)


def median_variance_error(count: int) -> float:
    """Return the relative 1-sigma error of a median of P sample variances, times sqrt(P).

    The error of a sample median is 1 / (2 f sqrt(P)), with f the density at the median: here that of
    chi2(N-1), relative to its median.

    Parameters
    ----------
    count : int
        Number of values N that each variance is from, at least 2.
    """
    half = (count - 1) / 2
    middle = 2 * float(special.gammaincinv(half, 0.5))
    log_density = (half - 1) * math.log(middle) - middle / 2 - half * math.log(2) - special.gammaln(half)
    return 1 / (2 * math.exp(log_density) * middle)


def scatter_shift(variances: NDArray[np.float32], count: int) -> float:
    """Return the fraction by which the median of variances is low because pixels are not alike.

    The logarithm of a sample variance is skewed: the median of ln chi2 lies above its mean. The pixels' true
    variances scatter as well, nearly symmetrically in the logarithm, which makes the sum less skewed and
    brings its median closer to its mean, in proportion to their share of the total variance (Cornish and
    Fisher 1938, to the third cumulant). That share follows from the distance between the quartiles, compared
    with those of ln chi2. It may come out negative, so that the mean over many sets is unbiased.

    Parameters
    ----------
    variances : ndarray, 1D
        Sample variances of all pixels, positive, in any unit.
    count : int
        Number of values N that the variance of a typical pixel is from; below 2 the shift is 0.
    """
    if count < 2:
        return 0.0
    degrees = count - 1
    of_chi2 = np.log(special.gammaincinv(degrees / 2, [0.25, 0.75]))
    with np.errstate(divide="ignore"):
        # Where a quarter of the pixels has variance 0, the quartile has no logarithm to compare.
        quartiles = np.log(np.quantile(variances, [0.25, 0.75]).astype(float))
    if not np.isfinite(quartiles).all() or quartiles[0] == quartiles[1]:
        return 0.0
    share = 1 - (float(np.diff(of_chi2)[0]) / float(np.diff(quartiles)[0])) ** 2
    middle = math.log(float(special.gammaincinv(degrees / 2, 0.5)))
    return (middle - float(special.digamma(degrees / 2))) * share


def cut_tail_shift(count: int, fraction: float) -> float:
    """Return the fraction by which the median of variances is low because the tails were taken for jumps.

    A fraction of a Gaussian's values, all those beyond +- k sigma, is left out. With such a value the
    variance of its pixel would nearly always have been above the median.

    Parameters
    ----------
    count : int
        Number of values N that each variance is from; below 3 the shift is 0.
    fraction : float
        Fraction of all values that is left out.
    """
    if fraction <= 0 or count < 3:
        return 0.0
    cut = -float(special.ndtri(fraction / 2))
    density = math.exp(-(cut**2) / 2) / math.sqrt(2 * math.pi)
    mean_square = 1 + 2 * cut * density / fraction
    middle = 2 * float(special.gammaincinv((count - 1) / 2, 0.5))
    remaining = max(middle - mean_square * (1 - 1 / count), 0.0)
    moved = count * fraction * (0.5 - float(special.chdtr(count - 2, remaining)))
    return moved * 2 * median_variance_error(count)


def hit_shift(count: int, charge: NDArray[np.float64], fraction: NDArray[np.float64]) -> float:
    """Return the fraction by which the median of variances is high because of hits that nothing flagged.

    The sample variance of N values, one of which is off by q sigma, is distributed as noncentral chi2(N-1)
    with the noncentrality q^2 (1 - 1/N).

    Parameters
    ----------
    count : int
        Number of values N that each variance is from, at least 2.
    charge : ndarray, 1D
        q of each kind of hit, in sigma.
    fraction : ndarray, 1D
        Fraction of all values that is off by that much.
    """
    middle = 2 * float(special.gammaincinv((count - 1) / 2, 0.5))
    below = special.chndtr(middle, count - 1, np.minimum(charge**2 * (1 - 1 / count), 1e4))
    moved = count * float(np.sum(fraction * (0.5 - below)))
    return moved * 2 * median_variance_error(count)


@kernel
def _dither(values, step, dithered):  # type: ignore[no-untyped-def]
    for n in range(values.size):
        turn, other = n * _PLASTIC, n * _PLASTIC_SQUARED
        dithered[n] = values[n] + step * ((turn - np.floor(turn)) + (other - np.floor(other)) - 1.0)
