"""A stage as a service of its own: reads the settings, opens store and broker, runs one worker, and exits.

``python -m services.<stage>`` is this and nothing else.
"""

import enum
import logging
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from types import FrameType

from shared.broker.base import Broker
from shared.broker.opening import open_broker
from shared.catalog.packs import CatalogUpkeep
from shared.catalog.waiting import WaitingSurvey
from shared.contracts.messages import Envelope
from shared.contracts.routing import BINDINGS, STAGE_HANDLERS
from shared.contracts.s3_events import announcements
from shared.errors import DarksError, EnvironmentFault, TransientError
from shared.runtime.events import WorkerEvent
from shared.runtime.health import Health, HealthServer
from shared.runtime.jobs import JobProcesses
from shared.runtime.logs import EventLog, configure
from shared.runtime.metrics import Metrics
from shared.runtime.store_monitor import StoreMonitor, require_store
from shared.runtime.worker import Worker, WorkerPolicy
from shared.settings.service import ServiceSettings, read_settings, read_settings_file
from shared.settings.stage import StageSettings
from shared.store.base import Store
from shared.store.opening import open_store
from shared.store.s3 import S3Store
from shared.store.s3_probe import probe

_logger = logging.getLogger(__name__)
#: Seconds between two attempts to reach a store that does not answer at the start.
_ASK_AGAIN = 2.0


