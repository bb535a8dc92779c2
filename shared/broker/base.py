"""The broker Protocol: AMQP's words, whatever carries the messages."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from shared.messages import Envelope


@dataclass(frozen=True)
class Delivery:
    """One message as a consumer holds it, until it is acked, rejected or put back.

    Attributes
    ----------
    delivery_count : int
        How often it was delivered before and failed; 0 at first.
    tag : object
        The broker's own mark; void after a reconnect, and then dropped without a word.
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
    """A message that was given up, and why.

    Attributes
    ----------
    body : bytes
    routing_key : str
        What it was published under.
    queue : str
        The dead-letter queue that it lies in.
    reason : str
        One line for a person.
    attempts : int
        Deliveries that it had.
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
    """One consumer of one queue, with its prefetch."""

    @property
    def attached(self) -> bool:
        """Whether deliveries may come: the broker has it as a consumer. Any thread may ask."""
        ...

    def poll(self, timeout: float) -> Delivery | None:
        """Do the connection's I/O for at most `timeout` seconds; return a delivery if one came.

        Must be called often while a job runs: it is what keeps heartbeats going. Returns None while
        `prefetch` deliveries are held, or once `cancel` was called.
        """
        ...

    def ack(self, delivery: Delivery) -> None:
        """The work is committed and its follow-ups confirmed: forget the message."""
        ...

    def retry(self, delivery: Delivery, reason: str, delay: float) -> None:
        """The attempt failed: deliver again after `delay` seconds with its count raised.

        At the queue's delivery limit it is dead-lettered instead, with `reason`.
        """
        ...

    def dead_letter(self, delivery: Delivery, reason: str, evidence: str = "") -> None:
        """Trying again cannot help: move it to the queue's dead-letter queue, with `reason`.

        `evidence` is what the reason rests on, in lines; a broker may keep only its last ones.
        """
        ...

    def put_back(self, delivery: Delivery) -> None:
        """Not a failure (shutting down): back into the queue, its count not raised."""
        ...

    def cancel(self) -> None:
        """Take no more deliveries; those held stay held until settled."""
        ...

    def close(self) -> None:
        """Let go. What is still held goes back to the queue."""
        ...


class Broker(Protocol):
    """Queues bound to routing keys.

    Queues and bindings are those of `shared.topology`. Each queue has a dead-letter queue beside it.
    """

    def consume(self, queue: str, prefetch: int = 1) -> Consumer:
        """Attach a consumer. A worker uses it from one thread only."""
        ...

    def publish(self, message: Envelope, delay: float = 0.0) -> None:
        """Publish under the message's schema name and wait for the confirm.

        Raises
        ------
        PublishFailed
            If it was not confirmed, or no queue is bound where one must be. The caller does not
            ack what led to it.
        """
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...
