"""The store in a bucket: Ceph, MinIO, AWS, and what else speaks S3.

Nothing half-written is ever visible there by S3's own rules. What S3 does not promise everywhere is
made up for here: every body goes with its Content-MD5 and is kept with our sha256, and `put_if_absent`
does not rely on If-None-Match alone.
"""

import base64
import contextlib
import hashlib
import math
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from botocore.exceptions import BotoCoreError, ClientError

from shared.errors import EnvironmentFault, StoreUnavailable
from shared.settings import S3Settings
from shared.store.base import ObjectInfo, ObjectReader
from shared.store.faults import store_faults
from shared.store.keys import bucket_address, checked_key, checked_prefix
from shared.store.s3_client import (
    CONDITION_FAILED,
    MISSING,
    code_of,
    make_client,
    persistently,
    s3_faults,
)
from shared.store.s3_reader import ObjectAddress, S3Reader
from shared.store.scratch import ScratchFolders

#: S3 takes no more parts of one object.
_MOST_PARTS = 10_000


class S3Store:
    """A `shared.store.base.Store` in a bucket.

    May be used by any number of threads and processes, and is opened anew in each process: a pickle
    holds the address and the settings, never a credential.

    Parameters
    ----------
    address : str
        ``s3://bucket`` or ``s3://bucket/prefix``.
    settings : S3Settings
    scratch : Path
        Folder on this machine's disk for files in the making; made when first needed.

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
        """The boto3 client of this process; a fork makes its own, since sockets cannot be shared."""
        with self._lock:
            if self._client is None or self._owner != os.getpid():
                self._client, self._owner = make_client(self.settings), os.getpid()
            return self._client

    def address_of(self, key: str) -> ObjectAddress:
        """Return where the object under `key` is; `ValueError` if that is no key."""
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

    def put_file(self, key: str, path: Path) -> ObjectInfo:
        """Take the finished file at `path` in as `key`, a large one in parts; one in scratch is removed."""
        at = self.address_of(key)
        size = path.stat().st_size
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
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
        """Write only where nothing is there yet; False if something was.

        Of many at once one wins wherever the store's If-None-Match is atomic. Where it is not, or is
        ignored, several may be told that they wrote, but one whole object stands, and it is never
        replaced by who comes later: enough for manifests, whose keys are digests of what they are made
        from, so that either contender's is valid.
        """
        at = self.address_of(key)
        # Told by its mark, a put whose answer was lost is not taken for another's.
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
        """Return the whole object, checked against its sha256; `KeyError` if there is none."""
        at = self.address_of(key)

        def fetch() -> tuple[bytes, str | None]:
            answer = self.client.get_object(Bucket=at.bucket, Key=at.key)
            return answer["Body"].read(), answer.get("Metadata", {}).get("sha256")

        with s3_faults(at.where):
            try:
                data, digest = persistently(self.settings.attempts, fetch)
            except ClientError as error:
                if code_of(error) in MISSING:
                    raise KeyError(key) from None
                raise
        if digest is not None and hashlib.sha256(data).hexdigest() != digest:
            raise StoreUnavailable(
                f"{at.where}: what came is not what was put: its sha256 differs; "
                "if this stays so, remove its product and run again"
            )
        return data

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
                    f"the scratch folder {self._folder} is another user's; set DARKS_SCRATCH to your own"
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
            # Parts of an upload that is neither completed nor aborted are kept, unseen, and paid for.
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
            # So answers a second request after one whose answer was lost.
            if code_of(error) != "NoSuchUpload" or (self._metadata(at) or {}).get("sha256") != digest:
                raise

    def _metadata(self, at: ObjectAddress) -> dict[str, str] | None:
        """Return what was noted with an object; None if there is none."""
        try:
            answer = self.client.head_object(Bucket=at.bucket, Key=at.key)
        except ClientError as error:
            if code_of(error) in MISSING:
                return None
            raise
        noted: dict[str, str] = answer["Metadata"]
        return noted


def content_md5(data: bytes) -> str:
    """Return what the header Content-MD5 says of a body."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
