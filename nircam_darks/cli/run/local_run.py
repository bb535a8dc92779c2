"""Runs the whole system in one process tree: the same services, an embedded broker, a folder as the store.

Only this module knows all services. It announces the exposures, lets the workers do what they would do
behind RabbitMQ, and reads the outcome from the messages that they publish.
"""

import fcntl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from nircam_darks.cli.progress import StageBars
from nircam_darks.cli.run.tracker import RunTracker
from nircam_darks.operations.candidates import Candidate
from nircam_darks.operations.find_exposures import FileSelection, UnneededFile
from nircam_darks.report.exposure_entries import Failure
from nircam_darks.report.figures_file import FIGURES_FILE, write_figures
from nircam_darks.report.html import write_report
from nircam_darks.report.record import of_run
from nircam_darks.report.summary import RunResult, Summary, build_summary, write_summary
from shared.broker.memory import MemoryBroker
from shared.contracts.routing import PRODUCT_FOLDERS, STAGE_HANDLERS
from shared.errors import EnvironmentFault
from shared.runtime.events import WorkerEvent
from shared.runtime.jobs import JobProcesses
from shared.runtime.turns import Turns
from shared.runtime.worker import Worker, WorkerPolicy
from shared.settings.stage import MOST_INGEST_THREADS, StageSettings
from shared.store.base import Store
from shared.store.faults import store_faults
from shared.store.manifest import sweep
from shared.store.opening import open_store

#: Where the services keep their products; the results folder holds other files as well.
PRODUCTS = (*PRODUCT_FOLDERS, "persistence/")
#: Seconds before each further attempt: on a laptop, nothing takes longer to recover.
RETRY_DELAYS = (0.5, 2.0, 5.0, 10.0)
#: Pauses while the disk is full (s); after the last one the run ends with an error.
STORE_PAUSES = (1.0, 2.0, 5.0)
#: Seconds that jobs may still take after Ctrl-C; the next run repeats what they have not committed by then.
GRACE = 3.0


@dataclass(frozen=True)
class Outcome:
    """The summary of a run, and where summary and report have been written."""

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
    selection: FileSelection | None = None,
    unserved: Mapping[str, str] | None = None,
) -> Outcome:
    """Run the three services over exposures until nothing is left to do.

    Parameters
    ----------
    candidates : sequence of Candidate
    out : Path
        Holds the store, ``summary.json``, ``figures.ecsv``, ``report.html`` and its pages in ``report/``.
    settings : StageSettings
    jobs : int
        Number of worker processes.
    environment : mapping of str to str
        Environment variables of the worker processes (CRDS_PATH, CRDS_CONTEXT, ...).
    bars : StageBars
        Shows the progress.
    selection : FileSelection, optional
        With the files that are not needed or were passed over, which the summary then tells.
    unserved : mapping of str to str, optional
        Configurations that CRDS lacks a reference for, and which. Their exposures are reported only.

    Raises
    ------
    EnvironmentFault
        If another run is using `out`, or `out` cannot be written.
    StoreUnavailable
        If not even the summary and the report can be written, because the disk is full or fails.
    KeyboardInterrupt
        If it was interrupted. Finished products are kept, and the next run continues from them.
    """
    # The caller names the files, and nobody else can announce anything to the embedded broker.
    settings = settings.model_copy(update={"allowed_sources": ["file:///"]})
    with _alone_in(out), store_faults(out), closing(open_store(settings)) as store:
        for prefix in PRODUCTS:
            sweep(store, prefix)
        started = datetime.now(UTC)
        unserved = unserved or {}
        served = [each for each in candidates if each.configuration not in unserved]
        spare = [] if selection is None else selection.not_needed
        reserves = [each for each in spare if each.candidate.configuration not in unserved]
        settings = settings.model_copy(update={"ingest_threads": ingest_threads(settings, jobs, len(served))})
        tracker = _run_services(served, out, settings, jobs, environment, bars, reserves)
        tracker.failures += [
            Failure(service="ingest", uri=each.uri, reason=unserved[each.configuration])
            for each in candidates
            if each.configuration is not None and each.configuration in unserved
        ]
        run = RunResult(
            files=[(each.path, each.exposure_id) for each in (*candidates, *tracker.tried)],
            manifests=tracker.manifests,
            rejected=tracker.rejected,
            failures=tracker.failures,
            settings=settings,
            started=started,
            finished=datetime.now(UTC),
            selection=_without_tried(selection, tracker.tried),
        )
        return _write_outcome(store, run, out)


