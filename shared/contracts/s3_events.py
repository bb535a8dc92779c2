"""S3 event notifications, read as announcements of exposures.

AWS, MinIO and Ceph send the same form: a list ``Records``, each with the event's name and, under ``s3``, the
bucket's name and the object's key, size, ETag and version. AWS encodes the key like the fields of an HTML
form, MinIO its slashes as well, Ceph (``eventSource`` ``ceph:s3``) not at all. MinIO repeats name and key
beside the list. AWS first sends a test event, which has no list.

Some servers do not know size and ETag yet when they send the event: RustFS sends 0 and null
(https://github.com/rustfs/rustfs/issues/1609). Both then count as not given.
"""

import json
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Annotated, Any
from urllib.parse import quote, unquote_plus

from pydantic import AliasChoices, BaseModel, BeforeValidator, Field, ValidationError

from shared.addresses import bucket_address
from shared.contracts.bounds import fault_of, is_plausible
from shared.contracts.messages import Envelope, ExposureAnnounced
from shared.errors import BadMessage
from shared.nircam.exposure_id import exposure_id, is_fits_name

_TEST = "s3:TestEvent"
_CREATED = "ObjectCreated"


def _none_if_empty(value: object) -> object:
    return value or None


class _Bucket(BaseModel):
    name: str


class _Object(BaseModel):
    key: str
    # No exposure has 0 bytes.
    size: Annotated[int | None, BeforeValidator(_none_if_empty)] = Field(default=None, ge=0)
    etag: Annotated[str | None, BeforeValidator(_none_if_empty)] = Field(
        default=None, max_length=200, validation_alias=AliasChoices("eTag", "etag")
    )
    sequencer: Annotated[str | None, BeforeValidator(_none_if_empty)] = None
    # Unversioned buckets omit it, or give "null" or (Ceph) an empty string.
    version: Annotated[str | None, BeforeValidator(_none_if_empty)] = Field(default=None, alias="versionId")


class _Entity(BaseModel):
    bucket: _Bucket
    object: _Object


class _Record(BaseModel):
    name: str = Field(alias="eventName")
    time: datetime | None = Field(default=None, alias="eventTime")
    source: str = Field(default="", alias="eventSource")
    s3: _Entity

    @property
    def key(self) -> str:
        """The object's key, decoded."""
        key = self.s3.object.key
        return key if self.source.startswith("ceph:") else unquote_plus(key)

    @property
    def mark(self) -> str:
        """What tells this content of the object from a later one: its ETag, else what marks the event."""
        entry = self.s3.object
        return entry.etag or entry.sequencer or (self.time.isoformat() if self.time is not None else "")


class _Notification(BaseModel):
    records: list[_Record] = Field(alias="Records")


def announcements(body: bytes, pattern: str | None = None) -> list[Envelope] | None:
    """Read a message body as an S3 event notification.

    The same version of an object always gives the same message id, however often it is notified.

    Parameters
    ----------
    body : bytes
    pattern : str, optional
        Only objects whose whole key matches it are announced; ``*`` matches anything, ``/`` included. By
        default those that `run` takes from a folder by their names, apart from hidden ones.

    Returns
    -------
    list of Envelope or None
        An `exposure.announced` for every object that was created, nothing for other events. None if the body
        is not an S3 event notification at all.

    Raises
    ------
    BadMessage
        If it looks like one but a record is incomplete, or its bucket or key is not valid.
    """
    raw = _json(body)
    if raw.get("Event") == _TEST and "Records" not in raw:
        return []
    if "Records" not in raw or "schema" in raw:
        return None
    unreadable = fault_of(raw)
    if unreadable is not None:
        raise BadMessage(f"S3 event notification: {unreadable}")
    try:
        records = _Notification.model_validate(raw).records
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise BadMessage(f"S3 event notification: {where}: {fault['msg']}"[:500], keyword=where) from None
    announced: dict[str, Envelope] = {}
    for record in records:
        # A key that ends in a slash stands for a folder.
        made = record.name.removeprefix("s3:").startswith(_CREATED) and not record.key.endswith("/")
        if made and _is_wanted(record.key, pattern):
            message = _announcement(record)
            announced.setdefault(str(message.id), message)
    return list(announced.values())


def _is_wanted(key: str, pattern: str | None) -> bool:
    if pattern is not None:
        return fnmatchcase(key, pattern)
    return is_fits_name(key) and not any(part.startswith(".") for part in key.split("/"))


def _json(body: bytes) -> dict[str, Any]:
    try:
        raw = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return raw if isinstance(raw, dict) else {}


def _announcement(record: _Record) -> Envelope:
    entry = record.s3.object
    try:
        bucket, key = bucket_address(f"s3://{record.s3.bucket.name}/{record.key}")
    except ValueError as error:
        raise BadMessage(f"S3 event notification: {error}"[:500], keyword="key") from None
    if key != record.key:
        raise BadMessage(
            f"S3 event notification: {record.s3.bucket.name[:100]!r} is not a bucket's name", keyword="bucket"
        )
    uri = f"s3://{bucket}/{quote(key)}"
    if entry.version not in (None, "null"):
        uri += f"?versionId={quote(entry.version or '', safe='')}"
    content = ExposureAnnounced(exposure_id=exposure_id(key), uri=uri, size=entry.size, etag=entry.etag)
    message = Envelope.of(content, identity=f"{uri}#{record.mark}")
    changes: dict[str, Any] = {"correlation_id": message.id}
    if record.time is not None and is_plausible(record.time):
        changes["time"] = record.time
    return message.model_copy(update=changes)
