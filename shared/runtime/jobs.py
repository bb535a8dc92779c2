"""Job processes, as their parent holds them: each handler call runs in a process of its own.

Memory, time and crashes stay there. `JobProcesses` keeps the processes and hands them out, `RunningJob` is
one job at work, and `JobChild` is one process: its pipe, its memory, its last words and its end.

The children run nothing but `shared.runtime.job_process`. Unlike multiprocessing's spawn they do not import
the program that started them, so a notebook, or a script without a main guard, may use them.
"""

import contextlib
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path
from typing import IO

import psutil

from shared.contracts.messages import Envelope
from shared.errors import JobCrashed
from shared.runtime.crash_report import CrashReport, how_it_died, kernel_kills
from shared.runtime.job_process import DUMP_SIGNAL, Done, Failed, JobProgress, Request, Setup
from shared.runtime.python_child import import_path, python_command
from shared.settings.logs import LogSettings
from shared.settings.stage import StageSettings

# Ctrl-C is for the parent, which lets the job finish or ends it: ignored from the first statement on.
_PROGRAM = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "sys.path[:] = {path!r}; from shared.runtime.job_process import main; main({pipe}, {life}, {words})"
)
_STANDARD_ERROR = 2
_LONGEST_WORDS = 64_000
#: Seconds that a process gets to write down its stacks, and seconds between two looks at whether it did.
_DUMP_PATIENCE = 0.5
_DUMP_LOOK = 0.02
#: Seconds between two looks at a job's memory.
_WATCH_SECONDS = 0.25
#: Seconds between two readings of the kernel's own count of kills, at least.
_COUNT_SECONDS = 1.0


class JobChild:
    """One job process. It ends when this process does, however this one ends.

    Parameters
    ----------
    setup : Setup
        Its first message.
    environment : mapping of str to str
        Added to this process's environment.
    """

    def __init__(self, setup: Setup, environment: Mapping[str, str]) -> None:
        self.peak_memory = 0
        self.pipe, theirs = Pipe()
        # Nothing is ever written to this pipe; its end tells the child that its parent is gone, or
        # done with it.
        ends_with, self._life = os.pipe()
        self._words = _nameless_file()
        self._last_words = ""
        self._lock = threading.Lock()
        fds = (theirs.fileno(), ends_with, self._words)
        program = _PROGRAM.format(path=import_path(), pipe=fds[0], life=fds[1], words=fds[2])
        try:
            with _output(setup) as log:
                self.process = subprocess.Popen(
                    python_command("-c", program),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=fds,
                    env={**os.environ, **environment},
                    # A terminal's Ctrl-C reaches the parent's group only, and what a job starts ends with it.
                    process_group=0,
                )
        except OSError:
            self.let_go()
            self._collect()
            raise
        finally:
            theirs.close()
            os.close(ends_with)
        with contextlib.suppress(OSError):
            self.pipe.send(setup)

    def memory(self) -> int:
        """Return the bytes of resident memory, and note the peak; 0 once the process is gone."""
        try:
            used = int(psutil.Process(self.process.pid).memory_info().rss)
        except psutil.Error:
            return 0
        self.peak_memory = max(self.peak_memory, used, _high_water_mark(self.process.pid))
        return used

    def dump_stacks(self) -> None:
        """Make a process that is about to be killed write down the stack of each of its threads."""
        self.process.send_signal(DUMP_SIGNAL)
        written, end = 0, time.monotonic() + _DUMP_PATIENCE
        # The dump is complete once it no longer grows; nothing else says so.
        while time.monotonic() < end:
            time.sleep(_DUMP_LOOK)
            before, written = written, os.fstat(self._words).st_size
            if before == written > 0:
                return

    @property
    def last_words(self) -> str:
        """The stacks that it wrote down before its end; empty if there are none."""
        return self._last_words

    def let_go(self) -> None:
        """Make it end at once, whatever it is doing."""
        self.pipe.close()
        with self._lock:
            self._life = _closed(self._life)

    def end(self, grace: float) -> int:
        """End the process, by force after `grace` seconds; return its exit code."""
        if grace > 0:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(grace)
        if self.process.poll() is None:
            # Not yet reaped, so the number still is that of its own group.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        code = self.process.wait()
        self._collect()
        return code

    def _collect(self) -> None:
        with self._lock:
            if self._words >= 0:
                self._last_words = os.pread(self._words, _LONGEST_WORDS, 0).decode(errors="replace")
            self._words, self._life = _closed(self._words), _closed(self._life)


