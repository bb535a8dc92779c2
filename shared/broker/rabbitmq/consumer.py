"""A consumer of one queue, on a connection of its own that is made again after every loss.

`Attachment` keeps the connection and its channel; `RabbitConsumer` keeps the deliveries that arrive over it,
and settles each exactly once.
"""

import functools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import pika

from shared.broker.base import Delivery
from shared.broker.rabbitmq import wire
from shared.broker.rabbitmq.connection import (
    CONNECTION_ERRORS,
    ConsumerCancelled,
    Nodes,
    backoff,
    describe_connection_error,
    is_refusal,
    parameters,
)
from shared.broker.rabbitmq.publisher import Publisher
from shared.contracts.routing import DELIVERY_LIMIT, EXCHANGE
from shared.errors import EnvironmentFault, PublishFailed
from shared.settings.broker import BrokerSettings

_logger = logging.getLogger(__name__)

#: Longest time in s to wait for the confirm of a copy; nobody attends to the consumer's connection meanwhile.
_COPY_TIMEOUT = 5.0
#: Seconds before a settlement that the broker did not take is tried again.
_SETTLE_AGAIN = 1.0
#: Seconds that a broker may take to answer that a consumer is cancelled or a connection closed. pika itself
#: waits for as long as heartbeats are missing: minutes, with a broker that stands still.
_ANSWER = 5.0
#: Seconds within which a delivery that is already under way arrives.
_IN_FLIGHT = 0.2


