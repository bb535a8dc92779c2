"""What a broker can do, in AMQP's terms: the protocols that RabbitMQ and the embedded broker both keep."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from shared.contracts.messages import Envelope


@dataclass(frozen=True)
class Delivery:
    """One message as a consumer holds it, until it is acked, rejected or requeued.

    Attributes
    ----------
    body : bytes
    routing_key : str
        The key that it was first published under.
    queue : str
    tag : object
        The broker's own mark. After a reconnect it is void, and settling the delivery does nothing.
    delivery_count : int
        Number of earlier deliveries that failed.
    redelivered : bool
        Whether it was delivered before, for whatever reason.
    headers : dict
    """

    body: bytes
    routing_key: str
    queue: str
    tag: Any
    delivery_count: int = 0
    redelivered: bool = False
    headers: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DeadLetter:
    """A message that was given up, with the reason.

    Attributes
    ----------
    body : bytes
    routing_key : str
        The key that it was published under.
    queue : str
        The dead-letter queue that holds it.
    reason : str
        One line for a person.
    attempts : int
        Number of deliveries.
    evidence : str
        Lines that the reason rests on, such as a traceback; empty where there are none.
    """

    body: bytes
    routing_key: str
    queue: str
    reason: str
    attempts: int
    evidence: str = ""


class Consumer(Protocol):
    """One consumer of one queue; it holds at most `prefetch` unsettled deliveries."""

    @property
    def attached(self) -> bool:
        """Whether deliveries may arrive: the broker has it as a consumer. Any thread may ask."""
        ...

    def poll(self, timeout: float) -> Delivery | None:
        """Do the connection's I/O for at most `timeout` seconds; return a delivery if one arrives.

        It must be called often while a job runs, because it sends the heartbeats. It returns None while
        `prefetch` deliveries are held, and once `cancel` was called.
        """
        ...

    def ack(self, delivery: Delivery) -> None:
        """Forget the message: its work is committed and the messages that follow from it are confirmed."""
        ...

    def retry(self, delivery: Delivery, reason: str, delay: float) -> None:
        """Deliver the message again after `delay` seconds with its count raised: the attempt failed.

        At the queue's delivery limit it is dead-lettered instead, with `reason`.
        """
        ...

    def dead_letter(self, delivery: Delivery, reason: str, evidence: str = "") -> None:
        """Move the message to the queue's dead-letter queue, with `reason`: trying again cannot help.

        `evidence` holds the lines that the reason rests on; a broker may keep only the last ones.
        """
        ...

    def holds(self, delivery: Delivery) -> bool:
        """Return whether the delivery is unsettled yet.

        After `retry` and `dead_letter` it is for as long as the broker takes no copy, being short of memory
        or disk. Polling goes on trying.
        """
        ...

    def requeue(self, delivery: Delivery) -> None:
        """Return the message to the queue without raising its count: nothing failed (a shutdown, say)."""
        ...

    def cancel(self) -> None:
        """Take no more deliveries; those held stay held until they are settled."""
        ...

    def close(self) -> None:
        """Detach from the queue; whatever is still held returns to it."""
        ...


class Broker(Protocol):
    """Queues bound to routing keys, as `shared.contracts.routing` has them, each with a dead-letter queue."""

    @property
    def problem(self) -> str | None:
        """Why it takes no messages at present, as far as is known, or None. Any thread may ask."""
        ...

    def consume(self, queue: str, prefetch: int = 1) -> Consumer:
        """Attach a consumer to `queue`. A worker uses it from one thread only."""
        ...

    def publish(self, message: Envelope, delay: float = 0.0) -> None:
        """Publish under the message's schema name and wait for the confirm.

        Raises
        ------
        PublishFailed
            If it was not confirmed, or no queue is bound to its routing key although one must be. The caller
            then does not ack the message that led to it.
        """
        ...

    def close(self) -> None:
        """Close the connection."""
        ...
