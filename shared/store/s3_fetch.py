"""Objects of other people's buckets, brought to this machine's disk."""

from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from shared.errors import StoreUnavailable
from shared.settings import BucketAccess
from shared.store.faults import store_faults
from shared.store.s3_client import MISSING, code_of, make_client, persistently, s3_faults

#: Bytes in memory of an object that is fetched.
_PIECE = 1 << 20


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


def _named(bucket: str, key: str, version: str | None) -> dict[str, Any]:
    return {"Bucket": bucket, "Key": key} | ({"VersionId": version} if version is not None else {})


def _where(settings: BucketAccess, bucket: str, key: str) -> str:
    return f"s3://{bucket}/{key}" + (f" on {settings.endpoint}" if settings.endpoint else "")
