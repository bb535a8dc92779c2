"""Geometry of a subarray: which pixels are reference pixels, and which columns each amplifier reads."""

import itertools

import numpy as np
from numpy.typing import NDArray

from shared.nircam.configuration import ConfigurationKey
from shared.nircam.detectors import FULL_FRAME, REFERENCE_BORDER


def science_pixels(key: ConfigurationKey) -> NDArray[np.bool_]:
    """Return which pixels are sensitive to light: all but the 4-pixel border of reference pixels.

    The border belongs to the detector, so a subarray that touches no edge of it has no reference pixels.

    Parameters
    ----------
    key : ConfigurationKey

    Returns
    -------
    ndarray of bool, 2D (subsize2, subsize1)
        In science orientation (y, x), True for science pixels.

    Examples
    --------
    >>> int(science_pixels(full_frame_key).sum())
    4161600
    """
    rows = _inside(key.substrt2, key.subsize2)
    columns = _inside(key.substrt1, key.subsize1)
    return rows[:, None] & columns[None, :]


def amplifiers(key: ConfigurationKey) -> list[slice]:
    """Return the columns that each amplifier reads, in ascending order.

    NIRCam's fast axis is along x, so four outputs read four stripes of columns; if the width is not a
    multiple of four, the last stripe is the widest.

    Parameters
    ----------
    key : ConfigurationKey

    Returns
    -------
    list of slice
        Columns of the subarray, one slice per output.
    """
    width = key.subsize1 // key.noutputs
    edges = [n * width for n in range(key.noutputs)] + [key.subsize1]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def _inside(start: int, size: int) -> NDArray[np.bool_]:
    position = np.arange(start - 1, start - 1 + size)
    return (position >= REFERENCE_BORDER) & (position < FULL_FRAME - REFERENCE_BORDER)
