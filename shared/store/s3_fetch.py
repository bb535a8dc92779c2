"""Fetches an object of any bucket to this machine's disk, whole or not at all, and never for nothing.

TCP's checksum lets through one damaged packet in some ten thousand, and HTTP without TLS has no other. So
what arrives is compared with what the server says of the object, and fetched once more if it differs.
"""

import contextlib
import hashlib
import logging
import math
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from botocore.exceptions import BotoCoreError, ClientError

from shared.errors import BadInput, DamagedInTransit, EnvironmentFault, ScratchTooSmall
from shared.settings.stage import BucketAccess
from shared.store.faults import store_faults
from shared.store.s3_client import (
    MISSING,
    code_of,
    make_client,
    object_address,
    object_named,
    persistently,
    s3_faults,
)

_logger = logging.getLogger(__name__)

#: An ETag that is an MD5, and the number of parts of a multipart upload.
_MD5 = re.compile(r"[0-9a-f]{32}(?:-([0-9]{1,5}))?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
#: MiB of the smallest part that S3 allows, but for the last.
_LEAST_PART = 5
#: Bytes of an object that are in memory while it is downloaded.
_PIECE = 1 << 20


@dataclass(frozen=True)
class _Download:
    """What arrived.

    Attributes
    ----------
    sha256 : str
    whole : bool or None
        Whether it is what the server says it has; None if the server says nothing that can be compared.
    certain : bool
        Whether a difference can only mean damage.
    """

    sha256: str
    whole: bool | None
    certain: bool = True


def fetch(
    settings: BucketAccess, bucket: str, key: str, version: str | None, path: Path, etag: str | None = None
) -> bool:
    """Download an object to `path`, in pieces; return False if there is no such object.

    What arrives is compared with the object's size, with its ETag if that is the MD5 of the object or of its
    parts, and with the sha256 that this project stores with its objects. What differs is fetched once more.

    Parameters
    ----------
    settings : BucketAccess
    bucket, key : str
    version : str or None
    path : Path
    etag : str, optional
        ETag of the object as announced.

    Raises
    ------
    BadInput
        If the object has another ETag than was announced (check ``"etag"``): it was replaced since.
    ScratchTooSmall
        If the object is larger than what is free on the disk of `path`.
    EnvironmentFault
        If it is larger than that whole disk, or see `s3_fault`.
    DamagedInTransit
        If what arrives is not what the server says it has, twice.
    StoreUnavailable
        See `s3_fault`.
    """
    client, named = make_client(settings), object_named(bucket, key, version)
    where = object_address(settings, bucket, key)

    def download() -> _Download:
        answer = client.get_object(**named)
        with contextlib.closing(answer["Body"]):
            _require_same(etag, answer, where)
            _require_room(answer["ContentLength"], path, where)
            expected = _ExpectedBody.of(answer, lambda: client.head_object(**named, PartNumber=1))
            with path.open("wb") as file:
                for piece in answer["Body"].iter_chunks(_PIECE):
                    file.write(piece)
                    expected.update(piece)
        return expected.compare()

    with s3_faults(where), store_faults(path.parent):
        try:
            first = persistently(settings.attempts, download)
            if first.whole:
                return True
            if first.whole is None:
                _logger.debug("%s: its ETag does not tell whether it arrived whole", where)
                return True
            _logger.warning("%s arrived damaged, and is fetched again", where)
            second = persistently(settings.attempts, download)
        except ClientError as error:
            if code_of(error) in MISSING:
                return False
            raise
    if not second.whole and not second.certain and first.sha256 == second.sha256:
        # The same bytes twice: no line does that. Its parts had different lengths.
        _logger.info("%s: its ETag says nothing of parts of equal length; it arrived twice alike", where)
    elif not second.whole:
        raise DamagedInTransit(
            f"{where}: what arrives is not what the server says it has: its size, MD5 (ETag) or sha256 "
            f"differs, twice{' in the same way' if first.sha256 == second.sha256 else ''}; look at the "
            "network and at the server's disk",
            where=where,
        )
    return True


def _require_same(etag: str | None, answer: Mapping[str, Any], where: str) -> None:
    there, announced = (str(tag).strip('"').lower() for tag in (answer["ETag"], etag))
    # Ceph's answer to the end of a multipart upload has an empty one. Only what has the form is compared.
    if _MD5.fullmatch(there) and _MD5.fullmatch(announced) and there != announced:
        raise BadInput(
            "etag",
            f"{where}: the object has the ETag {there}, its announcement says {etag}: it was replaced since, "
            "and the replacement's own event announces it",
            where=where,
        )


def _require_room(size: int, path: Path, where: str) -> None:
    # Asked before anything is fetched: what does not fit would be fetched with every attempt.
    disk = shutil.disk_usage(path.parent)
    needed = f"{where}: the object has {size} bytes, the scratch disk at {path.parent}"
    if size > disk.total:
        raise EnvironmentFault(
            f"{needed} has {disk.total} in all; put DARKS_SCRATCH on a larger one",
            where=where,
            setting="DARKS_SCRATCH",
        )
    if size > disk.free:
        raise ScratchTooSmall(
            f"{needed} has {disk.free} free; make room there, or put DARKS_SCRATCH on a larger one",
            where=where,
            setting="DARKS_SCRATCH",
        )


class _ExpectedBody:
    """Compares a body that passes by with what the server says of it.

    An ETag is the MD5 of the object if it was put at once. Of a multipart upload it is the MD5 of the MD5s of
    the parts, and their number; how long they are the server tells of the first, if it knows the parameter
    PartNumber. With keys of the customer or of KMS it is neither.

    Parameters
    ----------
    size : int
    etag : str
        Empty if it is no MD5.
    part : int or None
        Bytes of a part; None if the ETag is that of the whole.
    sha256 : str or None
        As stored with the object.
    """

    def __init__(self, size: int, etag: str, part: int | None, sha256: str | None) -> None:
        self._size, self._etag, self._part, self._sha256 = size, etag, part, sha256
        self._received = 0
        self._whole = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._parts: list[bytes] = []
        self._in_part = 0

    @classmethod
    def of(cls, answer: Mapping[str, Any], ask_first_part: Callable[[], Mapping[str, Any]]) -> Self:
        """Return what a GET's answer says; `ask_first_part` is called only for multipart uploads."""
        size, etag = int(answer["ContentLength"]), str(answer["ETag"]).strip('"').lower()
        sha256 = answer.get("Metadata", {}).get("sha256")
        sha256 = sha256 if sha256 is not None and _SHA256.fullmatch(sha256) else None
        foreign = "SSECustomerAlgorithm" in answer or "kms" in str(answer.get("ServerSideEncryption", ""))
        match = _MD5.fullmatch(etag)
        if match is None or foreign:
            return cls(size, "", None, sha256)
        if match[1] is None:
            return cls(size, etag, None, sha256)
        part = _part_size(size, int(match[1]), ask_first_part)
        return cls(size, etag if part is not None else "", part, sha256)

    def update(self, piece: bytes) -> None:
        """Take the next bytes of the body."""
        self._received += len(piece)
        self._whole.update(piece)
        if not self._etag:
            return
        left = memoryview(piece)
        while self._part is not None and len(left) >= (room := self._room()):
            self._md5.update(left[:room])
            self._end_part()
            left = left[room:]
        self._md5.update(left)
        self._in_part += len(left)

    def _room(self) -> int:
        return (self._part or 0) - self._in_part

    def _end_part(self) -> None:
        self._parts.append(self._md5.digest())
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._in_part = 0

    def compare(self) -> _Download:
        """Return whether all that arrived is as it should be."""
        sha256 = self._whole.hexdigest()
        if self._received != self._size or (self._sha256 is not None and self._sha256 != sha256):
            return _Download(sha256, False)
        if not self._etag:
            return _Download(sha256, True if self._sha256 is not None else None)
        if self._part is None:
            return _Download(sha256, self._md5.hexdigest() == self._etag)
        if self._in_part:
            self._end_part()
        parts = hashlib.md5(b"".join(self._parts), usedforsecurity=False).hexdigest()
        return _Download(sha256, f"{parts}-{len(self._parts)}" == self._etag, certain=False)


def _part_size(size: int, parts: int, ask_first_part: Callable[[], Mapping[str, Any]]) -> int | None:
    """Return the length of the parts of an upload, all but the last of which have the same; None if unknown.

    A server that does not know PartNumber answers for the whole object. Then the only whole number of MiB
    that gives so many parts is taken, if there is just one.
    """
    if parts == 1:
        return size or None
    try:
        first = int(ask_first_part()["ContentLength"])
    except (BotoCoreError, ClientError):
        first = size
    if 0 < first < size:
        return first if math.ceil(size / first) == parts else None
    mib = 1 << 20
    fitting = [
        n * mib
        for n in range(max(size // parts // mib, _LEAST_PART), size // (parts - 1) // mib + 2)
        if math.ceil(size / (n * mib)) == parts
    ]
    return fitting[0] if len(fitting) == 1 else None
