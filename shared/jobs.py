"""Job processes: each handler call runs in a process of its own, so memory, time and crashes stay there.

The processes are plain children that run nothing but `shared.job_process`: unlike multiprocessing's
spawn they do not import the program that started them, so a notebook or a script without a main
guard may use them.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from multiprocessing import Pipe
from pathlib import Path
from typing import IO

from shared.closing import Closing
from shared.errors import JobCrashed
from shared.job_process import Done, Failed, JobProgress, Request, Setup
from shared.logs import LogSettings
from shared.messages import Envelope
from shared.settings import StageSettings

__all__ = ["Done", "Failed", "JobProcesses", "JobProgress", "RunningJob"]

# Ctrl-C is for the parent, which lets the job finish or ends it: ignored from the first statement on.
_PROGRAM = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "sys.path[:] = {path!r}; from shared.job_process import main; main({fd})"
)
#: Seconds between two looks at a job's memory.
_WATCH_SECONDS = 0.25
_STANDARD_ERROR = 2


class _Child:
    """One process and the pipe to it."""

    def __init__(self, setup: Setup, environment: Mapping[str, str]) -> None:
        self.pipe, theirs = Pipe()
        with _output(setup) as log, contextlib.closing(theirs):
            self.process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM.format(path=sys.path, fd=theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                env={**os.environ, **environment},
                # A terminal's Ctrl-C goes to the parent's group; and what a job starts ends with it.
                process_group=0,
            )
        with contextlib.suppress(OSError):
            self.pipe.send(setup)

    def memory(self) -> int:
        """Return the bytes of memory in use; 0 where the system does not tell."""
        try:
            pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        except (OSError, IndexError):
            return 0
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def end(self, grace: float) -> int:
        """End the process, by force after `grace` seconds; return its exit code."""
        if grace > 0:
            try:
                return self.process.wait(grace)
            except subprocess.TimeoutExpired:
                pass
        if self.process.poll() is None:
            # Not yet reaped, so the number is still this process's own group.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.wait()


def _output(setup: Setup) -> contextlib.AbstractContextManager[IO[bytes] | int]:
    """Return where a job's standard output and error go: not among the lines of its parent's output."""
    if setup.log is not None and setup.log_file is None:
        return contextlib.nullcontext(_STANDARD_ERROR)
    return (setup.log_file or Path(os.devnull)).open("ab")


class RunningJob:
    """A job at work. Poll it until it gives `Done` or `Failed`; its process is then free again."""

    def __init__(self, owner: "JobProcesses", child: _Child, request: Request) -> None:
        self._owner = owner
        self._child = child
        self._request = request
        self._started = time.monotonic()
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

        A job past its time or memory limit is killed, and reported as failed with `JobCrashed`, as
        one whose process died by itself is.
        """
        deadline = time.monotonic() + timeout
        while self._last is None:
            if (excess := self._excess()) is not None:
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
        if not isinstance(report, JobProgress):
            self._last = report
            self._owner._give_back(self._child)
        return report

    def _excess(self) -> str | None:
        limit, memory = self._owner.time_limit, self._owner.memory_limit
        if limit is not None and self.seconds > limit:
            return f"ran past its time limit of {limit:g} s and was stopped; raise the limit or lower --jobs"
        if memory is not None and (used := self._child.memory()) > memory:
            return f"used {used} bytes of memory where {memory} are allowed, and was stopped; lower --jobs"
        return None

    def _crashed(self, why: str | None) -> Failed:
        # Without a reason it died by itself: what the system says of it is about to come.
        code = self._child.end(grace=5.0 if why is None else 0.0)
        log = f" (log: {self._owner.log_file})" if self._owner.log_file else ""
        words = why or _how_it_died(code)
        message = f"the {self._request.service} job of message {self._request.message.id} {words}{log}"
        self._last = Failed(True, JobCrashed.__name__, message)
        self._owner._discard(self._child)
        return self._last


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
        self._idle: list[_Child] = []
        self._busy: set[_Child] = set()
        self._changed = threading.Condition()
        self._closed = False

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
        return RunningJob(self, child, request)

    def close(self, grace: float = 5.0) -> None:
        """End every process: idle ones at once, busy ones too, by force after `grace` seconds."""
        with self._changed:
            self._closed = True
            idle, busy = list(self._idle), list(self._busy)
            self._idle.clear()
            self._changed.notify_all()
        for child in idle:
            child.pipe.close()
        for child in busy:
            child.process.terminate()
        deadline = time.monotonic() + grace
        for child in [*idle, *busy]:
            child.end(max(0.0, deadline - time.monotonic()))

    def _child_for(self, request: Request) -> _Child:
        # A second try: one that died while it was idle shows at the first word to it.
        for _ in range(len(self._idle) + 1):
            try:
                child = self._idle.pop() if self._idle else _Child(self._setup, self._environment)
            except OSError as error:
                raise JobCrashed(f"no process could be started for {request.service}: {error}") from error
            try:
                child.pipe.send(request)
            except OSError:
                child.pipe.close()
                child.end(grace=1.0)
                continue
            return child
        raise JobCrashed(f"the processes for {request.service} die as they start; see {self.log_file}")

    def _give_back(self, child: _Child) -> None:
        with self._changed:
            self._busy.discard(child)
            if self._closed:
                return
            self._idle.append(child)
            self._free += 1
            self._changed.notify()

    def _discard(self, child: _Child) -> None:
        child.pipe.close()
        with self._changed:
            self._busy.discard(child)
            self._free += 1
            self._changed.notify()


def _how_it_died(code: int) -> str:
    if code >= 0:
        return f"ended its process with exit code {code}; see the log"
    name = signal.Signals(-code).name
    advice = {
        signal.SIGKILL: "out of memory? lower --jobs or --max-memory",
        signal.SIGTERM: "stopped from outside; run again",
    }.get(signal.Signals(-code), "a fault in compiled code; report it with the log")
    return f"was killed by signal {-code} ({name}): {advice}"
