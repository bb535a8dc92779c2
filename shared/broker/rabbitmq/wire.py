"""Names and headers on the wire, and the copies of a message that are made on its way.

A message that failed goes on as a confirmed copy, after which the original is acked. A crash between
the two leaves both: handlers are idempotent by their manifest, so a double costs little, where a loss
could not be made good.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pika

from shared.messages import Envelope
from shared.topology import EXCHANGE, dead_letter_queue

ATTEMPTS = "x-darks-attempts"
REASON = "x-darks-reason"
EVIDENCE = "x-darks-evidence"
ROUTING_KEY = "x-darks-routing-key"
#: When a worker gave it up, in s since 1970.
DIED = "x-darks-died"

#: A copy with key ``<step>.<queue>`` waits in a delay queue, then returns to the queue of its key.
DELAY_EXCHANGE = f"{EXCHANGE}.delay"
RETURN_EXCHANGE = f"{EXCHANGE}.return"

#: Longest delay in s of each delay queue. A message waits behind the one before it, so a queue holds
#: delays of one order of magnitude; they are those of the worker's retries, and two for ``set.check``.
DELAY_STEPS = (1, 5, 25, 125, 3600)
#: The delay queue of anything longer.
LONG_DELAY = "long"
#: AMQP's largest expiration in s.
LONGEST_DELAY = (2**32 - 1) / 1000

_PERSISTENT = 2
_REASON_LENGTH = 4000
# Headers travel in one frame, and RabbitMQ's frames hold 128 KiB.
_EVIDENCE_LENGTH = 16_000
# CC and BCC would make the broker deliver a copy elsewhere too.
_ADDRESSING = {"CC", "BCC"}


@dataclass(frozen=True)
class Publication:
    """One message to publish, with where it goes."""

    exchange: str
    routing_key: str
    body: bytes
    properties: Any
    mandatory: bool = True

    @property
    def what(self) -> str:
        """The message as an error names it."""
        said = (self.properties.headers or {}).get(ROUTING_KEY, self.routing_key)
        return f"{said} ({self.properties.message_id})" if self.properties.message_id else str(said)


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
        timestamp=int(datetime.timestamp(message.time)),
        headers={"traceparent": message.traceparent} if message.traceparent else {},
    )


def delayed(
    queue: str, routing_key: str, body: bytes, properties: Any, delay: float, attempts: int | None = None
) -> Publication:
    """Return what comes to `queue` after `delay` seconds, as if published under `routing_key`."""
    headers: dict[str, Any] = {ROUTING_KEY: routing_key}
    if attempts is not None:
        headers[ATTEMPTS] = attempts
    copied = copy_of(properties, headers)
    copied.expiration = str(max(1, round(delay * 1000)))
    return Publication(DELAY_EXCHANGE, f"{delay_step(delay)}.{queue}", body, copied)


def returned(queue: str, routing_key: str, body: bytes, properties: Any, attempts: int) -> Publication:
    """Return a copy for the end of `queue`, its count of attempts as it was."""
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
        REASON: reason[:_REASON_LENGTH],
        DIED: int(datetime.now(UTC).timestamp()),
    }
    if evidence:
        # The last lines of a traceback say most.
        headers[EVIDENCE] = evidence[-_EVIDENCE_LENGTH:]
    return Publication("", dead_letter_queue(queue), body, copy_of(properties, headers))


def afresh(queue: str, routing_key: str, body: bytes, properties: Any) -> Publication:
    """Return a copy for the end of `queue` that looks as if nobody had tried it yet."""
    copied = copy_of(properties, {ROUTING_KEY: routing_key})
    for name in (ATTEMPTS, REASON, EVIDENCE, DIED):
        copied.headers.pop(name, None)
    return Publication("", queue, body, copied)


def copy_of(properties: Any, headers: dict[str, Any]) -> Any:
    """Return properties for a copy.

    Left out is what a stranger could have set to have the copy refused or sent elsewhere (user_id,
    reply_to, CC), and the broker's own x- headers, which it reads again to detect cycles.
    """
    kept = {
        name: value
        for name, value in (properties.headers or {}).items()
        if name not in _ADDRESSING and (not name.startswith("x-") or name.startswith("x-darks-"))
    }
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


def attempts_before(headers: dict[str, Any]) -> int:
    """Return how often a delivery failed before: by the copies' count, plus the broker's since the last.

    The broker counts rejects, closed channels and lost connections, and leaves the header out at first.
    """
    return _count(headers.get(ATTEMPTS)) + _count(headers.get("x-delivery-count"))


def _count(value: object) -> int:
    return max(0, value) if isinstance(value, int) else 0
