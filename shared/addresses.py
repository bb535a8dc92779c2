"""What a key may be, and where ``s3://`` addresses point."""

import re
from typing import NamedTuple

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class BucketAddress(NamedTuple):
    """A bucket, and a prefix of keys in it without a slash at its end (empty: all of it)."""

    bucket: str
    prefix: str


def checked_key(key: str) -> str:
    """Return `key` if it is one.

    Raises
    ------
    ValueError
        If it has an empty part, ``.``, ``..``, a backslash, NUL, or a ``/`` in front or at the end.
    """
    if any(part in {"", ".", ".."} for part in key.split("/")) or "\\" in key or "\0" in key:
        raise ValueError(f"{key!r} is not a key: no empty part, '.', '..', backslash or NUL, no '/' in front")
    return key


def checked_prefix(prefix: str) -> str:
    """Return `prefix` if keys may begin with it; `ValueError` as `checked_key` if its folder is no key."""
    folder, _, _ = prefix.rpartition("/")
    if folder or prefix.startswith("/"):
        checked_key(folder)
    return prefix


def bucket_address(address: str) -> BucketAddress:
    """Return the bucket and prefix of ``s3://bucket`` or ``s3://bucket/prefix``.

    Raises
    ------
    ValueError
        If it is not such an address.
    """
    scheme, separator, rest = address.partition("://")
    bucket, _, prefix = rest.partition("/")
    prefix = prefix.removesuffix("/")
    if scheme != "s3" or not separator or not _BUCKET.fullmatch(bucket):
        raise ValueError(f"{address!r} is not the address of a bucket: s3://bucket or s3://bucket/prefix")
    return BucketAddress(bucket, checked_key(prefix) if prefix else "")