def ingest_threads(settings: StageSettings, jobs: int, exposures: int) -> int:
    """Return the threads of an ingest job: jobs without an exposure leave their processors to it.

    Examples
    --------
    >>> ingest_threads(StageSettings(store="results"), jobs=8, exposures=3)
    2
    """
    return min(max(settings.ingest_threads, jobs // max(exposures, 1)), MOST_INGEST_THREADS)


def _run_services(
    candidates: Sequence[Candidate],
    out: Path,
    settings: StageSettings,
    jobs: int,
    environment: Mapping[str, str],
    bars: StageBars,
    reserves: Sequence[UnneededFile] = (),
) -> RunTracker:
    """Run the services until nothing is left to do, or the disk is full."""
    broker = MemoryBroker()
    turns = Turns(settings)
    tracker = RunTracker(broker, candidates, settings, turns, jobs, reserves)
    log_file = out / "run.log"
    # Created now, so that an error can still be reported.
    log_file.touch()
    observer = _Observer(tracker.observe, bars.observe)
    with (
        turns,
        JobProcesses(jobs, STAGE_HANDLERS, settings, environment=environment, log_file=log_file) as processes,
    ):
        policy = WorkerPolicy(RETRY_DELAYS, STORE_PAUSES, max_pauses=len(STORE_PAUSES), grace=GRACE)
        # Only one darkref: each job may use all of --max-memory.
        workers = [
            Worker(
                service,
                broker,
                processes,
                observer=observer,
                policy=policy,
            )
            for service, copies in (("ingest", jobs), ("noise", jobs), ("darkref", 1))
            for _ in range(copies)
        ]
        with _running(workers) as threads:
            tracker.announce()
            while not tracker.finished and tracker.halted is None:
                time.sleep(0.05)
                observer.check()
                if not all(thread.is_alive() for thread in threads):
                    raise RuntimeError(f"a worker ended before the run did; see {log_file}")
    observer.check()
    broker.close()
    if tracker.halted is not None:
        tracker.fail_rest(tracker.halted)
    return tracker


def _without_tried(selection: FileSelection | None, tried: Sequence[Candidate]) -> FileSelection | None:
    """Return the selection without the files that were needed after all."""
    if selection is None:
        return None
    paths = {candidate.path for candidate in tried}
    return replace(
        selection, not_needed=[each for each in selection.not_needed if each.candidate.path not in paths]
    )


def _write_outcome(store: Store, run: RunResult, out: Path) -> Outcome:
    """Write summary and report of a run; the summary first, which needs the least space."""
    summary = build_summary(store, run)
    summary_path, report_path = out / "summary.json", out / "report.html"
    write_summary(summary, summary_path)
    write_figures(summary, out / FIGURES_FILE)
    write_report(store, of_run(store, summary, run), report_path)
    return Outcome(summary, summary_path, report_path)


class _Observer:
    """Passes events on to the tracker and to the progress bars.

    A worker ignores errors of its observer. A run must not: without the tracker's next announcement it would
    wait for ever. So an error of the tracker is kept, and raised by `check`.
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
        """Raise the error of the tracker, if there was one."""
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
            f"{out} cannot hold the results: a file is in the way; choose another --out",
            where=out,
            setting="--out",
        ) from None
    with lock:
        try:
            with store_faults(out):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EnvironmentFault(
                f"another nircam-darks run is at work in {out}; wait for it, or choose another --out",
                where=out,
                setting="--out",
            ) from None
        yield
