"""Whether an announced address may be read at all, and how its bytes come to this machine's disk.

An announcement comes from anybody who may publish: what it names is opened only where the settings
say that exposures lie.
"""

import contextlib
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.parse import quote, unquote

from shared.errors import BadInput, BadMessage, DarksError
from shared.settings import BucketAccess, StageSettings
from shared.sources import local_path
from shared.store.keys import BucketAddress, bucket_address

_VERSION = re.compile(r"versionId=([A-Za-z0-9._~%-]+)")


class Source(Protocol):
    """An exposure's file that may be read."""

    @property
    def uri(self) -> str:
        """The one address of it, however it was announced."""
        ...

    @property
    def name(self) -> str:
        """The file's name."""
        ...

    def on_disk(self, scratch: Callable[[], Path]) -> contextlib.AbstractContextManager[Path]:
        """Give the file, in a folder under `scratch()` if it has to be fetched; then it goes again.

        Raises
        ------
        BadInput
            If there is nothing at this address (check ``"file"``).
        StoreUnavailable
            If the server does not answer.
        EnvironmentFault
            If it does not let us read.
        """
        ...

    def may_exist(self) -> bool:
        """Say whether the file is there; True also where that cannot be found out."""
        ...


@dataclass(frozen=True)
class FileSource:
    """A file that this machine sees."""

    path: Path

    @property
    def uri(self) -> str:
        """Its ``file://`` address."""
        return self.path.as_uri()

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    @contextlib.contextmanager
    def on_disk(self, scratch: Callable[[], Path]) -> Iterator[Path]:
        """Give the file itself."""
        yield self.path

    def may_exist(self) -> bool:
        """Say whether the file is there."""
        return self.path.exists()


@dataclass(frozen=True)
class BucketSource:
    """An object in a bucket, or one version of it."""

    at: BucketAddress
    version: str | None
    settings: BucketAccess

    @property
    def uri(self) -> str:
        """Its ``s3://`` address."""
        version = f"?versionId={quote(self.version, safe='')}" if self.version is not None else ""
        return f"s3://{self.at.bucket}/{quote(self.at.prefix)}{version}"

    @property
    def name(self) -> str:
        """The last part of its key."""
        return PurePosixPath(self.at.prefix).name

    @contextlib.contextmanager
    def on_disk(self, scratch: Callable[[], Path]) -> Iterator[Path]:
        """Fetch the object, piece by piece; the file goes with the context."""
        # Who reads files only need not wait for boto3 to be imported.
        from shared.store.s3_fetch import fetch

        with tempfile.TemporaryDirectory(dir=scratch(), prefix="source-") as folder:
            path = Path(folder) / self.name
            if not fetch(self.settings, self.at.bucket, self.at.prefix, self.version, path):
                raise BadInput("file", f"{self.name}: no such object: {self.uri}; announce it where it is")
            yield path

    def may_exist(self) -> bool:
        """Ask the server; True where it does not say."""
        from shared.store.s3_fetch import is_there

        try:
            return is_there(self.settings, self.at.bucket, self.at.prefix, self.version)
        except DarksError:
            return True


def source_of(uri: str, settings: StageSettings) -> Source:
    """Return the source at an announced address.

    Parameters
    ----------
    uri : str
        A path, a ``file://`` URI of this machine, or ``s3://bucket/key``, percent-encoded as
        `urllib.parse.quote` does, with ``?versionId=`` for one version.
    settings : StageSettings

    Raises
    ------
    BadMessage
        If it is an address of another kind or not written properly, or `settings.allowed_sources` do
        not hold it.
    """
    if uri.startswith("s3://"):
        at, version = _object(uri)
        source: Source = BucketSource(at, version, settings.source_bucket)
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
            "announce one that lies in an allowed place, or allow this one"
        )
    return source


def _object(uri: str) -> tuple[BucketAddress, str | None]:
    address, asked, query = uri.partition("?")
    said = _VERSION.fullmatch(query)
    if asked and said is None:
        raise BadMessage(f"{_shown(uri)}: after '?' only versionId=... may follow; announce s3://bucket/key")
    version = unquote(said[1]) if said else None
    try:
        at = bucket_address(unquote(address))
    except ValueError as error:
        raise BadMessage(f"{_shown(uri)}: {error}"[:500]) from None
    # One spelling only: what is encoded without need, or twice, is meant to get past a check.
    once = BucketSource(at, version, BucketAccess.model_construct()).uri
    if once != uri or "%" in at.prefix or not at.prefix or not at.prefix.isprintable():
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
    # Where it really lies: a link may lead anywhere.
    try:
        real = path.resolve()
    except (OSError, RuntimeError):
        return False
    folders = (local_path(prefix).resolve() for prefix in allowed if prefix.startswith("file://"))
    return any(real.is_relative_to(folder) for folder in folders)


def _shown(uri: str) -> str:
    shown = uri.encode("unicode_escape").decode()
    return shown if len(shown) <= 200 else f"{shown[:200]}..."
