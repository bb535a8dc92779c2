"""A worker's job: started when there is room, watched to its end, given its grace when the worker stops."""

import threading
import time
from collections.abc import Callable
from typing import Protocol

from shared.jobs import Done, Failed, JobProgress
from shared.messages import Envelope


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


class Watch:
    """Starts jobs and watches them, and turns to something else at least every `tick` seconds.

    Parameters
    ----------
    jobs : Jobs
    tick : float
    grace : float
        Seconds that a job is given to finish once the worker is told to stop.
    """

    def __init__(self, jobs: Jobs, tick: float, grace: float) -> None:
        self._jobs = jobs
        self._tick = tick
        self._grace = grace

    def start(
        self, service: str, message: Envelope, tend: Callable[[], None], stop: threading.Event
    ) -> Job | None:
        """Start a job as soon as there is room; None if `stop` is set before.

        Raises
        ------
        JobCrashed
            If it cannot be started.
        """
        while not stop.is_set():
            job = self._jobs.start(service, message, timeout=self._tick)
            if job is not None:
                return job
            tend()
        return None

    def follow(
        self,
        job: Job,
        tend: Callable[[], None],
        told: Callable[[JobProgress, float], None],
        stop: threading.Event,
        stopping: Callable[[], None],
    ) -> Done | Failed | None:
        """Follow a job to its end; None if it had to be killed, its grace being over.

        Parameters
        ----------
        job : Job
        tend : callable
            What must not wait for the job.
        told : callable
            Given each report of progress, and how many seconds the job has run.
        stop : threading.Event
        stopping : callable
            Called once when `stop` was seen to be set.
        """
        end: float | None = None
        while True:
            # Whatever the job says wakes this at once; the tick is for the rest.
            report = job.poll(self._tick)
            if isinstance(report, JobProgress):
                told(report, job.seconds)
            elif report is not None:
                return report
            tend()
            if stop.is_set():
                if end is None:
                    stopping()
                    end = time.monotonic() + self._grace
                if time.monotonic() >= end:
                    job.stop()
                    return None
