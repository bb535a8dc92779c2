"""The inside of a job process: one handler call at a time, whatever the handler does.

`shared.runtime.jobs` starts it. The job's result goes back over a pipe. What the job prints, logs and warns
goes to standard error or to the log file of the run, where each line names the message that it belongs to.
"""

import faulthandler
import importlib
import io
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from uuid import UUID

from shared.contracts.messages import Envelope
from shared.errors import EnvironmentFault, PermanentError, StoreUnavailable, TransientError
from shared.runtime.handler import Handler, Outgoing, StageContext
from shared.runtime.heap import share_one_heap
from shared.runtime.logs import log_job
from shared.runtime.turns import Turns
from shared.settings.logs import LogSettings
from shared.settings.stage import StageSettings
from shared.store.counting import NO_TRAFFIC, CountingStore, StoreTraffic
from shared.store.faults import disk_fault
from shared.store.opening import open_store

_logger = logging.getLogger(__name__)
#: Seconds between two progress reports on the same thing; a progress bar needs no more.
_PROGRESS_SECONDS = 0.1
#: At this signal the process writes down the stack of each of its threads.
DUMP_SIGNAL = signal.SIGUSR1


@dataclass(frozen=True)
class Setup:
    """The first message to a job process, sent once.

    It logs to `log_file` if there is one, else to standard error in the way of `log`; without either, the log
    is discarded.
    """

    handlers: Mapping[str, str]
    settings: StageSettings
    log_file: Path | None
    log: LogSettings | None = None


@dataclass(frozen=True)
class Request:
    """One job."""

    service: str
    message: Envelope


@dataclass(frozen=True)
class JobProgress:
    """`done` of `total` of `what`, so far; `waiting`: until it has its turn (`shared.runtime.turns`)."""

    done: int
    total: int
    what: str
    waiting: bool = False


@dataclass(frozen=True)
class Done:
    """The handler committed its work; `outgoing` is to be published. `traffic` is that with the store."""

    outgoing: list[Outgoing]
    traffic: StoreTraffic = NO_TRAFFIC


@dataclass(frozen=True)
class Failed:
    """The handler did not finish.

    Attributes
    ----------
    transient : bool
        Whether trying again may help.
    error : str
        Name of the exception's type.
    message : str
        One line for a person.
    traceback : str
        Empty where the error was raised on purpose.
    evidence : str
        Lines that the message rests on. The job's process sends the traceback, also that of an error raised
        on purpose; its parent turns it into a `shared.runtime.crash_report.CrashReport`.
    store_down : bool
        Whether the store did not answer or has no room, so that the next message would fail as well.
    traffic : StoreTraffic
        Bytes read from and written to the store until then.
    """

    transient: bool
    error: str
    message: str
    traceback: str = ""
    evidence: str = ""
    store_down: bool = False
    traffic: StoreTraffic = NO_TRAFFIC


def main(fd: int, life: int, words: int) -> None:
    """Serve the jobs that arrive over the socket `fd`, until its other end is closed.

    Parameters
    ----------
    fd : int
    life : int
        A pipe whose other end closes once nobody waits for the job at hand any more.
    words : int
        A file for the stacks of all threads, written at a crash and at `DUMP_SIGNAL`.
    """
    share_one_heap()
    faulthandler.enable(words)
    faulthandler.register(DUMP_SIGNAL, words)
    threading.Thread(target=_end_with_parent, args=(life,), daemon=True).start()
    pipe = Connection(fd)
    setup: Setup = _next_from(pipe)
    begin = log_job(setup.log) if setup.log and not setup.log_file else log_lines(setup.log_file)
    while True:
        request: Request = _next_from(pipe)
        begin(request.service, request.message)
        reporter = _Reporter(pipe)
        reporter.finish(_answer(request, setup, reporter))
        sys.stdout.flush()


def _next_from(pipe: Connection) -> Any:
    try:
        return pipe.recv()
    except (EOFError, OSError):
        os._exit(0)


def _end_with_parent(life: int) -> None:
    # The parent is gone or done with us, perhaps in the middle of a job. No clean-up: whoever opens the store
    # next removes unfinished files.
    os.read(life, 1)
    os._exit(0)


def _answer(request: Request, setup: Setup, report: "_Reporter") -> Done | Failed:
    opened: list[CountingStore] = []
    answer = _call(request, setup, report, opened)
    return replace(answer, traffic=opened[0].traffic) if opened else answer