class ExitCode(enum.IntEnum):
    """Why a service ended; docs/services.md has the table."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> "ExitCode":
        """Make a code with its meaning."""
        code = int.__new__(cls, value)
        code._value_ = value
        code.meaning = meaning
        return code

    STOPPED = (
        0,
        "it was asked to stop (SIGTERM, SIGINT), or `DARKS_MESSAGES` or `DARKS_IDLE_SECONDS` was reached; "
        "the job at hand was finished or requeued",
    )
    BUG = 1, "an unforeseen error, with which the log ends: start the service again, and report it"
    CONFIGURATION = 2, "a setting is missing or wrong, or the HTTP port is in use; the log names it"
    BROKER = 3, "the broker refused: wrong credentials, no such virtual host, or missing queues"
    STORE = 4, "the store refused: no such bucket or folder, or no permission"


class _Refused(Exception):
    """Ends the service with an exit code and a reason."""

    def __init__(self, code: ExitCode, reason: object) -> None:
        super().__init__(" ".join(str(reason).split()))
        self.code = code


def program(service: str, arguments: Sequence[str]) -> int:
    """Run ``python -m services.<service>``; it has no options, because its settings are the environment's.

    Parameters
    ----------
    service : str
        Name of a stage.
    arguments : sequence of str
        Of the command line, without the program's name.

    Returns
    -------
    int
        As `main` does; 0 after ``--help``, 2 for any other argument.
    """
    usage = (
        f"python -m services.{service}: runs {service} as a service until SIGTERM. It has no options: set "
        "DARKS_BROKER_URL, DARKS_STORE and what else docs/settings.md lists in the environment."
    )
    if not arguments:
        return main(service, STAGE_HANDLERS[service])
    if list(arguments) in (["-h"], ["--help"]):
        print(usage)
        return 0
    print(f"{service}: unexpected argument {arguments[0]!r}. {usage}", file=sys.stderr)
    return int(ExitCode.CONFIGURATION)


def main(service: str, handler: str) -> int:
    """Run a service until it is told to stop; return its exit code.

    Parameters
    ----------
    service : str
        Its name, and its queue's.
    handler : str
        ``"package.module:function"``, loaded by the job's process alone.
    """
    stop = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    try:
        read_settings_file()
        settings, stage = read_settings(ServiceSettings), read_settings(StageSettings)
        _require_sources(service, stage)
        configure(settings.logs(), {"service": service})
        broker = open_broker()
    except EnvironmentFault as error:
        # How to log is not known yet; whoever started the service reads standard error.
        print(f"{service}: {error}", file=sys.stderr)
        return ExitCode.CONFIGURATION
    try:
        with closing(broker):
            serve(service, handler, settings, stage, broker, stop)
    except _Refused as refused:
        _logger.error("%s", refused, extra={"exit_code": int(refused.code)})
        return refused.code
    except Exception:
        _logger.exception(
            "the service ends because of an unforeseen error", extra={"exit_code": int(ExitCode.BUG)}
        )
        return ExitCode.BUG
    _logger.info("stopped", extra={"exit_code": int(ExitCode.STOPPED)})
    return ExitCode.STOPPED


def serve(
    service: str,
    handler: str,
    settings: ServiceSettings,
    stage: StageSettings,
    broker: Broker,
    stop: threading.Event,
    listening: Callable[[int], None] | None = None,
) -> None:
    """Run one worker in this thread, with its jobs, health, metrics and logs, until `stop` is set.

    Parameters
    ----------
    service, handler : str
        As in `main`.
    settings : ServiceSettings
    stage : StageSettings
    broker : Broker
    stop : threading.Event
    listening : callable, optional
        Called with the HTTP port.
    """
    metrics = Metrics(service, settings.simulated_metrics)
    log = EventLog()

    def observe(event: WorkerEvent) -> None:
        log(event)
        metrics.observe(event)

    with ExitStack() as stack:
        store = stack.enter_context(closing(_open(stage)))
        jobs = stack.enter_context(
            JobProcesses(
                1,
                {service: handler},
                stage,
                log=settings.logs(),
                time_limit=settings.job_seconds,
                memory_limit=settings.job_memory,
            )
        )
        worker = Worker(
            service,
            broker,
            jobs,
            observe,
            WorkerPolicy(
                retry_delays=settings.retry_delays,
                grace=settings.grace_seconds,
                messages=settings.messages,
                idle=settings.idle_seconds,
            ),
            translate=_translator(service, settings),
        )
        # Only the service that takes announcements shows what waits, and keeps the catalog.
        monitor = StoreMonitor(store, chore=_chores(metrics) if _takes_announcements(service) else None)
        health = Health(worker, lambda: monitor.problem, settings.live_seconds, lambda: broker.problem)
        metrics.watch(worker, lambda: monitor.problem, lambda: broker.problem)
        try:
            server = HealthServer(settings.http_host, settings.http_port, health, metrics.registry)
        except EnvironmentFault as error:
            raise _Refused(ExitCode.CONFIGURATION, error) from error
        stack.enter_context(server)
        stack.enter_context(monitor)
        address = {"host": settings.http_host, "port": server.port}
        _logger.info("serving /live, /ready and /metrics", extra=address)
        if listening is not None:
            listening(server.port)
        _await(store, worker, stop)
        try:
            worker.run(stop)
        except EnvironmentFault as error:
            raise _Refused(ExitCode.BROKER, error) from error


def exit_code_table() -> str:
    """Return the table of docs/services.md: every exit code and its meaning, as Markdown."""
    rows = ["| exit code | meaning |", "|---|---|"]
    return "\n".join([*rows, *(f"| {code.value} | {code.meaning} |" for code in ExitCode)])


def _require_sources(service: str, stage: StageSettings) -> None:
    if _takes_announcements(service) and not stage.allowed_sources:
        raise EnvironmentFault(
            "DARKS_ALLOWED_SOURCES is empty, so every exposure would be refused; set it to where announced "
            "exposures may be, such as '[\"s3://bucket/prefix/\"]'"
        )


def _chores(metrics: Metrics) -> Callable[[Store], None]:
    keep, survey = CatalogUpkeep(), WaitingSurvey(metrics)

    def do(store: Store) -> None:
        keep(store)
        survey(store)

    return do


def _takes_announcements(service: str) -> bool:
    return "exposure.announced" in BINDINGS[service]


def _open(stage: StageSettings) -> Store:
    try:
        store = open_store(stage)
        # A missing permission to write shows now, and not at the first product.
        store.scratch()
    except (DarksError, OSError, ValueError) as error:
        raise _Refused(ExitCode.STORE, error) from error
    return store


def _await(store: Store, worker: Worker, stop: threading.Event) -> None:
    """Wait until the store answers: a message taken before that would only fail."""
    while not stop.is_set():
        try:
            require_store(store)
            if isinstance(store, S3Store):
                _logger.info("the bucket's server honours: %s", probe(store))
            return
        except TransientError as error:
            _logger.warning("waiting for the store: %s", error)
            worker.rest(stop, _ASK_AGAIN)
        except (DarksError, OSError) as error:
            raise _Refused(ExitCode.STORE, error) from error


def _translator(service: str, settings: ServiceSettings) -> Callable[[bytes], list[Envelope] | None] | None:
    """Return what reads S3 event notifications, for the service that takes announcements."""
    if not _takes_announcements(service):
        return None
    return lambda body: announcements(body, settings.announce_pattern)
