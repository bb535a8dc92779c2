"""Consume, run, publish, ack: the one place that acknowledges a message.

A message is acked only after its work is committed and every follow-up is confirmed. Whatever goes
wrong before that, it is delivered again, and the handler finds what it had already committed.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from shared.broker.base import Broker, Consumer, Delivery
from shared.errors import BadMessage, JobCrashed, PublishFailed
from shared.jobs import Done, Failed, JobProgress
from shared.messages import Envelope, parse
from shared.stage import Outgoing
from shared.store.counting import NO_TRAFFIC
from shared.topology import DELIVERY_LIMIT
from shared.worker_events import WorkerEvent

__all__ = ["Job", "Jobs", "Worker", "WorkerEvent"]

_logger = logging.getLogger(__name__)

#: Longest time in s that the broker's connection goes without attention.
_TICK = 0.25
#: So many times in a row without the store, and the worker stops asking for more work.
_STORE_FAILURES = 3


class Job(Protocol):
    """A job at work, as `shared.jobs.RunningJob`."""

    @property
    def seconds(self) -> float:
        """How long it has been running."""
        ...

    def poll(self, timeout: float) -> JobProgress | Done | Failed | None:
        """Return what it reports within `timeout` seconds."""
        ...

    def stop(self) -> None:
        """Kill it."""
        ...


class Jobs(Protocol):
    """Where jobs run, as `shared.jobs.JobProcesses`."""

    def start(self, service: str, message: Envelope, timeout: float = 0.0) -> Job | None:
        """Start a job; None if there is no room for `timeout` seconds."""
        ...


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
        translate: Callable[[bytes], list[Envelope] | None] | None = None,
    ) -> None:
        self.service = service
        self._broker = broker
        self._jobs = jobs
        self._observer = observer
        self._retry_delays = retry_delays
        self._pauses = pauses
        self._max_pauses = max_pauses
        self._grace = grace
        self._translate = translate
        self._store_failures = 0
        self._next: Delivery | None = None
        self._attempt = 1
        self._redelivered = False
        self._traffic = NO_TRAFFIC
        self._consumer: Consumer | None = None
        self.last_tick = time.monotonic()

    @property
    def attached(self) -> bool:
        """Whether deliveries may come; any thread may ask."""
        consumer = self._consumer
        return consumer is not None and consumer.attached

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; then finish the job at hand, or put it back."""
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
        while not stop.is_set():
            delivery, self._next = self._next or consumer.poll(_TICK), None
            self.last_tick = time.monotonic()
            if delivery is None:
                continue
            rest = self._serve(consumer, delivery, stop)
            if rest > 0:
                return rest
        return 0.0

    def _serve(self, consumer: Consumer, delivery: Delivery, stop: threading.Event) -> float:
        self._attempt = delivery.delivery_count + 1
        self._redelivered = delivery.redelivered or delivery.delivery_count > 0
        self._traffic = NO_TRAFFIC
        if self._translated(consumer, delivery):
            return 0.0
        try:
            message = parse(delivery.body)
        except BadMessage as error:
            self._give_up(consumer, delivery, None, str(error))
            return 0.0
        if delivery.delivery_count >= DELIVERY_LIMIT:
            # The queue has its own limit; not every broker counts every lost delivery.
            reason = f"delivered {delivery.delivery_count} times before without an end"
            self._give_up(consumer, delivery, message, reason)
            return 0.0
        self._tell(WorkerEvent(self.service, "received", message))
        started = time.monotonic()
        result = self._run_job(consumer, message, stop)
        seconds = time.monotonic() - started
        self._traffic = result.traffic if result is not None else NO_TRAFFIC
        if result is None:
            consumer.put_back(delivery)
            reason = "the worker is stopping"
            self._tell(WorkerEvent(self.service, "put-back", message, reason=reason, seconds=seconds))
        elif isinstance(result, Done):
            self._store_failures = 0
            self._publish(consumer, delivery, message, result.outgoing, seconds)
        elif not result.transient:
            self._store_failures = 0
            self._give_up(
                consumer, delivery, message, result.message, result.traceback, seconds, result.error
            )
        elif result.store_down:
            return self._without_store(consumer, delivery, message, result, seconds)
        else:
            self._retry(consumer, delivery, message, result.message, seconds, result.error)
        return 0.0

    def _translated(self, consumer: Consumer, delivery: Delivery) -> bool:
        """Publish what a body of a foreign form stands for, and ack it; False if it is of our own."""
        if self._translate is None:
            return False
        try:
            messages = self._translate(delivery.body)
        except BadMessage as error:
            self._give_up(consumer, delivery, None, str(error))
            return True
        if messages is None:
            return False
        self._publish(consumer, delivery, None, [Outgoing(message) for message in messages], 0.0)
        return True

    def _without_store(
        self, consumer: Consumer, delivery: Delivery, message: Envelope, result: Failed, seconds: float
    ) -> float:
        """Settle a message that failed for the store; return the seconds to rest."""
        self._store_failures += 1
        pause = self._store_failures - _STORE_FAILURES
        if pause < 0:
            self._retry(consumer, delivery, message, result.message, seconds, result.error)
            return 0.0
        if self._max_pauses is not None and pause >= self._max_pauses:
            self._give_up(consumer, delivery, message, result.message, "", seconds, result.error)
            return 0.0
        rest = self._pauses[min(pause, len(self._pauses) - 1)]
        consumer.put_back(delivery)
        self._tell(WorkerEvent(self.service, "paused", message, reason=result.message, seconds=rest))
        return rest

    def _run_job(self, consumer: Consumer, message: Envelope, stop: threading.Event) -> Done | Failed | None:
        """Run a job to its end; None if it was given up because the worker is to stop."""
        job = None
        try:
            while job is None:
                self._tend(consumer)
                if stop.is_set():
                    return None
                job = self._jobs.start(self.service, message, timeout=_TICK)
        except JobCrashed as error:
            return Failed(True, type(error).__name__, str(error))
        end: float | None = None
        while True:
            self._tend(consumer)
            report = job.poll(_TICK)
            if isinstance(report, JobProgress):
                self._tell(
                    WorkerEvent(
                        self.service,
                        "progress",
                        message,
                        done=report.done,
                        total=report.total,
                        what=report.what,
                        seconds=job.seconds,
                    )
                )
            elif report is not None:
                return report
            if stop.is_set():
                if end is None:
                    consumer.cancel()
                    end = time.monotonic() + self._grace
                if time.monotonic() >= end:
                    job.stop()
                    return None

    def _tend(self, consumer: Consumer) -> None:
        # Heartbeats. One message at a time is held, so a delivery here means that the connection was
        # lost and with it every earlier one; its turn comes after the job at hand.
        self._next = consumer.poll(0.0) or self._next
        self.last_tick = time.monotonic()

    def _publish(
        self,
        consumer: Consumer,
        delivery: Delivery,
        message: Envelope | None,
        outgoing: Sequence[Outgoing],
        seconds: float,
    ) -> None:
        try:
            for each in outgoing:
                self._broker.publish(each.message, each.delay)
        except PublishFailed as error:
            # The next attempt finds the manifest, and publishes all of them again under the same ids.
            self._retry(consumer, delivery, message, str(error), seconds, type(error).__name__)
            return
        consumer.ack(delivery)
        self._tell(WorkerEvent(self.service, "finished", message, outgoing, seconds=seconds))

    def _retry(
        self,
        consumer: Consumer,
        delivery: Delivery,
        message: Envelope | None,
        reason: str,
        seconds: float,
        error: str,
    ) -> None:
        attempt = delivery.delivery_count + 1
        if attempt >= DELIVERY_LIMIT:
            reason = f"given up after {attempt} attempts: {reason}"
            self._give_up(consumer, delivery, message, reason, "", seconds, error)
            return
        delay = self._retry_delays[min(delivery.delivery_count, len(self._retry_delays) - 1)]
        consumer.retry(delivery, reason, delay)
        event = WorkerEvent(self.service, "retried", message, reason=reason, seconds=seconds, error=error)
        self._tell(event)

    def _give_up(
        self,
        consumer: Consumer,
        delivery: Delivery,
        message: Envelope | None,
        reason: str,
        traceback: str = "",
        seconds: float = 0.0,
        error: str = "",
    ) -> None:
        consumer.dead_letter(delivery, reason, traceback)
        self._tell(
            WorkerEvent(
                self.service,
                "dead-lettered",
                message,
                reason=reason,
                seconds=seconds,
                traceback=traceback,
                error=error,
            )
        )

    def _tell(self, event: WorkerEvent) -> None:
        if self._observer is None:
            return
        try:
            self._observer(
                replace(event, attempt=self._attempt, redelivered=self._redelivered, traffic=self._traffic)
            )
        except Exception:
            _logger.exception("the observer of %s failed at %s", event.service, event.kind)
