"""The inside of a job's process: one handler call at a time, whatever the handler does.

`shared.jobs` starts it. What it prints, logs and warns goes to the log file, each line under the
message it belongs to (`shared.job_output`); what it comes to goes back over the pipe.
"""

import faulthandler
import importlib
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from shared.errors import EnvironmentFault, PermanentError, StoreUnavailable, TransientError
from shared.job_output import log_lines
from shared.logs import LogSettings, log_job
from shared.messages import Envelope
from shared.settings import StageSettings
from shared.stage import Handler, Outgoing, Progress, StageContext
from shared.store.counting import NO_TRAFFIC, CountingStore, StoreTraffic
from shared.store.faults import fault_of
from shared.store.opening import open_store

_logger = logging.getLogger(__name__)
#: Seconds between two reports of progress on the same thing; a bar needs no more.
_PROGRESS_SECONDS = 0.1
#: At this signal the process writes down where each of its threads is.
DUMP_SIGNAL = signal.SIGUSR1


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
    evidence : str
        Lines that the message rests on. From the job's process it is the traceback, also of an error
        raised on purpose; its parent makes it a `shared.evidence.Evidence`.
    store_down : bool
        The store did not answer, or has no room: the next message will fare no better.
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
    """Serve the jobs that come over the socket `fd`, until its other end is closed.

    Parameters
    ----------
    fd : int
    life : int
        A pipe whose other end closes when nobody waits for the job at hand any more.
    words : int
        A file for the stacks of all threads: at a crash, and at `DUMP_SIGNAL`.
    """
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
    # The parent is gone or done with us, maybe in the middle of a job that nobody waits for any more. No
    # clean-up: the next opener of the store removes what was in the making.
    os.read(life, 1)
    os._exit(0)


def _answer(request: Request, setup: Setup, report: Progress) -> Done | Failed:
    opened: list[CountingStore] = []
    answer = _call(request, setup, report, opened)
    return replace(answer, traffic=opened[0].traffic) if opened else answer


def _call(request: Request, setup: Setup, report: Progress, opened: list[CountingStore]) -> Done | Failed:
    try:
        store = CountingStore(open_store(setup.settings))
        opened.append(store)
        try:
            context = StageContext(store, setup.settings, report)
            return Done(_handler(setup.handlers[request.service])(request.message, context))
        finally:
            store.close()
    except SystemExit as leaving:
        # jwst and CRDS leave so, with their reason printed, where the machine is not set up.
        return _with_traceback(
            Failed(
                False,
                EnvironmentFault.__name__,
                f"{request.service} was left by SystemExit({leaving.code!r}), as CRDS does where CRDS_PATH "
                "or CRDS_CONTEXT is missing or wrong: set them; its last words are in "
                f"{setup.log_file or 'no log'}",
            )
        )
    except (PermanentError, TransientError) as error:
        return _failure(error)
    except Exception as error:
        _logger.exception("%s failed", request.service)
        return _unexpected(error, setup)


def _unexpected(error: Exception, setup: Setup) -> Failed:
    for link in _chain(error):
        if isinstance(link, MemoryError):
            words = f"out of memory: {_one_line(link)}; lower --jobs or --max-memory"
            return _with_traceback(Failed(True, MemoryError.__name__, words))
        fault = fault_of(link, setup.settings.local_folder) if isinstance(link, OSError) else None
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
    """Sends progress to the parent, not more often than it can be of use. Threads may share it.

    What a thread reports after its job is over, the next job may already be at work, is not sent.
    """

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()
        self._next = 0.0
        self._what = ""
        self._over = False

    def __call__(self, done: int, total: int, what: str) -> None:
        with self._lock:
            now = time.monotonic()
            if self._over or (now < self._next and what == self._what and done < total):
                return
            self._next, self._what = now + _PROGRESS_SECONDS, what
            self._pipe.send(JobProgress(done, total, what))

    def finish(self, answer: Done | Failed) -> None:
        """Send what the job came to."""
        with self._lock:
            self._over = True
            self._pipe.send(answer)
