"""An exposure's file on this machine: where it is, and how its bytes are read there."""

import hashlib
from pathlib import Path
from urllib.parse import unquote, urlsplit

from shared.errors import BadInput, BadMessage, DarksError, TransientError
from shared.files import RangedFile
from shared.store.faults import is_passing


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
        "announce a path or file:// URI that the worker can read, or s3://bucket/key"
    )


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, read in pieces.

    Raises
    ------
    BadInput
        If it cannot be read (check ``"file"``).
    TransientError
        If the disk fails.
    """
    _require_file(path)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


class FileReader(RangedFile):
    """Random access to an exposure's file.

    Parameters
    ----------
    path : Path

    Raises
    ------
    BadInput
        If there is no such file, or it cannot be read (check ``"file"``).
    TransientError
        If the disk fails; at a read also if the file ends too early: it was replaced or cut meanwhile.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        _require_file(path)
        try:
            super().__init__(path)
        except OSError as error:
            raise _unreadable(path, error) from error

    def _failed(self, error: OSError) -> DarksError:
        return _unreadable(self._path, error)

    def _short(self, offset: int, length: int, have: int) -> TransientError:
        return TransientError(
            f"{self._path}: {length - have} bytes are missing at byte {offset + have}; "
            "the file changed while it was read, wait until it is written"
        )


def _require_file(path: Path) -> None:
    # Opening a named pipe would wait for a writer for ever.
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "a pipe or a device"
        raise BadInput("file", f"{path.name}: is {kind}, not a file: {path}; announce FITS files")


def _unreadable(path: Path, error: OSError) -> DarksError:
    if isinstance(error, FileNotFoundError):
        return BadInput(
            "file", f"{path.name}: no such file: {path}; check the name, or announce it where it is"
        )
    said = f"{path.name}: cannot be read: {error.strerror or error}: {path}"
    # A disk that fails once says nothing of the exposure, which must not be refused for it.
    return TransientError(f"{said}; check the disk") if is_passing(error) else BadInput("file", said)
