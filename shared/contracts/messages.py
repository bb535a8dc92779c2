"""The contracts between services: one model a routing key, in one versioned envelope."""

import json
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, Self
from uuid import UUID, uuid4, uuid5

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.configuration import ConfigurationKey
from shared.errors import BadMessage

#: Namespace of every message id, so that the same work announces itself under the same id.
NAMESPACE = UUID("6e1c1f0a-2b5e-5c0b-9c62-0d1f4a6c7e11")


class _Data(BaseModel):
    # A field that a newer minor version added is ignored.
    model_config = ConfigDict(extra="ignore", frozen=True)


class ObjectRef(_Data):
    """An object in the store: its key, size in bytes and sha256."""

    key: str
    size: int
    sha256: str


class ExposureAnnounced(_Data):
    """A new exposure lies at `uri`; `expected_exposures` is how many its set will have."""

    exposure_id: str
    uri: str
    size: int | None = None
    sha256: str | None = None
    expected_exposures: int | None = Field(default=None, ge=1)


class SetMember(_Data):
    """One calibrated exposure of a set. `start_mjd` and `end_mjd` are UTC days."""

    exposure_id: str
    manifest: str
    ramp: ObjectRef
    integrations: int = Field(ge=1)
    start_mjd: float
    end_mjd: float

    @property
    def product(self) -> str:
        """The ramp's product key, which its manifest's folder is called by.

        It says what the ramp was made from. Its bytes also hold when it was made, so they differ from
        one making to the next.
        """
        return PurePosixPath(self.manifest).parent.name


class ExposureIngested(_Data):
    """A calibrated, jump-flagged ramp is in the store. `gain` is its median gain in e-/DN."""

    configuration: str
    key: ConfigurationKey
    member: SetMember
    gain: float
    simulated: bool
    versions: dict[str, str]


class ExposureRejected(_Data):
    """An exposure failed `check`; `reason` is for a person."""

    exposure_id: str
    uri: str
    check: str
    reason: str
    configuration: str | None = None


class SetReady(_Data):
    """A set is complete. `set_id` is the hash of its sorted members."""

    configuration: str
    key: ConfigurationKey
    set_id: str
    members: list[SetMember] = Field(min_length=1)
    gain: float
    simulated: bool


class SetCheck(_Data):
    """Ask whether a configuration's sets are complete by now.

    Attributes
    ----------
    final : bool
        True if the sender knows that no exposure is still to come.
    exposure_ids : list of str or None
        Only these exposures make up the sets; None: every one in the store.
    scheduled_at : datetime
        An exposure that came after this has a check of its own on the way.
    """

    configuration: str
    scheduled_at: datetime
    final: bool = False
    exposure_ids: list[str] | None = None


class ReferenceBuilt(_Data):
    """A dark reference file was built; `verdict` compares its dark current with what is expected.

    `dark_current_error_e_per_ks` is the dark current's own error, 1 sigma; null in messages that were made
    before it was there.
    `accepted` is the verdict of its verification, `verification` says it in a sentence; both are null where
    nobody verified it. What is not accepted is kept for people to look at, and is not to be delivered.
    """

    configuration: str
    set_id: str
    reference: ObjectRef
    manifest: str
    mode: str
    dark_current_e_per_ks: float
    dark_current_error_e_per_ks: float | None = None
    verdict: str
    accepted: bool | None = None
    verification: str | None = None


class NoiseMeasured(_Data):
    """Noise was measured for an exposure (`exposure_id`) or a set (`set_id`)."""

    configuration: str
    manifest: str
    exposure_id: str | None = None
    set_id: str | None = None
    headline: dict[str, float | None]
    verdict: str


SCHEMAS: dict[str, type[_Data]] = {
    "exposure.announced": ExposureAnnounced,
    "exposure.ingested": ExposureIngested,
    "exposure.rejected": ExposureRejected,
    "set.ready": SetReady,
    "set.check": SetCheck,
    "reference.built": ReferenceBuilt,
    "noise.measured": NoiseMeasured,
}
#: Bytes of the largest body that is read: that of `set.ready` with some 20 000 exposures.
LARGEST_BODY = 8 * 1024**2
_NAMES = {model: name for name, model in SCHEMAS.items()}
VERSION = "1.0"


