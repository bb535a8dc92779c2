"""Ranged reads of a file on this machine: the base of readers of the store and of exposures."""

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self


class RangedFile(AbstractContextManager["RangedFile", None]):
    """Random access to one file, as `shared.store.base.ObjectReader`; subclasses say what errors mean.

    The opened file stays readable and whole even if its name is given to another file meanwhile.

    Parameters
    ----------
    path : Path

    Raises
    ------
    OSError
        If it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._fd = -1
        self._fd = os.open(path, os.O_RDONLY)
        self._size = os.fstat(self._fd).st_size

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset`.

        Raises
        ------
        ValueError
            If either is negative.
        TransientError
            If the file ends before that, or the disk fails.
        """
        if offset < 0 or length < 0:
            raise ValueError(f"there is no range of {length} bytes from byte {offset}")
        parts: list[bytes] = []
        have = 0
        try:
            # One call returns at most 2 GiB.
            while have < length and (part := os.pread(self._fd, length - have, offset + have)):
                parts.append(part)
                have += len(part)
        except OSError as error:
            raise self._failed(error) from error
        if have < length:
            raise self._short(offset, length, have)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill a buffer with the bytes from `offset` on; raises as `read` does."""
        if offset < 0:
            raise ValueError(f"there is no range of {len(buffer)} bytes from byte {offset}")
        have = 0
        try:
            while have < len(buffer) and (size := os.preadv(self._fd, [buffer[have:]], offset + have)):
                have += size
        except OSError as error:
            raise self._failed(error) from error
        if have < len(buffer):
            raise self._short(offset, len(buffer), have)

    def forget(self) -> None:
        """Let the system drop what it keeps of the file, so that the next read is from the disk."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def _failed(self, error: OSError) -> Exception:
        """Return the error to raise for a failed read; a subclass knows what it means."""
        return error

    def _short(self, offset: int, length: int, have: int) -> Exception:
        """Return the error to raise if the file ends `have` bytes after `offset`."""
        return EOFError(f"{length} bytes were requested from byte {offset}, {have} arrived")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
