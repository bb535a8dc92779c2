"""The whole system in one process: the same services, an embedded broker, a folder as the store.

This is the one module that knows every service. It announces a folder's exposures, lets the workers
do what they would do behind RabbitMQ, and reads the outcome from the messages they publish.
"""

import fcntl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from services.campaign import Campaign
from services.progress import StageBars
from services.report.page import write_report
from services.report.record import of_run
from services.schedule import Candidate
from services.summary import RunResult, build_summary, write_summary
from services.summary_model import Summary
from shared.broker.memory import MemoryBroker
from shared.errors import EnvironmentFault
from shared.jobs import JobProcesses
from shared.settings import StageSettings
from shared.store.base import Store
from shared.store.faults import store_faults
from shared.store.manifest import sweep
from shared.store.opening import open_store
from shared.worker import Worker, WorkerEvent

HANDLERS = {
    "ingest": "services.ingest.handler:handle",
    "darkref": "services.darkref.handler:handle",
    "noise": "services.noise.handler:handle",
}
#: Where the services keep their products; the folder of results may hold other things beside them.
PRODUCTS = ("ingest/", "persistence/", "darkref/", "noise/")
#: Seconds before each further attempt: nothing that a laptop waits for takes longer to come back.
RETRY_DELAYS = (0.5, 2.0, 5.0, 10.0)
#: Seconds to rest while the disk is full; after these the run ends and says so.
STORE_PAUSES = (1.0, 2.0, 5.0)
#: Seconds that jobs are given after Ctrl-C; what they have not committed by then is done again next time.
GRACE = 3.0


@dataclass(frozen=True)
class Outcome:
    """What a run came to, and where it can be read."""

    summary: Summary
    summary_path: Path
    report_path: Path


def run_local(
    candidates: Sequence[Candidate],
    out: Path,
    settings: StageSettings,
    jobs: int,
    environment: Mapping[str, str],
    bars: StageBars,
) -> Outcome:
    """Run the three services over some files until nothing is left to do.

    Parameters
    ----------
    candidates : sequence of Candidate
    out : Path
        Holds the store, ``summary.json``, ``report.html`` and its pages in ``report/``.
    settings : StageSettings
    jobs : int
        Worker processes at work at once.
    environment : mapping of str to str
        Set in the workers' processes (CRDS_PATH, CRDS_CONTEXT, ...).
    bars : StageBars
        Shows the progress.

    Raises
    ------
    EnvironmentFault
        If another run is at work in `out`, or `out` cannot be used.
    StoreUnavailable
        If the disk is so full, or fails so, that not even the summary and the report can be written.
    KeyboardInterrupt
        If it was stopped; every finished product stands, and the next run goes on from there.
    """
    # Whoever runs it names the files; nobody else can announce any to its broker.
    settings = settings.model_copy(update={"allowed_sources": ["file:///"]})
    with _alone_in(out), store_faults(out), closing(open_store(settings)) as store:
        for prefix in PRODUCTS:
            sweep(store, prefix)
        started = datetime.now(UTC)
        campaign = _run_services(candidates, out, settings, jobs, environment, bars)
        run = RunResult(
            files=[(candidate.path, candidate.exposure_id) for candidate in candidates],
            manifests=campaign.manifests,
            rejected=campaign.rejected,
            failures=campaign.failures,
            settings=settings,
            started=started,
            finished=datetime.now(UTC),
        )
        return _tell(store, run, out)


def _run_services(
    candidates: Sequence[Candidate],
    out: Path,
    settings: StageSettings,
    jobs: int,
    environment: Mapping[str, str],
    bars: StageBars,
) -> Campaign:
    """Run the services until nothing is left to do, or the disk is full."""
    broker = MemoryBroker()
    campaign = Campaign(broker, candidates, settings)
    log_file = out / "run.log"
    # Now, while an error of it can still be told.
    log_file.touch()
    observer = _Observer(campaign.observe, bars.observe)
    with JobProcesses(jobs, HANDLERS, settings, environment=environment, log_file=log_file) as processes:
        # One darkref at a time: each may use all of --max-memory.
        workers = [
            Worker(
                service,
                broker,
                processes,
                observer=observer,
                retry_delays=RETRY_DELAYS,
                pauses=STORE_PAUSES,
                max_pauses=len(STORE_PAUSES),
                grace=GRACE,
            )
            for service, copies in (("ingest", jobs), ("noise", jobs), ("darkref", 1))
            for _ in range(copies)
        ]
        with _running(workers) as threads:
            campaign.announce()
            while not campaign.finished and campaign.halted is None:
                time.sleep(0.05)
                observer.check()
                if not all(thread.is_alive() for thread in threads):
                    raise RuntimeError(f"a worker ended before the run did; see {log_file}")
    observer.check()
    broker.close()
    if campaign.halted is not None:
        campaign.leave(campaign.halted)
    return campaign


def _tell(store: Store, run: RunResult, out: Path) -> Outcome:
    """Write what a run came to; the summary first, which needs least room."""
    summary = build_summary(store, run)
    summary_path, report_path = out / "summary.json", out / "report.html"
    write_summary(summary, summary_path)
    write_report(store, of_run(store, summary, run), report_path)
    return Outcome(summary, summary_path, report_path)


class _Observer:
    """Hands events on to those who follow the run.

    A worker goes on whatever its observer does. A run would not: without the campaign's next
    announcement it would wait for ever, so what the first of them raises is kept and raised by `check`.
    """

    def __init__(self, follow: Callable[[WorkerEvent], None], show: Callable[[WorkerEvent], None]) -> None:
        self._follow = follow
        self._show = show
        self._fault: Exception | None = None

    def __call__(self, event: WorkerEvent) -> None:
        try:
            self._follow(event)
        except Exception as error:
            self._fault = error
            raise
        self._show(event)

    def check(self) -> None:
        """Raise what the follower of the run raised, if anything."""
        if self._fault is not None:
            raise self._fault


@contextmanager
def _running(workers: Sequence[Worker]) -> Iterator[list[threading.Thread]]:
    stop = threading.Event()
    threads = [threading.Thread(target=worker.run, args=(stop,), daemon=True) for worker in workers]
    for thread in threads:
        thread.start()
    try:
        yield threads
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@contextmanager
def _alone_in(out: Path) -> Iterator[None]:
    try:
        with store_faults(out):
            out.mkdir(parents=True, exist_ok=True)
            lock = (out / ".lock").open("w")
    except (FileExistsError, NotADirectoryError):
        raise EnvironmentFault(
            f"{out} cannot hold the results: a file is in the way; choose another --out"
        ) from None
    with lock:
        try:
            with store_faults(out):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EnvironmentFault(
                f"another nircam-darks run is at work in {out}; wait for it, or choose another --out"
            ) from None
        yield
