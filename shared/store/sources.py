"""Exposures' files: which announced addresses may be read, and how their bytes come to this machine's disk.

Anybody who may publish can send an announcement, so `source_of` accepts an address only if it lies in one of
the places that the settings allow. A source then gives its file on disk: a path as it is, an object of a
bucket downloaded into scratch.
"""

import contextlib
import hashlib
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.parse import quote, unquote, urlsplit

from shared.addresses import BucketAddress, bucket_address
from shared.errors import BadInput, BadMessage, DarksError, TransientError
from shared.settings.stage import BucketAccess, StageSettings
from shared.store.faults import is_passing
from shared.store.ranged_file import RangedFile

_VERSION = re.compile(r"versionId=([A-Za-z0-9._~%-]+)")


def source_of(uri: str, settings: StageSettings, etag: str | None = None) -> "ExposureSource":
    """Return the file at an announced address, if it may be read.

    Parameters
    ----------
    uri : str
        A path, a ``file://`` URI of this machine, or ``s3://bucket/key``, percent-encoded as
        `urllib.parse.quote` does, with ``?versionId=`` for one version.
    settings : StageSettings
    etag : str, optional
        ETag of the object, if its announcement has it.

    Raises
    ------
    BadMessage
        If the address is of another kind or malformed, or does not lie in one of
        `settings.allowed_sources`.
    """
    if uri.startswith("s3://"):
        at, version = _object(uri)
        source: ExposureSource = BucketSource(at, version, settings.source_bucket, etag)
        allowed = _in_a_bucket(at, settings.allowed_sources)
    else:
        path = local_path(uri)
        if "\0" in str(path):
            raise BadMessage(f"{_shown(uri)}: no file's name holds a NUL; announce the file's own path")
        source = FileSource(path)
        allowed = _in_a_folder(path, settings.allowed_sources)
    if not allowed:
        where = ", ".join(settings.allowed_sources) or "none"
        raise BadMessage(
            f"{_shown(uri)}: exposures are not read from there (DARKS_ALLOWED_SOURCES: {where}); "
            "announce one that lies in an allowed place, or allow this one",
            where=_shown(uri),
            setting="DARKS_ALLOWED_SOURCES",
        )
    return source


class NotThereYet(TransientError):
    """There is no object at an announced address. An event may be sent before its object can be read."""


class ExposureSource(Protocol):
    """An exposure's file that may be read; see `source_of`."""

    @property
    def uri(self) -> str:
        """The address of the file, in one spelling however it was announced."""
        ...

    @property
    def name(self) -> str:
        """Name of the file."""
        ...

    def on_disk(self, scratch: Callable[[], Path]) -> contextlib.AbstractContextManager[Path]:
        """Give the file as a context; if it is downloaded, into a folder under `scratch()` that goes with it.

        Raises
        ------
        NotThereYet
            If there is no object at this address.
        StoreUnavailable
            If the server does not answer.
        DamagedInTransit, ScratchTooSmall, BadInput
            See `shared.store.s3_fetch.fetch`.
        EnvironmentFault
            If it does not allow reading.
        """
        ...

    def may_exist(self) -> bool:
        """Return whether the file is there; True also if that cannot be found out."""
        ...


@dataclass(frozen=True)
class FileSource:
    """A file that this machine can see."""

    path: Path

    @property
    def uri(self) -> str:
        """The ``file://`` address of the file."""
        return self.path.as_uri()

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.path.name

    @contextlib.contextmanager
    def on_disk(self, scratch: Callable[[], Path]) -> Iterator[Path]:
        """Give the file itself."""
        yield self.path

    def may_exist(self) -> bool:
        """Return whether the file is there."""
        return self.path.exists()


@dataclass(frozen=True)
class BucketSource:
    """An object in a bucket, or one version of it; `etag` is as announced."""

    at: BucketAddress
    version: str | None
    settings: BucketAccess
    etag: str | None = None

    @property
    def uri(self) -> str:
        """The ``s3://`` address of the object."""
        version = f"?versionId={quote(self.version, safe='')}" if self.version is not None else ""
        return f"s3://{self.at.bucket}/{quote(self.at.prefix)}{version}"

    @property
    def name(self) -> str:
        """The last part of the object's key."""
        return PurePosixPath(self.at.prefix).name

    @contextlib.contextmanager
    def on_disk(self, scratch: Callable[[], Path]) -> Iterator[Path]:
        """Download the object in pieces; the file is removed at the end of the context."""
        # Importing boto3 takes long, and who only reads files does not need it.
        from shared.store.s3_fetch import fetch

        with tempfile.TemporaryDirectory(dir=scratch(), prefix="source-") as folder:
            path = Path(folder) / self.name
            if not fetch(self.settings, self.at.bucket, self.at.prefix, self.version, path, self.etag):
                raise NotThereYet(
                    f"{self.name}: no such object: {self.uri}; unless it appears, announce it where it is",
                    where=self.uri,
                )
            yield path

    def may_exist(self) -> bool:
        """Ask the server; True if it does not answer."""
        from shared.store.s3_client import is_there

        try:
            return is_there(self.settings, self.at.bucket, self.at.prefix, self.version)
        except DarksError:
            return True


