"""The statistical error of a dark current: estimates that see different correlations.

`services.darkref.dark_current` says which there are, and takes the largest.
"""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

from services.darkref.plane_threads import a_few_ahead, side_by_side
from shared.compiled import kernel
from shared.medians import median

#: Bands of rows that each amplifier is cut into for the blocks' scatter.
_BANDS = (1, 2, 4, 8, 16, 32)
_FEWEST_IN_BLOCK = 30
_FEWEST_BLOCKS = 4


def integrations_error(rates: list[float]) -> float:
    """Return the error of the mean as the integrations' scatter shows it; 0 with fewer than two known."""
    known = [rate for rate in rates if math.isfinite(rate)]
    if len(known) < 2:
        return 0.0
    return _student(len(known) - 1) * _error_of_mean(known)


def blocks_error(image: NDArray[np.float32], good: NDArray[np.bool_], amplifiers: list[slice]) -> float:
    """Return the error of the mean as blocks of pixels show it; 0 where there are too few blocks.

    Noise that correlates neighbours makes blocks scatter more than their pixels' number allows. The
    size that shows most counts (block averaging; Flyvbjerg and Petersen 1989, J. Chem. Phys. 91, 461).
    """

    def error_of(bands: int) -> float:
        edges = np.linspace(0, len(image), bands + 1).astype(int)
        medians = []
        for columns in amplifiers:
            for top, bottom in itertools.pairwise(edges):
                block = image[top:bottom, columns][good[top:bottom, columns]]
                if block.size >= _FEWEST_IN_BLOCK:
                    medians.append(median(block))
        return _error_of_mean(medians) if len(medians) >= _FEWEST_BLOCKS else 0.0

    with side_by_side() as threads:
        return max(threads.map(error_of, _BANDS))


def frames_error(frames: Sequence[Callable[[], NDArray[np.float32]]], pixels: NDArray[np.bool_]) -> float:
    """Return the error of the slope, DN per group, from what moves whole frames; 0 if it cannot be known.

    Each frame's offset is the median over pixels of its distance from the pixel's own line; offsets are
    taken as independent from group to group.

    Parameters
    ----------
    frames : sequence of callable
        As in `services.darkref.dark_current.measure`.
    pixels : ndarray of bool, 2D (y, x)
        Those to be used.
    """
    ngroups = len(frames)
    if ngroups < 3 or np.count_nonzero(pixels) < _FEWEST_IN_BLOCK:
        return 0.0
    time = np.arange(ngroups) - (ngroups - 1) / 2
    spread = float(np.sum(time**2))
    centre, slope = np.zeros((2, np.count_nonzero(pixels)))

    def offset(at: tuple[float, Callable[[], NDArray[np.float32]]]) -> float:
        t, frame = at
        residuals = np.empty_like(centre)
        _off_the_line(frame(), pixels, centre, slope, t, residuals)
        return median(residuals)

    with side_by_side() as threads:
        # Sums in the order of groups: their last digit hangs on it.
        for t, values in zip(time, a_few_ahead(threads, frames), strict=True):
            _add_to_lines(values, pixels, np.float32(ngroups), t / spread, centre, slope)
        offsets = list(threads.map(offset, zip(time, frames, strict=True)))
    freedom = ngroups - 2
    return _student(freedom) * math.sqrt(sum(offset**2 for offset in offsets) / freedom / spread)


@kernel
def _add_to_lines(plane, pixels, groups, weight, centre, slope):  # type: ignore[no-untyped-def]
    # Plane and pixels are (y, x); centre and slope have one value for each chosen pixel, in their order.
    at = 0
    for row in range(pixels.shape[0]):
        for column in range(pixels.shape[1]):
            if pixels[row, column]:
                value = plane[row, column]
                centre[at] += value / groups
                slope[at] += weight * value
                at += 1


@kernel
def _off_the_line(plane, pixels, centre, slope, time, residuals):  # type: ignore[no-untyped-def]
    at = 0
    for row in range(pixels.shape[0]):
        for column in range(pixels.shape[1]):
            if pixels[row, column]:
                residuals[at] = plane[row, column] - centre[at] - slope[at] * time
                at += 1


def _student(freedom: int) -> float:
    # As wide as 68 per cent of Student's distribution, where a Gaussian has 1.
    return float(special.stdtrit(freedom, special.ndtr(1)))


def _error_of_mean(values: list[float]) -> float:
    return float(np.std(values, ddof=1)) / math.sqrt(len(values))
