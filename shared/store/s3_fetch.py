"""Objects of other people's buckets: what there is, and how it comes to this machine's disk."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from shared.errors import StoreUnavailable
from shared.settings import BucketAccess
from shared.store.faults import store_faults
from shared.store.s3_client import MISSING, code_of, make_client, persistently, s3_faults

#: Bytes in memory of an object that is fetched.
_PIECE = 1 << 20
#: What is answered where only the newest versions may be listed, or there are none.
_NO_VERSIONS = frozenset({"AccessDenied", "AllAccessDisabled", "403", "MethodNotAllowed", "NotImplemented"})


class ListedObject(NamedTuple):
    """An object as a listing tells of it; `version` is None where the bucket has none."""

    key: str
    size: int
    etag: str
    version: str | None


def fetch(settings: BucketAccess, bucket: str, key: str, version: str | None, path: Path) -> bool:
    """Write an object to `path`, in pieces; False if there is no such object.

    Raises
    ------
    StoreUnavailable, EnvironmentFault
        As `shared.store.s3_client.fault_of` says; the first also where less came than was told.
    """
    client, named = make_client(settings), _named(bucket, key, version)

    def once() -> tuple[int, int]:
        answer = client.get_object(**named)
        have = 0
        with path.open("wb") as file:
            for piece in answer["Body"].iter_chunks(_PIECE):
                have += file.write(piece)
        return have, answer["ContentLength"]

    where = _where(settings, bucket, key)
    with s3_faults(where), store_faults(path.parent):
        try:
            have, told = persistently(settings.attempts, once)
        except ClientError as error:
            if code_of(error) in MISSING:
                return False
            raise
    if have != told:
        raise StoreUnavailable(f"{where}: {told} bytes were told of, {have} came")
    return True


def is_there(settings: BucketAccess, bucket: str, key: str, version: str | None) -> bool:
    """Say whether there is such an object; raises as `fetch` does."""
    with s3_faults(_where(settings, bucket, key)):
        try:
            make_client(settings).head_object(**_named(bucket, key, version))
        except ClientError as error:
            if code_of(error) in MISSING:
                return False
            raise
    return True


def list_objects(settings: BucketAccess, bucket: str, prefix: str, after: str = "") -> Iterator[ListedObject]:
    """Yield the objects whose keys begin with `prefix`, in ascending order, a page at a time.

    Of several versions of one object only the newest counts; one that was deleted is not there. The
    places of folders (keys with a slash at their end) are left out.

    Parameters
    ----------
    settings : BucketAccess
    bucket, prefix : str
    after : str
        Only keys behind this one.

    Raises
    ------
    StoreUnavailable, EnvironmentFault
        As `shared.store.s3_client.fault_of` says.
    """
    client, named = make_client(settings), {"Bucket": bucket, "Prefix": prefix}
    with s3_faults(_where(settings, bucket, prefix)):
        try:
            versions = client.get_paginator("list_object_versions")
            pages = iter(versions.paginate(**named, **({"KeyMarker": after} if after else {})))
            page = next(pages, None)
        except ClientError as error:
            if code_of(error) not in _NO_VERSIONS:
                raise
            newest = client.get_paginator("list_objects_v2")
            pages = iter(newest.paginate(**named, **({"StartAfter": after} if after else {})))
            page = next(pages, None)
        while page is not None:
            for entry in page.get("Versions", page.get("Contents", [])):
                key, version = entry["Key"], entry.get("VersionId")
                if key > after and not key.endswith("/") and entry.get("IsLatest", True):
                    version = None if version in (None, "", "null") else version
                    yield ListedObject(key, entry["Size"], entry["ETag"].strip('"'), version)
            page = next(pages, None)


def _named(bucket: str, key: str, version: str | None) -> dict[str, Any]:
    return {"Bucket": bucket, "Key": key} | ({"VersionId": version} if version is not None else {})


def _where(settings: BucketAccess, bucket: str, key: str) -> str:
    return f"s3://{bucket}/{key}" + (f" on {settings.endpoint}" if settings.endpoint else "")
