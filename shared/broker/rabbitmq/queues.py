"""How many messages lie in each queue.

A passive ``queue.declare`` says exactly how many messages are ready and how many consumers there are.
How many are unacked only the management API knows, from its statistics, so that figure is a few seconds
old.
"""

from dataclasses import dataclass
from typing import Literal

from shared.broker.rabbitmq.management import Management
from shared.broker.rabbitmq.session import Session
from shared.broker.rabbitmq.settings import BrokerSettings
from shared.broker.rabbitmq.wire import DELAY_STEPS, LONG_DELAY, delay_queue
from shared.closing import Closing
from shared.topology import BINDINGS, HELD_QUEUE, dead_letter_queue

Kind = Literal["service", "dead", "delay", "held"]

#: By default a queue reports every 5 s, and its report is sampled every 5 s.
STATISTICS_SECONDS = 10.0


@dataclass(frozen=True)
class QueueState:
    """What a queue holds.

    Attributes
    ----------
    name : str
    kind : str
        ``service``, ``dead`` (a dead-letter queue), ``delay`` (its ready messages wait for their time)
        or ``held`` (announcements that `nircam-darks drain` holds back).
    ready : int
        Messages that wait, exactly.
    unacked : int
        Messages that a consumer has taken, up to `STATISTICS_SECONDS` ago.
    consumers : int
        Attached consumers, exactly.
    """

    name: str
    kind: Kind
    ready: int
    unacked: int
    consumers: int


class QueueReader(Closing):
    """Reads the states of all queues again and again over one connection.

    Parameters
    ----------
    settings : BrokerSettings

    Raises
    ------
    TransientError
        If the broker or its management API cannot be reached, now or at a reading.
    EnvironmentFault
        If one refuses, or a queue is not there.
    """

    def __init__(self, settings: BrokerSettings) -> None:
        self._vhost = settings.vhost
        self._api = Management(settings)
        self._session = Session(settings, "read queues")

    def states(self) -> list[QueueState]:
        """Return the state of every queue: of services, dead letters, delays, and what is held."""
        # The older figure first: what is taken in between is seen here or there.
        unacked = {
            each["name"]: int(each.get("messages_unacknowledged") or 0)
            for each in self._api.get("queues", self._vhost) or []
        }
        return [self._state(name, kind, unacked.get(name, 0)) for name, kind in _kinds().items()]

    def rest(self, seconds: float) -> None:
        """Wait so long, answering the broker's heartbeats."""
        self._session.rest(seconds)

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def _state(self, name: str, kind: Kind, unacked: int) -> QueueState:
        said = self._session.ask("queue_declare", name, passive=True).method
        return QueueState(name, kind, int(said.message_count), unacked, int(said.consumer_count))


def queue_states(settings: BrokerSettings) -> list[QueueState]:
    """Return the state of every queue of `shared.broker.rabbitmq.topology`, once.

    Raises
    ------
    TransientError
        If the broker or its management API cannot be reached.
    EnvironmentFault
        If one refuses, or a queue is not there.
    """
    with QueueReader(settings) as reader:
        return reader.states()


def _kinds() -> dict[str, Kind]:
    kinds: dict[str, Kind] = dict.fromkeys(BINDINGS, "service")
    kinds |= dict.fromkeys(map(dead_letter_queue, BINDINGS), "dead")
    kinds |= {delay_queue(str(step)): "delay" for step in (*DELAY_STEPS, LONG_DELAY)}
    kinds[HELD_QUEUE] = "held"
    return kinds
