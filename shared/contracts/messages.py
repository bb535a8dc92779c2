"""The contracts between services: one model per routing key, in one versioned envelope."""

import json
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, Self
from uuid import UUID, uuid4, uuid5

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from shared.contracts.bounds import TRACEPARENT, fault_of, in_utf8, is_plausible
from shared.errors import BadMessage
from shared.nircam.configuration import ConfigurationKey
from shared.statistics.verdicts import Acceptance, HasVerdict, Measured, VerificationVerdict, with_acceptance

#: Namespace of all message ids, so that the same work always has the same id.
NAMESPACE = UUID("6e1c1f0a-2b5e-5c0b-9c62-0d1f4a6c7e11")


class MessageData(BaseModel):
    """The body of a message; see `SCHEMAS`."""

    # Fields that a newer minor version added are ignored.
    model_config = ConfigDict(extra="ignore", frozen=True)


class ObjectRef(MessageData):
    """An object in the store: its key, size in bytes and sha256."""

    key: str
    size: int
    sha256: str


class ExposureAnnounced(MessageData):
    """A new exposure is at `uri`; its set will have `expected_exposures` exposures.

    `etag` is that of an object in a bucket, as the bucket's event has it (since 1.2).
    """

    exposure_id: str
    uri: str
    size: int | None = None
    sha256: str | None = None
    etag: str | None = Field(default=None, max_length=200)
    expected_exposures: int | None = Field(default=None, ge=1)


class SetMember(MessageData):
    """One calibrated exposure of a set. `start_mjd` and `end_mjd` are UTC days."""

    exposure_id: str
    manifest: str
    ramp: ObjectRef
    integrations: int = Field(ge=1)
    start_mjd: float
    end_mjd: float

    @property
    def product(self) -> str:
        """The product key of the ramp, which names the folder of its manifest.

        It identifies what the ramp was made from. The bytes of the ramp do not: they contain the
        time at which it was made.
        """
        return PurePosixPath(self.manifest).parent.name


class ExposureIngested(MessageData):
    """A calibrated, jump-flagged ramp is in the store. `gain` is its median gain in e-/DN."""

    configuration: str
    key: ConfigurationKey
    member: SetMember
    gain: float
    simulated: bool
    versions: dict[str, str]


class ExposureRejected(MessageData):
    """An exposure failed `check`; `reason` is a sentence for people."""

    exposure_id: str
    uri: str
    check: str
    reason: str
    configuration: str | None = None


class SetReady(MessageData):
    """A set is complete. `set_id` is the hash of its sorted members."""

    configuration: str
    key: ConfigurationKey
    set_id: str
    members: list[SetMember] = Field(min_length=1)
    gain: float
    simulated: bool

    @field_validator("members")
    @classmethod
    def _each_once(cls, members: list[SetMember]) -> list[SetMember]:
        # A ramp that counts twice would make the errors of a reference too small.
        if len({member.product for member in members}) < len(members):
            raise ValueError("a ramp is named twice")
        return members


class SetCheck(MessageData):
    """Ask whether the sets of a configuration are complete by now.

    Attributes
    ----------
    final : bool
        True if the sender knows that no further exposure will come.
    exposure_ids : list of str or None
        The exposures that make up the sets; None: all in the store.
    scheduled_at : datetime
        An exposure ingested later has a check of its own under way.
    seen : str or None
        What had arrived of the configuration when the check was scheduled (`arrivals_token`; since 1.2). The
        configuration has settled if that is still all. Without it, `scheduled_at` decides, which is right
        only where the clocks of all machines agree.
    shared : bool
        Whether all exposures of the configuration that wait for it to settle share this check; `seen` then
        stands for these only (since 1.2).
    announced : bool
        Of a shared check: whether their sets have been announced since (since 1.2).
    concerning : list of str or None
        Only the sets of epochs to which these exposures belong (since 1.2); None: all.
    held : int
        How often the check was passed on because exposures of its set were to be made again (since 1.2).
    """

    configuration: str
    scheduled_at: datetime
    final: bool = False
    exposure_ids: list[str] | None = None
    seen: str | None = None
    shared: bool = False
    announced: bool = False
    concerning: list[str] | None = None
    held: int = Field(default=0, ge=0)


