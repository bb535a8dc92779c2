"""Flight mode: every integration's own pedestal out, a clip that knows N, and the error of the mean.

Per integration and pixel, group 0 is subtracted from all groups: each reset leaves its own pedestal (kTC,
some 37 e-), which the superbias cannot know. SCI is 0 in group 0 by construction, and so is ERR; later
groups carry the read noise of group 0 but no kTC, and the mean ramp does not step by a pedestal where an
integration drops out. An integration without a usable group 0 is not used at that pixel.

The clip and its numbers are `services.darkref.small_samples`'; SCI is the mean of what is left, ERR its
standard error: ``sqrt(f(N) * var / n)``, with the variance (ddof 1) of the n values that are left, and f
for what the clip takes out of a Gaussian's variance.

The values of a pixel are sorted by a network of comparators that runs over pixels side by side; medians are
read off. Sets of fewer than `small_samples.LEAST_FOR_STD` integrations sort the distances from the median as
well, for the MAD, and their clip and sums stay in registers (`services.darkref.mad_kernels`).
"""

import numpy as np
from numpy.typing import NDArray

from services.darkref import flight_kernels, small_samples
from services.darkref.sorting import comparators
from services.darkref.windows import BandState, Combined, Window


def add_ends(groupdq: NDArray[np.uint8], first_group: int, first: NDArray[np.unsignedinteger]) -> None:
    """Note the first group of each pixel that is not to be used, in some groups of an integration.

    Parameters
    ----------
    groupdq : ndarray, 2D (groups, pixels)
        Flags; any of DO_NOT_USE, SATURATED, JUMP_DET and PERSISTENCE counts.
    first_group : int
        Which group the first of `groupdq` is.
    first : ndarray, 1D (pixels)
        The earliest such group known; changed in place. Begin with the largest number of its type.
    """
    flight_kernels.add_ends(groupdq, first_group, first)


def pedestal_free_mean(
    window: Window, state: BandState, sigma: float, pixels: slice, into: Combined
) -> NDArray[np.int64]:
    """Subtract each integration's group 0, clip over integrations, then mean and its standard error.

    Parameters
    ----------
    window : Window
    state : BandState
        With `pedestal`; brought forward by the groups of the window.
    sigma : float
        Width of the clip at both ends in standard deviations, where there are enough values for it.
    pixels : slice
        Which pixels of the window to do; different threads may do different ones at once.
    into : Combined
        Takes the results; `std` the standard error of the mean, 0 where fewer than two values are left.

    Returns
    -------
    ndarray, 1D (4)
        Measurements before and after the clip; (group, pixel) places without any, and with just one.
    """
    if state.pedestal is None:
        raise ValueError("flight mode needs a band state with pedestals")
    count = len(window.signal)
    tally = np.zeros(4, np.int64)
    flight_kernels.combine(
        window.signal,
        window.first_hit,
        window.first_group,
        window.weights,
        state.moment,
        state.line,
        state.pedestal,
        comparators(count),
        sigma,
        small_samples.LEAST_FOR_STD,
        small_samples.reach_in_mads(count),
        small_samples.least_reach(count),
        small_samples.variance_factors(count),
        pixels.start,
        pixels.stop,
        into.mean,
        into.std,
        into.used,
        tally,
    )
    return tally
