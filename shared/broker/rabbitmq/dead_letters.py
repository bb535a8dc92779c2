"""The dead-letter queues: look through them, put letters back to work, take them away."""

import time
from collections.abc import Iterator

from pika.exceptions import ChannelClosedByBroker

from shared.broker.rabbitmq import wire
from shared.broker.rabbitmq.letters import StoredLetter, read_letter
from shared.broker.rabbitmq.publisher import Publisher
from shared.broker.rabbitmq.session import Session
from shared.broker.rabbitmq.settings import BrokerSettings
from shared.closing import Closing
from shared.errors import TransientError
from shared.topology import EXCHANGE, dead_letter_queue

#: An exclusive queue: it is gone with the connection that made it, however that ends.
_IN_USE = f"{EXCHANGE}.dead-letters.in-use"
_RESOURCE_LOCKED = 405
# Returned letters keep their order as long as the broker passes each return on to the queue at once; from
# 32 that are under way it gathers them, in no order.
_RETURNED_AT_ONCE = 16
_RETURN_SECONDS = 10.0
_RETURN_POLL = 0.005


class DeadLetterQueues(Closing):
    """The dead-letter queues of one broker, for one command at a time.

    A letter is taken from its queue, unacked, while the queue is read, and given back at the end: in its
    place, if the queue was read to its end. (A broker puts what is returned behind what was returned
    before; where reading is cut short, or this process dies, order is lost, and nothing else.) Services
    may go on meanwhile.

    Parameters
    ----------
    settings : BrokerSettings

    Raises
    ------
    TransientError
        If the broker cannot be reached, or another command reads its dead letters.
    EnvironmentFault
        If it refuses.
    """

    def __init__(self, settings: BrokerSettings) -> None:
        self._publisher = Publisher(settings)
        self._session = Session(settings, "dead letters")
        self._reading = ""
        # Delivery tags in their order.
        self._unacked: dict[int, None] = {}
        try:
            self._session.channel.queue_declare(_IN_USE, exclusive=True, auto_delete=True)
        except ChannelClosedByBroker as error:
            self._session.close()
            if error.reply_code != _RESOURCE_LOCKED:
                raise TransientError(f"{settings.where} refuses the queue {_IN_USE}: {error}") from None
            raise TransientError(
                f"another command reads the dead letters at {settings.where}; try again when it is done"
            ) from None

    def letters(self, queue: str) -> Iterator[StoredLetter]:
        """Yield each letter that lies beside `queue`, oldest first; one body is in memory at a time.

        What comes meanwhile, such as a replayed letter that failed again, is not read.
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
            self._give_back()

    def replay(self, stored: StoredLetter) -> None:
        """Put a copy, its attempts forgotten, into its service's queue; remove it once that is confirmed.

        Between the two it is in both, and handlers do nothing twice.

        Raises
        ------
        PublishFailed
            If it was not confirmed; the letter stays.
        """
        letter = stored.letter
        self.publish(wire.afresh(stored.service_queue, letter.routing_key, letter.body, stored.properties))
        self.remove(stored)

    def publish(self, publication: wire.Publication) -> None:
        """Publish and wait for the confirm; `PublishFailed` without one."""
        self._publisher.publish(publication)

    def remove(self, stored: StoredLetter) -> None:
        """Take away a letter of the queue that is being read."""
        self._session.ask("basic_ack", stored.tag)
        del self._unacked[stored.tag]

    def close(self) -> None:
        """Let go of the connections, and of what was being read."""
        self._publisher.close()
        self._give_back()
        self._session.close()

    def _give_back(self) -> None:
        dead, tags, self._unacked = self._reading, list(self._unacked), {}
        if not tags or not self._session.is_open:
            return
        there = self._session.ready(dead)
        deadline = time.monotonic() + _RETURN_SECONDS
        for at in range(0, len(tags), _RETURNED_AT_ONCE):
            some = tags[at : at + _RETURNED_AT_ONCE]
            self._session.ask("basic_nack", some[-1], multiple=True, requeue=True)
            # Whoever comes next is to find all of them.
            while self._session.ready(dead) < there + at + len(some) and time.monotonic() < deadline:
                self._session.rest(_RETURN_POLL)
