"""The store in a bucket: Ceph, MinIO, AWS, or any other server that speaks S3.

By S3's own rules nothing half-written is ever visible. This module makes up for what not every server keeps:
each body is sent with its Content-MD5 and stored with our sha256, and `S3Store.put_if_absent` does not
rely on If-None-Match alone. `S3Reader` reads ranges of one object, and never mixes two versions of it.
"""

import base64
import contextlib
import hashlib
import math
import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote
from uuid import uuid4

from botocore.exceptions import BotoCoreError, ClientError

from shared.addresses import bucket_address, checked_key, checked_prefix
from shared.errors import DamagedObject, EnvironmentFault, StoreUnavailable
from shared.settings.stage import S3Settings
from shared.store.base import ObjectInfo, ObjectReader, Watch, hash_file
from shared.store.faults import store_faults
from shared.store.s3_client import (
    CONDITION_FAILED,
    MISSING,
    code_of,
    make_client,
    persistently,
    s3_faults,
)
from shared.store.scratch import ScratchFolders

#: Bytes of the smallest ranged GET: FITS headers are read in blocks of 2880 bytes.
READ_AHEAD = 1 << 16
#: An object whose bytes differ from its digest is read so often.
_READS = 3
#: S3 allows no more parts of one object.
_MOST_PARTS = 10_000


class ObjectAddress(NamedTuple):
    """Where an object lies: its bucket and key for S3, and `where` for people."""

    bucket: str
    key: str
    where: str


class _Piece(NamedTuple):
    offset: int
    data: bytes