@dataclass(frozen=True)
class FileState:
    """A file at one moment, by which a later moment tells whether it was written to or replaced.

    A file that is read several times, for its digest and for its pixels, must be the same each time.

    Attributes
    ----------
    path : Path
    mark : tuple of int or None
        Device, inode, size and time of the last change; None if there was no file.
    """

    path: Path
    mark: tuple[int, ...] | None

    @classmethod
    def of(cls, path: Path) -> "FileState":
        """Return the state of a file now."""
        try:
            found = path.stat()
        except OSError:
            return cls(path, None)
        return cls(path, (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns))

    def require_unchanged(self) -> None:
        """Raise if the file is not as it was.

        Raises
        ------
        TransientError
            If it was written to, replaced, or removed: what was read of it may be of two files.
        """
        if FileState.of(self.path) != self:
            raise TransientError(
                f"{self.path}: the file changed while it was read; wait until it is written",
                where=self.path,
            )


def local_path(uri: str) -> Path:
    """Return the absolute path of the file at `uri`.

    Parameters
    ----------
    uri : str
        A path, or a ``file://`` URI of this machine.

    Raises
    ------
    BadMessage
        If the address is of another kind.
    """
    if "://" not in uri:
        return Path(uri).absolute()
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise BadMessage(f"{_shown(uri)}: not an address ({error}); announce a path or file:// URI") from None
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Path(unquote(parts.path)).absolute()
    kind = _shown(f"{parts.scheme}://{parts.netloc}")
    raise BadMessage(
        f"{_shown(uri)}: addresses of the kind {kind} are not supported; "
        "announce a path or file:// URI that the worker can read, or s3://bucket/key",
        where=_shown(uri),
    )


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, which is read in pieces.

    Raises
    ------
    BadInput
        If the file cannot be read (check ``"file"``).
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
        If the file does not exist or cannot be read (check ``"file"``).
    TransientError
        If the disk fails, or if the file ends before a read does: it was replaced or cut short meanwhile.
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
            "the file changed while it was read, wait until it is written",
            where=self._path,
        )


def _object(uri: str) -> tuple[BucketAddress, str | None]:
    address, mark, query = uri.partition("?")
    match = _VERSION.fullmatch(query)
    if mark and match is None:
        raise BadMessage(f"{_shown(uri)}: after '?' only versionId=... may follow; announce s3://bucket/key")
    version = unquote(match[1]) if match else None
    try:
        at = bucket_address(unquote(address))
    except ValueError as error:
        raise BadMessage(f"{_shown(uri)}: {error}"[:500]) from None
    # Only one spelling is accepted: needless or double encoding is meant to get past a check.
    canonical = BucketSource(at, version, BucketAccess.model_construct()).uri
    if canonical != uri or "%" in at.prefix or not at.prefix or not at.prefix.isprintable():
        raise BadMessage(f"{_shown(uri)}: not a plain address of an object; announce s3://bucket/key")
    return at, version


def _in_a_bucket(at: BucketAddress, allowed: Sequence[str]) -> bool:
    for prefix in allowed:
        if prefix.startswith("s3://"):
            bucket, folder = bucket_address(prefix)
            if at.bucket == bucket and (not folder or at.prefix.startswith(f"{folder}/")):
                return True
    return False


def _in_a_folder(path: Path, allowed: Sequence[str]) -> bool:
    # Links are followed first: they may lead anywhere.
    try:
        real = path.resolve()
    except (OSError, RuntimeError):
        return False
    folders = (local_path(prefix).resolve() for prefix in allowed if prefix.startswith("file://"))
    return any(real.is_relative_to(folder) for folder in folders)


def _shown(uri: str) -> str:
    shown = uri.encode("unicode_escape").decode()
    return shown if len(shown) <= 200 else f"{shown[:200]}..."


def _require_file(path: Path) -> None:
    try:
        exists = path.exists()
    except OSError as error:
        # Such as a name that is longer than any file's.
        raise _unreadable(path, error) from error
    # Opening a named pipe would block until something writes to it.
    if exists and not path.is_file():
        kind = "a folder" if path.is_dir() else "a pipe or a device"
        raise BadInput("file", f"{path.name}: is {kind}, not a file: {path}; announce FITS files", where=path)


def _unreadable(path: Path, error: OSError) -> DarksError:
    if isinstance(error, FileNotFoundError):
        return BadInput(
            "file",
            f"{path.name}: no such file: {path}; check the name, or announce it where it is",
            where=path,
        )
    reason = f"{path.name}: cannot be read: {error.strerror or error}: {path}"
    # A failing disk says nothing about the exposure, which must not be rejected for it.
    if is_passing(error):
        return TransientError(f"{reason}; check the disk", where=path)
    return BadInput("file", reason, where=path)
