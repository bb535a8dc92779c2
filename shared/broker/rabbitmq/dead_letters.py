"""Dead letters: read those of a queue, replay or remove them, and write or read their records on disk.

`read_letter` reads one from its AMQP message; `record_of` and `revived` write it to a JSON record and back;
`DeadLetterQueues` walks through the queues.
"""

import hashlib
import json
import re
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pika
from pika.exceptions import ChannelClosedByBroker

from shared.broker.base import DeadLetter
from shared.broker.rabbitmq import wire
from shared.broker.rabbitmq.connection import Session
from shared.broker.rabbitmq.publisher import Publisher
from shared.contracts.routing import (
    BINDINGS,
    DELIVERY_LIMIT,
    EXCHANGE,
    HELD_FROM,
    HELD_QUEUE,
    dead_letter_queue,
)
from shared.errors import TransientError
from shared.settings.broker import BrokerSettings

#: Dead-letter queue -> the queue that it stands beside.
SERVICE_QUEUES = {dead_letter_queue(queue): queue for queue in BINDINGS}

# An id becomes a file's name, and whoever published the message may have chosen it.
_PLAIN_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
_DIGEST_LENGTH = 16
_COPIED = ("content_type", "content_encoding", "message_id", "correlation_id", "type", "timestamp", "app_id")
# The broker's own counts grow each time that somebody looks (the second exists from RabbitMQ 4.3 on).
_LOOKS = {"x-delivery-count", "x-acquired-count"}


#: An exclusive queue serves as a lock: it is deleted with the connection that made it, however that ends.
_IN_USE = f"{EXCHANGE}.dead-letters.in-use"
_RESOURCE_LOCKED = 405
# Returned letters keep their order as long as the broker passes each return on to the queue at once. Once 32
# are under way it gathers them, in no particular order.
_RETURNED_AT_ONCE = 16
_RETURN_SECONDS = 10.0
_RETURN_POLL = 0.005


@dataclass(frozen=True)
class StoredLetter:
    """A dead letter in its queue.

    Attributes
    ----------
    id : str
        The message's id if it has one that can be read, else the beginning of its body's sha256. The same
        message may be in several queues, or twice in one.
    letter : DeadLetter
    died : datetime or None
        When it was given up.
    properties : pika.BasicProperties
    tag : int
        Its delivery tag while the queue is being read.
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
    # The broker's own count does not apply: it says how often the dead letter was looked at.
    attempts = wire.attempts_before({wire.ATTEMPTS: headers.get(wire.ATTEMPTS)})
    reason, routing_key = headers.get(wire.REASON), headers.get(wire.ROUTING_KEY)
    died = _time(headers.get(wire.DIED))
    history = headers.get("x-death")
    # An announcement may expire in the held queue, before it reaches its own.
    places = {queue, HELD_QUEUE} if queue == HELD_FROM else {queue}
    deaths = [d for d in history if d.get("queue") in places] if isinstance(history, list) else []
    if reason is None and deaths:
        cause = deaths[0].get("reason")
        detail = ": its consumer was lost at each delivery" if cause == "delivery_limit" else ""
        reason = f"dead-lettered by the broker ({cause}){detail}"
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
    """Return everything but the body, as JSON values for a file beside the body's."""
    letter, properties = stored.letter, stored.properties
    headers = {name: value for name, value in (properties.headers or {}).items() if name not in _LOOKS}
    copied = {name: getattr(properties, name) for name in _COPIED}
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
        "properties": {name: value for name, value in copied.items() if value is not None},
        "headers": headers,
    }
    plain: dict[str, Any] = json.loads(json.dumps(record, default=str))
    return plain


def revived(record: dict[str, Any], body: bytes) -> wire.Publication:
    """Return the message that brings a recorded letter back to its service's queue, its attempts forgotten.

    Raises
    ------
    ValueError
        If `record` was not made by `record_of`, or does not belong to `body`.
    """
    try:
        queue, key = SERVICE_QUEUES[record["queue"]], str(record["routing_key"])
        properties = {name: value for name, value in record["properties"].items() if name in _COPIED}
        headers, digest = dict(record["headers"]), record["sha256"]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"it is not a record of a dead letter ({type(error).__name__}: {error})") from None
    if hashlib.sha256(body).hexdigest() != digest:
        raise ValueError("the body beside it has another sha256")
    return wire.reset(queue, key, body, pika.BasicProperties(headers=headers, **properties))


