"""Read a dark reference file without ever holding a cube.

`StoredDark` reads single planes of a file in any store, to compare it with a new one. `read_planes` goes
through a file on this disk in bands of rows, and returns the planes that verification looks at.
"""

import io
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from shared.products.reference import CONTRIBUTIONS
from shared.ramps.digests import rows_per_block


class _Bytes(io.RawIOBase):
    """A read-only file over a function that returns bytes at any offset."""

    mode = "rb"

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        self._read, self._size, self._at = read, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = max(min(len(buffer), self._size - self._at), 0)
        if wanted:
            buffer[:wanted] = self._read(self._at, wanted)
        self._at += wanted
        return wanted


class StoredDark:
    """An open dark; use it in a ``with``. Several threads may read at once.

    Parameters
    ----------
    read : callable
        Returns bytes of the file, by offset and length.
    size : int
        Of the file.

    Raises
    ------
    OSError
        If the bytes are not FITS.
    KeyError
        If SCI, ERR or DQ is missing; ERR only once it is read.
    ValueError
        If SCI has not three axes, or DQ not two.
    """

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        self._hdus = fits.open(_Bytes(read, size), memmap=False, lazy_load_hdus=True)
        self._turn = threading.Lock()
        #: The primary header.
        self.header: fits.Header = self._hdus[0].header
        for name, axes in (("SCI", 3), ("DQ", 2)):
            number = len(self._hdus[name].shape)
            if number != axes:
                raise ValueError(f"{name} has {number} axes, not {axes}")
        self.groups, ny, nx = self._hdus["SCI"].shape
        unit = self._hdus["ERR"].header if "ERR" in self._hdus else fits.Header()
        #: What ERR is, as our own files say it; None where it does not say.
        self.errors: str | None = unit.comments["BUNIT"] if "BUNIT" in unit else None
        self.shape: tuple[int, int] = (ny, nx)
        #: DQ, uint32, 2D (y, x).
        self.quality: NDArray[np.uint32] = self._hdus["DQ"].data.astype(np.uint32)

    def sci(self, group: int) -> NDArray[np.float32]:
        """Return a group of SCI, 2D (y, x), DN."""
        return self._plane("SCI", group)

    def err(self, group: int) -> NDArray[np.float32]:
        """Return a group of ERR, 2D (y, x), DN."""
        return self._plane("ERR", group)

    def _plane(self, extension: str, group: int) -> NDArray[np.float32]:
        with self._turn:
            plane: NDArray[np.float32] = self._hdus[extension].section[group].astype(np.float32)
        return plane

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hdus.close()


#: From as many pairs of groups on, those of the later half show whether a model ramp is smooth: in the
#: earlier half it may follow the settling after the reset, which is no noise.
_PAIRS_TO_HALVE = 4
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
        Variance (ddof 1) of SCI[1]-SCI[0], SCI[3]-SCI[2], ..., DN^2; NaN with fewer than two pairs. Of a
        model ramp only the later half of the pairs counts.
    pairs : int
    groups : int
        Of SCI.
    first : ndarray of float32
        SCI of the first group, DN.
    error : ndarray of float32
        ERR of the last group, DN.
    dq : ndarray of uint32
    modelled : ndarray of bool
        Pixels whose SCI is their model ramp, of which the noise of a measured ramp cannot be expected.
    not_finite : int
        Values of SCI or ERR that are not finite, and negative ones of ERR.
    """

    rate: NDArray[np.float32]
    pair_variance: NDArray[np.float32]
    pairs: int
    groups: int
    first: NDArray[np.float32]
    error: NDArray[np.float32]
    dq: NDArray[np.uint32]
    modelled: NDArray[np.bool_]
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
            present = hdus[name].shape if name in hdus else None
            if present != wanted:
                raise ValueError(
                    f"{name} has shape {present}, but NGROUPS, SUBSIZE2, SUBSIZE1 of the exposures ask for "
                    f"{wanted}; build the reference again"
                )
        planes = {
            name: np.full((ny, nx), np.nan, np.float32)
            for name in ("rate", "pair_variance", "first", "error")
        }
        dq = np.asarray(hdus["DQ"].data, np.uint32).copy()
        modelled = read_model_ramp(path, (ny, nx))
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
                steps = sci[1::2] - sci[: groups // 2 * 2 : 2]
                late = steps[len(steps) // 2 :] if len(steps) >= _PAIRS_TO_HALVE else steps
                here = modelled[rows]
                planes["pair_variance"][rows] = np.where(
                    here, late.var(axis=0, ddof=1), steps.var(axis=0, ddof=1)
                )
    return ReferencePlanes(
        **planes, pairs=groups // 2, groups=groups, dq=dq, modelled=modelled, not_finite=odd
    )


def read_model_ramp(path: Path, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which pixels of the dark at `path` have a model ramp: image MODELRAMP of the file beside it."""
    beside = path.with_name(CONTRIBUTIONS)
    if beside.exists():
        with fits.open(beside, memmap=False) as hdus:
            if "MODELRAMP" in hdus and hdus["MODELRAMP"].shape == shape:
                return np.asarray(hdus["MODELRAMP"].data) > 0
    return np.zeros(shape, np.bool_)


def bands(shape: tuple[int, int, int]) -> Iterator[slice]:
    """Yield slices of rows whose float32 cube (groups, rows, x) takes `BAND_BYTES` at most, or is one row."""
    groups, ny, nx = shape
    height = max(1, BAND_BYTES // (4 * groups * nx))
    # The ramps that are read with them are checked by blocks, see `shared.ramps.digests`.
    height -= height % rows_per_block(nx) if height > rows_per_block(nx) else 0
    for start in range(0, ny, height):
        yield slice(start, min(start + height, ny))


def native(values: NDArray[Any]) -> NDArray[np.float32]:
    """Return values as contiguous float32 in this machine's byte order."""
    return np.ascontiguousarray(values, np.float32)
