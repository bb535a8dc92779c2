"""Keys of objects and ``s3://`` addresses: what is valid, and how an address is taken apart.

Both the settings and the stores need this, so it lies below them.
"""

import re
from typing import NamedTuple

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class BucketAddress(NamedTuple):
    """A bucket and a prefix of keys, without a slash at its end; an empty prefix means the whole bucket."""

    bucket: str
    prefix: str


def checked_key(key: str) -> str:
    """Return `key` if it is a valid key.

    Raises
    ------
    ValueError
        If it has an empty part, ``.``, ``..``, a backslash, a NUL, or a ``/`` at the start or the end.
    """
    if any(part in {"", ".", ".."} for part in key.split("/")) or "\\" in key or "\0" in key:
        raise ValueError(f"{key!r} is not a key: no empty part, '.', '..', backslash or NUL, no '/' in front")
    return key


def checked_prefix(prefix: str) -> str:
    """Return `prefix` if valid keys can begin with it; raises `ValueError` as `checked_key` does."""
    folder, _, _ = prefix.rpartition("/")
    if folder or prefix.startswith("/"):
        checked_key(folder)
    return prefix


def bucket_address(address: str) -> BucketAddress:
    """Return the bucket and the prefix of ``s3://bucket`` or ``s3://bucket/prefix``.

    Raises
    ------
    ValueError
        If `address` is not of this form.

    Examples
    --------
    >>> bucket_address("s3://darks/flight")
    BucketAddress(bucket='darks', prefix='flight')
    """
    scheme, separator, rest = address.partition("://")
    bucket, _, prefix = rest.partition("/")
    prefix = prefix.removesuffix("/")
    if scheme != "s3" or not separator or not _BUCKET.fullmatch(bucket):
        raise ValueError(f"{address!r} is not the address of a bucket: s3://bucket or s3://bucket/prefix")
    return BucketAddress(bucket, checked_key(prefix) if prefix else "")