def _call(request: Request, setup: Setup, report: "_Reporter", opened: list[CountingStore]) -> Done | Failed:
    try:
        store = CountingStore(open_store(setup.settings))
        opened.append(store)
        try:
            wait_turn = partial(_wait_turn, Turns(setup.settings), request.message.id, report)
            context = StageContext(store, setup.settings, report, wait_turn)
            return Done(_handler(setup.handlers[request.service])(request.message, context))
        finally:
            store.close()
    except SystemExit as leaving:
        # jwst and CRDS exit like this, with their reason printed, on a machine that is not set up.
        return _with_traceback(
            Failed(
                False,
                EnvironmentFault.__name__,
                f"{request.service} ended with SystemExit({leaving.code!r}), as CRDS does if CRDS_PATH or "
                "CRDS_CONTEXT is missing or wrong: set them; what it printed last is in "
                f"{setup.log_file or 'the log'}",
            )
        )
    except (PermanentError, TransientError) as error:
        return _failure(error)
    except Exception as error:
        _logger.exception("%s failed", request.service)
        return _unexpected(error, setup)


def _wait_turn(turns: Turns, message: UUID, report: "_Reporter") -> None:
    if turns.held(message):
        report.waiting(True)
        turns.wait(message)
        report.waiting(False)


def _unexpected(error: Exception, setup: Setup) -> Failed:
    for link in _chain(error):
        if isinstance(link, MemoryError):
            words = f"out of memory: {_one_line(link)}; lower --jobs or --max-memory"
            return _with_traceback(Failed(True, MemoryError.__name__, words))
        fault = disk_fault(link, setup.settings.local_folder) if isinstance(link, OSError) else None
        if isinstance(fault, StoreUnavailable):
            return _failure(fault)
    kind = type(error).__name__
    return _with_traceback(Failed(False, kind, f"{kind}: {_one_line(error)}"))


def _with_traceback(failed: Failed) -> Failed:
    trace = traceback.format_exc()
    return replace(failed, traceback=trace, evidence=trace)


def _failure(error: PermanentError | TransientError) -> Failed:
    return Failed(
        isinstance(error, TransientError),
        type(error).__name__,
        _one_line(error),
        evidence=traceback.format_exc(),
        store_down=isinstance(error, StoreUnavailable),
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield `error` and what led to it: libraries wrap a full disk in errors that lack its errno."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _handler(name: str) -> Handler:
    module, _, function = name.partition(":")
    try:
        handler: Handler = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise EnvironmentFault(
            f"the handler {name} cannot be loaded: {error}; install nircam-darks again"
        ) from error
    return handler


class _Reporter:
    """Sends progress to the parent, no more often than is useful. Threads may share it.

    A report that a thread makes after its job has ended is dropped: the next job may already be at work.
    """

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()
        self._next = 0.0
        self._what = ""
        self._at = (0, 1)
        self._over = False

    def __call__(self, done: int, total: int, what: str) -> None:
        with self._lock:
            now = time.monotonic()
            self._at = (done, total)
            if self._over or (now < self._next and what == self._what and done < total):
                return
            self._next, self._what = now + _PROGRESS_SECONDS, what
            self._pipe.send(JobProgress(done, total, what))

    def waiting(self, begins: bool) -> None:
        """Say that the job begins to wait for its turn, or that it goes on."""
        with self._lock:
            if not self._over:
                what = "waiting for earlier exposures" if begins else self._what
                self._pipe.send(JobProgress(*self._at, what, waiting=begins))

    def finish(self, answer: Done | Failed) -> None:
        """Send the job's result."""
        with self._lock:
            self._over = True
            self._pipe.send(answer)


def log_lines(path: Path | None) -> Callable[[str, Envelope], None]:
    """Send what this process prints, logs and warns to a file, or nowhere.

    Returns
    -------
    callable
        To be called with ``(service, message)`` at the beginning of each job; later lines name that message.
    """
    lines = _LogLines(path)
    sys.stdout = sys.stderr = lines
    logging.basicConfig(stream=lines, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")

    def begin(service: str, message: Envelope) -> None:
        lines.subject = f"{service} {message.id}"

    return begin


class _LogLines(io.TextIOBase):
    """Appends whole lines to the log file, each preceded by the time and its subject.

    What compiled code writes goes there as well, through the process's own stdout and stderr.
    """

    def __init__(self, path: Path | None) -> None:
        self.subject = "start"
        self._part = ""
        self._lock = threading.Lock()
        self._fd = os.open(path or os.devnull, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        with self._lock:
            *lines, self._part = (self._part + text).split("\n")
            for line in lines:
                self._put(line)
        return len(text)

    def flush(self) -> None:
        with self._lock:
            if self._part:
                self._put(self._part)
            self._part = ""

    def _put(self, line: str) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        try:
            # One write per line, so that lines of several processes do not mix.
            os.write(self._fd, f"{stamp} [{self.subject}] {line}\n".encode(errors="replace"))
        except OSError:
            # A full disk must not turn a log line into a failed job.
            return
