"""Constants of flight mode's clip, which depends on the number of values N.

However far out it is, one outlier among N values is N / sqrt(N-1) population standard deviations from their
median, and each of two is N / sqrt(2 (N-2)): a cut at 3 cannot reject one for N <= 7, nor two for N < 16.
Below `LEAST_FOR_STD` values the clip therefore measures in median absolute deviations (MAD), which a minority
of outliers cannot widen without bound. In one round, it rejects what lies more than
``k(N) * max(1.4826 * c(N) * MAD, SIGMA_FLOOR)`` from the median.
"""

import functools

import numpy as np
from numpy.typing import NDArray

from shared.statistics.robust import SIGMA_PER_MAD

#: From this many values on, the clip is notebook mode's: 3 population standard deviations, 5 rounds.
LEAST_FOR_STD = 16
#: Fewer values are not clipped: of two, either may be the outlier.
LEAST_FOR_CLIP = 3
#: Least standard deviation, DN, that the MAD clip assumes: that of the difference of two numbers rounded to
#: whole DN, sqrt(2/12). Otherwise two equal values would reject any third.
SIGMA_FLOOR = float(np.sqrt(2 / 12))

#: c(N), which makes 1.4826 MAD of N Gaussian values unbiased. Croux and Rousseeuw 1992, Computational
#: Statistics 1, 411 (their b_n); N / (N - 0.8) beyond 9.
MAD_CORRECTION = {3: 1.495, 4: 1.363, 5: 1.206, 6: 1.200, 7: 1.140, 8: 1.129, 9: 1.107} | {
    n: n / (n - 0.8) for n in range(10, LEAST_FOR_STD)
}

#: k(N), with which a Gaussian sample loses 1 per cent of its values on average. From 10^6 samples each,
#: +-1 per cent; `tests/unit/services/darkref/combine/test_darkref_small_samples.py` reproduces them. Even N
#: need less, because their MAD is the mean of two deviations. Three values hardly tell which one is off: the
#: MAD is the distance of the closer two, often tiny by chance, so that a value has to be some 50 of these
#: distances off to be rejected. Still, one outlier that is large enough is rejected whatever N is.
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

#: f(N), the variance of the mean of the values kept over their variance (ddof 1) divided by their number, for
#: Gaussian values. From 2 to 4 * 10^6 samples each, +-0.1 per cent (1 sigma); the same test reproduces them.
#: Between the N given it is linear in 1/N.
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
    """Return the half-width of the clip in MADs, for N = 0..most values; 0 where it does not use the MAD."""
    reach = np.zeros(most + 1)
    for n in range(LEAST_FOR_CLIP, min(most + 1, LEAST_FOR_STD)):
        reach[n] = WIDTH[n] * SIGMA_PER_MAD * MAD_CORRECTION[n]
    return reach


@functools.cache
def least_reach(most: int) -> NDArray[np.float64]:
    """Return the least half-width of the MAD clip, DN, for N = 0..most values; else infinite."""
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
    factors[n] = np.interp(1 / n, [1 / size for size in known], [VARIANCE_FACTOR[size] for size in known])
    return factors


def clip_in_words(integrations: int, sigma: float) -> str:
    """Describe the clip of a set of so many integrations, with its constants.

    Parameters
    ----------
    integrations : int
    sigma : float
        Width of the clip by standard deviations, where it is used.
    """
    by_std = (
        f"{sigma:g} population standard deviations about the median, at most 5 rounds, where N >= "
        f"{LEAST_FOR_STD}"
    )
    most = min(integrations, LEAST_FOR_STD - 1)
    by_mad = (
        f"None, as there are fewer than {LEAST_FOR_CLIP} values"
        if most < LEAST_FOR_CLIP
        else f"{LEAST_FOR_CLIP} <= N < {LEAST_FOR_STD}: one round, about the median, "
        "k(N) max(1.4826 c(N) MAD, "
        f"{SIGMA_FLOOR:.3f} DN), c(N) of Croux and Rousseeuw 1992; k({most}) = {WIDTH[most]:g}, of Gaussian "
        "values 1 % are lost; fewer than three values are not clipped"
    )
    return f"{by_std}; {by_mad}." if integrations >= LEAST_FOR_STD else f"{by_mad}."