class RunningJob:
    """A job at work. Poll it until it returns `Done` or `Failed`; its process is then free again."""

    def __init__(self, owner: "JobProcesses", child: JobChild, request: Request) -> None:
        self._owner = owner
        self._child = child
        self._request = request
        self._started = time.monotonic()
        self._looked = self._started
        self._waits_since: float | None = None
        self._progress: JobProgress | None = None
        self._last: Done | Failed | None = None

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._child.process.pid

    @property
    def seconds(self) -> float:
        """How long the job has been running, without the time for which it waited for its turn."""
        return (self._waits_since or time.monotonic()) - self._started

    def poll(self, timeout: float) -> JobProgress | Done | Failed | None:
        """Return what the job reports within `timeout` seconds, or None.

        A job that exceeds its time or memory limit writes down its stacks and is killed. It is reported as
        failed with `JobCrashed`, as is a job whose process died by itself.
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
        """Kill the job; from then on it reports `JobCrashed`."""
        if self._last is None:
            self._crashed("was stopped")

    def _received(self, report: JobProgress | Done | Failed) -> JobProgress | Done | Failed:
        if isinstance(report, JobProgress):
            self._progress = report
            self._note_wait(report.waiting)
            return report
        if isinstance(report, Failed):
            self._child.memory()
            report = replace(report, evidence=self._evidence(report.message, report.evidence))
        self._last = report
        self._owner._give_back(self._child)
        return report

    def _note_wait(self, waits: bool) -> None:
        if waits:
            self._waits_since = time.monotonic()
        elif self._waits_since is not None:
            self._started += time.monotonic() - self._waits_since
            self._waits_since = None

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
        # Without a reason of ours it died by itself, and its exit code is about to arrive.
        code = self._child.end(grace=5.0 if why is None else 0.0)
        log = f" (log: {self._owner.log_file})" if self._owner.log_file else ""
        words = why or how_it_died(code, self._owner._kernel_killed())
        message = f"the {self._request.service} job of message {self._request.message.id} {words}{log}"
        self._last = Failed(True, JobCrashed.__name__, message, evidence=self._evidence(message))
        self._owner._discard(self._child)
        return self._last

    def _evidence(self, how: str, traceback: str = "") -> str:
        at = self._progress
        return CrashReport(
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


class JobProcesses(AbstractContextManager["JobProcesses", None]):
    """Runs at most `count` jobs at once, each in a process that is kept for the next job.

    Any thread may start jobs. A process is started when it is first needed, imports a service at the
    service's first job, and is replaced when it dies. It ends when this process does, however this one ends.

    Parameters
    ----------
    count : int
    handlers : mapping of str to str
        Service -> its handler, ``"package.module:function"``.
    settings : StageSettings
        Passed to every handler.
    environment : mapping of str to str, optional
        Added to this process's environment.
    log_file : Path, optional
        The file to which whatever the jobs log and print is appended.
    log : LogSettings, optional
        How the jobs log to this process's standard error if there is no log file. Without either, whatever
        they log and print is discarded.
    time_limit : float, optional
        Seconds that one job may take, without those for which it waits for its turn.
    memory_limit : int, optional
        Bytes of resident memory that one job's process may hold; checked four times a second.
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
        self._idle: list[JobChild] = []
        self._busy: set[JobChild] = set()
        self._changed = threading.Condition()
        self._closed = False
        self._kernel_kills: int | None = None
        self._counted = -math.inf

    def start(self, service: str, message: Envelope, timeout: float = 0.0) -> RunningJob | None:
        """Start a job; return None if all processes stay busy for `timeout` seconds.

        Callers that wait are served in the order in which they came.

        Raises
        ------
        JobCrashed
            If no process can be started, or `close` was called.
        """
        with self._changed:
            # A condition wakes its waiters in the order in which they came.
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

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self, grace: float = 5.0) -> None:
        """End every process, idle or busy; by force if it is still there after `grace` seconds."""
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

    def _child_for(self, request: Request) -> JobChild:
        # A process that died while idle shows it only when it is sent something; then the next one is tried.
        for _ in range(len(self._idle) + 1):
            try:
                child = self._idle.pop() if self._idle else JobChild(self._setup, self._environment)
            except OSError as error:
                raise JobCrashed(f"no process could be started for {request.service}: {error}") from error
            try:
                child.pipe.send(request)
            except OSError:
                child.let_go()
                child.end(grace=1.0)
                continue
            return child
        raise JobCrashed(f"the processes for {request.service} die at their start; see {self.log_file}")

    def _give_back(self, child: JobChild) -> None:
        with self._changed:
            self._busy.discard(child)
            if self._closed:
                return
            self._idle.append(child)
            self._free += 1
            self._changed.notify()

    def _discard(self, child: JobChild) -> None:
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
        """Return whether the kernel killed a process for lack of memory since the last count."""
        before, now = self._kernel_kills, kernel_kills()
        return before is not None and now is not None and now > before


def _closed(fd: int) -> int:
    if fd >= 0:
        os.close(fd)
    return -1


def _nameless_file() -> int:
    if sys.platform == "linux":
        # A container may have no writable disk.
        return os.memfd_create("darks-last-words")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _output(setup: Setup) -> contextlib.AbstractContextManager[IO[bytes] | int]:
    """Return where a job's standard output and error go: never into its parent's standard output."""
    if setup.log is not None and setup.log_file is None:
        return contextlib.nullcontext(_STANDARD_ERROR)
    return (setup.log_file or Path(os.devnull)).open("ab")


def _high_water_mark(pid: int) -> int:
    """Return the most bytes of memory that a process ever held; 0 where unknown.

    A peak between two looks is in it. psutil has this figure on Windows alone.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
