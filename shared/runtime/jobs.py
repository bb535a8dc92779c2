"""Job processes: each handler call runs in a process of its own, so memory, time and crashes stay there.

The processes are plain children that run nothing but `shared.job_process`: unlike multiprocessing's
spawn they do not import the program that started them, so a notebook or a script without a main
guard may use them.
"""

import math
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from shared.closing import Closing
from shared.errors import JobCrashed
from shared.evidence import Evidence, how_it_died, kernel_kills
from shared.job_child import Child
from shared.job_process import Done, Failed, JobProgress, Request, Setup
from shared.logs import LogSettings
from shared.messages import Envelope
from shared.settings import StageSettings

__all__ = ["Done", "Failed", "JobProcesses", "JobProgress", "RunningJob"]

#: Seconds between two looks at a job's memory.
_WATCH_SECONDS = 0.25
#: The kernel's own kills are counted not more often than so.
_COUNT_SECONDS = 1.0


class RunningJob:
    """A job at work. Poll it until it gives `Done` or `Failed`; its process is then free again."""

    def __init__(self, owner: "JobProcesses", child: Child, request: Request) -> None:
        self._owner = owner
        self._child = child
        self._request = request
        self._started = time.monotonic()
        self._looked = self._started
        self._progress: JobProgress | None = None
        self._last: Done | Failed | None = None

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._child.process.pid

    @property
    def seconds(self) -> float:
        """How long the job has been running."""
        return time.monotonic() - self._started

    def poll(self, timeout: float) -> JobProgress | Done | Failed | None:
        """Return what the job reports within `timeout` seconds, or None.

        A job past its time or memory limit writes down where it is and is killed, and reported as
        failed with `JobCrashed`, as one whose process died by itself is.
        """
        deadline = time.monotonic() + timeout
        while self._last is None:
            if (excess := self._excess()) is not None:
                self._child.dump_stacks()
                return self._crashed(excess)
            wait = max(0.0, min(deadline - time.monotonic(), _WATCH_SECONDS))
            try:
                if self._child.pipe.poll(wait):
                    return self._received(self._child.pipe.recv())
            except (EOFError, OSError):
                return self._crashed(None)
            if time.monotonic() >= deadline:
                return None
        return self._last

    def stop(self) -> None:
        """Kill the job; it reports `JobCrashed` from now on."""
        if self._last is None:
            self._crashed("was stopped")

    def _received(self, report: JobProgress | Done | Failed) -> JobProgress | Done | Failed:
        if isinstance(report, JobProgress):
            self._progress = report
            return report
        if isinstance(report, Failed):
            self._child.memory()
            report = replace(report, evidence=self._evidence(report.message, report.evidence))
        self._last = report
        self._owner._give_back(self._child)
        return report

    def _excess(self) -> str | None:
        limit, memory = self._owner.time_limit, self._owner.memory_limit
        if limit is not None and self.seconds > limit:
            return f"ran past its time limit of {limit:g} s and was stopped; raise the limit or lower --jobs"
        if time.monotonic() < self._looked + _WATCH_SECONDS:
            return None
        used = self._child.memory()
        self._looked = time.monotonic()
        if memory is not None and used > memory:
            return f"used {used} bytes of memory where {memory} are allowed, and was stopped; lower --jobs"
        return None

    def _crashed(self, why: str | None) -> Failed:
        # Without a reason it died by itself: what the system says of it is about to come.
        code = self._child.end(grace=5.0 if why is None else 0.0)
        log = f" (log: {self._owner.log_file})" if self._owner.log_file else ""
        words = why or how_it_died(code, self._owner._kernel_killed())
        message = f"the {self._request.service} job of message {self._request.message.id} {words}{log}"
        self._last = Failed(True, JobCrashed.__name__, message, evidence=self._evidence(message))
        self._owner._discard(self._child)
        return self._last

    def _evidence(self, how: str, traceback: str = "") -> str:
        at = self._progress
        return Evidence(
            how=how,
            service=self._request.service,
            message_id=str(self._request.message.id),
            pid=self.pid,
            seconds=self.seconds,
            peak_memory=self._child.peak_memory,
            progress=f"{at.done} of {at.total} {at.what}" if at is not None else "",
            stack=self._child.last_words,
            traceback=traceback,
        ).text()


