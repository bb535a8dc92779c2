"""Numbers of flight mode's clip, which knows how many values it has.

Among N values, an outlier D of any size is N / sqrt(N-1) population standard deviations from their
median, two are N / sqrt(2 (N-2)): a cut at 3 cannot reject one for N <= 7, nor two for N < 16.
Below `LEAST_FOR_STD` values the clip therefore measures in median absolute deviations (MAD), which
outliers cannot widen without bound as long as they are the minority: rejected, in one round, is what lies
more than ``k(N) * max(1.4826 * c(N) * MAD, SIGMA_FLOOR)`` from the median.
"""

import functools

import numpy as np
from numpy.typing import NDArray

from shared.medians import SIGMA_PER_MAD

#: From so many values on, the reference's clip: 3 population standard deviations, 5 rounds.
LEAST_FOR_STD = 16
#: Fewer values than this are not clipped: of two, neither can be told to be the outlier.
LEAST_FOR_CLIP = 3
#: Least standard deviation, DN, that the MAD clip takes for true: that of the difference of two numbers
#: rounded to whole DN, sqrt(2/12). Two equal values would otherwise condemn every third.
SIGMA_FLOOR = float(np.sqrt(2 / 12))

#: c(N): what makes 1.4826 MAD of N Gaussian values unbiased. Croux and Rousseeuw 1992, Computational
#: Statistics 1, 411 (their b_n); N / (N - 0.8) beyond 9.
MAD_CORRECTION = {3: 1.495, 4: 1.363, 5: 1.206, 6: 1.200, 7: 1.140, 8: 1.129, 9: 1.107} | {
    n: n / (n - 0.8) for n in range(10, LEAST_FOR_STD)
}

#: k(N): a Gaussian sample loses 1 per cent of its values on average. 10^6 samples each, +-1 per cent;
#: `tests/unit/test_darkref_small_samples.py` reproduces them. Even N need less, because their MAD
#: is the mean of two deviations. Three values can hardly say which one is off: the MAD is the distance
#: of the closer two, often by chance tiny, so only what is some 50 of these distances off goes. Still,
#: one outlier that is large enough is rejected whatever N is.
WIDTH = {
    3: 24.6,
    4: 5.67,
    5: 7.42,
    6: 4.58,
    7: 5.02,
    8: 4.03,
    9: 4.18,
    10: 3.73,
    11: 3.80,
    12: 3.50,
    13: 3.55,
    14: 3.36,
    15: 3.38,
}

#: f(N): by how much the variance (ddof 1) of what the clip left, over the number left, is below the
#: variance of their mean, for Gaussian values. 2 to 4 * 10^6 samples each, +-0.1 per cent (1 sigma); the
#: same test holds them. Between the N given, linear in 1/N.
VARIANCE_FACTOR = {
    3: 1.062,
    4: 1.084,
    5: 1.076,
    6: 1.091,
    7: 1.088,
    8: 1.099,
    9: 1.097,
    10: 1.109,
    11: 1.106,
    12: 1.112,
    13: 1.110,
    14: 1.115,
    15: 1.115,
    16: 1.023,
    18: 1.027,
    20: 1.030,
    24: 1.035,
    30: 1.042,
    40: 1.047,
    60: 1.053,
    100: 1.056,
    200: 1.060,
}


@functools.cache
def reach_in_mads(most: int) -> NDArray[np.float64]:
    """Return, for N = 0..most values, how many MADs from the median the clip reaches.

    0 where it is not the MAD that is clipped by.
    """
    reach = np.zeros(most + 1)
    for n in range(LEAST_FOR_CLIP, min(most + 1, LEAST_FOR_STD)):
        reach[n] = WIDTH[n] * SIGMA_PER_MAD * MAD_CORRECTION[n]
    return reach


@functools.cache
def least_reach(most: int) -> NDArray[np.float64]:
    """Return, for N = 0..most values, how far from the median the MAD clip reaches at least, DN.

    Infinite where nothing is clipped, or not by the MAD.
    """
    reach = np.full(most + 1, np.inf)
    for n in range(LEAST_FOR_CLIP, min(most + 1, LEAST_FOR_STD)):
        reach[n] = WIDTH[n] * SIGMA_FLOOR
    return reach


@functools.cache
def variance_factors(most: int) -> NDArray[np.float64]:
    """Return f(N) for N = 0..most values; 1 where nothing is clipped."""
    factors = np.ones(most + 1)
    known = sorted(VARIANCE_FACTOR, reverse=True)
    n = np.arange(LEAST_FOR_CLIP, most + 1)
    factors[n] = np.interp(1 / n, [1 / one for one in known], [VARIANCE_FACTOR[one] for one in known])
    return factors


def clip_in_words(integrations: int, sigma: float) -> str:
    """Say which clip a set of so many integrations has, with its numbers.

    Parameters
    ----------
    integrations : int
    sigma : float
        Width of the clip by standard deviations.
    """
    by_std = (
        f"{sigma:g} population standard deviations about the median, at most 5 rounds, where N >= "
        f"{LEAST_FOR_STD}"
    )
    most = min(integrations, LEAST_FOR_STD - 1)
    said = (
        f"None, as there are fewer than {LEAST_FOR_CLIP} values"
        if most < LEAST_FOR_CLIP
        else f"{LEAST_FOR_CLIP} <= N < {LEAST_FOR_STD}: one round, about the median, "
        "k(N) max(1.4826 c(N) MAD, "
        f"{SIGMA_FLOOR:.3f} DN), c(N) of Croux and Rousseeuw 1992; k({most}) = {WIDTH[most]:g}, of Gaussian "
        "values 1 % are lost; fewer than three values are not clipped"
    )
    return f"{by_std}; {said}." if integrations >= LEAST_FOR_STD else f"{said}."