class Attachment:
    """A consumer's connection and channel: attached to the queue, lost, and attached again.

    One thread at a time may use it.

    Parameters
    ----------
    settings : BrokerSettings
    queue : str
    prefetch : int
        Deliveries that may be held unacked at a time.
    on_message : callable
        Called with (method, properties, body) of each delivery.
    on_lost : callable
        Called when the channel is gone, and with it the validity of all its delivery tags.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        queue: str,
        prefetch: int,
        on_message: Callable[[Any, Any, bytes], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._nodes = Nodes(settings)
        self._queue = queue
        self._prefetch = prefetch
        self._on_message = on_message
        self._on_lost = on_lost
        self._connection: Any = None
        self._channel: Any = None
        self._consumer_tag = ""
        self._cancelled_by_broker = False
        self._attempt = 0
        self._next_attempt = 0.0
        #: Number of channels so far; tells a delivery tag from the same number on an earlier channel.
        self.number = 0
        #: Whether to connect again after a loss.
        self.wanted = True

    @property
    def is_up(self) -> bool:
        """Whether the channel is up, as far as is known. Any thread may ask."""
        channel = self._channel
        return channel is not None and bool(channel.is_open) and not self._cancelled_by_broker

    def attach(self, patient: bool) -> None:
        """Connect and consume, once; if that fails, `come_back` tries again.

        Parameters
        ----------
        patient : bool
            Whether a refusal is left to `come_back` as well.

        Raises
        ------
        EnvironmentFault
            Unless `patient`, if the broker refuses or the password cannot be read.
        """
        node = self._nodes.current
        try:
            self._attach(node)
        except CONNECTION_ERRORS as error:
            self.lose(error)
            if is_refusal(error) and not patient:
                raise EnvironmentFault(describe_connection_error(error, node), where=node.where) from None
        except EnvironmentFault as error:
            # The password file may be in the middle of a rotation.
            self._wait_and_log(str(error))
            if not patient:
                raise

    def come_back(self, deadline: float) -> None:
        """Attach again if an attempt is due, else wait for it, until `deadline` at most."""
        if self._channel is not None:
            # pika hands the broker's reason for closing a channel to publishers only.
            reason = getattr(self._channel, "_closing_reason", None)
            self.lose(reason or ConsumerCancelled())
        now = time.monotonic()
        due = self._next_attempt if self.wanted else deadline
        if now < due or not self.wanted:
            time.sleep(max(0.0, min(deadline, due) - now))
        else:
            self.attach(patient=True)

    def pump(self, seconds: float) -> None:
        """Do the connection's I/O until something arrives, for at most `seconds`."""
        if self._connection is None:
            return
        try:
            self._connection.process_data_events(max(0.0, seconds))
        except CONNECTION_ERRORS as error:
            self.lose(error)
        except Exception as error:
            # Whatever pika makes of a frame that it cannot decode. The message returns to the queue with its
            # count raised, and the broker dead-letters it at the limit.
            _logger.exception("a frame from the broker cannot be read")
            self.lose(error)

    def settle(self, how: str, number: int, **options: Any) -> None:
        """Call the channel's method `how`, such as ``basic_reject``, with the number of a delivery tag."""
        try:
            getattr(self._channel, how)(number, **options)
        except CONNECTION_ERRORS as error:
            self.lose(error)

    def cancel(self) -> None:
        """Consume no more; the channel stays open for the deliveries that are held."""
        self.wanted = False
        if self.is_up:
            try:
                _answered(functools.partial(self._channel.basic_cancel, self._consumer_tag))
            except _NoAnswer as error:
                # The thread that asked may still wait in the connection, so that nobody else may use it.
                self._connection = None
                self.lose(error)
            except CONNECTION_ERRORS as error:
                self.lose(error)

    def lose(self, error: BaseException) -> None:
        """Let go of a connection that failed, and log it; the next node is tried next."""
        node = self._nodes.current
        self._nodes.go_on()
        self.let_go()
        if self.wanted:
            self._wait_and_log(describe_connection_error(error, node))

    def let_go(self) -> None:
        """Close the connection."""
        connection, self._connection, self._channel = self._connection, None, None
        self._cancelled_by_broker = False
        self._on_lost()
        try:
            if connection is not None and connection.is_open:
                _answered(connection.close)
        except CONNECTION_ERRORS as error:
            _logger.debug("closing the connection of %s: %s", self._queue, type(error).__name__)

    def _attach(self, node: BrokerSettings) -> None:
        self._connection = pika.BlockingConnection(parameters(node, f"consume {self._queue}"))
        self._channel = channel = self._connection.channel()
        self.number += 1
        self._cancelled_by_broker = False
        channel.add_on_cancel_callback(self._on_cancel)
        channel.basic_qos(prefetch_count=self._prefetch)
        self._consumer_tag = channel.basic_consume(
            self._queue, lambda _channel, method, properties, body: self._on_message(method, properties, body)
        )
        if self._attempt:
            _logger.info("consuming %s again from %s", self._queue, node.where)
        self._attempt = 0

    def _on_cancel(self, _frame: Any) -> None:
        # The queue was deleted, its leader moved, or (from RabbitMQ 4.3 on) an ack took too long. pika's
        # consuming calls would return without a word from now on.
        self._cancelled_by_broker = True

    def _wait_and_log(self, reason: str) -> None:
        wait = backoff(self._attempt)
        self._next_attempt = time.monotonic() + wait
        self._attempt += 1
        _logger.warning("the consumer of %s tries again in %.1f s: %s", self._queue, wait, reason)


class _NoAnswer(ConnectionError):
    """The broker did not answer in time; the connection must not be used any more."""


def _answered(ask: Callable[[], Any]) -> None:
    """Ask the broker, in a thread of its own; raise `_NoAnswer` if it does not answer in time."""
    answer: Future[Any] = Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        except CONNECTION_ERRORS as error:
            answer.set_exception(error)

    threading.Thread(target=run, name="rabbitmq-answer", daemon=True).start()
    try:
        answer.result(_ANSWER)
    except TimeoutError:
        if answer.done():
            raise
        raise _NoAnswer(f"the broker did not answer in {_ANSWER:.0f} s") from None


@dataclass(frozen=True)
class _Tag:
    """A delivery tag, with the number of the channel that it is valid on."""

    channel: int
    number: int


