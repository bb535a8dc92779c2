"""Find products whose next stage is missing, and publish their messages again.

A message has its effect once, however often it is published: a service that gets it again finds its product
in the store. So services may run during a reconciliation; the grace period only keeps a second worker from
starting what another is about to finish.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from shared.broker.base import Broker
from shared.broker.rabbitmq.management import QueueState
from shared.catalog.arrival_index import ArrivalIndex
from shared.catalog.sets import StoredConfiguration, StoredSet, stored_sets
from shared.catalog.store_contents import Stored
from shared.contracts.messages import Envelope, ExposureAnnounced, SetCheck
from shared.contracts.routing import PRODUCT_FOLDERS
from shared.errors import EnvironmentFault
from shared.products.claim import Claim, missing_segments, newest_segments
from shared.settings.stage import StageSettings
from shared.store.base import Store
from shared.store.manifest import find, sweep

#: What `nircam-darks run` sweeps, and leftovers of persistence states.
_SWEPT = (*PRODUCT_FOLDERS, "persistence/")
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
#: Sets that one message asks for: each costs the service a few requests.
_SETS_A_CHECK = 20


@dataclass(frozen=True)
class Gap:
    """A product whose next stage is missing.

    Attributes
    ----------
    kind : str
        ``exposure`` (claimed, but with neither ramp nor rejection, or with an outdated ramp), ``noise`` (a
        ramp whose noise was not measured) or ``set`` (complete, but without a dark reference or noise).
    subject : str
        The exposure or the configuration.
    missing : str
        What is missing, in words.
    path : str or None
        Path of the ramp whose manifest holds the message to publish again.
    message : Envelope or None
        The message to publish if no manifest holds one.
    """

    kind: Literal["exposure", "noise", "set"]
    subject: str
    missing: str
    path: str | None = None
    message: Envelope | None = None


def gaps(
    stored: Stored, settings: StageSettings, older_than: float, now: datetime, outdated: bool = False
) -> list[Gap]:
    """Return what is missing and should exist by now.

    Parameters
    ----------
    stored : Stored
    settings : StageSettings
        Must agree with the services' on when a set is complete.
    older_than : float
        Seconds after which unfinished work counts as lost.
    now : datetime
    outdated : bool, optional
        Whether exposures count whose ramps were made in another way than the newest of their configuration,
        such as with an earlier CRDS context.
    """
    since = now - timedelta(seconds=older_than)
    configurations = stored_sets(stored, settings, now)
    return [
        *(gap for configuration in configurations if outdated for gap in _outdated(configuration)),
        *_exposures(stored, since),
        *_noise(stored, since),
        *(gap for configuration in configurations for gap in _sets(configuration, settings, since)),
    ]


def republish(missing: Sequence[Gap], store: Store, broker: Broker) -> Iterator[Gap]:
    """Publish the messages that fill each gap; yield the gap once the broker has confirmed them.

    Raises
    ------
    PublishFailed
        If the broker did not confirm. Gaps yielded before are published; publishing them again does no harm.
    """
    for gap in missing:
        for message in _messages(gap, store):
            broker.publish(message)
        yield gap


def remake_indexes(stored: Stored, store: Store) -> tuple[int, int]:
    """Make the index of every configuration agree with the manifests; services may go on.

    Returns
    -------
    (int, int)
        Numbers of entries that were missing, and of those that stood for products that are gone.
    """
    names = {ramp.configuration for ramp in stored.of_kind("ramp", "rejection")} - {None}
    changes = [ArrivalIndex(store, name).remake() for name in sorted(map(str, names))]
    return sum(added for added, _ in changes), sum(removed for _, removed in changes)


def sweep_leftovers(store: Store, queues: Sequence[QueueState]) -> int:
    """Remove what killed jobs left in the store; return the number of objects.

    Raises
    ------
    EnvironmentFault
        If a queue has consumers, whose unfinished products would look like leftovers.
    """
    attached = [f"{queue.name}: {queue.consumers}" for queue in queues if queue.consumers]
    if attached:
        raise EnvironmentFault(
            f"nothing was removed: queues have consumers ({', '.join(attached)}), whose unfinished products "
            "would look like leftovers; stop the services first",
            where=", ".join(attached),
        )
    return sum(sweep(store, prefix) for prefix in _SWEPT)


def _messages(gap: Gap, store: Store) -> list[Envelope]:
    if gap.message is not None:
        return [gap.message]
    manifest = find(store, gap.path) if gap.path is not None else None
    return manifest.messages if manifest is not None else []


def _exposures(stored: Stored, since: datetime) -> Iterator[Gap]:
    ramps = {ramp.subject for ramp in stored.of_kind("ramp")}
    refused = {(rejection.subject, rejection.uri) for rejection in stored.of_kind("rejection")}
    by_exposure: dict[str, list[Claim]] = defaultdict(list)
    for claim in stored.claims:
        if claim.exposure_id not in ramps:
            by_exposure[claim.exposure_id].append(claim)
    for exposure_id, claims in by_exposure.items():
        segments = newest_segments(claims)
        if segments and missing_segments(segments):
            # Nothing was lost: `status` says which segments it waits for.
            continue
        # Any segment makes ingest look for all of them.
        files = [max(segments.values(), key=_claimed)] if segments else claims
        for claim in files:
            # The rejection of a second file says nothing about the first.
            if (exposure_id, claim.uri) in refused or _claimed(claim) > since:
                continue
            content = ExposureAnnounced(exposure_id=exposure_id, uri=claim.uri, sha256=claim.sha256)
            message = Envelope.of(content, identity=f"{claim.uri}:{claim.sha256}")
            yield Gap("exposure", exposure_id, f"ramp of {claim.uri}", message=message)


def _outdated(configuration: StoredConfiguration) -> Iterator[Gap]:
    for ramp in configuration.outdated:
        if ramp.uri is None or ramp.made is None:
            continue
        context = ramp.made.versions.get("crds_context", "?")
        content = ExposureAnnounced(exposure_id=ramp.subject, uri=ramp.uri)
        message = Envelope.of(content, identity=f"{ramp.uri}:{ramp.path}")
        yield Gap("exposure", ramp.subject, f"ramp like the newest, not of {context}", message=message)


def _claimed(claim: Claim) -> datetime:
    return claim.claimed or _NEVER


def _noise(stored: Stored, since: datetime) -> Iterator[Gap]:
    measured = {key for noise in stored.of_kind("exposure-noise") for key in noise.of}
    for ramp in stored.of_kind("ramp"):
        if ramp.path.rpartition("/")[2] not in measured and ramp.created <= since:
            yield Gap("noise", ramp.subject, "noise of the exposure", path=ramp.path)


def _sets(stored: StoredConfiguration, settings: StageSettings, since: datetime) -> Iterator[Gap]:
    missing = {
        each.set_id: (words, each.exposures[0])
        for each in stored.sets
        if each.complete and each.newest <= since and (words := _missing(each, settings))
    }
    # Makes ingest form the sets again: by count, or because the settling time has passed.
    # What was seen as the newest is named, not the hour: clocks may differ.
    newest = stored.newest if settings.settle_seconds is not None else None
    names = sorted(missing)
    for some in (names[first : first + _SETS_A_CHECK] for first in range(0, len(names), _SETS_A_CHECK)):
        check = SetCheck(
            configuration=stored.configuration,
            scheduled_at=newest or _NEVER,
            concerning=[missing[name][1] for name in some],
        )
        identity = f"{stored.configuration}:{','.join(some)}"
        words = "; ".join(f"{missing[name][0]} of set {name}" for name in some)
        yield Gap("set", stored.configuration, words, message=Envelope.of(check, identity=identity))


def _missing(stored: StoredSet, settings: StageSettings) -> str:
    """Return which products of a set are missing, of those that can be made."""
    if stored.groups < 2:
        return ""
    too_few = stored.integrations < settings.min_integrations
    products = (("dark reference", stored.references or too_few), ("noise", stored.noise))
    return " and ".join(name for name, done in products if not done)
