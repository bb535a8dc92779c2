"""Ranged reads of a file of this machine, whoever's file it is."""

import os
from pathlib import Path

from shared.closing import Closing


class RangedFile(Closing):
    """Random access to one file, as `shared.store.base.ObjectReader`; what errors mean, a subclass says.

    What was opened stays readable and whole even if the file's name is given to another one meanwhile.

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
            raise ValueError(f"a range of {length} bytes from byte {offset} is none")
        parts: list[bytes] = []
        have = 0
        try:
            # One call gives at most 2 GiB.
            while have < length and (part := os.pread(self._fd, length - have, offset + have)):
                parts.append(part)
                have += len(part)
        except OSError as error:
            raise self._failed(error) from error
        if have < length:
            raise self._short(offset, length, have)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill a buffer of bytes with what lies from `offset` on; raises as `read` does."""
        if offset < 0:
            raise ValueError(f"a range of {len(buffer)} bytes from byte {offset} is none")
        have = 0
        try:
            while have < len(buffer) and (came := os.preadv(self._fd, [buffer[have:]], offset + have)):
                have += came
        except OSError as error:
            raise self._failed(error) from error
        if have < len(buffer):
            raise self._short(offset, len(buffer), have)

    def _failed(self, error: OSError) -> Exception:
        """Return what it means that a read failed."""
        return error

    def _short(self, offset: int, length: int, have: int) -> Exception:
        """Return what it means that the file ends `have` bytes after `offset`."""
        return EOFError(f"{length} bytes were asked from byte {offset}, {have} came")

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
