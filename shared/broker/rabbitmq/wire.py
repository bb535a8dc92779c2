"""Names and headers on the wire, and the copies of a message that are made on its way.

A message that failed is published again as a confirmed copy; then the original is acked. A crash between the
two leaves both: handlers are idempotent by their manifests, so a duplicate costs little, while a lost message
could not be recovered.
"""

import struct
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pika
from pika.data import encode_table
from pika.exceptions import AMQPError

from shared.contracts.bounds import in_utf8
from shared.contracts.messages import Envelope
from shared.contracts.routing import EXCHANGE, dead_letter_queue

ATTEMPTS = "x-darks-attempts"
REASON = "x-darks-reason"
EVIDENCE = "x-darks-evidence"
ROUTING_KEY = "x-darks-routing-key"
#: When a worker gave the message up, in s since 1970.
DIED = "x-darks-died"

#: A copy with the key ``<step>.<queue>`` waits in a delay queue and then returns to the queue in its key.
DELAY_EXCHANGE = f"{EXCHANGE}.delay"
RETURN_EXCHANGE = f"{EXCHANGE}.return"

#: Longest delay in s of each delay queue. A message waits behind the one before it, so each queue holds
# delays of
#: one order of magnitude: those of the worker's retries, and two for ``set.check``.
DELAY_STEPS = (1, 5, 25, 125, 3600)
#: The delay queue for anything longer.
LONG_DELAY = "long"
#: AMQP's largest expiration in s.
LONGEST_DELAY = (2**32 - 1) / 1000

_PERSISTENT = 2
_REASON_LENGTH = 4000
# All headers travel in one frame, which in RabbitMQ holds 128 KiB.
_EVIDENCE_LENGTH = 16_000
_OURS = frozenset({ATTEMPTS, REASON, EVIDENCE, ROUTING_KEY, DIED})
# In bytes; with four bytes a letter, reason and evidence fit.
_LONGEST_OF_OURS = 4 * _EVIDENCE_LENGTH + 1000
_LONGEST_HEADER = 1000
#: A stranger may claim any number of attempts; AMQP has none above 2^63.
_MOST_ATTEMPTS = 1_000_000
_MOST_HEADERS = 20
# CC and BCC would make the broker deliver a copy elsewhere as well.
_ADDRESSING = {"CC", "BCC"}


@dataclass(frozen=True)
class Publication:
    """One message to publish, and where to."""

    exchange: str
    routing_key: str
    body: bytes
    properties: Any
    mandatory: bool = True

    @property
    def what(self) -> str:
        """The message as an error names it."""
        key = (self.properties.headers or {}).get(ROUTING_KEY, self.routing_key)
        return f"{key} ({self.properties.message_id})" if self.properties.message_id else str(key)


def delay_step(delay: float) -> str:
    """Return the name of the step whose queue holds a message for `delay` seconds."""
    return next((str(step) for step in DELAY_STEPS if delay <= step), LONG_DELAY)


def delay_queue(step: str) -> str:
    """Return the name of a step's delay queue."""
    return f"{DELAY_EXCHANGE}.{step}"


def properties_of(message: Envelope) -> Any:
    """Return the AMQP properties of a message of ours."""
    return pika.BasicProperties(
        content_type="application/json",
        delivery_mode=_PERSISTENT,
        message_id=str(message.id),
        correlation_id=str(message.correlation_id),
        type=message.schema_name,
        timestamp=int(message.time.timestamp()),
        headers={"traceparent": message.traceparent} if message.traceparent else {},
    )


def delayed(
    queue: str, routing_key: str, body: bytes, properties: Any, delay: float, attempts: int | None = None
) -> Publication:
    """Return a copy that reaches `queue` after `delay` seconds, as if published under `routing_key`."""
    headers: dict[str, Any] = {ROUTING_KEY: routing_key}
    if attempts is not None:
        headers[ATTEMPTS] = attempts
    copied = copy_of(properties, headers)
    copied.expiration = str(max(1, round(delay * 1000)))
    return Publication(DELAY_EXCHANGE, f"{delay_step(delay)}.{queue}", body, copied)


def returned(queue: str, routing_key: str, body: bytes, properties: Any, attempts: int) -> Publication:
    """Return a copy for the end of `queue`, with its count of attempts unchanged."""
    headers = {ROUTING_KEY: routing_key, ATTEMPTS: attempts}
    return Publication("", queue, body, copy_of(properties, headers))


def dead(
    queue: str,
    routing_key: str,
    body: bytes,
    properties: Any,
    attempts: int,
    reason: str,
    evidence: str = "",
) -> Publication:
    """Return a copy for the dead-letter queue beside `queue`."""
    headers = {
        ROUTING_KEY: routing_key,
        ATTEMPTS: attempts,
        REASON: in_utf8(reason)[:_REASON_LENGTH],
        DIED: int(datetime.now(UTC).timestamp()),
    }
    if evidence:
        # The last lines of a traceback matter most.
        headers[EVIDENCE] = in_utf8(evidence)[-_EVIDENCE_LENGTH:]
    return Publication("", dead_letter_queue(queue), body, copy_of(properties, headers))


def reset(queue: str, routing_key: str, body: bytes, properties: Any) -> Publication:
    """Return a copy for the end of `queue` that counts as never tried."""
    copied = copy_of(properties, {ROUTING_KEY: routing_key})
    for name in (ATTEMPTS, REASON, EVIDENCE, DIED):
        copied.headers.pop(name, None)
    return Publication("", queue, body, copied)


def copy_of(properties: Any, headers: dict[str, Any]) -> Any:
    """Return the properties for a copy.

    They leave out what a stranger could have set to have the copy refused or sent elsewhere (user_id,
    reply_to, CC, a header that is too long or that AMQP cannot encode), and the broker's own x- headers,
    which the broker reads to detect cycles.
    """
    kept = {
        name: value
        for name, value in (properties.headers or {}).items()
        # pika hands on as bytes the name of a header that is no UTF-8.
        if isinstance(name, str)
        and name not in _ADDRESSING
        and name not in headers
        and (not name.startswith("x-") or name.startswith("x-darks-"))
        and _can_travel(name, value)
    }
    if len(kept) > _MOST_HEADERS:
        kept = {name: value for name, value in kept.items() if name.startswith("x-darks-")}
    return pika.BasicProperties(
        content_type=properties.content_type,
        content_encoding=properties.content_encoding,
        delivery_mode=_PERSISTENT,
        message_id=properties.message_id,
        correlation_id=properties.correlation_id,
        type=properties.type,
        timestamp=properties.timestamp,
        app_id=properties.app_id,
        headers=kept | headers,
    )


def _can_travel(name: str, value: Any) -> bool:
    """Return whether a header of a delivery can be sent on; our own are longer than a stranger's may be."""
    longest = _LONGEST_OF_OURS if name in _OURS else _LONGEST_HEADER
    pieces: list[bytes] = []
    try:
        return int(encode_table(pieces, {name: value})) <= longest
    except (AMQPError, ArithmeticError, TypeError, ValueError, struct.error):
        return False


def attempts_before(headers: dict[str, Any]) -> int:
    """Return how often a message failed before: our copies' count plus the broker's since the last copy.

    The broker counts rejects, closed channels and lost connections; at first it leaves the header out.
    """
    return _count(headers.get(ATTEMPTS)) + _count(headers.get("x-delivery-count"))


def _count(value: object) -> int:
    return min(max(0, value), _MOST_ATTEMPTS) if isinstance(value, int) else 0
