"""Finds the values of a small sample that do not belong to it.

Rosner's generalized ESD procedure (1983, Technometrics 25, 165). The value that is farthest from the mean is
compared with the others by Student's t with N - 2 degrees of freedom, which is Grubbs' test; then it is taken
out, and the next one compared, up to two fifths of all. The last that `FALSE_ALARM` does not explain and all
before it stand apart, so that two accidents do not hide each other.

The test knows N: four values may agree by chance, so that at N = 5 the fifth has to lie 25 of their standard
deviations away, but 9 at N = 8 and 5 at N = 40. In 20,000 Gaussian samples of each N from 5 to 10, 0.2 per
cent had a value that stood apart. Values with a trend in time are for `shared.statistics.trends`.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import special

#: Share of good samples in which some value stands apart by chance.
FALSE_ALARM = 0.001
#: Fewest values that can be compared: of four, a value has to lie 90 standard deviations of the others away.
FEWEST = 5
#: Largest share of a sample that can stand apart from the rest.
MOST_APART = 0.4


def extreme_values(values: NDArray[np.float64], floor: float = 0.0) -> list[int]:
    """Return the indices of the values that stand apart, the farthest first (generalized ESD).

    Parameters
    ----------
    values : ndarray, 1D
        One figure of each member; all finite.
    floor : float
        What the scatter of the others is at least, in quadrature, in the unit of `values`: the error of a
        value, or a difference that does no harm.

    Returns
    -------
    list of int
        Empty for fewer than `FEWEST` values.

    Examples
    --------
    >>> extreme_values(np.array([21.0, 34.0, 9933.0, 28.0, -24.0, 68.0]))
    [2]
    """
    left = list(range(len(values)))
    tried: list[int] = []
    apart = 0
    most = max(int(MOST_APART * len(values)), 1) if len(values) >= FEWEST else 0
    for _ in range(most):
        part = values[left]
        farthest = int(np.argmax(np.abs(part - part.mean())))
        limit = -float(special.stdtrit(len(part) - 2, FALSE_ALARM / (2 * len(part))))
        exceeds = _distance(part, farthest, floor) > limit
        tried.append(left.pop(farthest))
        apart = len(tried) if exceeds else apart
    return tried[:apart]


def _distance(values: NDArray[np.float64], index: int, floor: float) -> float:
    """Return how far a value is from the others: Student's t with N - 2 degrees of freedom."""
    others = np.delete(values, index)
    scatter = math.hypot(float(others.std(ddof=1)), floor)
    off = abs(float(values[index]) - float(others.mean()))
    if scatter == 0:
        return math.inf if off > 0 else 0.0
    return off / (scatter * math.sqrt(1 + 1 / len(others)))
