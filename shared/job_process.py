"""The inside of a job's process: one handler call at a time, whatever the handler does.

`shared.jobs` starts it. What it prints, logs and warns goes to the log file, each line under the
message it belongs to; what it comes to goes back over the pipe.
"""

import importlib
import io
import logging
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

from shared.errors import EnvironmentFault, PermanentError, StoreUnavailable, TransientError
from shared.logs import LogSettings, log_job
from shared.messages import Envelope
from shared.settings import StageSettings
from shared.stage import Handler, Outgoing, StageContext
from shared.store.counting import NO_TRAFFIC, CountingStore, StoreTraffic
from shared.store.faults import fault_of
from shared.store.opening import open_store

_logger = logging.getLogger(__name__)
#: Seconds between two reports of progress on the same thing; a bar needs no more.
_PROGRESS_SECONDS = 0.1


@dataclass(frozen=True)
class Setup:
    """What a job's process is told once: its first message.

    Its log goes to `log_file`; without one to standard error, as `log` says; else it is thrown away.
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
    """`done` of `total` of `what`, so far."""

    done: int
    total: int
    what: str


@dataclass(frozen=True)
class Done:
    """The handler committed its work; `outgoing` is to be published. `traffic` is with the store."""

    outgoing: list[Outgoing]
    traffic: StoreTraffic = NO_TRAFFIC


@dataclass(frozen=True)
class Failed:
    """The handler did not finish.

    Attributes
    ----------
    transient : bool
        Trying again may help.
    error : str
        Name of the exception's type.
    message : str
        One line for a person.
    traceback : str
        Empty where the error was raised on purpose.
    store_down : bool
        The store did not answer, or has no room: the next message will fare no better.
    traffic : StoreTraffic
        Bytes read from and written to the store until then.
    """

    transient: bool
    error: str
    message: str
    traceback: str = ""
    store_down: bool = False
    traffic: StoreTraffic = NO_TRAFFIC


def main(fd: int) -> None:
    """Serve the jobs that come over the socket `fd`, until its other end is closed."""
    pipe = Connection(fd)
    setup = pipe.recv()
    requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(pipe, requests), daemon=True).start()
    begin = log_job(setup.log) if setup.log and not setup.log_file else _log_lines(setup.log_file)
    while True:
        request = requests.get()
        begin(request.service, request.message)
        pipe.send(_answer(request, setup, pipe))
        sys.stdout.flush()


def _log_lines(path: Path | None) -> Callable[[str, Envelope], None]:
    lines = _LogLines(path)
    sys.stdout = sys.stderr = lines
    logging.basicConfig(stream=lines, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")

    def begin(service: str, message: Envelope) -> None:
        lines.subject = f"{service} {message.id}"

    return begin


def _receive(pipe: Connection, requests: "queue.SimpleQueue[Request]") -> None:
    while True:
        try:
            requests.put(pipe.recv())
        except (EOFError, OSError):
            # The parent is gone or done with us, maybe in the middle of a job that nobody waits for
            # any more. No clean-up: the next opener of the store removes what was in the making.
            os._exit(0)


def _answer(request: Request, setup: Setup, pipe: Connection) -> Done | Failed:
    opened: list[CountingStore] = []
    answer = _call(request, setup, pipe, opened)
    return replace(answer, traffic=opened[0].traffic) if opened else answer


def _call(request: Request, setup: Setup, pipe: Connection, opened: list[CountingStore]) -> Done | Failed:
    try:
        store = CountingStore(open_store(setup.settings))
        opened.append(store)
        try:
            context = StageContext(store, setup.settings, _Reporter(pipe))
            return Done(_handler(setup.handlers[request.service])(request.message, context))
        finally:
            store.close()
    except SystemExit as leaving:
        # jwst and CRDS leave so, with their reason printed, where the machine is not set up.
        return Failed(
            False,
            EnvironmentFault.__name__,
            f"{request.service} was left by SystemExit({leaving.code!r}), as CRDS does where CRDS_PATH or "
            f"CRDS_CONTEXT is missing or wrong: set them; its last words are in {setup.log_file or 'no log'}",
            traceback.format_exc(),
        )
    except (PermanentError, TransientError) as error:
        return _failure(error)
    except Exception as error:
        _logger.exception("%s failed", request.service)
        return _unexpected(error, setup)


def _unexpected(error: Exception, setup: Setup) -> Failed:
    for link in _chain(error):
        if isinstance(link, MemoryError):
            return Failed(
                True,
                MemoryError.__name__,
                f"out of memory: {_one_line(link)}; lower --jobs or --max-memory",
                traceback.format_exc(),
            )
        fault = fault_of(link, setup.settings.local_folder) if isinstance(link, OSError) else None
        if isinstance(fault, StoreUnavailable):
            return _failure(fault)
    return Failed(
        False, type(error).__name__, f"{type(error).__name__}: {_one_line(error)}", traceback.format_exc()
    )


def _failure(error: PermanentError | TransientError) -> Failed:
    return Failed(
        isinstance(error, TransientError),
        type(error).__name__,
        _one_line(error),
        store_down=isinstance(error, StoreUnavailable),
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield `error` and what led to it: libraries wrap a full disk in errors without its number."""
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
    """Sends progress to the parent, not more often than it can be of use. Threads may share it."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()
        self._next = 0.0
        self._what = ""

    def __call__(self, done: int, total: int, what: str) -> None:
        with self._lock:
            now = time.monotonic()
            if now < self._next and what == self._what and done < total:
                return
            self._next, self._what = now + _PROGRESS_SECONDS, what
            self._pipe.send(JobProgress(done, total, what))


class _LogLines(io.TextIOBase):
    """Appends whole lines to the log file, each with time and subject in front.

    What compiled code writes past Python comes there too, by the process's own stdout and stderr.
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
            # One write a line: lines of several processes do not mix.
            os.write(self._fd, f"{stamp} [{self.subject}] {line}\n".encode(errors="replace"))
        except OSError:
            # A full disk must not turn a log line into a failed job.
            return