class S3Reader(AbstractContextManager["S3Reader", None]):
    """Reads one object by ranged GET, as `shared.store.base.ObjectReader`.

    Every read is of the object that was opened. If its key is given another object meanwhile, reads continue
    from the old version in a bucket that keeps versions, and fail in one that does not.

    Parameters
    ----------
    client : boto3 S3 client
    address : ObjectAddress
    attempts : int
        How often to try a read whose answer breaks off.

    Raises
    ------
    KeyError
        If there is no such object.
    StoreUnavailable, EnvironmentFault
        See `shared.store.s3_client.s3_fault`.
    """

    def __init__(self, client: Any, address: ObjectAddress, attempts: int) -> None:
        self._client = client
        self._address = address
        self._attempts = attempts
        self._same: dict[str, str] = {}
        with s3_faults(address.where):
            self._size, self._piece = self._first()

    def _first(self) -> tuple[int, _Piece]:
        # One request gives the size and the first header.
        try:
            answer, data = self._ranged(0, READ_AHEAD)
        except ClientError as error:
            if code_of(error) in MISSING:
                raise KeyError(self._address.key) from None
            if code_of(error) not in {"InvalidRange", "416"}:
                raise
            # An empty object has no range.
            answer, data = self._get(), b""
        self._same["IfMatch"] = answer["ETag"]
        if answer.get("VersionId", "null") != "null":
            self._same["VersionId"] = answer["VersionId"]
        total = str(answer.get("ContentRange", "")).rpartition("/")[2]
        size = int(total) if total.isdecimal() else int(answer["ContentLength"])
        return size, _Piece(0, data)

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
        StoreUnavailable
            If the object is shorter or was replaced meanwhile, or the store does not answer.
        """
        if offset < 0 or length < 0:
            raise ValueError(f"there is no range of {length} bytes from byte {offset}")
        if length == 0:
            return b""
        if offset + length > self._size:
            raise self._short(offset, length, max(self._size - offset, 0))
        piece = self._piece
        if not piece.offset <= offset <= offset + length <= piece.offset + len(piece.data):
            wanted = min(max(length, READ_AHEAD), self._size - offset)
            with s3_faults(self._address.where):
                piece = _Piece(offset, self._later(offset, wanted))
            if len(piece.data) < length:
                raise self._short(offset, length, len(piece.data))
            if length < READ_AHEAD:
                self._piece = piece
        start = offset - piece.offset
        return piece.data if len(piece.data) == length else piece.data[start : start + length]

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill a buffer with the bytes from `offset` on, by one GET; raises as `read` does."""
        buffer[:] = self.read(offset, len(buffer))

    def _later(self, offset: int, length: int) -> bytes:
        try:
            answer, data = self._ranged(offset, length)
        except ClientError as error:
            if code_of(error) in CONDITION_FAILED | MISSING | {"InvalidRange", "416"}:
                raise StoreUnavailable(
                    f"{self._address.where}: the object was replaced or removed while it was read; "
                    "read it again",
                    where=self._address.where,
                ) from error
            raise
        if "ContentRange" not in answer and offset > 0:
            raise StoreUnavailable(
                f"{self._address.where}: the server sent the whole object, not the bytes from {offset} on; "
                "it does not support ranged reads, use another one",
                where=self._address.where,
            )
        return data

    def _ranged(self, offset: int, length: int) -> tuple[dict[str, Any], bytes]:
        """Return the answer to a ranged GET and its body; a damaged body is fetched again."""

        def fetch() -> tuple[dict[str, Any], bytes]:
            answer = self._get(Range=f"bytes={offset}-{offset + length - 1}")
            return answer, answer["Body"].read()

        return persistently(self._attempts, fetch)

    def _get(self, **more: str) -> dict[str, Any]:
        answer: dict[str, Any] = self._client.get_object(
            Bucket=self._address.bucket, Key=self._address.key, **self._same, **more
        )
        return answer

    def _short(self, offset: int, length: int, have: int) -> StoreUnavailable:
        return StoreUnavailable(
            f"{self._address.where}: {length} bytes were requested from byte {offset}, {have} arrived "
            f"(the object has {self._size}); if this stays so, remove its product and run again",
            where=self._address.where,
        )

    def forget(self) -> None:
        """Drop the bytes that were read ahead."""
        self._piece = _Piece(0, b"")

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop the bytes that were read ahead."""
        self.forget()


class S3Store:
    """A `shared.store.base.Store` in a bucket.

    Any number of threads and processes may use it. Each process opens its own: a pickle holds the address and
    the settings, never a credential.

    Parameters
    ----------
    address : str
        ``s3://bucket`` or ``s3://bucket/prefix``.
    settings : S3Settings
    scratch : Path
        Folder on this machine's disk for unfinished files; created when it is first needed.

    Raises
    ------
    ValueError
        If `address` is not the address of a bucket.
    """

    def __init__(self, address: str, settings: S3Settings, scratch: Path) -> None:
        self._address = address
        self.settings = settings
        self.bucket, prefix = bucket_address(address)
        self._base = f"{prefix}/" if prefix else ""
        self._folder = Path(scratch).absolute()
        self._scratch = ScratchFolders(self._folder)
        self._lock = threading.Lock()
        self._client: Any = None
        self._owner = 0
        with contextlib.suppress(OSError):
            self._scratch.sweep()

    def __reduce__(self) -> tuple[Any, ...]:
        return (S3Store, (self._address, self.settings, self._folder))

    @property
    def client(self) -> Any:
        """The boto3 client of this process; a forked process makes its own, as sockets cannot be shared."""
        with self._lock:
            if self._client is None or self._owner != os.getpid():
                self._client, self._owner = make_client(self.settings), os.getpid()
            return self._client

    def address_of(self, key: str) -> ObjectAddress:
        """Return where the object under `key` lies; `ValueError` if it is not a key."""
        name = self._base + checked_key(key)
        return ObjectAddress(self.bucket, name, self._where(name))

    def _where(self, name: str) -> str:
        server = f" on {self.settings.endpoint}" if self.settings.endpoint else ""
        return f"s3://{self.bucket}/{name}{server}"

    def put(self, key: str, data: bytes) -> ObjectInfo:
        """Write `data` under `key`, replacing what is there."""
        at = self.address_of(key)
        digest = hashlib.sha256(data).hexdigest()
        with s3_faults(at.where):
            self._put(at, data, content_md5(data), {"sha256": digest})
        return ObjectInfo(len(data), digest)

    def put_file(self, key: str, path: Path, watch: Watch | None = None) -> ObjectInfo:
        """Upload the finished file at `path` as `key`, in parts if it is large; a scratch file is removed."""
        at = self.address_of(key)
        size = path.stat().st_size
        digest = hash_file(path, watch)
        with s3_faults(at.where):
            if size > self.settings.part_size:
                self._put_parts(at, path, size, digest)
            else:
                data = path.read_bytes()
                self._put(at, data, content_md5(data), {"sha256": digest})
        if path.is_relative_to(self._folder):
            path.unlink()
        return ObjectInfo(size, digest)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write only if there is no object under `key`; return False if there is one.

        If the server's If-None-Match is atomic, exactly one of many concurrent writers wins. If it is not,
        or is ignored, several may be told that they wrote; one whole object remains, and no later writer
        replaces it. That is enough for manifests: their keys are digests of what they were made from, so
        that each writer's manifest is valid.
        """
        at = self.address_of(key)
        # The mark tells our own put, whose answer was lost, from that of another writer.
        mark = uuid4().hex
        known = {"sha256": hashlib.sha256(data).hexdigest(), "put": mark}
        with s3_faults(at.where):
            if self._metadata(at) is not None:
                return False
            try:
                self._put(at, data, content_md5(data), known, IfNoneMatch="*")
            except ClientError as error:
                if code_of(error) == "NotImplemented":
                    self._put(at, data, content_md5(data), known)
                elif code_of(error) not in CONDITION_FAILED:
                    raise
            return (self._metadata(at) or {}).get("put") == mark

    def get(self, key: str) -> bytes:
        """Return the whole object, checked against its sha256; `KeyError` if there is none.

        What differs is read again, in case a bit was flipped on the way. `DamagedObject` if the same wrong
        bytes come again: more attempts would bring no others.
        """
        at = self.address_of(key)

        def fetch() -> tuple[bytes, str | None]:
            answer = self.client.get_object(Bucket=at.bucket, Key=at.key)
            return answer["Body"].read(), answer.get("Metadata", {}).get("sha256")

        before = ""
        for _ in range(_READS):
            with s3_faults(at.where):
                try:
                    data, expected = persistently(self.settings.attempts, fetch)
                except ClientError as error:
                    if code_of(error) in MISSING:
                        raise KeyError(key) from None
                    raise
            digest = hashlib.sha256(data).hexdigest()
            if expected in (None, digest):
                return data
            if digest == before:
                raise DamagedObject(
                    f"{at.where} is not what was written there: its sha256 differs, also when it is read "
                    "again; remove its product and announce its exposure or set again",
                    where=at.where,
                )
            before = digest
        raise StoreUnavailable(
            f"{at.where}: other bytes arrive each time that it is read, and never those that were stored; "
            "look at the network and at the store's memory",
            where=at.where,
        )

    def open(self, key: str) -> ObjectReader:
        """Open an object for ranged reads; `KeyError` if there is none."""
        at = self.address_of(key)
        try:
            return S3Reader(self.client, at, self.settings.attempts)
        except KeyError:
            raise KeyError(key) from None

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens if there is none."""
        at = self.address_of(key)
        with s3_faults(at.where):
            self.client.delete_object(Bucket=at.bucket, Key=at.key)

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys that begin with `prefix`, in ascending order, a page at a time."""
        name = self._base + checked_prefix(prefix)
        with s3_faults(self._where(name)):
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=name)
            for page in pages:
                for entry in page.get("Contents", []):
                    yield entry["Key"].removeprefix(self._base)

    def uri(self, key: str) -> str:
        """Return the object's ``s3://bucket/key`` address, percent-encoded where a URI must be."""
        at = self.address_of(key)
        return f"s3://{at.bucket}/{quote(at.key)}"

    def scratch(self) -> Path:
        """Return this process's own folder on this machine's disk, for files in the making."""
        with store_faults(self._folder), self._lock:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._folder.stat().st_uid != os.getuid():
                raise EnvironmentFault(
                    f"the scratch folder {self._folder} is another user's; set DARKS_SCRATCH to your own",
                    where=self._folder,
                    setting="DARKS_SCRATCH",
                )
            return self._scratch.own()

    def close(self) -> None:
        """Remove this process's scratch folder and close its connections."""
        with self._lock:
            self._scratch.remove_own()
            if self._client is not None and self._owner == os.getpid():
                self._client.close()
            self._client = None

    def _put(self, at: ObjectAddress, data: bytes, md5: str, known: dict[str, str], **more: str) -> None:
        persistently(
            self.settings.attempts,
            lambda: self.client.put_object(
                Bucket=at.bucket, Key=at.key, Body=data, ContentMD5=md5, Metadata=known, **more
            ),
        )

    def _put_parts(self, at: ObjectAddress, path: Path, size: int, digest: str) -> None:
        target = {"Bucket": at.bucket, "Key": at.key}
        upload = self.client.create_multipart_upload(**target, Metadata={"sha256": digest})["UploadId"]
        target["UploadId"] = upload
        try:
            parts = []
            length = max(self.settings.part_size, math.ceil(size / _MOST_PARTS))
            with path.open("rb") as file:
                for number in range(1, math.ceil(size / length) + 1):
                    parts.append(self._put_part(target, number, file.read(length)))
            self._complete(at, target, parts, digest)
        except BaseException:
            # The parts of an upload that is neither completed nor aborted stay invisible, and cost money.
            with contextlib.suppress(BotoCoreError, ClientError):
                self.client.abort_multipart_upload(**target)
            raise

    def _put_part(self, target: dict[str, str], number: int, data: bytes) -> dict[str, Any]:
        answer = persistently(
            self.settings.attempts,
            lambda: self.client.upload_part(
                **target, PartNumber=number, Body=data, ContentMD5=content_md5(data)
            ),
        )
        return {"PartNumber": number, "ETag": answer["ETag"]}

    def _complete(self, at: ObjectAddress, target: dict[str, str], parts: Any, digest: str) -> None:
        try:
            self.client.complete_multipart_upload(**target, MultipartUpload={"Parts": parts})
        except ClientError as error:
            # This also answers a repeated request whose first answer was lost.
            if code_of(error) != "NoSuchUpload" or (self._metadata(at) or {}).get("sha256") != digest:
                raise

    def _metadata(self, at: ObjectAddress) -> dict[str, str] | None:
        """Return the user metadata of an object; None if there is no such object."""
        try:
            answer = self.client.head_object(Bucket=at.bucket, Key=at.key)
        except ClientError as error:
            if code_of(error) in MISSING:
                return None
            raise
        metadata: dict[str, str] = answer["Metadata"]
        return metadata


def content_md5(data: bytes) -> str:
    """Return the Content-MD5 header of a body."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