class Envelope(BaseModel):
    """One message as it travels; the schema's name is its routing key.

    Attributes
    ----------
    id : UUID
        The same work has the same id.
    correlation_id : UUID
        Shared by every message that one announcement led to.
    traceparent : str or None
        W3C trace context, handed on.
    data : dict
        The body; `content` gives it as its model.
    """

    # JSON has no NaN; "NaN" is read back as one, where null would not be.
    model_config = ConfigDict(extra="ignore", frozen=True, ser_json_inf_nan="strings")

    schema_name: str = Field(alias="schema", serialization_alias="schema")
    version: str = VERSION
    id: UUID
    correlation_id: UUID
    time: datetime
    traceparent: str | None = None
    data: dict[str, Any]

    @classmethod
    def of(cls, data: _Data, identity: str, cause: Self | None = None) -> Self:
        """Wrap a body.

        Parameters
        ----------
        data : one of the models of `SCHEMAS`
        identity : str
            What makes this the same message when it is said again, such as a product key.
        cause : Envelope, optional
            The message that led to this one; its correlation id and trace are handed on.
        """
        name = _NAMES[type(data)]
        return cls(
            schema=name,
            id=uuid5(NAMESPACE, f"{name}:{identity}"),
            correlation_id=cause.correlation_id if cause else uuid4(),
            time=datetime.now(UTC),
            traceparent=cause.traceparent if cause else None,
            data=data.model_dump(mode="json"),
        )

    @property
    def content(self) -> Any:
        """The body as its model from `SCHEMAS`.

        Raises
        ------
        BadMessage
            If the body does not fit its schema.
        """
        try:
            return SCHEMAS[self.schema_name].model_validate(self.data)
        except ValidationError as error:
            raise _bad({"id": self.id, "schema": self.schema_name}, _first_fault(error)) from error

    def encode(self) -> bytes:
        """Return the JSON body."""
        return self.model_dump_json(by_alias=True).encode()


def require_size(body: bytes) -> None:
    """Refuse a body that is too large to be one of ours, before anybody reads it.

    Raises
    ------
    BadMessage
        If it has more bytes than `LARGEST_BODY`.
    """
    if len(body) > LARGEST_BODY:
        raise BadMessage(
            f"the message has {len(body)} bytes and was not read; at most {LARGEST_BODY} are: "
            "announce where an exposure lies, do not send it"
        )


def parse(body: bytes) -> Envelope:
    """Read a message body.

    Raises
    ------
    BadMessage
        If it is too large, not JSON, not an envelope, of an unknown schema or major version, or does not fit
        its schema. Says which, and the message id where there is one.
    """
    require_size(body)
    try:
        raw = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"the message is not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise BadMessage("the message is not a JSON object")
    name = raw.get("schema")
    if not isinstance(name, str) or name not in SCHEMAS:
        raise _bad(raw, f"unknown schema {name!r}; known: {', '.join(SCHEMAS)}")
    version = str(raw.get("version", ""))
    if version.split(".")[0] != VERSION.split(".")[0]:
        raise _bad(
            raw,
            f"version {version!r} has another major than {VERSION}; "
            "upgrade this service, then replay the message",
        )
    try:
        envelope = Envelope.model_validate(raw)
    except ValidationError as error:
        raise _bad(raw, _first_fault(error)) from error
    _ = envelope.content
    return envelope


def _bad(raw: dict[str, Any], fault: str) -> BadMessage:
    # What a stranger wrote is quoted, in one line of bounded length.
    said = f"message {raw.get('id')} ({raw.get('schema')}): "
    return BadMessage(" ".join(said.split())[:150] + f" {' '.join(fault.split())[:400]}")


def _first_fault(error: ValidationError) -> str:
    fault = error.errors()[0]
    return f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
