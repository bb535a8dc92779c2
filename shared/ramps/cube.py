"""Cubes on this machine's disk, filled window by window, read back plane by plane."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from shared.closing import Closing


class Cube(Closing):
    """A 3-D array in a file.

    As FITS has it, unless told otherwise: big-endian, wider unsigned integers less half their range.

    Plain reads and writes, no memory map: what passes through does not count as this process's memory.
    Several threads may use it at once.

    Parameters
    ----------
    path : Path
        The file. Made if it is not there.
    shape : tuple of int
        (planes, rows, x).
    dtype : dtype-like
        Of the values.
    offset : int
        Where in the file it lies; what is beyond the file's end is all zeros (in the file).
    as_fits : bool
        False for a scratch file, whose values are as in memory.
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
        # FITS has no unsigned integers of more than 8 bits: stored less half the range, which flips a bit.
        flips = as_fits and self.dtype.kind == "u" and self.dtype.itemsize > 1
        self._flip = self.dtype.type(1 << (8 * self.dtype.itemsize - 1)) if flips else None
        self.nbytes = int(np.prod(shape)) * self.dtype.itemsize
        self._offset = offset
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        if os.fstat(self._fd).st_size < offset + self.nbytes:
            os.ftruncate(self._fd, offset + self.nbytes)

    def write(self, first_plane: int, first_row: int, values: NDArray[Any]) -> None:
        """Put a window, 3D (planes, rows, x), where it belongs."""
        _, ny, nx = self.shape
        for plane, window in enumerate(values, start=first_plane):
            at = self._offset + (plane * ny + first_row) * nx * self.dtype.itemsize
            flipped = window if self._flip is None else window ^ self._flip
            stored = np.ascontiguousarray(flipped, self._stored)
            _write_all(self._fd, stored.reshape(-1).view(np.uint8).data, at)

    def read_stored(self, plane: int, rows: slice, into: NDArray[Any]) -> None:
        """Read rows of a plane, as they are stored, into a C-contiguous array, 2D (rows, x)."""
        _, ny, nx = self.shape
        at = self._offset + (plane * ny + rows.start) * nx * self.dtype.itemsize
        _read_all(self._fd, into.reshape(-1).view(np.uint8).data, at)

    def plane(self, index: int) -> NDArray[Any]:
        """Return one plane, 2D (rows, x), in native byte order."""
        _, ny, nx = self.shape
        raw = np.empty((ny, nx), self._stored)
        self.read_stored(index, slice(0, ny), raw)
        native = raw.byteswap(inplace=True).view(self.dtype) if not self._stored.isnative else raw
        if self._flip is not None:
            native ^= self._flip
        return native

    def sync(self) -> None:
        """Bring what was written so far to the disk."""
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Let go of the file; it stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _write_all(fd: int, data: memoryview, offset: int) -> None:
    # A full disk answers with a short count before it answers with ENOSPC.
    while data:
        written = os.pwrite(fd, data, offset)
        data, offset = data[written:], offset + written


def _read_all(fd: int, buffer: memoryview, offset: int) -> None:
    # One call gives at most 2 GiB.
    while buffer:
        come = os.preadv(fd, [buffer], offset)
        if come == 0:
            raise EOFError(f"a file in the making ends at byte {offset}")
        buffer, offset = buffer[come:], offset + come
