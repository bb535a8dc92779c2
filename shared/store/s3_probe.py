"""Finds out by trying which of S3's promises a server keeps."""

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from botocore.exceptions import ClientError

from shared.store.s3 import S3Store, content_md5
from shared.store.s3_client import CONDITION_FAILED, code_of, s3_faults

#: Keys that a probe writes, and removes, begin with this.
PROBE = "probe"
_WRITERS, _ROUNDS = 6, 3
_REFUSALS = frozenset({"BadDigest", "InvalidDigest", "ConditionalRequestConflict", "409", "NotImplemented"})


@dataclass(frozen=True)
class StoreCapabilities:
    """What a store can do. None of it is required: `S3Store` makes up for what is missing.

    Attributes
    ----------
    conditional_put : bool
        A put with If-None-Match is refused if there is an object.
    atomic : bool
        Exactly one of several concurrent puts of this kind succeeded, each time. Trying can show that this
        does not hold, never that it always does.
    content_md5 : bool
        A body that does not match its Content-MD5 is refused.
    ranged_reads : bool
        A part of an object can be read.
    """

    conditional_put: bool
    atomic: bool
    content_md5: bool
    ranged_reads: bool

    def __str__(self) -> str:
        def answer(holds: bool) -> str:
            return "yes" if holds else "no"

        return (
            f"If-None-Match {answer(self.conditional_put)}, atomic {answer(self.atomic)}, "
            f"Content-MD5 {answer(self.content_md5)}, ranged reads {answer(self.ranged_reads)}"
        )


def probe(store: S3Store) -> StoreCapabilities:
    """Find out what a store can do, and remove the objects written for that.

    This is also the first test that the bucket exists and may be written, read, listed and emptied.

    Parameters
    ----------
    store : S3Store

    Raises
    ------
    EnvironmentFault
        If the bucket or the credentials do not allow what is needed.
    StoreUnavailable
        If the store does not answer.
    """
    folder = f"{PROBE}/{uuid4().hex}"
    try:
        return _try_all(store, folder)
    finally:
        for key in list(store.list(f"{folder}/")):
            store.delete(key)


def _try_all(store: S3Store, folder: str) -> StoreCapabilities:
    body = hashlib.sha256(folder.encode()).digest() * 4096
    store.put(f"{folder}/object", body)

    def put(key: str, **more: str) -> Callable[[], Any]:
        at = store.address_of(f"{folder}/{key}")
        return lambda: store.client.put_object(Bucket=at.bucket, Key=at.key, Body=body, **more)

    def ranged() -> bool:
        at = store.address_of(f"{folder}/object")
        answer = store.client.get_object(Bucket=at.bucket, Key=at.key, Range="bytes=5-8")
        return bool(answer["Body"].read() == body[5:9])

    with s3_faults(store.address_of(folder).where):
        return StoreCapabilities(
            conditional_put=_refused(put("object", IfNoneMatch="*")),
            atomic=all(_winners(put(f"race-{n}", IfNoneMatch="*")) == 1 for n in range(_ROUNDS)),
            content_md5=_refused(put("damaged", ContentMD5=content_md5(b"something else"))),
            ranged_reads=ranged(),
        )


def _winners(put: Callable[[], Any]) -> int:
    """Return how many of several concurrent writers were told that they wrote."""
    start = threading.Barrier(_WRITERS)

    def write(_: int) -> bool:
        start.wait()
        return not _refused(put)

    with ThreadPoolExecutor(_WRITERS) as writers:
        return sum(writers.map(write, range(_WRITERS)))


def _refused(put: Callable[[], Any]) -> bool:
    try:
        put()
    except ClientError as error:
        if code_of(error) in CONDITION_FAILED | _REFUSALS:
            return True
        raise
    return False