class JobProcesses(Closing):
    """At most `count` jobs at once, each in a process that stays for the next one.

    Any thread may start jobs. A process is started when it is first needed, loads a service at the
    service's first job, and is replaced when it dies. It ends when this process does, however that is.

    Parameters
    ----------
    count : int
    handlers : mapping of str to str
        Service -> its handler, as ``"package.module:function"``.
    settings : StageSettings
        Handed to every handler.
    environment : mapping of str to str, optional
        Added to this process's environment.
    log_file : Path, optional
        What the jobs log and print is appended to it.
    log : LogSettings, optional
        Without a log file, they log to this process's standard error in this way; without either, what
        they log and print is thrown away.
    time_limit : float, optional
        Seconds that one job may take.
    memory_limit : int, optional
        Bytes that one job's process may hold (resident; looked at four times a second, on Linux).
    """

    def __init__(
        self,
        count: int,
        handlers: Mapping[str, str],
        settings: StageSettings,
        environment: Mapping[str, str] | None = None,
        log_file: Path | None = None,
        log: LogSettings | None = None,
        time_limit: float | None = 3600.0,
        memory_limit: int | None = None,
    ) -> None:
        self.log_file = log_file.absolute() if log_file else None
        self.time_limit = time_limit
        self.memory_limit = memory_limit
        self._setup = Setup(dict(handlers), settings, self.log_file, log)
        self._environment = dict(environment or {})
        self._free = count
        self._idle: list[Child] = []
        self._busy: set[Child] = set()
        self._changed = threading.Condition()
        self._closed = False
        self._kernel_kills: int | None = None
        self._counted = -math.inf

    def start(self, service: str, message: Envelope, timeout: float = 0.0) -> RunningJob | None:
        """Start a job, or return None if all processes stay busy for `timeout` seconds.

        Those who wait are served in turn.

        Raises
        ------
        JobCrashed
            If no process can be started, or `close` was called.
        """
        with self._changed:
            # Notified in the order of their coming: who waits longest is woken first.
            self._changed.wait_for(lambda: self._free > 0 or self._closed, timeout)
            if self._closed:
                raise JobCrashed(f"message {message.id} was not started: the job processes are closed")
            if self._free == 0:
                return None
            request = Request(service, message)
            child = self._child_for(request)
            self._free -= 1
            self._busy.add(child)
            self._count_kernel_kills()
        return RunningJob(self, child, request)

    def close(self, grace: float = 5.0) -> None:
        """End every process: idle ones at once, busy ones too, by force after `grace` seconds."""
        with self._changed:
            self._closed = True
            idle, busy = list(self._idle), list(self._busy)
            self._idle.clear()
            self._changed.notify_all()
        for child in idle:
            child.let_go()
        for child in busy:
            child.process.terminate()
        deadline = time.monotonic() + grace
        for child in [*idle, *busy]:
            child.end(max(0.0, deadline - time.monotonic()))

    def _child_for(self, request: Request) -> Child:
        # A second try: one that died while it was idle shows at the first word to it.
        for _ in range(len(self._idle) + 1):
            try:
                child = self._idle.pop() if self._idle else Child(self._setup, self._environment)
            except OSError as error:
                raise JobCrashed(f"no process could be started for {request.service}: {error}") from error
            try:
                child.pipe.send(request)
            except OSError:
                child.let_go()
                child.end(grace=1.0)
                continue
            return child
        raise JobCrashed(f"the processes for {request.service} die as they start; see {self.log_file}")

    def _give_back(self, child: Child) -> None:
        with self._changed:
            self._busy.discard(child)
            if self._closed:
                return
            self._idle.append(child)
            self._free += 1
            self._changed.notify()

    def _discard(self, child: Child) -> None:
        child.let_go()
        with self._changed:
            self._busy.discard(child)
            self._free += 1
            self._changed.notify()

    def _count_kernel_kills(self) -> None:
        now = time.monotonic()
        if now >= self._counted + _COUNT_SECONDS:
            self._kernel_kills, self._counted = kernel_kills(), now

    def _kernel_killed(self) -> bool:
        """Whether the kernel killed a process for want of memory since the last job or so began."""
        before, now = self._kernel_kills, kernel_kills()
        return before is not None and now is not None and now > before
