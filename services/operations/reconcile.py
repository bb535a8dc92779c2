"""Find what was made and led to nothing, and say it again.

Everything said here has its effect once, however often it is said: whoever hears of work that is done
finds it done. So services may be at work meanwhile; a grace period only keeps them from doing at once
what another is about to finish.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from services.operations.stored import STAGES, Stored
from services.operations.stored_sets import StoredConfiguration, StoredSet, stored_sets
from shared.broker.base import Broker
from shared.broker.rabbitmq.queues import QueueState
from shared.errors import EnvironmentFault
from shared.messages import Envelope, ExposureAnnounced, SetCheck
from shared.settings import StageSettings
from shared.store.base import Store
from shared.store.manifest import find, sweep

#: As `nircam-darks run` sweeps; also what persistence states leave.
_SWEPT = (*STAGES, "persistence/")
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Gap:
    """Something made that led to nothing.

    Attributes
    ----------
    kind : str
        ``exposure`` (claimed, but neither a ramp nor a rejection came of it), ``noise`` (a ramp whose
        noise was not measured) or ``set`` (complete, without dark reference or noise).
    subject : str
        The exposure, or the configuration.
    missing : str
        In words.
    path : str or None
        Of a ramp, whose manifest holds the message to say again.
    message : Envelope or None
        What to say, where no manifest holds it.
    """

    kind: Literal["exposure", "noise", "set"]
    subject: str
    missing: str
    path: str | None = None
    message: Envelope | None = None


def gaps(stored: Stored, settings: StageSettings, older_than: float, now: datetime) -> list[Gap]:
    """Return what is missing and should be there by now.

    Parameters
    ----------
    stored : Stored
    settings : StageSettings
        Those by which sets are taken as complete must be the services'.
    older_than : float
        Seconds that work may be under way before it counts as lost.
    now : datetime
    """
    since = now - timedelta(seconds=older_than)
    return [
        *_exposures(stored, since),
        *_noise(stored, since),
        *(gap for one in stored_sets(stored, settings, now) for gap in _sets(one, settings, since, now)),
    ]


def say_again(found: Sequence[Gap], store: Store, broker: Broker) -> Iterator[Gap]:
    """Publish what each gap asks for; yield it once the broker has confirmed.

    Raises
    ------
    PublishFailed
        If the broker did not confirm. What was yielded before is said; saying it again does no harm.
    """
    for gap in found:
        for message in _messages(gap, store):
            broker.publish(message)
        yield gap


def sweep_leftovers(store: Store, queues: Sequence[QueueState]) -> int:
    """Remove what killed attempts left in the store; return how many objects.

    Raises
    ------
    EnvironmentFault
        If anybody consumes: what he is just making would be taken for a leftover.
    """
    attached = [f"{queue.name}: {queue.consumers}" for queue in queues if queue.consumers]
    if attached:
        raise EnvironmentFault(
            f"nothing was swept: consumers are attached to the queues ({', '.join(attached)}), and what they "
            "are making would be taken for leftovers; stop the services first"
        )
    return sum(sweep(store, prefix) for prefix in _SWEPT)


def _messages(gap: Gap, store: Store) -> list[Envelope]:
    if gap.message is not None:
        return [gap.message]
    manifest = find(store, gap.path) if gap.path is not None else None
    return manifest.messages if manifest is not None else []


def _exposures(stored: Stored, since: datetime) -> Iterator[Gap]:
    ramps = {one.subject for one in stored.of_kind("ramp")}
    refused = {(one.subject, one.uri) for one in stored.of_kind("rejection")}
    for claim in stored.claims:
        # A second file that was refused says nothing of the first.
        settled = claim.exposure_id in ramps or (claim.exposure_id, claim.uri) in refused
        if settled or (claim.claimed is not None and claim.claimed > since):
            continue
        said = ExposureAnnounced(exposure_id=claim.exposure_id, uri=claim.uri, sha256=claim.sha256)
        message = Envelope.of(said, identity=f"{claim.uri}:{claim.sha256}")
        yield Gap("exposure", claim.exposure_id, f"no ramp of {claim.uri}", message=message)


def _noise(stored: Stored, since: datetime) -> Iterator[Gap]:
    measured = {key for one in stored.of_kind("exposure-noise") for key in one.of}
    for ramp in stored.of_kind("ramp"):
        if ramp.path.rpartition("/")[2] not in measured and ramp.created <= since:
            yield Gap("noise", ramp.subject, "noise of the exposure", path=ramp.path)


def _sets(one: StoredConfiguration, settings: StageSettings, since: datetime, now: datetime) -> Iterator[Gap]:
    missing = {
        each.set_id: words
        for each in one.sets
        if each.complete and each.newest <= since and (words := _missing(each, settings))
    }
    if missing:
        # Ingest forms the sets once more: by the count, or because nothing came for the settling time.
        settle = settings.settle_seconds
        as_of = _NEVER if settle is None else now - timedelta(seconds=settle)
        check = SetCheck(configuration=one.configuration, scheduled_at=as_of)
        identity = f"{one.configuration}:{','.join(sorted(missing))}"
        words = "; ".join(f"{what} of set {name}" for name, what in sorted(missing.items()))
        yield Gap("set", one.configuration, words, message=Envelope.of(check, identity=identity))


def _missing(one: StoredSet, settings: StageSettings) -> str:
    """Return what is missing of a set and can be made."""
    if one.groups < 2:
        return ""
    too_few = one.integrations < settings.min_integrations
    wanted = (("dark reference", one.references or too_few), ("noise", one.noise))
    return " and ".join(name for name, there in wanted if not there)
