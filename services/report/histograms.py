"""Histograms with a Gaussian over them, and the expected band behind."""

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

#: Sigma of a Gaussian in units of its median absolute deviation.
_MAD = 1.4826
#: Pixels a bin at least, and bins: finer shows only noise.
_PER_BIN, _BINS = 60, (20, 120)


def bins_for(values: NDArray[np.floating]) -> int:
    """Return how many bins so many values fill."""
    fewest, most = _BINS
    return min(most, max(fewest, values.size // _PER_BIN))


def robust_gaussian(values: NDArray[np.floating]) -> tuple[float, float]:
    """Return median and width (1.4826 times the median absolute deviation) of finite values.

    The width is that of a Gaussian's sigma; outliers, hot pixels above all, move neither.
    """
    centre = float(np.median(values))
    return centre, _MAD * float(np.median(np.abs(values - centre)))


def draw_gaussian(
    plot: Axes, values: NDArray[np.floating], low: float, high: float, colour: str, label: str | None = None
) -> float | None:
    """Draw the robust Gaussian of `values` to the scale of their histogram from `low` to `high`.

    Returns
    -------
    float or None
        The width; None, and nothing drawn, where the values have none.
    """
    if not values.size:
        return None
    centre, width = robust_gaussian(values)
    if width <= 0:
        return None
    at = np.linspace(low, high, 400)
    bin_width = (high - low) / bins_for(values)
    density = np.exp(-0.5 * ((at - centre) / width) ** 2) / (width * np.sqrt(2 * np.pi))
    counts = density * values.size * bin_width
    plot.plot(at, counts, color=colour, linewidth=1.2, linestyle=(0, (4, 2)), label=label)
    return width