class ReferenceBuilt(HasVerdict, MessageData):
    """A dark reference file was built.

    Attributes
    ----------
    dark_current_e_per_ks, dark_current_error_e_per_ks : float, float or None
        e- per 1000 s; 1 sigma, null in messages of before it was sent.
    comparison, verdict : Verdict, str
        The dark current against its expectation (since 1.1), and the same as a sentence.
    acceptance : Acceptance or None
        What its verification came to (since 1.2): accepted, held or rejected; null where it was not verified.
        A reference that is held or rejected is kept to be looked at, and must not be delivered.
    accepted : bool or None
        Whether `acceptance` is accepted.
    verification_outcome, verification : VerificationVerdict or None, str or None
        What the checks came to (since 1.1), and the same as a sentence.
    figures : dict of str to Measured
        Since 1.1: each figure with its error, expectation and typed verdict; empty in earlier messages.
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
    acceptance: Acceptance | None = None
    verification: str | None = None
    verification_outcome: VerificationVerdict | None = None
    figures: dict[str, Measured] = {}

    _of_1_1 = model_validator(mode="before")(with_acceptance)


class NoiseMeasured(MessageData):
    """Noise was measured for an exposure (`exposure_id`) or a set (`set_id`).

    Attributes
    ----------
    headline : dict of str to float or None
        Values of figures, by their names in ``summary.json``.
    verdict : str
        How they compare with their expectations, as a sentence.
    figures : dict of str to Measured
        Since 1.1: each figure with its error, expectation and typed verdict; empty in earlier messages.
    """

    configuration: str
    manifest: str
    exposure_id: str | None = None
    set_id: str | None = None
    headline: dict[str, float | None]
    verdict: str
    figures: dict[str, Measured] = {}


SCHEMAS: dict[str, type[MessageData]] = {
    "exposure.announced": ExposureAnnounced,
    "exposure.ingested": ExposureIngested,
    "exposure.rejected": ExposureRejected,
    "set.ready": SetReady,
    "set.check": SetCheck,
    "reference.built": ReferenceBuilt,
    "noise.measured": NoiseMeasured,
}
#: Largest body that is read, in bytes: a `set.ready` of about 20 000 exposures.
LARGEST_BODY = 8 * 1024**2
_NAMES = {model: name for name, model in SCHEMAS.items()}
VERSION = "1.2"


class Envelope(BaseModel):
    """A message as it travels; the name of its schema is its routing key.

    Attributes
    ----------
    id : UUID
        The same for the same work, also when it is done again.
    correlation_id : UUID
        Shared by all messages that follow from one announcement.
    traceparent : str or None
        W3C trace context, passed on to the messages that follow.
    data : dict
        The body; `content` parses it.
    """

    # JSON has no NaN. The string "NaN" is read back as one; null would not be.
    model_config = ConfigDict(extra="ignore", frozen=True, ser_json_inf_nan="strings")

    schema_name: str = Field(alias="schema", serialization_alias="schema")
    version: str = VERSION
    id: UUID
    correlation_id: UUID
    time: datetime
    traceparent: str | None = None
    data: dict[str, Any]

    @field_validator("time")
    @classmethod
    def _plausible(cls, time: datetime) -> datetime:
        if not is_plausible(time):
            raise ValueError(f"{time.isoformat()} is no time of a message")
        return time

    @field_validator("traceparent")
    @classmethod
    def _w3c(cls, traceparent: str | None) -> str | None:
        # A trace is a convenience: a message whose trace context is unreadable is served without.
        return traceparent if traceparent is None or TRACEPARENT.fullmatch(traceparent) else None

    @classmethod
    def of(cls, data: MessageData, identity: str, cause: Self | None = None) -> Self:
        """Wrap a body.

        Parameters
        ----------
        data : MessageData
            One of the models of `SCHEMAS`.
        identity : str
            What the message's id is made from, such as a product key: equal for the same work.
        cause : Envelope, optional
            The message that led to this one. Its correlation id and trace context are passed on.
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
            raise _bad({"id": self.id, "schema": self.schema_name}, *_first_fault(error)) from error

    def encode(self) -> bytes:
        """Return the JSON body."""
        return self.model_dump_json(by_alias=True).encode()


def require_size(body: bytes) -> None:
    """Refuse a body that is too large to be one of ours, before it is parsed.

    Raises
    ------
    BadMessage
        If it has more bytes than `LARGEST_BODY`.
    """
    if len(body) > LARGEST_BODY:
        raise BadMessage(
            f"the message has {len(body)} bytes and was not read; at most {LARGEST_BODY} are allowed: "
            "announce the address of an exposure, do not send the exposure itself"
        )


def parse(body: bytes) -> Envelope:
    """Parse the body of a message.

    Parameters
    ----------
    body : bytes
        UTF-8 JSON.

    Returns
    -------
    Envelope
        Its `content` is valid.

    Raises
    ------
    BadMessage
        If the body is too large, not JSON, not an envelope, of an unknown schema or major version, or does
        not fit its schema. The error says which, and names the message id if there is one.
    """
    require_size(body)
    try:
        raw = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"the message is not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise BadMessage("the message is not a JSON object")
    fault = fault_of(raw)
    if fault is not None:
        raise BadMessage(f"the message was not read: {fault}")
    name = raw.get("schema")
    if not isinstance(name, str) or name not in SCHEMAS:
        raise _bad(raw, "schema", f"unknown schema {name!r}; known: {', '.join(SCHEMAS)}")
    version = str(raw.get("version", ""))
    if version.split(".")[0] != VERSION.split(".")[0]:
        raise _bad(
            raw,
            "version",
            f"version {version!r} has another major version than {VERSION}; "
            "upgrade this service, then replay the message",
        )
    try:
        envelope = Envelope.model_validate(raw)
    except ValidationError as error:
        raise _bad(raw, *_first_fault(error)) from error
    _ = envelope.content
    return envelope


def _bad(raw: dict[str, Any], keyword: str, fault: str) -> BadMessage:
    # Foreign text is quoted in one line of bounded length.
    name = in_utf8(f"message {raw.get('id')} ({raw.get('schema')}): ")
    sentence = " ".join(name.split())[:150] + f" {' '.join(fault.split())[:400]}"
    return BadMessage(sentence, where=str(raw.get("id"))[:150], keyword=keyword)


def _first_fault(error: ValidationError) -> tuple[str, str]:
    """Return the first invalid field, and what is wrong with it."""
    fault = error.errors()[0]
    field = ".".join(str(part) for part in fault["loc"])
    return field, f"{field}: {fault['msg']}"
