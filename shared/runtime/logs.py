"""Structured logs: one JSON object per line, with the ids of the message that the line is about.

Libraries log in the same form, from level WARNING on, and so do job processes (`log_job`). So one search by
message id finds what the service did and what jwst reported meanwhile.
"""

import io
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Literal, TextIO

import structlog

from shared.contracts.messages import Envelope
from shared.runtime.events import WorkerEvent
from shared.settings.logs import LogSettings

#: Loggers that follow the configured level; all others log warnings only.
_OURS = ("shared", "services", "nircam-darks")
#: Loggers whose INFO lines jwst writes into each file that it makes (``cal_logs``), whatever level is
# configured.
_RECORDED = ("jwst", "stcal", "stpipe")
_IN_ADDRESS = re.compile(r"(?<=://)[^/\s]+@")
# A word of a path, as in /etc/passwd, is no parameter.
_AS_PARAMETER = re.compile(
    r"(?i)(?<!/)((?:signature|credential|password|passwd|secret|token)[\w-]{0,30}[\"']?\s*[=:]\s*[\"']?)"
    r"""[^\s&"',;)}]+"""
)
#: Longest evidence in a line, in characters; the dead letter carries the whole of it.
_LONGEST_EVIDENCE = 4000


def without_credentials(text: str) -> str:
    """Return `text` with whatever looks like a password, key or signature replaced by ``***``."""
    # Most log values are ids and single words, and this check is quicker than a search.
    if "://" in text:
        text = _IN_ADDRESS.sub("***@", text)
    return _AS_PARAMETER.sub(r"\1***", text) if "=" in text or ":" in text else text


def configure(settings: LogSettings, results: Mapping[str, Any], stream: TextIO | None = None) -> None:
    """Send this process's logs to `stream`, and nowhere else.

    Parameters
    ----------
    settings : LogSettings
    results : mapping
        Added to every line, with the values that they have when the line is written.
    stream : text file, optional
        Standard output by default.
    """

    def add_results(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {**results, **event}

    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        add_results,
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
    handler.addFilter(_is_logged)
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
    """Return the ids that every line about a message carries."""
    if message is None:
        return {"service": service}
    return {
        "service": service,
        "message_id": str(message.id),
        "correlation_id": str(message.correlation_id),
        "schema": message.schema_name,
    }


#: Errors whose reason names the configuration and not the exposure; reasons that are remembered.
_OF_CONFIGURATIONS, _MOST_LACKS = frozenset({"MissingReference", "UncachedReference"}), 1000


class EventLog:
    """Logs what a worker does; an observer of `shared.runtime.worker.Worker`.

    Parameters
    ----------
    progress_every : float
        Seconds between two progress reports at level info; those in between are logged at level debug.
    """

    def __init__(self, progress_every: float = 30.0) -> None:
        self._every = progress_every
        self._logged_at = time.monotonic()
        self._lacks: set[str] = set()

    def __call__(self, event: WorkerEvent) -> None:
        """Log an event."""
        if event.kind == "received":
            self._logged_at = time.monotonic()
        elif event.kind == "progress" and time.monotonic() - self._logged_at >= self._every:
            self._logged_at = time.monotonic()
            log_event(event, progress="info")
            return
        # What CRDS or its cache lacks, every exposure of a configuration meets: it is one error.
        repeated = event.reason in self._lacks
        if event.error in _OF_CONFIGURATIONS and len(self._lacks) < _MOST_LACKS:
            self._lacks.add(event.reason)
        log_event(event, repeated=repeated)


def log_event(
    event: WorkerEvent, progress: Literal["debug", "info"] = "debug", repeated: bool = False
) -> None:
    """Log what a worker did.

    Parameters
    ----------
    event : WorkerEvent
    progress : {"debug", "info"}
        Level of a job's progress.
    repeated : bool
        Whether the reason of a dead letter was logged as an error before.
    """
    logger = structlog.stdlib.get_logger("nircam-darks")
    results: dict[str, Any] = {
        **ids(event.service, event.envelope),
        "outcome": event.kind,
        "attempt": event.attempt,
    }
    if event.kind == "received":
        logger.info("received a message", **results)
        return
    results["seconds"] = round(event.seconds, 3)
    if event.evidence:
        results["evidence"] = event.evidence[:_LONGEST_EVIDENCE]
    if event.kind == "progress":
        getattr(logger, progress)(event.what, done=event.done, total=event.total, **results)
    elif event.kind == "finished":
        logger.info(
            "finished", published=[outgoing.message.schema_name for outgoing in event.outgoing], **results
        )
    elif event.kind == "dead-lettered":
        if event.traceback:
            results["exception"] = event.traceback
        getattr(logger, "info" if repeated else "error")(event.reason, error=event.error, **results)
    elif event.kind == "requeued":
        logger.info(event.reason, **results)
    else:
        logger.warning(event.reason, error=event.error, **results)


class JobLog(io.TextIOBase):
    """Standard output and error of a job process: each printed line becomes a line of the log."""

    def __init__(self) -> None:
        self._part = ""
        self._lock = threading.RLock()
        self._logger = structlog.stdlib.get_logger("nircam-darks.print")

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str) -> int:
        """Log each complete line of `text`, and keep the rest for later."""
        with self._lock:
            *lines, self._part = (self._part + text).split("\n")
        for line in lines:
            self._log(line)
        return len(text)

    def flush(self) -> None:
        """Log the incomplete last line."""
        with self._lock:
            line, self._part = self._part, ""
        self._log(line)

    def _log(self, line: str) -> None:
        if line.strip():
            self._logger.info(line.rstrip())


def log_job(settings: LogSettings) -> Callable[[str, Envelope], None]:
    """Log from a job process to its standard error, in the form of its service's log.

    Returns
    -------
    callable
        To be called with ``(service, message)`` at the beginning of each job; later lines name that message.
    """
    # The stream is a duplicate of standard error: printed text is redirected to the log, and the log must not
    # be redirected to itself. A write that fails because nobody reads any more must not fail the job.
    logging.raiseExceptions = False
    stream = os.fdopen(os.dup(2), "w", buffering=1, errors="replace")
    results: dict[str, Any] = {}
    configure(settings, results, stream)
    for name in _RECORDED:
        logging.getLogger(name).setLevel(logging.INFO)
    sys.stdout = sys.stderr = JobLog()

    def begin(service: str, message: Envelope) -> None:
        results.clear()
        results.update(ids(service, message), job_pid=os.getpid())

    return begin


def _is_logged(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] not in _RECORDED


def _hide_credentials(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {name: without_credentials(v) if isinstance(v, str) else v for name, v in event.items()}
