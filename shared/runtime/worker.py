"""A worker: take a message from a queue, run its job, publish what follows, ack.

This is the only place that acks. A message is acked once its work is committed and the broker has confirmed
every follow-up message. If anything fails before that, the message is delivered again, and the handler finds
what it had already committed.

The worker's thread also keeps the broker's connection alive. So it never blocks on a job: it starts it, looks
at it a few times a second (`JobSupervisor`), and attends to the connection in between.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from shared.broker.base import Broker, Consumer, Delivery
from shared.contracts.bounds import in_utf8
from shared.contracts.messages import Envelope, parse, require_size
from shared.contracts.routing import DELIVERY_LIMIT
from shared.errors import BadMessage, JobCrashed, PublishFailed
from shared.runtime.events import EventKind, WorkerEvent
from shared.runtime.handler import Outgoing
from shared.runtime.job_process import Done, Failed, JobProgress
from shared.runtime.logs import without_credentials
from shared.store.counting import NO_TRAFFIC, StoreTraffic

_logger = logging.getLogger(__name__)

#: Longest time in s that the broker's connection goes without attention.
_TICK = 0.25
#: After this many failures of the store in a row the worker stops asking for more work.
_STORE_FAILURES = 3


class Job(Protocol):
    """A job at work; see `shared.runtime.jobs.RunningJob`."""

    @property
    def seconds(self) -> float:
        """How long it has been running."""
        ...

    def poll(self, timeout: float) -> JobProgress | Done | Failed | None:
        """Return what it reports within `timeout` seconds, or None."""
        ...

    def stop(self) -> None:
        """Kill it."""
        ...


class Jobs(Protocol):
    """Runs jobs; see `shared.runtime.jobs.JobProcesses`."""

    def start(self, service: str, message: Envelope, timeout: float = 0.0) -> Job | None:
        """Start a job; return None if there is no room for it within `timeout` seconds."""
        ...


@dataclass(frozen=True)
class WorkerPolicy:
    """How often a worker retries, how long it waits, and when it ends by itself.

    Attributes
    ----------
    retry_delays : sequence of float
        Seconds before the second, third, ... attempt; the last one repeats.
    pauses : sequence of float
        Seconds to rest when the store failed several times in a row; the last one repeats.
    max_pauses : int or None
        After this many pauses in a row the worker gives up the message at hand, so that a laptop's run ends.
        None: it waits for the store as long as it takes.
    grace : float
        Seconds that a job may take to finish once the worker is told to stop.
    messages : int or None
        Number of messages after which the worker ends by itself; None: never.
    idle : float or None
        Seconds without a message after which it ends by itself; None: never.
    """

    retry_delays: Sequence[float] = (1.0, 5.0, 25.0, 125.0)
    pauses: Sequence[float] = (5.0, 15.0, 60.0)
    max_pauses: int | None = None
    grace: float = 25.0
    messages: int | None = None
    idle: float | None = None


class JobSupervisor:
    """Starts a job and follows it to its end, attending to something else at least every `tick` seconds.

    Parameters
    ----------
    jobs : Jobs
    tick : float
        In s.
    grace : float
        Seconds that a job may take to finish once the worker is told to stop.
    """

    def __init__(self, jobs: Jobs, tick: float, grace: float) -> None:
        self._jobs = jobs
        self._tick = tick
        self._grace = grace

    def start(
        self, service: str, message: Envelope, attend: Callable[[], None], stop: threading.Event
    ) -> Job | None:
        """Start a job as soon as there is room; return None if `stop` is set before that.

        Raises
        ------
        JobCrashed
            If it cannot be started.
        """
        while not stop.is_set():
            job = self._jobs.start(service, message, timeout=self._tick)
            if job is not None:
                return job
            attend()
        return None

    def follow(
        self,
        job: Job,
        attend: Callable[[], None],
        report_progress: Callable[[JobProgress, float], None],
        stop: threading.Event,
        stopping: Callable[[], None],
    ) -> Done | Failed | None:
        """Follow a job to its end; return None if its grace ran out and it was killed.

        Parameters
        ----------
        job : Job
        attend : callable
            Called again and again: for what must not wait until the job ends.
        report_progress : callable
            Called with each progress report and the seconds that the job has run.
        stop : threading.Event
        stopping : callable
            Called once, when `stop` is first seen to be set.
        """
        end: float | None = None
        while True:
            # A report wakes this at once; the tick is for everything else.
            report = job.poll(self._tick)
            if isinstance(report, JobProgress):
                report_progress(report, job.seconds)
            elif report is not None:
                return report
            attend()
            if stop.is_set():
                if end is None:
                    stopping()
                    end = time.monotonic() + self._grace
                if time.monotonic() >= end:
                    job.stop()
                    return None


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
    """Consumes one service's queue, one message at a time.

    Several workers may run in one process, each in its own thread, and share one `JobProcesses`.

    Parameters
    ----------
    service : str
        Name of the service and of its queue.
    broker : Broker
    jobs : Jobs
    observer : callable, optional
        Called with each `WorkerEvent`, in the worker's thread. What it raises is logged and goes no further.
    policy : WorkerPolicy
    translate : callable, optional
        Reads a body in a foreign form: returns the messages to publish in its place, or None if the body is
        in our own form; raises `BadMessage` if it is in neither.

    Attributes
    ----------
    last_tick : float
        When it last attended to the broker, by `time.monotonic`; any thread may read it.
    """

    def __init__(
        self,
        service: str,
        broker: Broker,
        jobs: Jobs,
        observer: Callable[[WorkerEvent], None] | None = None,
        policy: WorkerPolicy = WorkerPolicy(),
        translate: Callable[[bytes], list[Envelope] | None] | None = None,
    ) -> None:
        self.service = service
        self._broker = broker
        self._supervisor = JobSupervisor(jobs, _TICK, policy.grace)
        self._observer = observer
        self._policy = policy
        self._remaining = policy.messages
        self._translate = translate
        self._store_failures = 0
        self._next: Delivery | None = None
        self._last_finished: UUID | None = None
        self._consumer: Consumer | None = None
        self._stop = threading.Event()
        self.last_tick = time.monotonic()

    @property
    def attached(self) -> bool:
        """Whether deliveries may arrive; any thread may ask."""
        consumer = self._consumer
        return consumer is not None and consumer.attached

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; then finish the message at hand, or requeue it.

        The worker sets `stop` itself when its policy says so: after a number of messages, or when idle.
        """
        self._stop = stop
        while not stop.is_set():
            consumer = self._broker.consume(self.service)
            self._consumer = consumer
            try:
                seconds = self._consume(consumer, stop)
            finally:
                self._consumer = None
                consumer.cancel()
                if self._next is not None:
                    consumer.requeue(self._next)
                    self._next = None
                consumer.close()
            # It rests without a consumer: a worker that can reach the store may take the messages meanwhile.
            self.rest(stop, seconds)

    def rest(self, stop: threading.Event, seconds: float) -> None:
        """Do nothing for `seconds`, or until `stop` is set; a resting worker counts as alive."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not stop.wait(min(left, _TICK)):
            self.last_tick = time.monotonic()

    def _consume(self, consumer: Consumer, stop: threading.Event) -> float:
        """Serve deliveries until `stop` is set or the store fails; return the seconds to rest."""
        idle_since = time.monotonic()
        while not stop.is_set():
            delivery, self._next = self._next or consumer.poll(_TICK), None
            self.last_tick = time.monotonic()
            if delivery is None:
                if self._policy.idle is not None and self.last_tick - idle_since >= self._policy.idle:
                    stop.set()
                continue
            seconds = self._serve_or_give_up(consumer, delivery, stop)
            if seconds > 0:
                return seconds
            idle_since = time.monotonic()
            if self._remaining is not None:
                self._remaining -= 1
                if self._remaining <= 0:
                    stop.set()
        return 0.0

    def _serve_or_give_up(self, consumer: Consumer, delivery: Delivery, stop: threading.Event) -> float:
        """Serve a delivery; one that brings up an error that nobody foresaw becomes a dead letter.

        The worker goes on. Without this, the message would be delivered again, and end one worker after the
        other.
        """
        try:
            return self._serve(consumer, delivery, stop)
        except Exception as error:
            _logger.exception("%s could not serve a message", self.service)
            fault = in_utf8(" ".join(str(error).split()))[:300]
            reason = f"an unforeseen error in the worker, which its log has: {type(error).__name__}: {fault}"
            self._give_up(_Attempt(consumer, delivery), reason)
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
            _require_own_key(delivery, attempt.message)
        except BadMessage as error:
            self._give_up(attempt, str(error))
            return 0.0
        if delivery.delivery_count >= DELIVERY_LIMIT and attempt.message.id != self._last_finished:
            # The queue has its own limit, but not every broker counts every lost delivery. A message that was
            # delivered again while its job finished well (lost connection, consumer timeout) has not failed.
            self._give_up(attempt, f"given up after {delivery.delivery_count} deliveries that did not finish")
            return 0.0
        result = self._run_job(attempt, attempt.message, stop)
        if result is None:
            consumer.requeue(delivery)
            self._report(attempt, "requeued", reason="the worker is stopping")
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
        """Run a job to its end; return None if it was abandoned because the worker is to stop."""
        consumer = attempt.consumer

        def attend() -> None:
            self._attend(consumer)

        def report_progress(progress: JobProgress, seconds: float) -> None:
            self._report(
                attempt,
                "progress",
                done=progress.done,
                total=progress.total,
                what=progress.what,
                seconds=seconds,
            )

        started = time.monotonic()
        try:
            # Reported after the start, so that the observer's work overlaps with the job's.
            try:
                job = self._supervisor.start(self.service, message, attend, stop)
            finally:
                self._report(attempt, "received")
            if job is None:
                return None
            return self._supervisor.follow(job, attend, report_progress, stop, consumer.cancel)
        except JobCrashed as error:
            return Failed(True, type(error).__name__, str(error))
        finally:
            attempt.seconds = time.monotonic() - started

    def _attend(self, consumer: Consumer) -> None:
        # Sends heartbeats. With one message held at a time, a delivery here means that the connection was
        # lost, and every earlier delivery with it; the new one is served after the job at hand.
        self._next = consumer.poll(0.0) or self._next
        self.last_tick = time.monotonic()

    def _without_store(self, attempt: _Attempt, result: Failed) -> float:
        """Settle a message whose job failed because of the store; return the seconds to rest."""
        self._store_failures += 1
        pause = self._store_failures - _STORE_FAILURES
        if pause < 0:
            self._retry(attempt, result.message, result)
            return 0.0
        if self._policy.max_pauses is not None and pause >= self._policy.max_pauses:
            self._give_up(attempt, result.message, result)
            return 0.0
        seconds = self._policy.pauses[min(pause, len(self._policy.pauses) - 1)]
        attempt.consumer.requeue(attempt.delivery)
        self._report(attempt, "paused", reason=result.message, seconds=seconds)
        return seconds

    def _publish(self, attempt: _Attempt, outgoing: Sequence[Outgoing]) -> None:
        """Publish everything that follows from a message, then ack it."""
        try:
            for each in outgoing:
                self._broker.publish(each.message, each.delay)
                if time.monotonic() - self.last_tick > _TICK:
                    # Many messages or a slow broker: the consumer's connection needs its heartbeats.
                    self._attend(attempt.consumer)
        except PublishFailed as error:
            # The next attempt finds the manifest and publishes all of them again, under the same ids.
            self._retry(attempt, str(error), Failed(True, type(error).__name__, str(error)))
            return
        attempt.consumer.ack(attempt.delivery)
        self._last_finished = attempt.message.id if attempt.message is not None else None
        self._report(attempt, "finished", outgoing=outgoing)

    def _retry(self, attempt: _Attempt, reason: str, failed: Failed) -> None:
        reason = without_credentials(reason)
        if attempt.number >= DELIVERY_LIMIT:
            self._give_up(attempt, f"given up after {attempt.number} attempts: {reason}", failed)
            return
        delays = self._policy.retry_delays
        attempt.consumer.retry(attempt.delivery, reason, delays[min(attempt.number, len(delays)) - 1])
        self._await_settlement(attempt)
        evidence = _evidence(attempt, failed)
        self._report(attempt, "retried", reason=reason, error=failed.error, evidence=evidence)

    def _give_up(self, attempt: _Attempt, reason: str, failed: Failed | None = None) -> None:
        # It travels with the message, in a header that operators list and export.
        reason = without_credentials(reason)
        evidence = _evidence(attempt, failed)
        attempt.consumer.dead_letter(attempt.delivery, reason, evidence)
        self._await_settlement(attempt)
        self._report(
            attempt,
            "dead-lettered",
            reason=reason,
            error=failed.error if failed is not None else "",
            traceback=failed.traceback if failed is not None else "",
            evidence=evidence,
        )

    def _await_settlement(self, attempt: _Attempt) -> None:
        # What is reported has happened: a broker that is short of memory takes the copy later, or never.
        while attempt.consumer.holds(attempt.delivery) and not self._stop.is_set():
            self._next = attempt.consumer.poll(_TICK) or self._next
            self.last_tick = time.monotonic()

    def _report(self, attempt: _Attempt, kind: EventKind, **results: Any) -> None:
        if self._observer is None:
            return
        event = WorkerEvent(
            self.service,
            kind,
            attempt.message,
            attempt=attempt.number,
            redelivered=attempt.delivery.redelivered or attempt.number > 1,
            traffic=attempt.traffic,
            **{"seconds": attempt.seconds, **results},
        )
        try:
            self._observer(event)
        except Exception:
            _logger.exception("the observer of %s failed at %s", event.service, event.kind)


def _require_own_key(delivery: Delivery, message: Envelope) -> None:
    # A broker's permissions are by routing key: a trigger that may announce exposures must not be able to
    # give other orders under that key. Straight into the queue only our own users may publish.
    if delivery.routing_key not in (message.schema_name, delivery.queue):
        raise BadMessage(
            f"message {message.id}: a {message.schema_name} was published under the routing key "
            f"{in_utf8(delivery.routing_key)[:100]}; publish it under its own",
            where=message.id,
            keyword="schema",
        )


def _evidence(attempt: _Attempt, failed: Failed | None) -> str:
    """Return the lines that a failure's reason rests on; empty if the message never reached a job."""
    if failed is None or not failed.evidence:
        return ""
    return f"attempt: {attempt.number} of {DELIVERY_LIMIT}\n{failed.evidence}"
