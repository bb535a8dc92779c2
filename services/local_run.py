"""The whole system in one process: the same services, an embedded broker, a folder as the store.

This is the one module that knows every service. It announces a folder's exposures, lets the workers
do what they would do behind RabbitMQ, and reads the outcome from the messages they publish.
"""

import fcntl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from services.progress import StageBars
from services.report.page import write_report
from services.schedule import Candidate, Schedule
from services.summary import Failure, RunResult, build_summary, write_summary
from services.summary_model import Summary
from shared.broker.memory import MemoryBroker
from shared.errors import EnvironmentFault
from shared.jobs import JobProcesses
from shared.messages import Envelope, ExposureAnnounced, SetCheck
from shared.settings import StageSettings
from shared.store.opening import open_store
from shared.worker import Worker, WorkerEvent

HANDLERS = {
    "ingest": "services.ingest.handler:handle",
    "darkref": "services.darkref.handler:handle",
    "noise": "services.noise.handler:handle",
}
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


class Campaign:
    """Announces the exposures of one run and follows what becomes of them.

    The workers' threads call `observe`; everything it touches is under one lock.
    """

    def __init__(
        self, broker: MemoryBroker, candidates: Sequence[Candidate], settings: StageSettings
    ) -> None:
        self._broker = broker
        self._lock = threading.RLock()
        self._schedule = Schedule(candidates, settings.persistence_time)
        self._ingested: dict[str, list[str]] = {}
        self._checked: set[str] = set()
        self.manifests: list[str] = []
        self.rejected: dict[str, str] = {}
        self.failures: list[Failure] = []

    def announce(self) -> None:
        """Announce every exposure that waits for no other."""
        with self._lock:
            for candidate in self._schedule.announce():
                said = ExposureAnnounced(exposure_id=candidate.exposure_id, uri=candidate.uri)
                self._broker.publish(Envelope.of(said, identity=candidate.uri))

    @property
    def finished(self) -> bool:
        """True when every exposure was settled and no message is left anywhere."""
        with self._lock:
            return self._schedule.finished and self._broker.idle()

    def observe(self, event: WorkerEvent) -> None:
        """Take note of what a worker did, and announce what that sets free."""
        with self._lock:
            if event.kind == "finished":
                self._note_products(event)
            elif event.kind == "dead-lettered":
                self.failures.append(_failure(event))
            else:
                return
            content = event.envelope.content if event.envelope else None
            if isinstance(content, ExposureAnnounced):
                self._schedule.settle(content.uri)
                self._check_sets()
                self.announce()

    def _note_products(self, event: WorkerEvent) -> None:
        for outgoing in event.outgoing:
            name, content = outgoing.message.schema_name, outgoing.message.content
            if name == "exposure.ingested":
                self._ingested.setdefault(content.configuration, []).append(content.member.exposure_id)
                self.manifests.append(content.member.manifest)
            elif name == "exposure.rejected":
                self.rejected[content.uri] = content.reason
            elif name in ("reference.built", "noise.measured"):
                self.manifests.append(content.manifest)

    def _check_sets(self) -> None:
        """Have the sets formed of each configuration of which nothing more will come in this run."""
        for configuration, exposures in self._ingested.items():
            if configuration in self._checked or not self._schedule.complete(configuration):
                continue
            self._checked.add(configuration)
            check = SetCheck(
                configuration=configuration,
                scheduled_at=datetime.now(UTC),
                final=True,
                exposure_ids=sorted(exposures),
            )
            self._broker.publish(Envelope.of(check, identity=f"{configuration}:{sorted(exposures)}"))


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
        Holds the store, ``summary.json`` and ``report.html``.
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
        If another run is at work in `out`.
    KeyboardInterrupt
        If it was stopped; every finished product stands, and the next run goes on from there.
    """
    out.mkdir(parents=True, exist_ok=True)
    with _alone_in(out):
        started = datetime.now(UTC)
        store = open_store(settings)
        broker = MemoryBroker()
        campaign = Campaign(broker, candidates, settings)

        def observe(event: WorkerEvent) -> None:
            bars.observe(event)
            campaign.observe(event)

        log_file = out / "run.log"
        with JobProcesses(jobs, HANDLERS, settings, environment=environment, log_file=log_file) as processes:
            # One darkref at a time: each may use all of --max-memory.
            workers = [
                Worker(service, broker, processes, observer=observe, retry_delays=RETRY_DELAYS)
                for service, copies in (("ingest", jobs), ("noise", jobs), ("darkref", 1))
                for _ in range(copies)
            ]
            with _running(workers) as threads:
                campaign.announce()
                while not campaign.finished:
                    time.sleep(0.05)
                    if not all(thread.is_alive() for thread in threads):
                        raise RuntimeError(f"a worker ended before the run did; see {log_file}")
        broker.close()
        run = RunResult(
            files=[(candidate.path, candidate.exposure_id) for candidate in candidates],
            manifests=campaign.manifests,
            rejected=campaign.rejected,
            failures=campaign.failures,
            settings=settings,
            started=started,
            finished=datetime.now(UTC),
        )
        summary = build_summary(store, run)
        summary_path, report_path = out / "summary.json", out / "report.html"
        write_report(store, summary, run, report_path)
        write_summary(summary, summary_path)
        store.close()
    return Outcome(summary, summary_path, report_path)


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
    with (out / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EnvironmentFault(
                f"another nircam-darks run is at work in {out}; wait for it, or choose another --out"
            ) from None
        yield


def _failure(event: WorkerEvent) -> Failure:
    content = event.envelope.content if event.envelope else None
    return Failure(
        service=event.service,
        uri=getattr(content, "uri", None),
        configuration=getattr(content, "configuration", None),
        set_id=getattr(content, "set_id", None),
        reason=event.reason,
    )
