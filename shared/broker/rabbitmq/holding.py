"""Hold announcements back in a queue of their own, and let them in again.

What is published always finds a queue: the one binding is made before the other one goes. So for a
moment a message may go to both, and handlers do nothing twice.
"""

from shared.broker.rabbitmq import wire
from shared.broker.rabbitmq.publisher import Publisher
from shared.broker.rabbitmq.session import Session
from shared.broker.rabbitmq.settings import BrokerSettings
from shared.closing import Closing
from shared.topology import EXCHANGE, HELD_FROM, HELD_KEY, HELD_QUEUE

# Time in s in which a message arrives that was on its way to the queue when its binding went.
_IN_FLIGHT = 0.5


class Hold(Closing):
    """Whether announcements go to their service, or wait.

    Every method may be called again, also after a crash in the middle of it.

    Parameters
    ----------
    settings : BrokerSettings

    Raises
    ------
    TransientError
        If the broker cannot be reached, now or later.
    EnvironmentFault
        If it refuses, or the topology is not applied.
    """

    def __init__(self, settings: BrokerSettings) -> None:
        self._session = Session(settings, "hold announcements")
        self._publisher = Publisher(settings)

    def hold(self) -> None:
        """From now on announcements wait in the held queue."""
        self._session.ask("queue_bind", HELD_QUEUE, EXCHANGE, HELD_KEY)
        self._session.ask("queue_unbind", HELD_FROM, EXCHANGE, HELD_KEY)

    def release(self) -> int:
        """Let announcements in again, then those that were held; return how many these were.

        Each goes as a confirmed copy, and only then leaves the held queue.

        Raises
        ------
        PublishFailed
            If a copy was not confirmed; it and what lies behind it stay held.
        """
        self._session.ask("queue_bind", HELD_FROM, EXCHANGE, HELD_KEY)
        self._session.ask("queue_unbind", HELD_QUEUE, EXCHANGE, HELD_KEY)
        moved = 0
        for _ in range(2):
            while self._move_one():
                moved += 1
            self._session.rest(_IN_FLIGHT)
        return moved

    def close(self) -> None:
        """Let go of the connections."""
        self._publisher.close()
        self._session.close()

    def _move_one(self) -> bool:
        method, properties, body = self._session.ask("basic_get", HELD_QUEUE)
        if method is None:
            return False
        self._publisher.publish(wire.afresh(HELD_FROM, HELD_KEY, body, properties))
        self._session.ask("basic_ack", method.delivery_tag)
        return True
