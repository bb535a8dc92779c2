"""S3 clients: how one is made, what its errors mean, and how objects of any bucket are listed and read.

`s3_faults` turns boto3's errors into those of this project, which say whether trying again can help. The
store (`shared.store.s3`) and exposures in buckets (`shared.store.sources`) both stand on this module.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    IncompleteReadError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ReadTimeoutError,
    ResponseStreamingError,
    SSLError,
    TokenRetrievalError,
)
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from shared.errors import DarksError, EnvironmentFault, NoSpaceLeft, StoreUnavailable
from shared.settings.stage import BucketAccess

#: Error codes of a missing object (the answer to a HEAD has no body, so only the status).
MISSING = frozenset({"NoSuchKey", "NoSuchVersion", "404"})
#: Error codes of an `IfNoneMatch` or `IfMatch` that does not hold.
CONDITION_FAILED = frozenset({"PreconditionFailed", "412"})
#: Those who read many objects send 16 requests at once, and two of them may do so at a time.
_CONNECTIONS = 32

_CREDENTIALS = (
    "give this service valid credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile)"
)
_OWNERS = {
    "NoSuchBucket": "there is no such bucket; make it, or correct its name",
    "InvalidBucketName": "that is no name for a bucket; correct it",
    "AccessDenied": "access is denied; let these credentials list, read, write and delete there",
    "AllAccessDisabled": "access is denied; let these credentials list, read, write and delete there",
    "InvalidAccessKeyId": f"the access key is not known; {_CREDENTIALS}",
    "SignatureDoesNotMatch": f"the secret key is wrong; {_CREDENTIALS}",
    "ExpiredToken": f"the session token has expired; {_CREDENTIALS}",
    "InvalidToken": f"the session token is wrong; {_CREDENTIALS}",
    "RequestTimeTooSkewed": "this machine's clock is wrong; set it",
    "PermanentRedirect": "the bucket is in another region; set DARKS_S3_REGION",
    "AuthorizationHeaderMalformed": "the bucket is in another region; set DARKS_S3_REGION",
    "301": "the bucket is in another region; set DARKS_S3_REGION",
    "403": "access is denied; check the credentials, and what they are allowed there",
}
_FULL = frozenset({"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "507"})
_PASSING_STATUS = frozenset({408, 409, 425, 429})
#: Requests refused because they were damaged on the way or two clients wrote at once; botocore does not
#: repeat them.
_RESEND = frozenset(
    {"BadDigest", "XAmzContentSHA256Mismatch", "ConditionalRequestConflict", "OperationAborted", "409"}
)
_BROKEN_BODY = (IncompleteReadError, ReadTimeoutError, ResponseStreamingError)

#: Answers of a server that does not let us list versions, or keeps none.
_NO_VERSIONS = frozenset({"AccessDenied", "AllAccessDisabled", "403", "MethodNotAllowed", "NotImplemented"})

# boto3 shares one session among the clients of a process, and making clients from it is not thread-safe.
_making = threading.Lock()
_T = TypeVar("_T")


def make_client(settings: BucketAccess) -> Any:
    """Return a boto3 S3 client; boto3 finds its credentials in its usual places.

    Raises
    ------
    EnvironmentFault
        If the settings or the profile in the environment cannot be used.
    """
    ca: Path | None = settings.ca
    if ca is not None and not ca.is_file():
        raise EnvironmentFault(
            f"DARKS_S3_CA names {ca}: there is no such file; correct it",
            where=ca,
            setting="DARKS_S3_CA",
        )
    path_style = settings.path_style if settings.path_style is not None else bool(settings.endpoint)
    # By default boto3 sends checksums as trailers, which many S3 servers do not know; all know Content-MD5.
    config = Config(
        connect_timeout=settings.connect_timeout,
        read_timeout=settings.read_timeout,
        retries={"mode": "standard", "total_max_attempts": settings.attempts},
        s3={"addressing_style": "path" if path_style else "auto"},
        signature_version=UNSIGNED if settings.anonymous else None,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # Connections kept; boto3 keeps ten, and closes those above with a warning for each.
        max_pool_connections=_CONNECTIONS,
    )
    try:
        with _making:
            return boto3.client(
                "s3",
                endpoint_url=settings.endpoint,
                region_name=settings.region,
                verify=str(ca) if ca else None,
                config=config,
            )
    except (BotoCoreError, ValueError, OSError) as error:
        raise EnvironmentFault(
            f"no S3 client for {settings.endpoint or 'AWS'} can be made: {_one_line(error)}; "
            "correct the DARKS_S3_* settings and the AWS_* variables"
        ) from error


def code_of(error: ClientError) -> str:
    """Return the error code in S3's answer, such as ``NoSuchKey``."""
    return str(error.response.get("Error", {}).get("Code", ""))


