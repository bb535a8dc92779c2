"""Announces the exposures of one run in turn, and tracks them through the messages of the services."""

import threading
from collections.abc import Sequence
from datetime import UTC, datetime

from nircam_darks.cli.run.schedule import Schedule
from nircam_darks.operations.candidates import Candidate
from nircam_darks.operations.find_exposures import UnneededFile
from nircam_darks.report.exposure_entries import Failure
from shared.broker.memory import MemoryBroker
from shared.contracts.messages import Envelope, ExposureAnnounced, SetCheck
from shared.errors import NoSpaceLeft
from shared.runtime.events import WorkerEvent
from shared.runtime.turns import Turns
from shared.settings.stage import StageSettings


class RunTracker:
    """Announces the exposures of one run and tracks what happens to them.

    The workers' threads call `observe`; everything it changes is guarded by one lock.

    Parameters
    ----------
    broker : MemoryBroker
    candidates : sequence of Candidate
    settings : StageSettings
    turns : Turns
    jobs : int
    reserves : sequence of UnneededFile, optional
        Other files of these exposures, the rawest first: where a file is rejected, the next is announced.
    """

    def __init__(
        self,
        broker: MemoryBroker,
        candidates: Sequence[Candidate],
        settings: StageSettings,
        turns: Turns,
        jobs: int,
        reserves: Sequence[UnneededFile] = (),
    ) -> None:
        self._broker = broker
        self._lock = threading.RLock()
        self._schedule = Schedule(candidates, settings.persistence_time, jobs)
        self._turns = turns
        self._ingested: dict[str, list[str]] = {}
        self._checked: set[str] = set()
        self._reserves: dict[str, list[Candidate]] = {}
        for reserve in reserves:
            self._reserves.setdefault(reserve.stand_in.uri, []).append(reserve.candidate)
        #: Files that were announced because a rawer or later one was rejected.
        self.tried: list[Candidate] = []
        self.manifests: list[str] = []
        self.rejected: dict[str, str] = {}
        self.failures: list[Failure] = []
        #: The reason why the run ends early, or None.
        self.halted: str | None = None

    def announce(self) -> None:
        """Give their turn to the exposures that waited for it, and announce those that may start."""
        with self._lock:
            for candidate in self._schedule.release():
                self._turns.release(_announcement(candidate).id)
            for candidate in self._schedule.announce():
                message = _announcement(candidate)
                if not self._schedule.has_turn(candidate.uri):
                    try:
                        self._turns.hold(message.id)
                    except OSError:
                        # On a full disk. The exposure is announced when its turn has come.
                        self._schedule.postpone(candidate)
                        continue
                self._broker.publish(message)

    @property
    def finished(self) -> bool:
        """True when every exposure is settled and no message is left in any queue."""
        with self._lock:
            return self._schedule.finished and self._broker.idle()

    def observe(self, event: WorkerEvent) -> None:
        """Record an event of a worker, and announce the exposures that waited for it."""
        with self._lock:
            if event.kind == "finished":
                self._note_products(event)
            elif event.kind == "dead-lettered":
                self.failures.append(_failure(event))
                if event.error == NoSpaceLeft.__name__:
                    # No later product could be stored either.
                    self.halted = event.reason
            else:
                return
            content = event.envelope.content if event.envelope else None
            if isinstance(content, ExposureAnnounced):
                if content.uri in self.rejected:
                    self._try_next(content.uri)
                self._schedule.settle(content.uri)
                self._check_sets()
                self.announce()

    def fail_rest(self, reason: str) -> None:
        """Record every exposure that is not settled as failed for `reason`."""
        with self._lock:
            for candidate in self._schedule.unsettled:
                self.failures.append(Failure(service="ingest", uri=candidate.uri, reason=reason))

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

    def _try_next(self, rejected: str) -> None:
        """Have the next file of an exposure announced whose file was rejected."""
        files = self._reserves.pop(rejected, [])
        if files:
            candidate, *rest = files
            self._reserves[candidate.uri] = rest
            self._schedule.add(candidate)
            self.tried.append(candidate)

    def _check_sets(self) -> None:
        """Request set checks for the configurations whose exposures are all settled."""
        for configuration, exposures in self._ingested.items():
            if configuration in self._checked or not self._schedule.complete(configuration):
                continue
            self._checked.add(configuration)
            check = SetCheck(
                configuration=configuration,
                scheduled_at=datetime.now(UTC),
                final=True,
                exposure_ids=sorted(set(exposures)),
            )
            self._broker.publish(Envelope.of(check, identity=f"{configuration}:{sorted(exposures)}"))


def _announcement(candidate: Candidate) -> Envelope:
    content = ExposureAnnounced(exposure_id=candidate.exposure_id, uri=candidate.uri)
    return Envelope.of(content, identity=candidate.uri)


def _failure(event: WorkerEvent) -> Failure:
    content = event.envelope.content if event.envelope else None
    return Failure(
        service=event.service,
        uri=getattr(content, "uri", None),
        configuration=getattr(content, "configuration", None),
        set_id=getattr(content, "set_id", None),
        reason=event.reason,
    )
