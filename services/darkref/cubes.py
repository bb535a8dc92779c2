"""Cubes in the making on this machine's disk, filled window by window, read back plane by plane."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from shared.closing import Closing


class Cube(Closing):
    """A 3-D array in a file of its own, big-endian as FITS has it; at first all zeros.

    Plain reads and writes, no memory map: what passes through does not count as this process's memory.

    Parameters
    ----------
    path : Path
        The file; made, or replaced.
    shape : tuple of int
        (planes, rows, x).
    dtype : dtype-like
        Of the values; stored in big-endian order.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int], dtype: DTypeLike) -> None:
        self.path = path
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self._stored = self.dtype.newbyteorder(">")
        self.nbytes = int(np.prod(shape)) * self.dtype.itemsize
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        os.ftruncate(self._fd, self.nbytes)

    def write(self, first_plane: int, first_row: int, values: NDArray[Any]) -> None:
        """Put a window, 3D (planes, rows, x), where it belongs."""
        _, ny, nx = self.shape
        for plane, window in enumerate(values, start=first_plane):
            at = (plane * ny + first_row) * nx * self.dtype.itemsize
            _write_all(self._fd, memoryview(window.astype(self._stored)).cast("B"), at)

    def plane(self, index: int) -> NDArray[Any]:
        """Return one plane, 2D (rows, x), in native byte order."""
        _, ny, nx = self.shape
        size = ny * nx * self.dtype.itemsize
        raw = os.pread(self._fd, size, index * size)
        return np.frombuffer(raw, self._stored).reshape(ny, nx).astype(self.dtype)

    def copy_into(self, path: Path, offset: int) -> None:
        """Put the cube's bytes into the file at `path`, from byte `offset` on."""
        with path.open("r+b") as target:
            done = 0
            while done < self.nbytes:
                part = os.pread(self._fd, min(1 << 24, self.nbytes - done), done)
                _write_all(target.fileno(), memoryview(part), offset + done)
                done += len(part)

    def close(self) -> None:
        """Let go of the file and remove it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self.path.unlink(missing_ok=True)


def _write_all(fd: int, data: memoryview, offset: int) -> None:
    # A full disk answers with a short count before it answers with ENOSPC.
    while data:
        written = os.pwrite(fd, data, offset)
        data, offset = data[written:], offset + written
