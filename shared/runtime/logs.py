"""Logs: one JSON object a line, each with the ids of the message it is about.

What libraries log comes out the same way, from WARNING on. A job process writes the same form
(`log_job`), so that one search by message id finds what the service did and what jwst said of it.
"""

import io
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Literal, TextIO

import structlog

from shared.messages import Envelope
from shared.worker_events import WorkerEvent

#: From these the setting's level counts; from every other logger only warnings.
_OURS = ("shared", "services", "nircam-darks")
#: Whose lines of level INFO jwst writes into each file that it makes (``cal_logs``): a file says how it was
#: made, whatever its maker logs.
_RECORDED = ("jwst", "stcal", "stpipe")
_IN_ADDRESS = re.compile(r"(?<=://)[^/\s]+@")
_AS_PARAMETER = re.compile(
    r"(?i)((?:signature|credential|password|passwd|secret|token)[\w-]{0,30}[\"']?\s*[=:]\s*[\"']?)"
    r"""[^\s&"',;)}]+"""
)
#: Most characters of evidence in a line; the whole of it goes with the dead letter.
_LONGEST_EVIDENCE = 4000

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["json", "console"]


@dataclass(frozen=True)
class LogSettings:
    """How a process logs; picklable, so that a job's process logs as its service does."""

    level: Level = "info"
    format: Format = "json"


def without_credentials(text: str) -> str:
    """Return `text` with what looks like a password, key or signature replaced by ``***``."""
    # Most of what is logged is ids and single words; to see so is quicker than to search them.
    if "://" in text:
        text = _IN_ADDRESS.sub("***@", text)
    return _AS_PARAMETER.sub(r"\1***", text) if "=" in text or ":" in text else text


def configure(settings: LogSettings, facts: Mapping[str, Any], stream: TextIO | None = None) -> None:
    """Send this process's logs to `stream`, in place of wherever they went.

    Parameters
    ----------
    settings : LogSettings
    facts : mapping
        Added to every line, as they are when the line is written.
    stream : text file, optional
        Standard output, unless given.
    """

    def add_facts(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {**facts, **event}

    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        add_facts,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        structlog.processors.UnicodeDecoder(),
        _hide_credentials,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer(default=str)
        if settings.format == "json"
        else structlog.dev.ConsoleRenderer(
            colors=False, sort_keys=False, exception_formatter=structlog.dev.plain_traceback
        )
    )
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    handler.addFilter(_is_said)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in _OURS:
        logging.getLogger(name).setLevel(settings.level.upper())
    logging.captureWarnings(True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def ids(service: str, message: Envelope | None) -> dict[str, str]:
    """Return what every line about a message names."""
    if message is None:
        return {"service": service}
    return {
        "service": service,
        "message_id": str(message.id),
        "correlation_id": str(message.correlation_id),
        "schema": message.schema_name,
    }


class EventLog:
    """Logs what a worker does; an observer of `shared.worker.Worker`.

    Parameters
    ----------
    progress_every : float
        A job's progress is logged at level info once in so many seconds, else at level debug.
    """

    def __init__(self, progress_every: float = 30.0) -> None:
        self._every = progress_every
        self._said = time.monotonic()

    def __call__(self, event: WorkerEvent) -> None:
        """Log an event."""
        if event.kind == "received":
            self._said = time.monotonic()
        elif event.kind == "progress" and time.monotonic() - self._said >= self._every:
            self._said = time.monotonic()
            log_event(event, progress="info")
            return
        log_event(event)


def log_event(event: WorkerEvent, progress: Literal["debug", "info"] = "debug") -> None:
    """Log what a worker did.

    Parameters
    ----------
    event : WorkerEvent
    progress : {"debug", "info"}
        Level of a job's progress.
    """
    say = structlog.stdlib.get_logger("nircam-darks")
    facts: dict[str, Any] = {
        **ids(event.service, event.envelope),
        "outcome": event.kind,
        "attempt": event.attempt,
    }
    if event.kind == "received":
        say.info("received a message", **facts)
        return
    facts["seconds"] = round(event.seconds, 3)
    if event.evidence:
        facts["evidence"] = event.evidence[:_LONGEST_EVIDENCE]
    if event.kind == "progress":
        getattr(say, progress)(event.what, done=event.done, total=event.total, **facts)
    elif event.kind == "finished":
        say.info("finished", published=[one.message.schema_name for one in event.outgoing], **facts)
    elif event.kind == "dead-lettered":
        if event.traceback:
            facts["exception"] = event.traceback
        say.error(event.reason, error=event.error, **facts)
    elif event.kind == "put-back":
        say.info(event.reason, **facts)
    else:
        say.warning(event.reason, error=event.error, **facts)


class JobLog(io.TextIOBase):
    """Standard output and error of a job's process: each line becomes a line of the log."""

    def __init__(self) -> None:
        self._part = ""
        self._lock = threading.RLock()
        self._say = structlog.stdlib.get_logger("nircam-darks.print")

    def writable(self) -> bool:
        """Say yes."""
        return True

    def write(self, text: str) -> int:
        """Log each whole line of `text`, and keep the rest for later."""
        with self._lock:
            *lines, self._part = (self._part + text).split("\n")
        for line in lines:
            self._log(line)
        return len(text)

    def flush(self) -> None:
        """Log what no line end came after."""
        with self._lock:
            line, self._part = self._part, ""
        self._log(line)

    def _log(self, line: str) -> None:
        if line.strip():
            self._say.info(line.rstrip())


def log_job(settings: LogSettings) -> Callable[[str, Envelope], None]:
    """Log from a job's process to its standard error, in the form of its service's log.

    Returns
    -------
    callable
        Told ``(service, message)`` at the beginning of each job: the lines from then on name it.
    """
    # A copy: what is printed goes to the log, and the log must not go to what is printed. A write that
    # fails (nobody reads any more) must not turn a log line into a failed job.
    logging.raiseExceptions = False
    stream = os.fdopen(os.dup(2), "w", buffering=1, errors="replace")
    facts: dict[str, Any] = {}
    configure(settings, facts, stream)
    for name in _RECORDED:
        logging.getLogger(name).setLevel(logging.INFO)
    sys.stdout = sys.stderr = JobLog()

    def begin(service: str, message: Envelope) -> None:
        facts.clear()
        facts.update(ids(service, message), job_pid=os.getpid())

    return begin


def _is_said(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] not in _RECORDED


def _hide_credentials(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {name: without_credentials(v) if isinstance(v, str) else v for name, v in event.items()}
