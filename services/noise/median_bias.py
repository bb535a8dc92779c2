"""What moves the median over pixels of their sample variances off the variance of the typical pixel.

Relative shifts of a few parts in ten thousand each, as large as the error that so many pixels have. Each is
in closed form, to first order: what moves a part of the distribution from one side of the median to the
other moves the median by that part over the density there.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import special

#: With fewer pixels the median's own error is far larger than anything here, and nothing is corrected.
FEWEST_PIXELS = 1000


def median_variance_error(count: int) -> float:
    """Return the relative 1-sigma error of a median of sample variances, times the root of their number.

    The sample median's error is 1 / (2 f sqrt(P)) with f the density at the median; that of chi2(N-1),
    over its median.

    Parameters
    ----------
    count : int
        Values N that each variance is from, 2 or more.
    """
    half = (count - 1) / 2
    middle = 2 * float(special.gammaincinv(half, 0.5))
    log_density = (half - 1) * math.log(middle) - middle / 2 - half * math.log(2) - special.gammaln(half)
    return 1 / (2 * math.exp(log_density) * middle)


def scatter_shift(variances: NDArray[np.float32], count: int) -> float:
    """Return by what part the median lies low because pixels are not alike.

    The logarithm of a sample variance is skewed: the median of ln chi2 lies above its mean. Pixels' own
    variances, whose logarithm scatters as well, make the sum less so, and its median comes closer to the mean
    by their part of the sum's variance (Cornish and Fisher, to the third cumulant). That part is known from
    how far the quartiles are apart, against those of ln chi2; it may come out below 0, so that on average it
    is right.

    Parameters
    ----------
    variances : ndarray, 1D
        Of every pixel, above 0; any unit.
    count : int
        Values N that the typical one is from, 2 or more.
    """
    if count < 2:
        return 0.0
    degrees = count - 1
    alike = np.log(special.gammaincinv(degrees / 2, [0.25, 0.75]))
    with np.errstate(divide="ignore"):
        # A quarter of the pixels at 0 have no logarithm that could be compared.
        found = np.log(np.quantile(variances, [0.25, 0.75]).astype(float))
    if not np.isfinite(found).all() or found[0] == found[1]:
        return 0.0
    own = 1 - (float(np.diff(alike)[0]) / float(np.diff(found)[0])) ** 2
    middle = math.log(float(special.gammaincinv(degrees / 2, 0.5)))
    return (middle - float(special.digamma(degrees / 2))) * own


def cut_tail_shift(count: int, fraction: float) -> float:
    """Return by what part the median lies low because the largest values of noise were taken for jumps.

    A part `fraction` of a Gaussian's values, all those beyond +- k sigma, is left out. With such a value a
    pixel's variance would nearly always have been above the median.

    Parameters
    ----------
    count : int
        Values N that each variance is from, 3 or more.
    fraction : float
    """
    if fraction <= 0 or count < 3:
        return 0.0
    cut = -float(special.ndtri(fraction / 2))
    density = math.exp(-(cut**2) / 2) / math.sqrt(2 * math.pi)
    mean_square = 1 + 2 * cut * density / fraction
    middle = 2 * float(special.gammaincinv((count - 1) / 2, 0.5))
    left = max(middle - mean_square * (1 - 1 / count), 0.0)
    moved = count * fraction * (0.5 - float(special.chdtr(count - 2, left)))
    return moved * 2 * median_variance_error(count)


def hit_shift(count: int, charge: NDArray[np.float64], fraction: NDArray[np.float64]) -> float:
    """Return by what part the median lies high because some values have a hit in them that none flagged.

    With a value that is off by q sigma a sample variance is a noncentral chi2, lambda = q^2 (1 - 1/N).

    Parameters
    ----------
    count : int
        Values N that each variance is from, 2 or more.
    charge : ndarray, 1D
        q, sigma.
    fraction : ndarray, 1D
        Part of all values that is off by so much.
    """
    middle = 2 * float(special.gammaincinv((count - 1) / 2, 0.5))
    below = special.chndtr(middle, count - 1, np.minimum(charge**2 * (1 - 1 / count), 1e4))
    moved = count * float(np.sum(fraction * (0.5 - below)))
    return moved * 2 * median_variance_error(count)
