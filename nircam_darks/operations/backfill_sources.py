"""Where a backfill finds exposures: under the prefix of a bucket, in a folder, or on a list."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, unquote

from nircam_darks.operations.candidates import peek
from shared.addresses import bucket_address
from shared.errors import BadInput, BadMessage, DarksError
from shared.nircam.exposure_id import exposure_id
from shared.settings.stage import StageSettings
from shared.store.sources import FileSource, source_of

#: Default pattern under a prefix or in a folder: raw files in any case, also compressed by gzip.
PATTERN = "*_uncal.fits"
_RAW = re.compile(r"_uncal\.fits(\.gz)?$", re.IGNORECASE)


@dataclass(frozen=True)
class FoundAddress:
    """One address of an exposure.

    Attributes
    ----------
    position : str
        Its place in the source's order; sorts in that order.
    uri : str
    size : int or None
        Size in bytes, if known.
    mark : str
        Together with the address, the identity of its announcement: a repeated one is the same message.
    path : Path or None
        The file, if this machine can read it.
    modified : datetime or None
        When it was last changed, if known.
    """

    position: str
    uri: str
    size: int | None = None
    mark: str = ""
    path: Path | None = None
    modified: datetime | None = None

    @property
    def exposure_id(self) -> str:
        """Id of the exposure, from the header of a file or the name of an object."""
        if self.path is not None:
            return peek(self.path).exposure_id
        return exposure_id(unquote(self.uri.partition("?")[0]))


class AddressSource(Protocol):
    """Addresses in a fixed order."""

    @property
    def name(self) -> str:
        """Identity of the source, including its pattern."""
        ...

    def addresses(self, after: str) -> Iterator[FoundAddress]:
        """Yield the addresses after the position `after`; all of them if it is empty."""
        ...


@dataclass(frozen=True)
class BucketPrefix:
    """Objects whose keys begin with a prefix and match a pattern."""

    bucket: str
    prefix: str
    pattern: str
    settings: StageSettings

    @property
    def name(self) -> str:
        """Address and pattern."""
        return f"s3://{self.bucket}/{self.prefix} {self.pattern}"

    def addresses(self, after: str) -> Iterator[FoundAddress]:
        """List the bucket."""
        # boto3 is slow to import, and not needed for files.
        from shared.store.s3_client import list_objects

        for entry in list_objects(self.settings.source_bucket, self.bucket, self.prefix, after):
            if _matches(entry.key, self.pattern):
                version = f"?versionId={quote(entry.version, safe='')}" if entry.version else ""
                uri = f"s3://{self.bucket}/{quote(entry.key)}{version}"
                # The same mark as from the bucket's own event notification of this object.
                mark = f"#{entry.etag}"
                yield FoundAddress(entry.key, uri, entry.size, mark, modified=entry.modified)


@dataclass(frozen=True)
class Folder:
    """Files under a folder whose relative paths match a pattern."""

    folder: Path
    pattern: str

    @property
    def name(self) -> str:
        """Address and pattern."""
        return f"{self.folder.as_uri()} {self.pattern}"

    def addresses(self, after: str) -> Iterator[FoundAddress]:
        """Walk the folder."""
        files = (path for path in self.folder.rglob("*") if path.is_file())
        names = sorted((path.relative_to(self.folder).as_posix(), path) for path in files)
        for position, path in names:
            if position > after and _matches(position, self.pattern):
                yield _of_file(position, path)


@dataclass(frozen=True)
class AddressList:
    """The lines of a file, one address each; empty lines and comments (``#``) do not count."""

    lines: tuple[str, ...]
    pattern: str
    settings: StageSettings

    @property
    def name(self) -> str:
        """Digest of the lines, so that a changed list is a new source, and pattern."""
        text = "\n".join(self.lines)
        return f"list {hashlib.sha256(text.encode()).hexdigest()} {self.pattern}"

    def addresses(self, after: str) -> Iterator[FoundAddress]:
        """Read the lines."""
        for number, line in enumerate(self.lines, 1):
            position = f"line {number:09d}"
            if position <= after or not line or line.startswith("#") or not fnmatchcase(line, self.pattern):
                continue
            try:
                source = source_of(line, self.settings)
            except BadMessage:
                # Yielded unchanged, to be refused with the reason.
                yield FoundAddress(position, line)
                continue
            if isinstance(source, FileSource):
                yield _of_file(position, source.path)
            else:
                yield FoundAddress(position, source.uri)


def open_source(
    where: str | None, listed: Path | None, pattern: str | None, settings: StageSettings
) -> AddressSource:
    """Return the source that a command line names.

    Parameters
    ----------
    where : str or None
        ``s3://bucket/prefix/``, or a folder.
    listed : Path or None
        A file with addresses, in place of `where`.
    pattern : str or None
        By default `PATTERN`, or everything on a list.
    settings : StageSettings

    Raises
    ------
    BadInput
        If there is no such folder or list, or the address is not that of a bucket.
    """
    if listed is not None:
        try:
            lines = listed.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise BadInput(
                "file",
                f"--list {listed}: {reason}; give a file with one address per line",
                where=listed,
                setting="--list",
            ) from None
        return AddressList(tuple(line.strip() for line in lines), pattern or "*", settings)
    where = where or ""
    if where.startswith("s3://"):
        try:
            bucket, prefix = bucket_address(where)
        except ValueError as error:
            raise BadInput("file", str(error)) from None
        # "darks/" does not match "darks-old/", but "darks" may be meant to.
        prefix += "/" if prefix and where.endswith("/") else ""
        return BucketPrefix(bucket, prefix, pattern or PATTERN, settings)
    folder = Path(where).absolute()
    if not folder.is_dir():
        raise BadInput("file", f"{folder}: no such folder; give one, s3://bucket/prefix/, or --list FILE")
    return Folder(folder, pattern or PATTERN)


def refused_addresses(source: AddressSource, after: str, settings: StageSettings) -> tuple[int, list[str]]:
    """Return the number of addresses after `after`, and the reasons why ingest would refuse some of them."""
    reasons, total = [], 0
    for address in source.addresses(after):
        total += 1
        try:
            source_of(address.uri, settings)
        except DarksError as error:
            reasons.append(str(error))
    return total, reasons


def _matches(name: str, pattern: str) -> bool:
    return bool(_RAW.search(name)) if pattern == PATTERN else fnmatchcase(name, pattern)


def _of_file(position: str, path: Path) -> FoundAddress:
    try:
        state = path.stat()
    except OSError:
        # Ingest reports what is wrong with it.
        return FoundAddress(position, path.as_uri(), path=path)
    mark = f":{state.st_size}:{state.st_mtime_ns}"
    # A copy may keep the time of its original; that of the entry in the folder is its own.
    changed = datetime.fromtimestamp(max(state.st_mtime, state.st_ctime), UTC)
    return FoundAddress(position, path.as_uri(), state.st_size, mark, path, changed)
