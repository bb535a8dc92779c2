"""The broker of `shared.broker.base` over RabbitMQ: consumers, publishing with confirms, and dead letters."""

import threading
from typing import Any

import pika

from shared.broker.base import DeadLetter
from shared.broker.rabbitmq import wire
from shared.broker.rabbitmq.consumer import RabbitConsumer
from shared.broker.rabbitmq.dead_letters import DeadLetterQueues
from shared.broker.rabbitmq.publisher import Publisher
from shared.contracts.messages import Envelope
from shared.contracts.routing import BINDINGS, EXCHANGE, INFORMATIONAL
from shared.errors import PublishFailed
from shared.settings.broker import BrokerSettings, broker_settings


class RabbitBroker:
    """A `shared.broker.base.Broker`; any thread may use it, and each consumer has its own connection.

    Its exchanges and queues must exist: `shared.broker.rabbitmq.topology.apply` makes them.

    Parameters
    ----------
    settings : BrokerSettings, optional
        By default those of the environment.
    """

    def __init__(self, settings: BrokerSettings | None = None) -> None:
        self.settings = settings or broker_settings()
        self._publisher = Publisher(self.settings)
        self._consumers: list[RabbitConsumer] = []
        self._guard = threading.Lock()
        self._closed = False
        self._was_attached = False

    @property
    def attached(self) -> bool:
        """Whether there are consumers, all of them registered with the broker."""
        with self._guard:
            open_ones = [consumer for consumer in self._consumers if not consumer.closed]
            return bool(open_ones) and all(consumer.attached for consumer in open_ones)

    @property
    def problem(self) -> str | None:
        """Why the broker takes no messages at present (its memory or disk alarm), or None."""
        return self._publisher.blocked

    def consume(self, queue: str, prefetch: int = 1) -> RabbitConsumer:
        """Attach a consumer; if the broker is unreachable, `poll` goes on trying.

        Raises
        ------
        EnvironmentFault
            If the broker refuses the first consumer: wrong password, no such virtual host or queue.
        """
        consumer = RabbitConsumer(self.settings, self._publisher, queue, prefetch)
        # Once a consumer was attached, a refusal may come from a broker in the middle of a restart.
        consumer.attach(patient=self._was_attached)
        with self._guard:
            self._was_attached = self._was_attached or consumer.attached
            self._consumers = [each for each in self._consumers if not each.closed] + [consumer]
        return consumer

    def publish(self, message: Envelope, delay: float = 0.0) -> None:
        """Publish and wait for the confirm; raise `PublishFailed` without one."""
        self._publish(message.schema_name, message.encode(), wire.properties_of(message), delay)

    def publish_body(self, routing_key: str, body: bytes, delay: float = 0.0) -> None:
        """Publish any bytes, as a foreign publisher may."""
        self._publish(routing_key, body, pika.BasicProperties(delivery_mode=2), delay)

    def dead_letters(self, queue: str) -> list[DeadLetter]:
        """Return the dead letters of `queue`, oldest first; they stay there.

        Raises
        ------
        TransientError
            If the broker cannot be reached, or another command is reading its dead letters.
        EnvironmentFault
            If the broker refuses, or the queue does not exist.
        """
        with DeadLetterQueues(self.settings) as queues:
            return [stored.letter for stored in queues.letters(queue)]

    def close(self) -> None:
        """Close every connection; nothing can be published any more."""
        with self._guard:
            self._closed = True
            consumers, self._consumers = self._consumers, []
        for consumer in consumers:
            consumer.close()
        self._publisher.close()

    def _publish(self, routing_key: str, body: bytes, properties: Any, delay: float) -> None:
        if self._closed:
            raise PublishFailed(
                f"{routing_key} was not published: the connection to the broker is closed",
                keyword=routing_key,
            )
        queues = [queue for queue, keys in BINDINGS.items() if routing_key in keys]
        if delay > wire.LONGEST_DELAY:
            raise PublishFailed(
                f"{routing_key} was not published: a message can wait {wire.LONGEST_DELAY:.0f} s at most, "
                f"not {delay:.0f}; shorten the delay",
                keyword=routing_key,
            )
        if not queues and routing_key not in INFORMATIONAL:
            raise PublishFailed(
                f"{routing_key} was not published: no queue is bound to it; "
                "add it to STAGES in shared/contracts/routing.py",
                keyword=routing_key,
            )
        if delay > 0 and queues:
            for queue in queues:
                self._publisher.publish(wire.delayed(queue, routing_key, body, properties, delay))
            return
        mandatory = routing_key not in INFORMATIONAL
        self._publisher.publish(wire.Publication(EXCHANGE, routing_key, body, properties, mandatory))