def s3_fault(error: BotoCoreError | ClientError, where: str) -> DarksError:
    """Return the error to raise for a failure of boto3.

    Parameters
    ----------
    error : BotoCoreError or ClientError
    where : str
        The object or bucket, for the message.

    Returns
    -------
    StoreUnavailable
        If trying again may help (`NoSpaceLeft`: once there is room).
    EnvironmentFault
        If the owner of the bucket or of the settings must change something.
    """
    if isinstance(error, ClientError):
        code = code_of(error)
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        if code in _OWNERS:
            return EnvironmentFault(f"{where}: {_OWNERS[code]} (S3 answered {code})", where=where)
        if code in _FULL:
            return NoSpaceLeft(
                f"{where}: no space left (S3 answered {code}); make room or raise the quota", where=where
            )
        if status < 400 or status >= 500 or status in _PASSING_STATUS or code in _RESEND | {"RequestTimeout"}:
            return StoreUnavailable(
                f"{where}: {error.operation_name} failed, S3 answered {status} {code}; "
                "if this stays so, look at the store's own logs",
                where=where,
            )
        return EnvironmentFault(
            f"{where}: {error.operation_name} was refused, S3 answered {status} {code}; "
            "the store or its settings do not allow what is needed",
            where=where,
        )
    if isinstance(error, (NoCredentialsError, PartialCredentialsError, TokenRetrievalError)):
        return EnvironmentFault(f"{where}: no credentials were found; {_CREDENTIALS}", where=where)
    if isinstance(error, NoRegionError):
        return EnvironmentFault(
            f"{where}: no region is known; set DARKS_S3_REGION", where=where, setting="DARKS_S3_REGION"
        )
    if isinstance(error, SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        return EnvironmentFault(
            f"{where}: the server's certificate is not trusted; name its authority's file in DARKS_S3_CA",
            where=where,
            setting="DARKS_S3_CA",
        )
    return StoreUnavailable(
        f"{where}: the store did not answer ({_one_line(error)}); check that it runs and can be reached",
        where=where,
    )


@contextlib.contextmanager
def s3_faults(where: str) -> Iterator[None]:
    """Raise the errors of boto3 within the context as `s3_fault` gives them."""
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise s3_fault(error, where) from error


def persistently(attempts: int, call: Callable[[], _T]) -> _T:
    """Call `call`, again if its request or its answer was damaged on the way, and return its result.

    This adds to botocore's own retries, which cover failing servers but not damaged data.
    """
    tries: Retrying = Retrying(
        stop=stop_after_attempt(attempts),
        wait=wait_random_exponential(multiplier=0.1, max=5),
        retry=retry_if_exception(_may_pass),
        reraise=True,
    )
    return tries(call)


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, ClientError):
        return code_of(error) in _RESEND
    return isinstance(error, _BROKEN_BODY)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


class ListedObject(NamedTuple):
    """An object in a listing; `version` is None if the bucket keeps no versions."""

    key: str
    size: int
    etag: str
    version: str | None
    modified: datetime | None = None


def is_there(settings: BucketAccess, bucket: str, key: str, version: str | None) -> bool:
    """Return whether there is such an object; raises as `fetch` does."""
    with s3_faults(object_address(settings, bucket, key)):
        try:
            make_client(settings).head_object(**object_named(bucket, key, version))
        except ClientError as error:
            if code_of(error) in MISSING:
                return False
            raise
    return True


def list_objects(settings: BucketAccess, bucket: str, prefix: str, after: str = "") -> Iterator[ListedObject]:
    """Yield the objects whose keys begin with `prefix`, in ascending order, a page at a time.

    Only the newest version of an object counts, and a deleted object is not listed. Placeholders of folders
    (keys that end in a slash) are left out.

    Parameters
    ----------
    settings : BucketAccess
    bucket, prefix : str
    after : str
        Only keys after this one.

    Raises
    ------
    StoreUnavailable, EnvironmentFault
        See `s3_fault`.
    """
    client, named = make_client(settings), {"Bucket": bucket, "Prefix": prefix}
    with s3_faults(object_address(settings, bucket, prefix)):
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
                    yield ListedObject(
                        key, entry["Size"], entry["ETag"].strip('"'), version, entry.get("LastModified")
                    )
            page = next(pages, None)


def object_named(bucket: str, key: str, version: str | None) -> dict[str, Any]:
    """Return the parameters by which boto3 names an object, or one version of it."""
    return {"Bucket": bucket, "Key": key} | ({"VersionId": version} if version is not None else {})


def object_address(settings: BucketAccess, bucket: str, key: str) -> str:
    """Return where an object lies, for errors."""
    return f"s3://{bucket}/{key}" + (f" on {settings.endpoint}" if settings.endpoint else "")
