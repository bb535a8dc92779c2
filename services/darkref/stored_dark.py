"""A dark reference file that lies in a store, read plane by plane."""

import io
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray


class _Bytes(io.RawIOBase):
    """Bytes at any offset, as a file that only reads."""

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
        Gives bytes of the file, by offset and length.
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
        #: Its primary header, and what its ERR is as our own files have it; None where it does not say.
        self.header: fits.Header = self._hdus[0].header
        for name, axes in (("SCI", 3), ("DQ", 2)):
            found = len(self._hdus[name].shape)
            if found != axes:
                raise ValueError(f"{name} has {found} axes, not {axes}")
        self.groups, ny, nx = self._hdus["SCI"].shape
        unit = self._hdus["ERR"].header if "ERR" in self._hdus else fits.Header()
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