class RabbitConsumer:
    """A `shared.broker.base.Consumer` of one queue.

    A message to be retried later goes on as a confirmed copy with its count raised
    (`shared.broker.rabbitmq.wire`); one to be retried at once is rejected, which every version of the broker
    counts. A requeued message is a copy too, with its count unchanged: up to RabbitMQ 4.0 the broker counts a
    ``nack``. While the broker accepts no copy, the message stays held and is settled at a later poll, so that
    a blocked broker costs no attempts.

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
        self._unsettled: dict[_Tag, wire.Publication] = {}
        self._settle_again_at = 0.0
        self.closed = False

    @property
    def attached(self) -> bool:
        """Whether it is registered with the broker as a consumer, as far as is known."""
        return self._attachment.wanted and self._attachment.is_up

    def attach(self, patient: bool = False) -> None:
        """Try once to connect and consume; `poll` tries again if the broker is unreachable.

        Parameters
        ----------
        patient : bool
            Whether a refusal is left to `poll` as well.

        Raises
        ------
        EnvironmentFault
            If the broker refuses: wrong password, no such virtual host or queue.
        """
        with self._lock:
            self._attachment.attach(patient)

    def poll(self, timeout: float) -> Delivery | None:
        """Do the connection's I/O, connecting again after a loss; return a delivery if one arrives."""
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
        """Deliver it again after `delay` seconds with its count raised; at the limit, dead-letter it."""
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

    def holds(self, delivery: Delivery) -> bool:
        """Return whether the delivery is unsettled yet, and its tag valid."""
        with self._lock:
            return delivery.tag in self._held

    def requeue(self, delivery: Delivery) -> None:
        """Return it to the end of the queue without raising its count."""
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
        """Take no more deliveries; those held stay held until they are settled."""
        with self._lock:
            # pika rejects whatever arrives while it cancels, and a reject counts as an attempt. So a delivery
            # that the last settlement let through is awaited first; with a full prefetch none can arrive.
            if self.attached and len(self._held) < self._prefetch:
                self._attachment.pump(_IN_FLIGHT)
            self._attachment.cancel()
            while self._ready:
                self.requeue(self._ready.popleft())

    def close(self) -> None:
        """Let go of the connection; whatever is still held returns to the queue."""
        with self._lock:
            self.cancel()
            self.closed = True
            self._attachment.let_go()

    def _pump(self, deadline: float) -> None:
        if self._unsettled and time.monotonic() >= self._settle_again_at:
            self._settle_again()
        until = min(deadline, self._settle_again_at) if self._unsettled else deadline
        self._attachment.pump(0.0 if self._ready else until - time.monotonic())

    def _on_message(self, method: Any, properties: Any, body: bytes) -> None:
        headers = dict(properties.headers or {})
        # A copy of ours says under which key its message was published. In the exchange of services anybody
        # who may publish there could say so.
        original_key = headers.get(wire.ROUTING_KEY) if method.exchange != EXCHANGE else None
        tag = _Tag(self._attachment.number, method.delivery_tag)
        self._held[tag] = properties
        self._ready.append(
            Delivery(
                body=body,
                routing_key=original_key if isinstance(original_key, str) else method.routing_key,
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
        self._unsettled.clear()

    def _holds(self, delivery: Delivery) -> bool:
        return delivery.tag in self._held and delivery.tag not in self._unsettled

    def _settle(self, delivery: Delivery, how: str, **options: Any) -> None:
        self._settle_tag(delivery.tag, how, **options)

    def _settle_tag(self, tag: _Tag, how: str, **options: Any) -> None:
        self._held.pop(tag, None)
        self._unsettled.pop(tag, None)
        self._attachment.settle(how, tag.number, **options)

    def _replace(self, delivery: Delivery, copy: wire.Publication) -> None:
        try:
            self._publisher.publish(copy, self._copy_timeout)
        except PublishFailed as error:
            _logger.warning(
                "a message of %s stays held until the broker takes its copy: %s", self.queue, error
            )
            self._unsettled[delivery.tag] = copy
            self._settle_again_at = time.monotonic() + _SETTLE_AGAIN
        else:
            self._settle(delivery, "basic_ack")

    def _settle_again(self) -> None:
        for tag, copy in list(self._unsettled.items()):
            if tag not in self._held:
                # The connection was lost during the settlement before this one: all of them are delivered
                # again.
                return
            try:
                self._publisher.publish(copy, self._copy_timeout)
            except PublishFailed:
                self._settle_again_at = time.monotonic() + _SETTLE_AGAIN
                return
            self._settle_tag(tag, "basic_ack")
