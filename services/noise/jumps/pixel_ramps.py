"""Ramps of single pixels that show a jump, for people to look at."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from services.noise.jumps.counts import first_jump
from shared.errors import PermanentError
from shared.products.noise import PixelRamp

#: (dy, dx) of the direct neighbours, which the jump step flags with a hit, and of the diagonal ones.
_DIRECT = ((-1, 0), (1, 0), (0, -1), (0, 1))
_DIAGONAL = ((-1, -1), (-1, 1), (1, -1), (1, 1))


def choose_pixel(
    first_jumps: NDArray[np.int32], ngroups: int, science: NDArray[np.bool_]
) -> tuple[int, int] | None:
    """Choose the pixel whose ramp best shows a jump; the choice is reproducible.

    Candidates are science pixels with eight neighbours that are first flagged from group 2 on, but not in the
    last group. Preferred are those in the middle of a cross, in the middle half of the ramp: the jump step
    flags the four direct neighbours of a hit between 10 and 1000 sigma, so that the hit is plain to see and
    does not saturate, and there are groups before it to draw a line through. Of these (or else of all
    candidates) the most central one is taken, the first in order of rows if several are.

    Parameters
    ----------
    first_jumps : ndarray of int, 2D (y, x)
        First flagged group in one integration; `ngroups` where there is none.
    ngroups : int
    science : ndarray of bool, 2D (y, x)

    Returns
    -------
    (x, y) or None
        0-based; None where no pixel is flagged so.
    """
    inner = ndimage.binary_erosion(science, np.ones((3, 3), np.bool_))
    ys, xs = np.nonzero(inner & (first_jumps >= 2) & (first_jumps < ngroups - 1))
    if not len(ys):
        return None
    here = first_jumps[ys, xs]
    direct, diagonal = (
        np.sum([first_jumps[ys + dy, xs + dx] == here for dy, dx in places], axis=0)
        for places in (_DIRECT, _DIAGONAL)
    )
    margin = ngroups // 4
    cross = (direct == 4) & (diagonal <= 1) & (here >= margin) & (here < ngroups - margin)
    if cross.any():
        ys, xs = ys[cross], xs[cross]
    ny, nx = first_jumps.shape
    best = int(np.argmin((2 * ys - ny + 1) ** 2 + (2 * xs - nx + 1) ** 2))
    return int(xs[best]), int(ys[best])


def central_pixel(shape: tuple[int, int]) -> tuple[int, int]:
    """Return (x, y) of the central pixel of a plane of (ny, nx) pixels, 0-based."""
    return shape[1] // 2, shape[0] // 2


def check_inside(pixel: tuple[int, int], shape: tuple[int, int], where: str) -> None:
    """Refuse a pixel outside of an exposure.

    Parameters
    ----------
    pixel : (int, int)
        x, y; 0-based.
    shape : (int, int)
        ny, nx.
    where : str
        Name of the exposure, for the error.

    Raises
    ------
    PermanentError
        Names the pixel and the exposure's size.
    """
    x, y = pixel
    ny, nx = shape
    if not (0 <= x < nx and 0 <= y < ny):
        raise PermanentError(
            f"{where}: pixel ({x}, {y}) is outside its {nx} x {ny} pixels; "
            f"x runs from 0 to {nx - 1}, y from 0 to {ny - 1}: correct the list of pixels to plot",
            where=where,
            setting="--pixel",
        )


def grid_start(pixel: tuple[int, int], shape: tuple[int, int]) -> tuple[int, int]:
    """Return (x, y) of the first pixel of the 3 x 3 grid around `pixel`, shifted inwards at an edge."""
    x, y = pixel
    ny, nx = shape
    return min(max(x - 1, 0), max(nx - 3, 0)), min(max(y - 1, 0), max(ny - 3, 0))


def pixel_ramp(
    pixel: tuple[int, int],
    integration: int,
    signal: NDArray[Any],
    jumps: NDArray[np.bool_],
    alive: NDArray[np.bool_],
) -> PixelRamp:
    """Return the ramp of a pixel, with the least-squares line through the groups before its first jump.

    Parameters
    ----------
    pixel : (int, int)
        x, y; 0-based.
    integration : int
    signal : ndarray, 1D (groups)
        DN.
    jumps : ndarray of bool, 1D (groups)
        GROUPDQ & JUMP_DET.
    alive : ndarray of bool, 1D (groups)
        False from the first group that is flagged for any reason.

    Returns
    -------
    PixelRamp
        Without a line if fewer than two groups come before the first flag.
    """
    good = min(first_jump(jumps), int(np.count_nonzero(alive)))
    slope = intercept = None
    if good > 1:
        slope, intercept = (
            float(part) for part in np.polyfit(np.arange(good), signal[:good].astype(float), 1)
        )
    return PixelRamp(
        x=pixel[0],
        y=pixel[1],
        integration=integration,
        signal_dn=[float(value) for value in signal],
        jumps=np.flatnonzero(jumps).tolist(),
        slope=slope,
        intercept=intercept,
    )
