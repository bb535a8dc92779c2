"""Publishes messages and waits for the broker's confirm, for a bounded time.

The connection has a thread of its own, so that heartbeats go on between publishes, and so that a broker that
neither confirms nor refuses (short of memory, without a majority) cannot hold the caller longer than it is
willing to wait. It is separate from the consumers' connections: a broker that blocks publishers stops reading
from their connection, and acks must still get through.
"""

import functools
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pika

from shared.broker.rabbitmq.connection import (
    Nodes,
    backoff,
    describe_connection_error,
    is_refusal,
    parameters,
)
from shared.broker.rabbitmq.wire import Publication
from shared.errors import PublishFailed
from shared.settings.broker import BrokerSettings

_logger = logging.getLogger(__name__)


class Publisher:
    """Publishes one message at a time; any thread may use it.

    Parameters
    ----------
    settings : BrokerSettings
    """

    def __init__(self, settings: BrokerSettings) -> None:
        self._nodes = Nodes(settings)
        self._timeout = settings.publish_timeout
        self._turn = threading.Lock()
        self._link: _Link | None = None
        self._closed = threading.Event()

    @property
    def blocked(self) -> str | None:
        """Why the broker takes no messages at present, as it told this connection; None if it takes them."""
        link = self._link
        return None if link is None or link.ended else link.blocked

    def publish(self, publication: Publication, timeout: float | None = None) -> None:
        """Publish and wait for the confirm; after a loss or a refusal, connect again and repeat.

        Parameters
        ----------
        publication : Publication
        timeout : float, optional
            Seconds to wait in all; by default those of the settings.

        Raises
        ------
        PublishFailed
            If the message could not be routed although it must be, or was not confirmed in time. At once if
            the broker was reached and knows no such user, virtual host or exchange.
        """
        deadline = time.monotonic() + (timeout if timeout is not None else self._timeout)
        if not self._turn.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise self._failed(publication, "earlier messages still wait for the broker")
        try:
            self._publish(publication, deadline)
        finally:
            self._turn.release()

    def close(self) -> None:
        """Close the connection; nothing can be published any more."""
        self._closed.set()
        with self._turn:
            self._drop()

    def _publish(self, publication: Publication, deadline: float) -> None:
        attempt, fault = 0, ""
        while True:
            if self._closed.is_set():
                raise self._failed(publication, "the connection to the broker is closed")
            if self._link is not None and self._link.ended:
                self._give_up_link()
            if self._link is None:
                self._link = _Link(self._nodes.current)
            outcome = self._link.publish(publication, deadline)
            if outcome.confirmed:
                return
            if outcome.final or not (outcome.refused or self._link.ended):
                reason = outcome.reason or fault or self._silence()
                if self._link.is_stuck:
                    self._give_up_link()
                raise self._failed(publication, reason)
            fault = outcome.reason
            self._give_up_link()
            rest = min(backoff(attempt), deadline - time.monotonic())
            if rest <= 0:
                raise self._failed(publication, fault)
            self._closed.wait(rest)
            attempt += 1

    def _silence(self) -> str:
        return f"the broker at {self._nodes.current.where} cannot be reached: it did not answer in time"

    def _give_up_link(self) -> None:
        """Close the connection; the next node is tried next."""
        self._drop()
        self._nodes.go_on()

    def _drop(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None

    def _failed(self, publication: Publication, reason: str) -> PublishFailed:
        return PublishFailed(
            f"{publication.what} was not published: {reason}",
            where=self._nodes.current.where,
            keyword=publication.routing_key,
        )


class _Outcome:
    """What became of one publication; filled in by the connection's thread.

    `final` means that repeating it cannot help. `refused` means that the broker refused it, which it may not
    do on another channel: after the loss of a queue's leader, a channel of RabbitMQ 3.10 refuses for ever.
    """

    def __init__(self, publication: Publication) -> None:
        self.publication = publication
        self.done = threading.Event()
        self.sent = self.confirmed = self.refused = self.final = False
        self.reason = ""

    def answer(self, reason: str = "") -> None:
        self.confirmed, self.final, self.reason = not reason, bool(reason), reason
        self.done.set()

    def refuse(self, reason: str) -> None:
        self.refused, self.reason = True, reason
        self.done.set()

    def lost(self, reason: str, final: bool) -> None:
        self.final, self.reason = final, reason
        self.done.set()


class _Link:
    """One connection with one channel in confirm mode, in its own thread, until it ends."""

    def __init__(self, settings: BrokerSettings) -> None:
        self._settings = settings
        self._guard = threading.Lock()
        self._current: _Outcome | None = None
        # Number of messages published on the channel: the broker counts them so in its confirms.
        self._number = 0
        self._current_number = 0
        self._channel: Any = None
        self._blocked = ""
        self._returned = ""
        self._end_reason = ""
        self._end_final = False
        self.ended = False
        #: Whether it accepts messages without confirming them: another node may work better.
        self.is_stuck = False
        self._connection: Any = pika.SelectConnection(
            parameters(settings, "publish"),
            on_open_callback=self._on_open,
            on_open_error_callback=self._on_end,
            on_close_callback=self._on_end,
        )
        self._connection.add_on_connection_blocked_callback(self._on_blocked)
        self._connection.add_on_connection_unblocked_callback(self._on_unblocked)
        self._thread = threading.Thread(target=self._run, name="rabbitmq-publisher", daemon=True)
        self._thread.start()

    def publish(self, publication: Publication, deadline: float) -> _Outcome:
        """Hand it to the connection's thread; return once the broker has answered, or at `deadline`."""
        outcome = _Outcome(publication)
        with self._guard:
            if self.ended:
                outcome.lost(self._end_reason, self._end_final)
                return outcome
            self._current = outcome
        self._in_thread(self._send)
        outcome.done.wait(max(0.0, deadline - time.monotonic()))
        with self._guard:
            self._current = None
            if not outcome.done.is_set():
                outcome.reason = self._why_silent()
                self.is_stuck = self._channel is not None and not self._blocked
        return outcome

    def close(self) -> None:
        """Close the connection; drop it if the broker does not answer."""
        for how in (self._close, self._connection.ioloop.stop):
            if self._thread.is_alive():
                self._in_thread(how)
                self._thread.join(1.0)

    @property
    def blocked(self) -> str | None:
        """Why the broker blocks this connection; None if it does not."""
        if not self._blocked:
            return None
        return (
            f"the broker at {self._settings.where} blocks publishers: {self._blocked}; "
            "free its memory or disk"
        )

    def _why_silent(self) -> str:
        where = self._settings.where
        if self._channel is None:
            return ""
        if self.blocked:
            return self.blocked
        return f"the broker at {where} did not confirm it in time; check whether its queues have a majority"

    def _run(self) -> None:
        try:
            self._connection.ioloop.start()
        finally:
            self._finish("the connection's thread ended", final=False)
            self._connection.ioloop.close()

    def _in_thread(self, callback: Callable[[], None]) -> None:
        self._connection.ioloop.add_callback_threadsafe(callback)

    def _send(self) -> None:
        outcome, channel = self._current, self._channel
        # It is sent once the channel is open and the broker takes messages.
        if outcome is None or outcome.sent or self._blocked or channel is None or not channel.is_open:
            return
        message = outcome.publication
        outcome.sent = True
        self._returned = ""
        self._number += 1
        self._current_number = self._number
        channel.basic_publish(
            message.exchange,
            message.routing_key,
            message.body,
            message.properties,
            mandatory=message.mandatory,
        )

    def _close(self) -> None:
        if self._connection.is_open:
            self._connection.close()
        else:
            self._finish("closed", final=False)
            self._connection.ioloop.stop()

    def _on_open(self, connection: Any) -> None:
        connection.channel(on_open_callback=self._on_channel)

    def _on_channel(self, channel: Any) -> None:
        channel.add_on_close_callback(self._on_channel_closed)
        channel.add_on_return_callback(self._on_return)
        ready = functools.partial(self._on_ready, channel)
        channel.confirm_delivery(ack_nack_callback=self._on_confirm, callback=ready)

    def _on_ready(self, channel: Any, _frame: Any) -> None:
        self._channel = channel
        self._send()

    def _on_return(self, _channel: Any, method: Any, _properties: Any, _body: bytes) -> None:
        self._returned = (
            f"no queue is bound to {method.routing_key} in exchange {method.exchange or '(default)'}; "
            "run `nircam-darks topology apply`"
        )

    def _on_confirm(self, frame: Any) -> None:
        outcome = self._current
        if outcome is None or not outcome.sent or not self._is_meant(frame.method):
            # It belongs to a message whose publisher no longer waits.
            self._returned = ""
            return
        if isinstance(frame.method, pika.spec.Basic.Nack):
            outcome.refuse(
                f"the broker at {self._settings.where} refused it (a full queue, or a failure of its own)"
            )
        else:
            outcome.answer(self._returned)

    def _is_meant(self, method: Any) -> bool:
        number = int(method.delivery_tag)
        return number == self._current_number or (bool(method.multiple) and number > self._current_number)

    def _on_blocked(self, _connection: Any, frame: Any) -> None:
        self._blocked = " ".join(str(frame.method.reason).split())[:200] or "short of memory or disk"
        _logger.warning("%s; follow-ups and dead letters wait, and nothing is lost", self.blocked)

    def _on_unblocked(self, _connection: Any, _frame: Any) -> None:
        self._blocked = ""
        _logger.info("the broker at %s takes messages again", self._settings.where)
        self._send()

    def _on_channel_closed(self, _channel: Any, error: BaseException) -> None:
        self._finish(describe_connection_error(error, self._settings), final=is_refusal(error))
        if self._connection.is_open:
            self._connection.close()

    def _on_end(self, connection: Any, error: Any) -> None:
        fault = error if isinstance(error, BaseException) else ConnectionError(str(error))
        self._finish(describe_connection_error(fault, self._settings), final=is_refusal(fault))
        connection.ioloop.stop()

    def _finish(self, reason: str, final: bool) -> None:
        with self._guard:
            if self.ended:
                return
            self.ended, self._end_reason, self._end_final = True, reason, final
            if self._current is not None and not self._current.done.is_set():
                self._current.lost(reason, final)
