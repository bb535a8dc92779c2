"""Where the exposures of a backfill lie: under a bucket's prefix, in a folder, or as a list says."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, unquote

from services.schedule import peek
from shared.announced import FileSource, source_of
from shared.errors import BadInput, BadMessage, DarksError
from shared.exposures import exposure_id
from shared.settings import StageSettings
from shared.store.keys import bucket_address

#: What is looked for under a prefix or in a folder.
PATTERN = "*_uncal.fits"


@dataclass(frozen=True)
class Found:
    """One address.

    Attributes
    ----------
    position : str
        Ascending in the order in which they are found.
    size : int or None
        Bytes, where known.
    mark : str
        What makes the message about it the same one when it is said again, beside its address.
    path : Path or None
        Of a file that this machine sees.
    """

    position: str
    uri: str
    size: int | None = None
    mark: str = ""
    path: Path | None = None

    @property
    def exposure_id(self) -> str:
        """What the exposure is called; of a file, as its header says."""
        if self.path is not None:
            return peek(self.path).exposure_id
        return exposure_id(unquote(self.uri.partition("?")[0]))


class Source(Protocol):
    """Addresses in a fixed order."""

    @property
    def name(self) -> str:
        """Tells this source from every other one; its pattern is part of it."""
        ...

    def addresses(self, after: str) -> Iterator[Found]:
        """Yield the addresses behind the position `after`; all of them for an empty one."""
        ...


@dataclass(frozen=True)
class BucketPrefix:
    """Objects whose keys begin with a prefix and fit a pattern."""

    bucket: str
    prefix: str
    pattern: str
    settings: StageSettings

    @property
    def name(self) -> str:
        """Its address and pattern."""
        return f"s3://{self.bucket}/{self.prefix} {self.pattern}"

    def addresses(self, after: str) -> Iterator[Found]:
        """List the bucket."""
        # Who reads files only need not wait for boto3 to be imported.
        from shared.store.s3_fetch import list_objects

        for entry in list_objects(self.settings.source_bucket, self.bucket, self.prefix, after):
            if fnmatchcase(entry.key, self.pattern):
                version = f"?versionId={quote(entry.version, safe='')}" if entry.version else ""
                uri = f"s3://{self.bucket}/{quote(entry.key)}{version}"
                # As the bucket's own event notification of this object is marked.
                yield Found(entry.key, uri, entry.size, f"#{entry.etag}")


@dataclass(frozen=True)
class Folder:
    """Files under a folder whose paths in it fit a pattern."""

    folder: Path
    pattern: str

    @property
    def name(self) -> str:
        """Its address and pattern."""
        return f"{self.folder.as_uri()} {self.pattern}"

    def addresses(self, after: str) -> Iterator[Found]:
        """Walk the folder."""
        files = (path for path in self.folder.rglob("*") if path.is_file())
        names = sorted((path.relative_to(self.folder).as_posix(), path) for path in files)
        for position, path in names:
            if position > after and fnmatchcase(position, self.pattern):
                yield _of_file(position, path)


@dataclass(frozen=True)
class AddressList:
    """The lines of a file, an address each; empty ones and those with a ``#`` in front do not count."""

    lines: tuple[str, ...]
    pattern: str
    settings: StageSettings

    @property
    def name(self) -> str:
        """A digest of what it says: a list that was changed is another one."""
        said = "\n".join(self.lines)
        return f"list {hashlib.sha256(said.encode()).hexdigest()} {self.pattern}"

    def addresses(self, after: str) -> Iterator[Found]:
        """Read the lines."""
        for number, line in enumerate(self.lines, 1):
            position = f"line {number:09d}"
            if position <= after or not line or line.startswith("#") or not fnmatchcase(line, self.pattern):
                continue
            try:
                source = source_of(line, self.settings)
            except BadMessage:
                # It is refused as it stands, with the reason.
                yield Found(position, line)
                continue
            if isinstance(source, FileSource):
                yield _of_file(position, source.path)
            else:
                yield Found(position, source.uri)


def open_source(
    where: str | None, listed: Path | None, pattern: str | None, settings: StageSettings
) -> Source:
    """Return the source that a command line names.

    Parameters
    ----------
    where : str or None
        ``s3://bucket/prefix/``, or a folder.
    listed : Path or None
        A file with addresses, in its place.
    pattern : str or None
        By default `PATTERN`, and everything of a list.
    settings : StageSettings

    Raises
    ------
    BadInput
        If there is no such folder or list, or the address is none of a bucket.
    """
    if listed is not None:
        try:
            lines = listed.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise BadInput("file", f"--list {listed}: {reason}; give a file with an address a line") from None
        return AddressList(tuple(line.strip() for line in lines), pattern or "*", settings)
    where = where or ""
    if where.startswith("s3://"):
        try:
            bucket, prefix = bucket_address(where)
        except ValueError as error:
            raise BadInput("file", str(error)) from None
        # "darks/" is not the beginning of "darks-old/", "darks" may be.
        prefix += "/" if prefix and where.endswith("/") else ""
        return BucketPrefix(bucket, prefix, pattern or PATTERN, settings)
    folder = Path(where).absolute()
    if not folder.is_dir():
        raise BadInput("file", f"{folder}: no such folder; give one, s3://bucket/prefix/, or --list FILE")
    return Folder(folder, pattern or PATTERN)


def refused(source: Source, after: str, settings: StageSettings) -> tuple[int, list[str]]:
    """Look at every address behind `after`; return how many there are, and why some would be refused."""
    reasons, many = [], 0
    for found in source.addresses(after):
        many += 1
        try:
            source_of(found.uri, settings)
        except DarksError as error:
            reasons.append(str(error))
    return many, reasons


def _of_file(position: str, path: Path) -> Found:
    try:
        state = path.stat()
    except OSError:
        # Ingest says what is wrong with it.
        return Found(position, path.as_uri(), path=path)
    return Found(position, path.as_uri(), state.st_size, f":{state.st_size}:{state.st_mtime_ns}", path)
