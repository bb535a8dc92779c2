"""The embedded broker: queues in this process's memory that behave, and on request misbehave, as RabbitMQ's.

A laptop's run uses it. Nothing is lost with it in a crash: the store's manifests say what was done, and the
next run announces the rest again. `Faults` lets tests have it lose, double or reorder messages, as networks
do.
"""

import heapq
import itertools
import random
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from shared.broker.base import DeadLetter, Delivery
from shared.contracts.messages import Envelope
from shared.contracts.routing import BINDINGS, DELIVERY_LIMIT, INFORMATIONAL, dead_letter_queue
from shared.errors import PublishFailed


@dataclass
class Faults:
    """Faults of a `MemoryBroker`; none by default. They may be changed while it runs.

    Attributes
    ----------
    lose_publishes, lose_confirms : int
        Number of coming publishes that fail: the message is lost on its way to the broker, or is accepted and
        the confirm is lost. The publisher cannot tell the two apart.
    lose_publish_chance, lose_confirm_chance : float
        Probability of the same for each publish.
    duplicate_chance : float
        Probability that a message enters a queue twice.
    drop_chance : float
        Probability that a consumer loses its connection at a poll: the messages that it holds return to the
        queue, and their tags become void.
    reorder : bool
        Whether any ready message may come next, instead of the oldest.
    confirm_seconds : float
        Time in s that a confirm takes.
    seed : int
        Of the random generator.
    """

    lose_publishes: int = 0
    lose_confirms: int = 0
    lose_publish_chance: float = 0.0
    lose_confirm_chance: float = 0.0
    duplicate_chance: float = 0.0
    drop_chance: float = 0.0
    reorder: bool = False
    confirm_seconds: float = 0.0
    seed: int = 0
    _random: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def of_publish(self) -> Literal["lost", "confirm lost"] | None:
        """Return what goes wrong with the publish at hand."""
        if self.lose_publishes > 0:
            self.lose_publishes -= 1
            return "lost"
        if self.lose_confirms > 0:
            self.lose_confirms -= 1
            return "confirm lost"
        if self._happens(self.lose_publish_chance):
            return "lost"
        return "confirm lost" if self._happens(self.lose_confirm_chance) else None

    def copies(self) -> int:
        """Return how many copies of a message enter a queue."""
        return 2 if self._happens(self.duplicate_chance) else 1

    def drops(self) -> bool:
        """Return whether a consumer loses its connection now."""
        return self._happens(self.drop_chance)

    def choose(self, ready: int) -> int:
        """Return which of `ready` messages comes next."""
        return self._random.randrange(ready) if self.reorder else 0

    def _happens(self, chance: float) -> bool:
        return chance > 0 and self._random.random() < chance


@dataclass
class _Message:
    body: bytes
    routing_key: str
    delivery_count: int = 0
    redelivered: bool = False


@dataclass
class _Queue:
    name: str
    ready: deque[_Message] = field(default_factory=deque)
    delayed: list[tuple[float, int, _Message]] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)

    def ripen(self, now: float) -> None:
        while self.delayed and self.delayed[0][0] <= now:
            self.ready.append(heapq.heappop(self.delayed)[2])


class MemoryBroker:
    """A `shared.broker.base.Broker` within one process; any thread may use it.

    Parameters
    ----------
    faults : Faults, optional
        By default it behaves.
    delivery_limit : int
        Attempts of one message before it is dead-lettered.
    """

    def __init__(self, faults: Faults | None = None, delivery_limit: int = DELIVERY_LIMIT) -> None:
        self.faults = faults or Faults()
        self._limit = delivery_limit
        self._queues = {name: _Queue(name) for name in BINDINGS}
        self._consumers: list[MemoryConsumer] = []
        self._listeners: list[tuple[re.Pattern[str], Callable[[Envelope], None]]] = []
        self._changed = threading.Condition()
        self._order = itertools.count()
        self._closed = False

    @property
    def problem(self) -> str | None:
        """None: it always takes messages."""
        return None

    def consume(self, queue: str, prefetch: int = 1) -> "MemoryConsumer":
        """Attach a consumer to one of the queues of `shared.contracts.routing`."""
        with self._changed:
            consumer = MemoryConsumer(self, self._queues[queue], prefetch)
            self._consumers.append(consumer)
            return consumer

    def publish(self, message: Envelope, delay: float = 0.0) -> None:
        """Publish and wait for the confirm; raise `PublishFailed` without one."""
        self.publish_body(message.schema_name, message.encode(), delay)
        for pattern, callback in list(self._listeners):
            if pattern.fullmatch(message.schema_name):
                callback(message)

    def publish_body(self, routing_key: str, body: bytes, delay: float = 0.0) -> None:
        """Publish any bytes, as a foreign publisher may."""
        if self.faults.confirm_seconds:
            time.sleep(self.faults.confirm_seconds)
        with self._changed:
            if self._closed:
                raise PublishFailed(
                    f"{routing_key} was not published: the embedded broker is closed", keyword=routing_key
                )
            queues = [queue for queue in self._queues.values() if routing_key in BINDINGS[queue.name]]
            if not queues and routing_key not in INFORMATIONAL:
                raise PublishFailed(
                    f"{routing_key} was not published: no queue is bound to it; "
                    "add it to STAGES in shared/contracts/routing.py",
                    keyword=routing_key,
                )
            fault = self.faults.of_publish()
            if fault != "lost":
                for queue in queues:
                    for _ in range(self.faults.copies()):
                        self._enqueue(queue, _Message(body, routing_key), delay)
            if fault:
                raise PublishFailed(
                    f"{routing_key} was not confirmed by the embedded broker ({fault})", keyword=routing_key
                )

    def listen(self, pattern: str, callback: Callable[[Envelope], None]) -> None:
        """Call `callback` with each message accepted from now on whose routing key matches `pattern`.

        Parameters
        ----------
        pattern : str
            A routing key in which ``*`` stands for one word and ``#`` for any number of words.
        callback : callable
            Called in the publisher's thread.
        """
        words = re.escape(pattern).replace(r"\#", ".*").replace(r"\*", r"[^.]+")
        self._listeners.append((re.compile(words), callback))

    def dead_letters(self, queue: str) -> list[DeadLetter]:
        """Return the dead letters of `queue`, oldest first."""
        with self._changed:
            return list(self._queues[queue].dead)

    def idle(self, *queues: str) -> bool:
        """Return True if no message is ready, delayed or held in `queues` (by default: in any queue).

        Dead letters do not count.
        """
        names = queues or tuple(self._queues)
        with self._changed:
            waiting = any(self._queues[name].ready or self._queues[name].delayed for name in names)
            held = any(consumer.held for consumer in self._consumers if consumer.queue.name in names)
            return not waiting and not held

    def drop_consumers(self) -> None:
        """Cut every consumer's connection; each attaches again at its next poll."""
        with self._changed:
            for consumer in self._consumers:
                self._lose(consumer)

    def close(self) -> None:
        """End every consumer; nothing can be published any more."""
        with self._changed:
            self._closed = True
            for consumer in list(self._consumers):
                consumer.close()

    def _enqueue(self, queue: _Queue, message: _Message, delay: float) -> None:
        if delay > 0:
            heapq.heappush(queue.delayed, (time.monotonic() + delay, next(self._order), message))
        else:
            queue.ready.append(message)
        self._changed.notify_all()

    def _bury(self, queue: _Queue, message: _Message, reason: str, evidence: str = "") -> None:
        queue.dead.append(
            DeadLetter(
                message.body,
                message.routing_key,
                dead_letter_queue(queue.name),
                reason,
                message.delivery_count + 1,
                evidence,
            )
        )
        self._changed.notify_all()

    def _failed(self, queue: _Queue, message: _Message, reason: str, delay: float) -> None:
        if message.delivery_count + 1 >= self._limit:
            self._bury(queue, message, reason)
            return
        message.delivery_count += 1
        message.redelivered = True
        self._enqueue(queue, message, delay)

    def _lose(self, consumer: "MemoryConsumer") -> None:
        # A lost connection counts as an attempt: a message that kills its workers must not do so for ever.
        for message in consumer.held.values():
            self._failed(consumer.queue, message, "its consumer was lost at each delivery", 0.0)
        consumer.held.clear()