def _id(properties: Any, body: bytes) -> str:
    candidates = [properties.message_id]
    try:
        content = json.loads(body)
        candidates.append(content.get("id") if isinstance(content, dict) else None)
    except (ValueError, RecursionError):
        pass
    for candidate in candidates:
        if isinstance(candidate, str) and _PLAIN_ID.fullmatch(candidate):
            return candidate
    return hashlib.sha256(body).hexdigest()[:_DIGEST_LENGTH]


def _time(value: object) -> datetime | None:
    if isinstance(value, datetime):
        # pika reads AMQP timestamps as naive UTC.
        return value.replace(tzinfo=UTC)
    try:
        return datetime.fromtimestamp(value, UTC) if isinstance(value, int) else None
    except (OverflowError, ValueError, OSError):
        return None


class DeadLetterQueues(AbstractContextManager["DeadLetterQueues", None]):
    """The dead-letter queues of one broker, for one command at a time.

    While a queue is read, its letters are held unacked; at the end they return to the queue, in order if it
    was read to the end. (A broker puts returned messages behind those returned earlier. If reading is
    interrupted or this process dies, the order is lost, and nothing else.) Services may go on working
    meanwhile.

    Parameters
    ----------
    settings : BrokerSettings

    Raises
    ------
    TransientError
        If the broker cannot be reached, or another command is reading its dead letters.
    EnvironmentFault
        If the broker refuses.
    """

    def __init__(self, settings: BrokerSettings) -> None:
        self._publisher = Publisher(settings)
        self._session = Session(settings, "dead letters")
        self._reading = ""
        # Delivery tags in order; a dict serves as an ordered set.
        self._unacked: dict[int, None] = {}
        try:
            self._session.channel.queue_declare(_IN_USE, exclusive=True, auto_delete=True)
        except ChannelClosedByBroker as error:
            self._session.close()
            if error.reply_code != _RESOURCE_LOCKED:
                raise TransientError(f"{settings.where} refuses the queue {_IN_USE}: {error}") from None
            raise TransientError(
                f"another command is reading the dead letters at {settings.where}; try again once it ends",
                where=settings.where,
            ) from None

    def letters(self, queue: str) -> Iterator[StoredLetter]:
        """Yield the dead letters of `queue`, oldest first, with one body in memory at a time.

        Letters that arrive meanwhile, such as a replayed one that failed again, are not read.
        """
        self._reading = dead = dead_letter_queue(queue)
        left = self._session.ready(dead)
        try:
            while left > 0:
                method, properties, body = self._session.ask("basic_get", dead)
                if method is None:
                    return
                left -= 1
                self._unacked[method.delivery_tag] = None
                yield read_letter(queue, properties, body, method.delivery_tag)
        finally:
            self._return_letters()

    def replay(self, stored: StoredLetter) -> None:
        """Publish a copy, its attempts forgotten, to its service's queue; once confirmed, remove the letter.

        Between the two it is in both queues; handlers do nothing twice.

        Raises
        ------
        PublishFailed
            If the copy was not confirmed; the letter stays.
        """
        letter = stored.letter
        self.publish(wire.reset(stored.service_queue, letter.routing_key, letter.body, stored.properties))
        self.remove(stored)

    def publish(self, publication: wire.Publication) -> None:
        """Publish and wait for the confirm; raise `PublishFailed` without one."""
        self._publisher.publish(publication)

    def remove(self, stored: StoredLetter) -> None:
        """Remove a letter of the queue that is being read."""
        self._session.ask("basic_ack", stored.tag)
        del self._unacked[stored.tag]

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; letters that were being read return to their queue."""
        self._publisher.close()
        self._return_letters()
        if self._session.is_open:
            # The broker removes an exclusive queue some time after its connection ended; the next command
            # would be refused until then.
            with suppress(TransientError):
                self._session.ask("queue_delete", _IN_USE)
        self._session.close()

    def _return_letters(self) -> None:
        dead, tags, self._unacked = self._reading, list(self._unacked), {}
        if not tags or not self._session.is_open:
            return
        waiting = self._session.ready(dead)
        deadline = time.monotonic() + _RETURN_SECONDS
        for at in range(0, len(tags), _RETURNED_AT_ONCE):
            some = tags[at : at + _RETURNED_AT_ONCE]
            self._session.ask("basic_nack", some[-1], multiple=True, requeue=True)
            # Wait until they are back, so that the next reader finds all of them.
            while self._session.ready(dead) < waiting + at + len(some) and time.monotonic() < deadline:
                self._session.rest(_RETURN_POLL)
