"""Consume, run, publish, ack: the one place that acknowledges a message.

A message is acked only after its work is committed and every follow-up is confirmed. Whatever goes
wrong before that, it is delivered again, and the handler finds what it had already committed.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from shared.broker.base import Broker, Consumer, Delivery
from shared.errors import BadMessage, JobCrashed, PublishFailed
from shared.jobs import Done, Failed, JobProgress
from shared.messages import Envelope, parse, require_size
from shared.stage import Outgoing
from shared.store.counting import NO_TRAFFIC, StoreTraffic
from shared.topology import DELIVERY_LIMIT
from shared.worker_events import EventKind, WorkerEvent
from shared.worker_jobs import Job, Jobs, Watch

__all__ = ["Job", "Jobs", "Worker", "WorkerEvent"]

_logger = logging.getLogger(__name__)

#: Longest time in s that the broker's connection goes without attention.
_TICK = 0.25
#: So many times in a row without the store, and the worker stops asking for more work.
_STORE_FAILURES = 3


@dataclass
class _Attempt:
    """One delivery at work."""

    consumer: Consumer
    delivery: Delivery
    message: Envelope | None = None
    seconds: float = 0.0
    traffic: StoreTraffic = NO_TRAFFIC

    @property
    def number(self) -> int:
        return self.delivery.delivery_count + 1


class Worker:
    """One consumer of one service's queue, one message at a time.

    Several may run in one process, each in its thread, and share one `JobProcesses`.

    Parameters
    ----------
    service : str
        Name of the service and of its queue.
    broker : Broker
    jobs : Jobs
    observer : callable, optional
        Called with each `WorkerEvent` in the worker's thread; what it raises is logged, no more.
    retry_delays : sequence of float
        Seconds before the second, third, ... attempt; the last one repeats.
    pauses : sequence of float
        Seconds to rest when the store was away several times in a row; the last one repeats.
    max_pauses : int, optional
        After so many in a row the message at hand is given up, so that a run ends. By default the
        worker waits for the store as long as it takes.
    grace : float
        Seconds that a job is given to finish once the worker is told to stop.
    messages : int, optional
        It ends by itself after so many; by default never.
    idle : float, optional
        It ends by itself when no message came for so many seconds; by default never.
    translate : callable, optional
        Reads a body of a foreign form: gives the messages to publish in its place, or None if it is
        of our own form; raises `BadMessage` if it is of neither.

    Attributes
    ----------
    last_tick : float
        When it last turned to the broker, by `time.monotonic`; any thread may look.
    """

    def __init__(
        self,
        service: str,
        broker: Broker,
        jobs: Jobs,
        observer: Callable[[WorkerEvent], None] | None = None,
        retry_delays: Sequence[float] = (1.0, 5.0, 25.0, 125.0),
        pauses: Sequence[float] = (5.0, 15.0, 60.0),
        max_pauses: int | None = None,
        grace: float = 25.0,
        messages: int | None = None,
        idle: float | None = None,
        translate: Callable[[bytes], list[Envelope] | None] | None = None,
    ) -> None:
        self.service = service
        self._broker = broker
        self._watch = Watch(jobs, _TICK, grace)
        self._observer = observer
        self._retry_delays = retry_delays
        self._pauses = pauses
        self._max_pauses = max_pauses
        self._left = messages
        self._idle = idle
        self._translate = translate
        self._store_failures = 0
        self._next: Delivery | None = None
        self._finished: UUID | None = None
        self._consumer: Consumer | None = None
        self.last_tick = time.monotonic()

    @property
    def attached(self) -> bool:
        """Whether deliveries may come; any thread may ask."""
        consumer = self._consumer
        return consumer is not None and consumer.attached

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; then finish the job at hand, or put it back.

        It is set here where `messages` were settled, or none came for `idle` seconds.
        """
        while not stop.is_set():
            consumer = self._broker.consume(self.service)
            self._consumer = consumer
            try:
                rest = self._consume(consumer, stop)
            finally:
                self._consumer = None
                consumer.cancel()
                if self._next is not None:
                    consumer.put_back(self._next)
                    self._next = None
                consumer.close()
            # Without a consumer, so that whoever reaches the store may have the messages meanwhile.
            self.rest(stop, rest)

    def rest(self, stop: threading.Event, seconds: float) -> None:
        """Do nothing for `seconds`, or until `stop` is set; it counts as being alive."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not stop.wait(min(left, _TICK)):
            self.last_tick = time.monotonic()

    def _consume(self, consumer: Consumer, stop: threading.Event) -> float:
        """Serve deliveries until `stop` is set or the store is away; return the seconds to rest."""
        waiting_since = time.monotonic()
        while not stop.is_set():
            delivery, self._next = self._next or consumer.poll(_TICK), None
            self.last_tick = time.monotonic()
            if delivery is None:
                if self._idle is not None and self.last_tick - waiting_since >= self._idle:
                    stop.set()
                continue
            rest = self._serve(consumer, delivery, stop)
            if rest > 0:
                return rest
            waiting_since = time.monotonic()
            if self._left is not None:
                self._left -= 1
                if self._left <= 0:
                    stop.set()
        return 0.0

    def _serve(self, consumer: Consumer, delivery: Delivery, stop: threading.Event) -> float:
        """Work on a delivery and settle it; return the seconds to rest."""
        attempt = _Attempt(consumer, delivery)
        try:
            require_size(delivery.body)
            messages = self._translate(delivery.body) if self._translate is not None else None
            if messages is not None:
                self._publish(attempt, [Outgoing(message) for message in messages])
                return 0.0
            attempt.message = parse(delivery.body)
        except BadMessage as error:
            self._give_up(attempt, str(error))
            return 0.0
        if delivery.delivery_count >= DELIVERY_LIMIT and attempt.message.id != self._finished:
            # The queue has its own limit; not every broker counts every lost delivery. What was delivered
            # once more while its job ran to a good end (a lost connection, a consumer timeout) is no failure.
            self._give_up(attempt, f"delivered {delivery.delivery_count} times before without an end")
            return 0.0
        result = self._run_job(attempt, attempt.message, stop)
        if result is None:
            consumer.put_back(delivery)
            self._tell(attempt, "put-back", reason="the worker is stopping")
            return 0.0
        attempt.traffic = result.traffic
        if isinstance(result, Failed) and result.store_down:
            return self._without_store(attempt, result)
        if isinstance(result, Failed) and result.transient:
            self._retry(attempt, result.message, result)
            return 0.0
        self._store_failures = 0
        if isinstance(result, Done):
            self._publish(attempt, result.outgoing)
        else:
            self._give_up(attempt, result.message, result)
        return 0.0

    def _run_job(self, attempt: _Attempt, message: Envelope, stop: threading.Event) -> Done | Failed | None:
        """Run a job to its end; None if it was given up because the worker is to stop."""
        consumer = attempt.consumer

        def tend() -> None:
            self._tend(consumer)

        def told(report: JobProgress, seconds: float) -> None:
            self._tell(
                attempt, "progress", done=report.done, total=report.total, what=report.what, seconds=seconds
            )

        started = time.monotonic()
        try:
            # Told after the start: whoever listens does so while the job is at work already.
            try:
                job = self._watch.start(self.service, message, tend, stop)
            finally:
                self._tell(attempt, "received")
            if job is None:
                return None
            return self._watch.follow(job, tend, told, stop, consumer.cancel)
        except JobCrashed as error:
            return Failed(True, type(error).__name__, str(error))
        finally:
            attempt.seconds = time.monotonic() - started

    def _tend(self, consumer: Consumer) -> None:
        # Heartbeats. One message at a time is held, so a delivery here means that the connection was
        # lost and with it every earlier one; its turn comes after the job at hand.
        self._next = consumer.poll(0.0) or self._next
        self.last_tick = time.monotonic()

    def _without_store(self, attempt: _Attempt, result: Failed) -> float:
        """Settle a message that failed for the store; return the seconds to rest."""
        self._store_failures += 1
        pause = self._store_failures - _STORE_FAILURES
        if pause < 0:
            self._retry(attempt, result.message, result)
            return 0.0
        if self._max_pauses is not None and pause >= self._max_pauses:
            self._give_up(attempt, result.message, result)
            return 0.0
        rest = self._pauses[min(pause, len(self._pauses) - 1)]
        attempt.consumer.put_back(attempt.delivery)
        self._tell(attempt, "paused", reason=result.message, seconds=rest)
        return rest

    def _publish(self, attempt: _Attempt, outgoing: Sequence[Outgoing]) -> None:
        """Publish all that follows from a message, then ack it."""
        try:
            for each in outgoing:
                self._broker.publish(each.message, each.delay)
                if time.monotonic() - self.last_tick > _TICK:
                    # Many of them, or a slow broker: the consumer's connection needs its heartbeats.
                    self._tend(attempt.consumer)
        except PublishFailed as error:
            # The next attempt finds the manifest, and publishes all of them again under the same ids.
            self._retry(attempt, str(error), Failed(True, type(error).__name__, str(error)))
            return
        attempt.consumer.ack(attempt.delivery)
        self._finished = attempt.message.id if attempt.message is not None else None
        self._tell(attempt, "finished", outgoing=outgoing)

    def _retry(self, attempt: _Attempt, reason: str, failed: Failed) -> None:
        if attempt.number >= DELIVERY_LIMIT:
            self._give_up(attempt, f"given up after {attempt.number} attempts: {reason}", failed)
            return
        delay = self._retry_delays[min(attempt.number, len(self._retry_delays)) - 1]
        attempt.consumer.retry(attempt.delivery, reason, delay)
        evidence = _evidence(attempt, failed)
        self._tell(attempt, "retried", reason=reason, error=failed.error, evidence=evidence)

    def _give_up(self, attempt: _Attempt, reason: str, failed: Failed | None = None) -> None:
        evidence = _evidence(attempt, failed)
        attempt.consumer.dead_letter(attempt.delivery, reason, evidence)
        self._tell(
            attempt,
            "dead-lettered",
            reason=reason,
            error=failed.error if failed is not None else "",
            traceback=failed.traceback if failed is not None else "",
            evidence=evidence,
        )

    def _tell(self, attempt: _Attempt, kind: EventKind, **facts: Any) -> None:
        if self._observer is None:
            return
        event = WorkerEvent(
            self.service,
            kind,
            attempt.message,
            attempt=attempt.number,
            redelivered=attempt.delivery.redelivered or attempt.number > 1,
            traffic=attempt.traffic,
            **{"seconds": attempt.seconds, **facts},
        )
        try:
            self._observer(event)
        except Exception:
            _logger.exception("the observer of %s failed at %s", event.service, event.kind)


def _evidence(attempt: _Attempt, failed: Failed | None) -> str:
    """Return what a failure rests on; empty where the message never came to a job."""
    if failed is None or not failed.evidence:
        return ""
    return f"attempt: {attempt.number} of {DELIVERY_LIMIT}\n{failed.evidence}"
