"""S3 clients, and what their errors say about whether trying again can help."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

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
from shared.settings import BucketAccess

#: What S3 answers where there is no such object (a HEAD has no body to say more in).
MISSING = frozenset({"NoSuchKey", "NoSuchVersion", "404"})
#: What it answers to `IfNoneMatch` or `IfMatch` where the condition does not hold.
CONDITION_FAILED = frozenset({"PreconditionFailed", "412"})

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
#: Refused because it was damaged on the way, or because two wrote at once: botocore does not resend these.
_RESEND = frozenset(
    {"BadDigest", "XAmzContentSHA256Mismatch", "ConditionalRequestConflict", "OperationAborted", "409"}
)
_BROKEN_BODY = (IncompleteReadError, ReadTimeoutError, ResponseStreamingError)

# boto3 shares one session among a process's clients, and making clients of it is not thread-safe.
_making = threading.Lock()
_T = TypeVar("_T")


def make_client(settings: BucketAccess) -> Any:
    """Return a boto3 S3 client; its credentials come from boto3's own chain.

    Raises
    ------
    EnvironmentFault
        If the settings or the profile in the environment cannot be used.
    """
    if settings.ca is not None and not settings.ca.is_file():
        raise EnvironmentFault(f"DARKS_S3_CA names {settings.ca}: there is no such file; correct it")
    path_style = settings.path_style if settings.path_style is not None else bool(settings.endpoint)
    # Left to itself it sends checksums as trailers, which many S3 servers do not know; Content-MD5 all do.
    config = Config(
        connect_timeout=settings.connect_timeout,
        read_timeout=settings.read_timeout,
        retries={"mode": "standard", "total_max_attempts": settings.attempts},
        s3={"addressing_style": "path" if path_style else "auto"},
        signature_version=UNSIGNED if settings.anonymous else None,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    try:
        with _making:
            return boto3.client(
                "s3",
                endpoint_url=settings.endpoint,
                region_name=settings.region,
                verify=str(settings.ca) if settings.ca else None,
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


def fault_of(error: BotoCoreError | ClientError, where: str) -> DarksError:
    """Return what an error means to whoever used the object or bucket `where`.

    Returns
    -------
    StoreUnavailable
        Trying again may help (`NoSpaceLeft`: once there is room).
    EnvironmentFault
        The owner of the bucket or of the settings must change something.
    """
    if isinstance(error, ClientError):
        code = code_of(error)
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        if code in _OWNERS:
            return EnvironmentFault(f"{where}: {_OWNERS[code]} (S3 answered {code})")
        if code in _FULL:
            return NoSpaceLeft(f"{where}: no space left (S3 answered {code}); make room or raise the quota")
        if status < 400 or status >= 500 or status in _PASSING_STATUS or code in _RESEND | {"RequestTimeout"}:
            return StoreUnavailable(
                f"{where}: {error.operation_name} failed, S3 answered {status} {code}; "
                "if this stays so, look at the store's own logs"
            )
        return EnvironmentFault(
            f"{where}: {error.operation_name} was refused, S3 answered {status} {code}; "
            "the store or its settings do not allow what is needed"
        )
    if isinstance(error, (NoCredentialsError, PartialCredentialsError, TokenRetrievalError)):
        return EnvironmentFault(f"{where}: no credentials were found; {_CREDENTIALS}")
    if isinstance(error, NoRegionError):
        return EnvironmentFault(f"{where}: no region is known; set DARKS_S3_REGION")
    if isinstance(error, SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        return EnvironmentFault(
            f"{where}: the server's certificate is not trusted; name its authority's file in DARKS_S3_CA"
        )
    return StoreUnavailable(
        f"{where}: the store did not answer ({_one_line(error)}); check that it runs and can be reached"
    )


@contextlib.contextmanager
def s3_faults(where: str) -> Iterator[None]:
    """Raise what boto3 raises as the fault it means at `where`, see `fault_of`."""
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise fault_of(error, where) from error


def persistently(attempts: int, call: Callable[[], _T]) -> _T:
    """Return what `call` gives, called again where its request or its answer broke on the way.

    This is beside botocore's own retries, which know servers that fail but not damaged data.
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