class MemoryConsumer:
    """A `shared.broker.base.Consumer` of one queue of a `MemoryBroker`."""

    def __init__(self, broker: MemoryBroker, queue: _Queue, prefetch: int) -> None:
        self._broker = broker
        self._prefetch = prefetch
        self._changed = broker._changed
        self._taking = True
        self.queue = queue
        self.held: dict[int, _Message] = {}

    @property
    def attached(self) -> bool:
        """Whether deliveries may arrive."""
        return self._taking

    def poll(self, timeout: float) -> Delivery | None:
        """Return the next delivery; None if none arrives within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        with self._changed:
            if self.held and self._broker.faults.drops():
                self._broker._lose(self)
            while True:
                now = time.monotonic()
                self.queue.ripen(now)
                if self._taking and self.queue.ready and len(self.held) < self._prefetch:
                    return self._take()
                if now >= deadline:
                    return None
                ripe = self.queue.delayed[0][0] if self.queue.delayed else deadline
                self._changed.wait(max(min(ripe, deadline) - now, 0.0))

    def _take(self) -> Delivery:
        at = self._broker.faults.choose(len(self.queue.ready))
        message = self.queue.ready[at]
        del self.queue.ready[at]
        # This broker never uses a tag twice, so a delivery lost with its connection cannot be settled later.
        tag = next(self._broker._order)
        self.held[tag] = message
        return Delivery(
            body=message.body,
            routing_key=message.routing_key,
            queue=self.queue.name,
            tag=tag,
            delivery_count=message.delivery_count,
            redelivered=message.redelivered,
        )

    def ack(self, delivery: Delivery) -> None:
        """Forget the message."""
        with self._changed:
            self.held.pop(delivery.tag, None)
            self._changed.notify_all()

    def retry(self, delivery: Delivery, reason: str, delay: float) -> None:
        """Deliver it again after `delay` seconds with its count raised; at the limit, dead-letter it."""
        with self._changed:
            message = self.held.pop(delivery.tag, None)
            if message is not None:
                self._broker._failed(self.queue, message, reason, delay)

    def dead_letter(self, delivery: Delivery, reason: str, evidence: str = "") -> None:
        """Move it to the queue's dead letters."""
        with self._changed:
            message = self.held.pop(delivery.tag, None)
            if message is not None:
                self._broker._bury(self.queue, message, reason, evidence)

    def holds(self, delivery: Delivery) -> bool:
        """Return whether the delivery is unsettled yet."""
        with self._changed:
            return delivery.tag in self.held

    def requeue(self, delivery: Delivery) -> None:
        """Return it to the front of the queue without raising its count."""
        with self._changed:
            message = self.held.pop(delivery.tag, None)
            if message is not None:
                message.redelivered = True
                self.queue.ready.appendleft(message)
                self._changed.notify_all()

    def cancel(self) -> None:
        """Take no more deliveries; those held stay held until they are settled."""
        with self._changed:
            self._taking = False

    def close(self) -> None:
        """Detach; whatever is still held returns to the queue."""
        with self._changed:
            self._taking = False
            self._broker._lose(self)
            if self in self._broker._consumers:
                self._broker._consumers.remove(self)
