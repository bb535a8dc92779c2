"""What verification looks at in a reference file, read in bands of rows: some planes, never a cube."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

#: Bytes of SCI in a band; a few arrays of that size are in memory at once.
BAND_BYTES = 32 << 20


@dataclass(frozen=True)
class ReferencePlanes:
    """Planes of a dark, 2D (y, x).

    Attributes
    ----------
    rate : ndarray of float32
        Least-squares slope of SCI over all groups, DN per group.
    pair_variance : ndarray of float32
        Variance (ddof 1) of SCI[1]-SCI[0], SCI[3]-SCI[2], ..., DN^2; NaN with fewer than two pairs.
    pairs : int
    first : ndarray of float32
        SCI of the first group, DN.
    error : ndarray of float32
        ERR of the last group, DN.
    dq : ndarray of uint32
    not_finite : int
        Values of SCI or ERR that are none, and negative ones of ERR.
    """

    rate: NDArray[np.float32]
    pair_variance: NDArray[np.float32]
    pairs: int
    first: NDArray[np.float32]
    error: NDArray[np.float32]
    dq: NDArray[np.uint32]
    not_finite: int


def read_planes(path: Path, shape: tuple[int, int, int]) -> ReferencePlanes:
    """Read the planes of the dark at `path`.

    Parameters
    ----------
    shape : (int, int, int)
        (groups, y, x) that it should have.

    Raises
    ------
    ValueError
        If SCI, ERR or DQ is missing or is not of this shape; says which.
    """
    groups, ny, nx = shape
    with fits.open(path, memmap=False) as hdus:
        for name, wanted in (("SCI", shape), ("ERR", shape), ("DQ", (ny, nx))):
            found = hdus[name].shape if name in hdus else None
            if found != wanted:
                raise ValueError(
                    f"{name} has shape {found}, but NGROUPS, SUBSIZE2, SUBSIZE1 of the exposures ask for "
                    f"{wanted}; build the reference again"
                )
        planes = {
            name: np.full((ny, nx), np.nan, np.float32)
            for name in ("rate", "pair_variance", "first", "error")
        }
        dq = np.asarray(hdus["DQ"].data, np.uint32).copy()
        odd = 0
        weights = np.arange(groups) - (groups - 1) / 2
        weights /= (weights**2).sum() or 1
        for rows in bands(shape):
            sci = native(hdus["SCI"].section[:, rows, :])
            err = native(hdus["ERR"].section[:, rows, :])
            odd += int((~np.isfinite(sci)).sum() + (~(np.isfinite(err) & (err >= 0))).sum())
            planes["rate"][rows] = np.einsum("g,gyx->yx", weights, sci)
            planes["first"][rows] = sci[0]
            planes["error"][rows] = err[-1]
            if groups >= 4:
                planes["pair_variance"][rows] = (sci[1::2] - sci[: groups // 2 * 2 : 2]).var(axis=0, ddof=1)
    return ReferencePlanes(**planes, pairs=groups // 2, dq=dq, not_finite=odd)


def bands(shape: tuple[int, int, int]) -> Iterator[slice]:
    """Yield slices of rows whose float32 cube (groups, rows, x) keeps to `BAND_BYTES`, or is one row."""
    groups, ny, nx = shape
    height = max(1, BAND_BYTES // (4 * groups * nx))
    for start in range(0, ny, height):
        yield slice(start, min(start + height, ny))


def native(values: NDArray[Any]) -> NDArray[np.float32]:
    """Return float32 in this machine's byte order."""
    return np.ascontiguousarray(values, np.float32)
