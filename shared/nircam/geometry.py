"""Where the reference pixels and the amplifiers of a subarray lie."""

import itertools

import numpy as np
from numpy.typing import NDArray

from shared.configuration import ConfigurationKey
from shared.detectors import FULL_FRAME, REFERENCE_BORDER


def science_pixels(key: ConfigurationKey) -> NDArray[np.bool_]:
    """Return which pixels see the sky, False on the 4-pixel reference border of the detector.

    The border belongs to the detector, not to the subarray: one that touches no edge has none.

    Returns
    -------
    ndarray of bool, 2D (subsize2, subsize1)
    """
    rows = _inside(key.substrt2, key.subsize2)
    columns = _inside(key.substrt1, key.subsize1)
    return rows[:, None] & columns[None, :]


def amplifiers(key: ConfigurationKey) -> list[slice]:
    """Return the columns that each output reads, ascending.

    NIRCam's fast axis is along x, so four outputs are four stripes of columns; the last one takes
    what an uneven division leaves.

    Returns
    -------
    list of slice
        One a output, over columns of the subarray.
    """
    width = key.subsize1 // key.noutputs
    edges = [n * width for n in range(key.noutputs)] + [key.subsize1]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def _inside(start: int, size: int) -> NDArray[np.bool_]:
    position = np.arange(start - 1, start - 1 + size)
    return (position >= REFERENCE_BORDER) & (position < FULL_FRAME - REFERENCE_BORDER)
