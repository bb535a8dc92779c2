"""What becomes of the exposures of one run: announced in turn, followed through the messages."""

import threading
from collections.abc import Sequence
from datetime import UTC, datetime

from services.schedule import Candidate, Schedule
from services.summary import Failure
from shared.broker.memory import MemoryBroker
from shared.errors import NoSpaceLeft
from shared.messages import Envelope, ExposureAnnounced, SetCheck
from shared.settings import StageSettings
from shared.worker import WorkerEvent


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
        #: Why the run ends early, if it does.
        self.halted: str | None = None

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
                if event.error == NoSpaceLeft.__name__:
                    # Whatever comes next would be computed in vain, exposure after exposure.
                    self.halted = event.reason
            else:
                return
            content = event.envelope.content if event.envelope else None
            if isinstance(content, ExposureAnnounced):
                self._schedule.settle(content.uri)
                self._check_sets()
                self.announce()

    def leave(self, reason: str) -> None:
        """Take every exposure that was not settled as failed for `reason`."""
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


def _failure(event: WorkerEvent) -> Failure:
    content = event.envelope.content if event.envelope else None
    return Failure(
        service=event.service,
        uri=getattr(content, "uri", None),
        configuration=getattr(content, "configuration", None),
        set_id=getattr(content, "set_id", None),
        reason=event.reason,
    )
