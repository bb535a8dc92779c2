"""Cubes on this machine's disk, written window by window and read back plane by plane."""

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Cube(AbstractContextManager["Cube", None]):
    """A 3-D array in a file.

    Stored as in FITS by default: big-endian, and unsigned integers of several bytes minus half their range.
    It uses plain reads and writes, no memory map, so that its pages do not count as this process's memory.
    Several threads may use it at once.

    Parameters
    ----------
    path : Path
        Created if it does not exist.
    shape : tuple of int
        (planes, rows, x).
    dtype : dtype-like
        Of the values.
    offset : int
        Byte of the file at which it starts. The file is extended with zero bytes if it is too short.
    as_fits : bool
        False for a scratch file, which holds the values as in memory.
    """

    def __init__(
        self,
        path: Path,
        shape: tuple[int, int, int],
        dtype: DTypeLike,
        offset: int = 0,
        as_fits: bool = True,
    ) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self._stored = self.dtype.newbyteorder(">") if as_fits else self.dtype
        # FITS has no unsigned integers of more than 8 bits: stored minus half the range, which flips one bit.
        flips = as_fits and self.dtype.kind == "u" and self.dtype.itemsize > 1
        self._flip = self.dtype.type(1 << (8 * self.dtype.itemsize - 1)) if flips else None
        self.nbytes = int(np.prod(shape)) * self.dtype.itemsize
        self._offset = offset
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        if os.fstat(self._fd).st_size < offset + self.nbytes:
            os.ftruncate(self._fd, offset + self.nbytes)

    def write(self, first_plane: int, first_row: int, values: NDArray[Any]) -> None:
        """Write a window, 3D (planes, rows, x)."""
        _, ny, nx = self.shape
        for plane, window in enumerate(values, start=first_plane):
            at = self._offset + (plane * ny + first_row) * nx * self.dtype.itemsize
            flipped = window if self._flip is None else window ^ self._flip
            stored = np.ascontiguousarray(flipped, self._stored)
            _write_all(self._fd, stored.reshape(-1).view(np.uint8).data, at)

    def read_stored(self, plane: int, rows: slice, into: NDArray[Any]) -> None:
        """Read rows of a plane, in the stored byte order, into a C-contiguous array, 2D (rows, x)."""
        _, ny, nx = self.shape
        at = self._offset + (plane * ny + rows.start) * nx * self.dtype.itemsize
        _read_all(self._fd, into.reshape(-1).view(np.uint8).data, at)

    def plane(self, index: int) -> NDArray[Any]:
        """Return one plane, 2D (rows, x), in native byte order."""
        return self.rows(index, slice(0, self.shape[1]))

    def rows(self, index: int, rows: slice) -> NDArray[Any]:
        """Return some rows of a plane, 2D (rows, x), in native byte order."""
        raw = np.empty((rows.stop - rows.start, self.shape[2]), self._stored)
        self.read_stored(index, rows, raw)
        native = raw.byteswap(inplace=True).view(self.dtype) if not self._stored.isnative else raw
        if self._flip is not None:
            native ^= self._flip
        return native

    def sync(self) -> None:
        """Flush what was written so far to the disk."""
        os.fdatasync(self._fd)

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; it is kept."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _write_all(fd: int, data: memoryview, offset: int) -> None:
    # On a full disk a short write comes before ENOSPC.
    while data:
        written = os.pwrite(fd, data, offset)
        data, offset = data[written:], offset + written


def _read_all(fd: int, buffer: memoryview, offset: int) -> None:
    # One call reads 2 GiB at most.
    while buffer:
        count = os.preadv(fd, [buffer], offset)
        if count == 0:
            raise EOFError(f"a file of a cube ends at byte {offset}")
        buffer, offset = buffer[count:], offset + count
