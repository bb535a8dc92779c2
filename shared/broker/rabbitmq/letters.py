"""What one dead letter says, read from its message, and its record beside an exported body."""

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pika

from shared.broker.base import DeadLetter
from shared.broker.rabbitmq import wire
from shared.topology import BINDINGS, DELIVERY_LIMIT, HELD_FROM, HELD_QUEUE, dead_letter_queue

#: Dead-letter queue -> the queue that it stands beside.
SERVICE_QUEUES = {dead_letter_queue(queue): queue for queue in BINDINGS}

# It becomes the name of a file, and whoever published it may have chosen it.
_PLAIN_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
_DIGEST_LENGTH = 16
_COPIED = ("content_type", "content_encoding", "message_id", "correlation_id", "type", "timestamp", "app_id")
# The broker's counts, which grow each time that somebody looks (the second from 4.3 on).
_LOOKS = {"x-delivery-count", "x-acquired-count"}


@dataclass(frozen=True)
class StoredLetter:
    """A dead letter as it lies in its queue.

    Attributes
    ----------
    id : str
        The message's id where one can be read, else the beginning of its body's sha256. The same
        message may lie in several queues, or twice in one.
    letter : DeadLetter
    died : datetime or None
        When it was given up.
    properties : pika.BasicProperties
    tag : int
        Its delivery tag, while it is read.
    """

    id: str
    letter: DeadLetter
    died: datetime | None
    properties: Any
    tag: int

    @property
    def service_queue(self) -> str:
        """The queue that it came from."""
        return SERVICE_QUEUES[self.letter.queue]


def read_letter(queue: str, properties: Any, body: bytes, tag: int) -> StoredLetter:
    """Read a message of the dead-letter queue beside `queue`.

    A worker moved it there (with a reason), or the broker did (at its own limit).
    """
    headers = properties.headers or {}
    # The broker's count is here how often the dead letter was looked at.
    attempts = wire.attempts_before({wire.ATTEMPTS: headers.get(wire.ATTEMPTS)})
    reason, routing_key = headers.get(wire.REASON), headers.get(wire.ROUTING_KEY)
    died = _time(headers.get(wire.DIED))
    said = headers.get("x-death")
    # What is held back for a queue may expire before it gets there.
    places = {queue, HELD_QUEUE} if queue == HELD_FROM else {queue}
    deaths = [d for d in said if d.get("queue") in places] if isinstance(said, list) else []
    if reason is None and deaths:
        cause = deaths[0].get("reason")
        told = ": its consumer was lost at each delivery" if cause == "delivery_limit" else ""
        reason = f"dead-lettered by the broker ({cause}){told}"
        attempts += DELIVERY_LIMIT if cause == "delivery_limit" else 0
        routing_key = routing_key or (deaths[0].get("routing-keys") or [""])[0]
        died = _time(deaths[0].get("time"))
    letter = DeadLetter(
        body,
        str(routing_key or ""),
        dead_letter_queue(queue),
        str(reason or "unknown"),
        attempts,
        str(headers.get(wire.EVIDENCE) or ""),
    )
    return StoredLetter(_id(properties, body), letter, died, properties, tag)


def record_of(stored: StoredLetter) -> dict[str, Any]:
    """Return everything but the body, for a JSON file beside it."""
    letter, properties = stored.letter, stored.properties
    headers = {name: value for name, value in (properties.headers or {}).items() if name not in _LOOKS}
    said = {name: getattr(properties, name) for name in _COPIED}
    record = {
        "id": stored.id,
        "queue": letter.queue,
        "routing_key": letter.routing_key,
        "died": stored.died.isoformat() if stored.died else None,
        "attempts": letter.attempts,
        "reason": letter.reason,
        "evidence": letter.evidence,
        "size": len(letter.body),
        "sha256": hashlib.sha256(letter.body).hexdigest(),
        "properties": {name: value for name, value in said.items() if value is not None},
        "headers": headers,
    }
    plain: dict[str, Any] = json.loads(json.dumps(record, default=str))
    return plain


def revived(record: dict[str, Any], body: bytes) -> wire.Publication:
    """Return what brings a recorded letter back to its service's queue, as if nobody had tried it.

    Raises
    ------
    ValueError
        If it is not a record of `record_of`, or not of this body.
    """
    try:
        queue, key = SERVICE_QUEUES[record["queue"]], str(record["routing_key"])
        properties = {name: value for name, value in record["properties"].items() if name in _COPIED}
        headers, digest = dict(record["headers"]), record["sha256"]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"it is no record of a dead letter ({type(error).__name__}: {error})") from None
    if hashlib.sha256(body).hexdigest() != digest:
        raise ValueError("the body beside it has another sha256")
    return wire.afresh(queue, key, body, pika.BasicProperties(headers=headers, **properties))


def _id(properties: Any, body: bytes) -> str:
    candidates = [properties.message_id]
    try:
        said = json.loads(body)
        candidates.append(said.get("id") if isinstance(said, dict) else None)
    except (ValueError, RecursionError):
        pass
    for candidate in candidates:
        if isinstance(candidate, str) and _PLAIN_ID.fullmatch(candidate):
            return candidate
    return hashlib.sha256(body).hexdigest()[:_DIGEST_LENGTH]


def _time(said: object) -> datetime | None:
    if isinstance(said, datetime):
        # pika reads AMQP's timestamps as naive UTC.
        return said.replace(tzinfo=UTC)
    try:
        return datetime.fromtimestamp(said, UTC) if isinstance(said, int) else None
    except (OverflowError, ValueError, OSError):
        return None
