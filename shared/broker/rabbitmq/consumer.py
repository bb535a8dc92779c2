"""One consumer on its own connection, which finds its way back after every loss."""

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from shared.broker.base import Delivery
from shared.broker.rabbitmq import wire
from shared.broker.rabbitmq.attachment import Attachment
from shared.broker.rabbitmq.publisher import Publisher
from shared.broker.rabbitmq.settings import BrokerSettings
from shared.errors import PublishFailed
from shared.topology import DELIVERY_LIMIT

_logger = logging.getLogger(__name__)

#: Longest time in s for the confirm of a copy; the consumer's connection goes untended meanwhile.
_COPY_TIMEOUT = 5.0
#: Rest in s before a settlement that the broker did not take is tried again.
_OWED_AGAIN = 1.0
#: Time in s in which a delivery that is under way arrives.
_IN_FLIGHT = 0.2


@dataclass(frozen=True)
class _Tag:
    """A delivery tag, and the channel (of all that this consumer ever had) that it is good for."""

    channel: int
    number: int


class RabbitConsumer:
    """A `shared.broker.base.Consumer` of one queue.

    A failure goes on as a confirmed, counted copy (`shared.broker.rabbitmq.wire`), or without a delay
    as ``reject``, which every version of the broker counts. What is put back is a copy too, with its
    count as it was: ``nack`` is counted up to RabbitMQ 4.0. Where the broker takes no copy, the message
    stays held and is settled at a later poll, so that a blocked broker costs no attempts.

    Parameters
    ----------
    settings : BrokerSettings
    publisher : Publisher
        For the copies.
    queue : str
    prefetch : int
    """

    def __init__(self, settings: BrokerSettings, publisher: Publisher, queue: str, prefetch: int) -> None:
        self.queue = queue
        self._publisher = publisher
        self._prefetch = prefetch
        self._copy_timeout = min(_COPY_TIMEOUT, settings.publish_timeout, settings.heartbeat / 2)
        self._lock = threading.RLock()
        self._attachment = Attachment(settings, queue, prefetch, self._on_message, self._void)
        self._ready: deque[Delivery] = deque()
        self._held: dict[_Tag, Any] = {}
        self._owed: dict[_Tag, wire.Publication] = {}
        self._owed_at = 0.0
        self.closed = False

    @property
    def attached(self) -> bool:
        """Whether the broker has it as a consumer, as far as is known."""
        return self._attachment.wanted and self._attachment.is_up

    def attach(self, patient: bool = False) -> None:
        """Try once to connect and consume; a broker that is away is tried again by `poll`.

        Parameters
        ----------
        patient : bool
            Leave a refusal to `poll` too.

        Raises
        ------
        EnvironmentFault
            If the broker refuses: wrong password, no such virtual host or queue.
        """
        with self._lock:
            self._attachment.attach(patient)

    def poll(self, timeout: float) -> Delivery | None:
        """Do the connection's I/O, connecting again where it was lost; return the next delivery."""
        deadline = time.monotonic() + timeout
        with self._lock:
            first = True
            while first or time.monotonic() < deadline:
                first = False
                if not self._attachment.is_up:
                    self._attachment.come_back(deadline)
                self._pump(deadline)
                if self._ready:
                    return self._ready.popleft()
            return None

    def ack(self, delivery: Delivery) -> None:
        """Forget the message."""
        with self._lock:
            if self._holds(delivery):
                self._settle(delivery, "basic_ack")

    def retry(self, delivery: Delivery, reason: str, delay: float) -> None:
        """Deliver again after `delay` seconds, its count raised; at the limit, dead-letter it."""
        with self._lock:
            if not self._holds(delivery):
                return
            if delivery.delivery_count + 1 >= DELIVERY_LIMIT:
                self.dead_letter(delivery, reason)
            elif delay <= 0:
                self._settle(delivery, "basic_reject", requeue=True)
            else:
                properties = self._held[delivery.tag]
                count = delivery.delivery_count + 1
                self._replace(
                    delivery,
                    wire.delayed(self.queue, delivery.routing_key, delivery.body, properties, delay, count),
                )

    def dead_letter(self, delivery: Delivery, reason: str, evidence: str = "") -> None:
        """Move it to the queue's dead-letter queue."""
        with self._lock:
            if self._holds(delivery):
                properties = self._held[delivery.tag]
                attempts = delivery.delivery_count + 1
                copy = wire.dead(
                    self.queue, delivery.routing_key, delivery.body, properties, attempts, reason, evidence
                )
                self._replace(delivery, copy)

    def put_back(self, delivery: Delivery) -> None:
        """To the end of the queue, its count not raised."""
        with self._lock:
            if not self._holds(delivery):
                return
            properties = self._held[delivery.tag]
            count = delivery.delivery_count
            copy = wire.returned(self.queue, delivery.routing_key, delivery.body, properties, count)
            try:
                self._publisher.publish(copy, self._copy_timeout)
            except PublishFailed:
                self._settle(delivery, "basic_nack", requeue=True)
            else:
                self._settle(delivery, "basic_ack")

    def cancel(self) -> None:
        """Take no more deliveries; what is held stays held until it is settled."""
        with self._lock:
            # pika rejects what comes while it cancels, and a reject counts as an attempt. So what the last
            # settlement let through is awaited first; with the prefetch full nothing comes.
            if self.attached and len(self._held) < self._prefetch:
                self._attachment.pump(_IN_FLIGHT)
            self._attachment.cancel()
            while self._ready:
                self.put_back(self._ready.popleft())

    def close(self) -> None:
        """Let go; what is still held goes back to the queue."""
        with self._lock:
            self.cancel()
            self.closed = True
            self._attachment.let_go()

    def _pump(self, deadline: float) -> None:
        if self._owed and time.monotonic() >= self._owed_at:
            self._pay()
        until = min(deadline, self._owed_at) if self._owed else deadline
        self._attachment.pump(0.0 if self._ready else until - time.monotonic())

    def _on_message(self, method: Any, properties: Any, body: bytes) -> None:
        headers = dict(properties.headers or {})
        said = headers.get(wire.ROUTING_KEY)
        tag = _Tag(self._attachment.number, method.delivery_tag)
        self._held[tag] = properties
        self._ready.append(
            Delivery(
                body=body,
                routing_key=said if isinstance(said, str) else method.routing_key,
                queue=self.queue,
                tag=tag,
                delivery_count=wire.attempts_before(headers),
                redelivered=method.redelivered or wire.ATTEMPTS in headers,
                headers=headers,
            )
        )

    def _void(self) -> None:
        self._ready.clear()
        self._held.clear()
        self._owed.clear()

    def _holds(self, delivery: Delivery) -> bool:
        return delivery.tag in self._held and delivery.tag not in self._owed

    def _settle(self, delivery: Delivery, how: str, **options: Any) -> None:
        self._settle_tag(delivery.tag, how, **options)

    def _settle_tag(self, tag: _Tag, how: str, **options: Any) -> None:
        self._held.pop(tag, None)
        self._owed.pop(tag, None)
        self._attachment.settle(how, tag.number, **options)

    def _replace(self, delivery: Delivery, copy: wire.Publication) -> None:
        try:
            self._publisher.publish(copy, self._copy_timeout)
        except PublishFailed as error:
            _logger.warning(
                "a message of %s stays held until the broker takes its copy: %s", self.queue, error
            )
            self._owed[delivery.tag] = copy
            self._owed_at = time.monotonic() + _OWED_AGAIN
        else:
            self._settle(delivery, "basic_ack")

    def _pay(self) -> None:
        for tag, copy in list(self._owed.items()):
            if tag not in self._held:
                # The connection was lost with the settlement before: all of them come again.
                return
            try:
                self._publisher.publish(copy, self._copy_timeout)
            except PublishFailed:
                self._owed_at = time.monotonic() + _OWED_AGAIN
                return
            self._settle_tag(tag, "basic_ack")
