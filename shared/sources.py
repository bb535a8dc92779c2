"""Where an announced exposure lies, and how its bytes are read there.

Today every source is a file that this machine sees: a plain path or a ``file://`` URI.
"""

import hashlib
import os
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit

from shared.errors import BadInput, BadMessage, TransientError


def local_path(uri: str) -> Path:
    """Return the absolute path of the file at `uri`.

    Parameters
    ----------
    uri : str
        A path, or a ``file://`` URI of this machine.

    Raises
    ------
    BadMessage
        If it is an address of another kind.
    """
    parts = urlsplit(uri)
    if "://" not in uri:
        return Path(uri).absolute()
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Path(unquote(parts.path)).absolute()
    raise BadMessage(
        f"{uri}: addresses of the kind {parts.scheme}://{parts.netloc} are not supported; "
        "announce a path or a file:// URI that the worker can read"
    )


def canonical_uri(uri: str) -> str:
    """Return the one ``file://`` URI of a file, however it was named."""
    return local_path(uri).as_uri()


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, read in pieces.

    Raises
    ------
    BadInput
        If it cannot be read (check ``"file"``).
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


class FileReader:
    """Random access to a file of this machine, as `shared.store.base.ObjectReader`.

    Parameters
    ----------
    path : Path

    Raises
    ------
    BadInput
        If there is no such file, or it cannot be read (check ``"file"``).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        try:
            if path.is_dir():
                raise IsADirectoryError(21, "is a folder, not a file")
            self._fd = os.open(path, os.O_RDONLY)
            self._size = os.fstat(self._fd).st_size
        except OSError as error:
            raise _unreadable(path, error) from error

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset`.

        Raises
        ------
        TransientError
            If the file ends before that: it was replaced or cut while it was read.
        """
        parts: list[bytes] = []
        # One pread gives at most 2 GiB.
        while length > 0:
            part = os.pread(self._fd, length, offset)
            if not part:
                raise TransientError(
                    f"{self._path}: {length} bytes are missing at byte {offset}; "
                    "the file changed while it was read, wait until it is written"
                )
            parts.append(part)
            offset += len(part)
            length -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _unreadable(path: Path, error: OSError) -> BadInput:
    if isinstance(error, FileNotFoundError):
        return BadInput(
            "file", f"{path.name}: no such file: {path}; check the name, or announce it where it is"
        )
    return BadInput("file", f"{path.name}: cannot be read: {error.strerror or error}: {path}")
