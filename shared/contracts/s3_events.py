"""S3 event notifications, read as announcements of exposures.

AWS, MinIO and Ceph send one form: a list ``Records``, in each the event's name, and under ``s3`` the
bucket's name and the object's key, size, ETag and version. AWS encodes the key as in a form's fields, MinIO
its slashes too, Ceph (``eventSource`` ``ceph:s3``) not at all. MinIO says name and key once more beside the
list; AWS first sends a test event, which has no list.
"""

import json
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Annotated, Any
from urllib.parse import quote, unquote_plus

from pydantic import AliasChoices, BaseModel, BeforeValidator, Field, ValidationError

from shared.errors import BadMessage
from shared.exposures import exposure_id
from shared.messages import Envelope, ExposureAnnounced
from shared.store.keys import bucket_address

_TEST = "s3:TestEvent"
_CREATED = "ObjectCreated"


def _none_if_empty(value: object) -> object:
    return value or None


class _Bucket(BaseModel):
    name: str


class _Object(BaseModel):
    key: str
    size: int | None = Field(default=None, ge=0)
    etag: str = Field(default="", validation_alias=AliasChoices("eTag", "etag"))
    # Unversioned buckets give none, "null", or (Ceph) nothing between the quotes.
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


class _Notification(BaseModel):
    records: list[_Record] = Field(alias="Records")


def announcements(body: bytes, pattern: str) -> list[Envelope] | None:
    """Read a message body as an S3 event notification.

    The same object version always gives the same message id, however often it is told of.

    Parameters
    ----------
    body : bytes
    pattern : str
        Only objects whose whole key fits it are announced; ``*`` stands for anything, ``/`` too.

    Returns
    -------
    list of Envelope or None
        An `exposure.announced` for every object that was made; none for other events. None if the body
        is no S3 event notification at all.

    Raises
    ------
    BadMessage
        If it looks like one and is not: a record is incomplete, or names no proper bucket and key.
    """
    raw = _json(body)
    if raw.get("Event") == _TEST and "Records" not in raw:
        return []
    if "Records" not in raw or "schema" in raw:
        return None
    try:
        records = _Notification.model_validate(raw).records
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise BadMessage(f"S3 event notification: {where}: {fault['msg']}"[:500]) from None
    found: dict[str, Envelope] = {}
    for record in records:
        # A key that ends in a slash stands for a folder.
        made = record.name.removeprefix("s3:").startswith(_CREATED) and not record.key.endswith("/")
        if made and fnmatchcase(record.key, pattern):
            message = _announcement(record)
            found.setdefault(str(message.id), message)
    return list(found.values())


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
        raise BadMessage(f"S3 event notification: {error}"[:500]) from None
    if key != record.key:
        raise BadMessage(f"S3 event notification: {record.s3.bucket.name[:100]!r} is no bucket's name")
    uri = f"s3://{bucket}/{quote(key)}"
    if entry.version not in (None, "null"):
        uri += f"?versionId={quote(entry.version or '', safe='')}"
    said = ExposureAnnounced(exposure_id=exposure_id(key), uri=uri, size=entry.size)
    message = Envelope.of(said, identity=f"{uri}#{entry.etag}")
    changes: dict[str, Any] = {"correlation_id": message.id}
    if record.time is not None:
        changes["time"] = record.time
    return message.model_copy(update=changes)
