"""A consumer's connection: attached to its queue, lost, and attached again."""

import logging
import time
from collections.abc import Callable
from typing import Any

import pika

from shared.broker.rabbitmq.connection import (
    CONNECTION_ERRORS,
    ConsumerCancelled,
    Nodes,
    backoff,
    describe,
    is_refusal,
    parameters,
)
from shared.broker.rabbitmq.settings import BrokerSettings
from shared.errors import EnvironmentFault

_logger = logging.getLogger(__name__)


class Attachment:
    """One consumer's channel on its own connection. One thread at a time may use it.

    Parameters
    ----------
    settings : BrokerSettings
    queue : str
    prefetch : int
    on_message : callable
        Given (method, properties, body) of each delivery.
    on_lost : callable
        Called when the channel is gone: every delivery tag of it is void.
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
        #: Counts its channels, so that a tag can be told from the same number on an earlier one.
        self.number = 0
        #: Whether a lost connection is to be made again.
        self.wanted = True

    @property
    def is_up(self) -> bool:
        """Whether there is a channel, for all that is known. Any thread may ask."""
        channel = self._channel
        return channel is not None and bool(channel.is_open) and not self._cancelled_by_broker

    def attach(self, patient: bool) -> None:
        """Connect and consume; a failure is left to `come_back`.

        Raises
        ------
        EnvironmentFault
            Unless `patient`: if the broker refuses, or the password cannot be read.
        """
        node = self._nodes.current
        try:
            self._attach(node)
        except CONNECTION_ERRORS as error:
            self.lose(error)
            if is_refusal(error) and not patient:
                raise EnvironmentFault(describe(error, node)) from None
        except EnvironmentFault as error:
            # The password's file may be in the middle of its rotation.
            self._wait_and_say(str(error))
            if not patient:
                raise

    def come_back(self, deadline: float) -> None:
        """Attach again if that is due, else wait for it, until `deadline` at most."""
        if self._channel is not None:
            # pika keeps the broker's reason for the end of a channel to itself, except from publishers.
            reason = getattr(self._channel, "_closing_reason", None)
            self.lose(reason or ConsumerCancelled())
        now = time.monotonic()
        due = self._next_attempt if self.wanted else deadline
        if now < due or not self.wanted:
            time.sleep(max(0.0, min(deadline, due) - now))
        else:
            self.attach(patient=True)

    def pump(self, seconds: float) -> None:
        """Do the connection's I/O for at most so long, or until something came."""
        if self._connection is None:
            return
        try:
            self._connection.process_data_events(max(0.0, seconds))
        except CONNECTION_ERRORS as error:
            self.lose(error)

    def settle(self, how: str, number: int, **options: Any) -> None:
        """Call the channel's method `how` (such as ``basic_reject``) with a delivery tag's number."""
        try:
            getattr(self._channel, how)(number, **options)
        except CONNECTION_ERRORS as error:
            self.lose(error)

    def cancel(self) -> None:
        """Consume no more; the channel stays for what is held."""
        self.wanted = False
        if self.is_up:
            try:
                self._channel.basic_cancel(self._consumer_tag)
            except CONNECTION_ERRORS as error:
                self.lose(error)

    def lose(self, error: BaseException) -> None:
        """Let go of a connection that failed, and say so; the next node has its turn."""
        node = self._nodes.current
        self._nodes.go_on()
        self.let_go()
        if self.wanted:
            self._wait_and_say(describe(error, node))

    def let_go(self) -> None:
        """Close the connection."""
        connection, self._connection, self._channel = self._connection, None, None
        self._cancelled_by_broker = False
        self._on_lost()
        try:
            if connection is not None and connection.is_open:
                connection.close()
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
        # The queue went, its leader moved, or (from 4.3) an ack took too long. pika's consuming calls
        # would simply return from now on.
        self._cancelled_by_broker = True

    def _wait_and_say(self, reason: str) -> None:
        wait = backoff(self._attempt)
        self._next_attempt = time.monotonic() + wait
        self._attempt += 1
        _logger.warning("the consumer of %s tries again in %.1f s: %s", self._queue, wait, reason)
