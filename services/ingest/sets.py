"""When exposures form a complete set: what is announced after an exposure, and at a `set.check`.

No state is held in memory: what was ingested and rejected, and the numbers of exposures announced, are read
from the index of the configuration (`shared.catalog.arrival_index`), and of it only what lies around the
exposure in question. Any worker can therefore answer at any time, at a cost that does not grow with the
store, and `shared.catalog.exposure_sets` makes sure that all give the same answer.

A set is announced when the announced number of exposures was ingested or rejected. Without such a number, a
`set.check` that is delayed by the settling time finds that nothing arrived since, and announces the sets with
enough integrations. "Since" is no matter of clocks: the check carries what had arrived when it was sent
(`services.ingest.settling`).

A set holds ramps of one making only. Where an upgrade comes between two exposures of a set, the older ones
are announced again, and the set waits for them; see `_make_again`.
"""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from statistics import median

from services.ingest.plan import Plan, plan_like
from services.ingest.settling import check_is_sent, wait_no_longer, wait_to_settle, waiting_to_settle
from shared.catalog.arrival_index import ArrivalIndex, HowRampWasMade, Neighbourhood
from shared.catalog.arrival_keys import Arrival, IndexedRamp, Span, is_usable
from shared.catalog.exposure_sets import (
    LARGEST_EPOCH,
    Epoch,
    RejectedExposure,
    arrivals_token,
    complete_sets,
    epoch_groups,
    form_epochs,
    set_id,
)
from shared.contracts.messages import Envelope, ExposureAnnounced, SetCheck, SetMember, SetReady
from shared.errors import EnvironmentFault
from shared.products.announced_counts import note_key
from shared.products.provenance import Provenance
from shared.products.ramp import configuration_prefix, counting_ramps, reference_digests
from shared.runtime.handler import Outgoing, StageContext
from shared.settings.stage import StageSettings
from shared.store.base import Store
from shared.store.changes import mark_new
from shared.store.manifest import MANIFEST, Manifest, find

_logger = logging.getLogger(__name__)
#: A `set.check` whose exposures are to be made again is passed on this often, each time after the settling
#: time; then somebody has to look.
_MOST_HELD = 5
#: After this many times it is no roll-out any more in which newer workers will take over: ramps of a newer
#: version, too, are made again by this one, as after going back to an older version.
_ROLLED_BACK = 2


@dataclass(frozen=True)
class OutdatedRamp:
    """The ramp of an exposure that has none as the current settings would make it.

    Attributes
    ----------
    ramp : IndexedRamp
    provenance : Provenance
    making : str
        Equal for ramps that were made in the same way: versions, parameters and reference overrides.
    is_newer : bool
        Whether it was made by newer software than this worker's.
    """

    ramp: IndexedRamp
    provenance: Provenance
    making: str
    is_newer: bool

    @property
    def member(self) -> SetMember:
        """The exposure as a member of a set."""
        return self.ramp.member


@dataclass(frozen=True)
class Arrivals:
    """The exposures of one configuration so far, or of some of its epochs.

    Attributes
    ----------
    ramps : list of IndexedRamp
        Ingested exposures whose ramps the current settings would make in the same way.
    rejected : list of RejectedExposure
    newest : datetime or None
        When the latest of all was committed; None if there is none.
    outdated : list of OutdatedRamp
        One of each exposure that was ingested, but has no such ramp.
    remade : frozenset of str
        Exposures that have such a ramp and one that was made in another way.
    groups : dict of str to str
        By manifest of all ramps: their `shared.catalog.exposure_sets.epoch_groups`.
    around : Neighbourhood
        Which epochs are known as a whole.
    """

    ramps: list[IndexedRamp]
    rejected: list[RejectedExposure]
    newest: datetime | None
    outdated: list[OutdatedRamp] = field(default_factory=list)
    remade: frozenset[str] = frozenset()
    groups: dict[str, str] = field(default_factory=dict)
    around: Neighbourhood = field(default_factory=lambda: Neighbourhood([]))

    def of_exposures(self, exposure_ids: Iterable[str]) -> "Arrivals":
        """Return what arrived of some exposures; the groups stay, so that every check forms the same sets."""
        wanted = set(exposure_ids)
        return replace(
            self,
            ramps=[ramp for ramp in self.ramps if ramp.member.exposure_id in wanted],
            rejected=[exposure for exposure in self.rejected if exposure.exposure_id in wanted],
            outdated=[ramp for ramp in self.outdated if ramp.member.exposure_id in wanted],
        )

    def epochs(
        self, settings: StageSettings, counts: Mapping[str, int], concerning: str | None = None
    ) -> list[Epoch]:
        """Return the whole epochs, or only those to which the exposure `concerning` belongs."""
        members, outdated = [ramp.member for ramp in self.ramps], [ramp.member for ramp in self.outdated]
        epochs = form_epochs(members, self.rejected, counts, settings.epoch_gap_days, self.groups, outdated)
        return [
            epoch
            for epoch in epochs
            if (concerning is None or epoch.concerns(concerning))
            and (epoch.start is None or self.around.has_whole(epoch.start))
        ]

    def is_of_before(self, epoch: Epoch) -> bool:
        """Return whether all exposures of an epoch were ingested in one way that is not today's."""
        making = {ramp.member.manifest: ramp.making for ramp in self.outdated}
        return not epoch.sets and len({making[member.manifest] for member in epoch.outdated}) == 1


def ready_sets(
    index: ArrivalIndex, arrivals: Arrivals, epochs: Sequence[Epoch], settings: StageSettings, **when: bool
) -> list[SetReady]:
    """Return the `set.ready` of every set that is complete by now.

    Parameters
    ----------
    index : ArrivalIndex
        Of the configuration.
    arrivals : Arrivals
    epochs : sequence of Epoch
        Of these arrivals.
    settings : StageSettings
    **when : bool
        ``settled`` and ``final`` of `shared.catalog.exposure_sets.complete_sets`.
    """
    ready = complete_sets(epochs, **when, min_integrations=settings.min_integrations)
    ramp_of = {ramp.member.manifest: ramp for ramp in arrivals.ramps}
    return _set_ready(index, [(each.set_id, each.members) for each in ready], ramp_of)


def _set_ready(
    index: ArrivalIndex,
    sets: Iterable[tuple[str, Sequence[SetMember]]],
    ramp_of: Mapping[str, IndexedRamp],
) -> list[SetReady]:
    return [
        SetReady(
            configuration=index.configuration,
            key=index.key_of(members[0]),
            set_id=name,
            members=list(members),
            gain=median(ramp_of[member.manifest].gain for member in members),
            simulated=any(ramp_of[member.manifest].simulated for member in members),
        )
        for name, members in sets
    ]


def _manifest_of(manifest_key: str, store: Store) -> Manifest:
    manifest = find(store, manifest_key.removesuffix(f"/{MANIFEST}"))
    if manifest is None:
        raise EnvironmentFault(
            f"{store.uri(manifest_key)} is in the index and is gone; run `nircam-darks reconcile`",
            where=store.uri(manifest_key),
        )
    return manifest


def made_by(manifest: Manifest, plan: Plan) -> bool:
    """Return whether a product is a ramp that `plan` would make from the same exposure."""
    digests = reference_digests(manifest)
    return manifest.product == "ramp" and plan.made(manifest.parameters, manifest.versions, digests)


def note_expected(configuration: str, count: int, exposure_id: str, store: Store) -> None:
    """Note the number of exposures that was announced with an exposure; the largest of its epoch counts."""
    key = note_key(configuration, exposure_id, count)
    mark_new(store, key)
    store.put_if_absent(key, json.dumps({"expected": count}).encode())


def sets_at_check(check: SetCheck, message: Envelope, context: StageContext) -> list[Outgoing]:
    """Return what follows from a `set.check`.

    Returns
    -------
    list of Outgoing
        A `set.ready` for every set that is complete by now. For sets that lack only exposures of another
        version: the announcements of these, and the check itself once more, after the settling time. A check
        that exposures share goes on until no exposure waits for their configuration to settle.
    """
    index, settings = ArrivalIndex(context.store, check.configuration), context.settings
    if check.shared:
        return _at_shared_check(check, message, index, settings)
    named = check.exposure_ids if check.exposure_ids is not None else check.concerning
    # A final check is obeyed however large its sets are.
    is_local = named is not None and not check.final
    around = _around_exposures(index, named or [], settings) if is_local else index.everything()
    arrivals, counts = _arrivals(index, around, settings), _counts(around.arrivals)
    settled = _has_settled(check, arrivals, around.arrivals)
    if check.exposure_ids is not None:
        # A sender that names the exposures knows their number better than the announcements do.
        arrivals, counts = arrivals.of_exposures(check.exposure_ids), {}
    epochs = arrivals.epochs(settings, counts)
    if check.final:
        return _announce(ready_sets(index, arrivals, epochs, settings, settled=settled, final=True), message)
    outgoing, is_held = _settle(check, message, index, arrivals, epochs, settled, settings)
    return [*outgoing, *(_pass_on(check, message, settings) if is_held else [])]


def sets_at_arrival(
    configuration: str, manifest: Manifest, message: Envelope, context: StageContext
) -> list[Outgoing]:
    """Return what to announce after an exposure was ingested or rejected.

    Call this after the exposure's manifest is committed and its announced number noted. It writes the
    exposure into the index first: if several workers do so at once, the last one to write then sees what all
    of them wrote.

    Parameters
    ----------
    configuration : str
        Slug of the configuration key.
    manifest : Manifest
        Of the exposure's ramp or rejection.
    message : Envelope
        The announcement of the exposure.
    context : StageContext

    Returns
    -------
    list of Outgoing
        A `set.ready` for every complete set of the exposure's epoch, if a number was announced for it; and
        a `set.check` delayed by the settling time, if one is set and none is under way.
    """
    outgoing: list[Outgoing] = []
    settings, exposure_id = context.settings, str(manifest.results["exposure_id"])
    index = ArrivalIndex(context.store, configuration)
    own = index.record(manifest)
    spans = [arrival.span for arrival in own if arrival.span is not None]
    # When an exposure without a start was rejected, any epoch may be complete.
    around = _around(index, spans, settings) if spans else index.everything()
    if counts := _counts(around.arrivals):
        arrivals = _arrivals(index, around, settings)
        epochs = arrivals.epochs(settings, counts, exposure_id)
        outgoing += _announce(
            ready_sets(index, arrivals, epochs, settings, settled=False, final=False), message
        )
        held = [epoch for epoch in epochs if epoch.is_held(False, settings.min_integrations)]
        if held and exposure_id not in arrivals.remade:
            # One that was made again comes of such an announcement itself.
            outgoing += _make_again(index, held, arrivals, message)
    settle = settings.settle_seconds
    if settle is not None:
        arrival = next(each for each in own if each.path == manifest.path)
        seen = wait_to_settle(arrival, configuration, settle, context.store)
        if seen is not None:
            outgoing.append(_shared_check(configuration, seen, message, settle, manifest.path))
    return outgoing


def _at_shared_check(
    check: SetCheck, message: Envelope, index: ArrivalIndex, settings: StageSettings
) -> list[Outgoing]:
    """Return what follows from the check of all exposures that wait for their configuration to settle."""
    configuration, settle = check.configuration, settings.settle_seconds
    waiting = waiting_to_settle(configuration, index.store)
    if settle is None or not waiting.names:
        return []
    outgoing: list[Outgoing] = []
    if waiting.token != check.seen:
        check = check.model_copy(update={"seen": waiting.token, "announced": False, "held": 0})
    elif check.announced:
        wait_no_longer(waiting, configuration, index.store)
        # What came while these were removed relied on this check.
        waiting = waiting_to_settle(configuration, index.store)
        if not waiting.names:
            return []
        check = check.model_copy(update={"seen": waiting.token, "announced": False, "held": 0})
    else:
        around = _around(index, waiting.spans, settings)
        arrivals = _arrivals(index, around, settings)
        epochs = arrivals.epochs(settings, _counts(around.arrivals))
        outgoing, is_held = _settle(check, message, index, arrivals, epochs, True, settings)
        again = _pass_on(check, message, settings) if is_held else []
        if again:
            check_is_sent(configuration, index.store)
            return [*outgoing, *again]
        check = check.model_copy(update={"announced": True})
    check_is_sent(configuration, index.store)
    identity = f"{message.id}:{check.seen}:{check.announced}"
    return [*outgoing, Outgoing(Envelope.of(check, identity=identity, cause=message), delay=settle)]


def _settle(
    check: SetCheck,
    message: Envelope,
    index: ArrivalIndex,
    arrivals: Arrivals,
    epochs: Sequence[Epoch],
    settled: bool,
    settings: StageSettings,
) -> tuple[list[Outgoing], bool]:
    """Return what a check announces, and whether a set waits for exposures that are made again."""
    ready = ready_sets(index, arrivals, epochs, settings, settled=settled, final=False)
    held = [epoch for epoch in epochs if epoch.is_held(settled, settings.min_integrations)]
    before = [epoch for epoch in held if arrivals.is_of_before(epoch)]
    outgoing = _announce([*ready, *_sets_of_before(index, arrivals, before, settings)], message)
    held = [epoch for epoch in held if epoch not in before]
    if held:
        outgoing += _make_again(index, held, arrivals, message, with_newer=check.held >= _ROLLED_BACK)
    return outgoing, bool(held)


def _shared_check(configuration: str, seen: str, cause: Envelope, delay: float, identity: str) -> Outgoing:
    check = SetCheck(configuration=configuration, scheduled_at=datetime.now(UTC), seen=seen, shared=True)
    identity = f"{identity}:{check.scheduled_at.isoformat()}"
    return Outgoing(Envelope.of(check, identity=identity, cause=cause), delay=delay)


def _around_exposures(
    index: ArrivalIndex, exposure_ids: Sequence[str], settings: StageSettings
) -> Neighbourhood:
    """Return the arrivals of the epochs of some exposures."""
    named = index.of_exposures(exposure_ids)
    return _around(index, [each.span for each in named if each.span is not None], settings)


def _around(index: ArrivalIndex, spans: list[Span], settings: StageSettings) -> Neighbourhood:
    """Return the arrivals of the epochs in which exposures lie; say so where one is too large."""
    if not all(map(is_usable, spans)):
        return index.everything()
    found = index.around(spans, settings.epoch_gap_days)
    for span in found.too_large:
        _logger.error(
            "%s: no set is announced of the exposures around MJD %.2f: there are more than %d without a gap "
            "of %g days; set a shorter DARKS_EPOCH_GAP_DAYS",
            *(index.configuration, span[0], LARGEST_EPOCH, settings.epoch_gap_days),
        )
    return found


def _announce(ready: list[SetReady], cause: Envelope) -> list[Outgoing]:
    return [Outgoing(Envelope.of(content, identity=content.set_id, cause=cause)) for content in ready]


def _counts(arrivals: Iterable[Arrival]) -> dict[str, int]:
    """Return the announced numbers by exposure, of those that have any."""
    counts: dict[str, int] = {}
    for arrival in arrivals:
        if arrival.count:
            counts[arrival.exposure_id] = max(arrival.count, counts.get(arrival.exposure_id, 0))
    return counts


def _has_settled(check: SetCheck, arrivals: Arrivals, around: Iterable[Arrival]) -> bool:
    """Return whether nothing arrived since a check was scheduled that no exposures share."""
    if check.seen is not None:
        # From a version that sent a check for each exposure.
        prefix = configuration_prefix(check.configuration)
        return check.seen == arrivals_token(each.path.removeprefix(prefix) for each in around)
    # From `reconcile`, or from a version that compared times.
    return arrivals.newest is None or arrivals.newest <= check.scheduled_at


def _make_again(
    index: ArrivalIndex, held: Sequence[Epoch], arrivals: Arrivals, cause: Envelope, with_newer: bool = False
) -> list[Outgoing]:
    """Return the announcements of the outdated exposures of some epochs, so that this version makes them.

    What newer software made is left to that software, which is being rolled out, unless `with_newer`. However
    often an exposure is announced, each version makes it once.
    """
    ramps = {ramp.member.manifest: ramp for ramp in arrivals.outdated}
    outgoing = []
    for epoch in held:
        outdated = [ramps[member.manifest] for member in epoch.outdated]
        wanted = [ramp for ramp in outdated if with_newer or not ramp.is_newer]
        _logger.warning(
            "%s: %d of %d exposures from MJD %.2f on were ingested by another version or with other "
            "settings; their set waits, and %d of them are announced again",
            index.configuration,
            len(outdated),
            epoch.ingested + len(outdated),
            min(member.start_mjd for member in epoch.outdated),
            len(wanted),
        )
        for ramp in wanted:
            uri = str(_manifest_of(ramp.member.manifest, index.store).results["uri"])
            content = ExposureAnnounced(exposure_id=ramp.member.exposure_id, uri=uri)
            identity = f"{uri}:{ramp.member.manifest.removesuffix(f'/{MANIFEST}')}"
            outgoing.append(Outgoing(Envelope.of(content, identity=identity, cause=cause)))
    return outgoing


def _pass_on(check: SetCheck, message: Envelope, settings: StageSettings) -> list[Outgoing]:
    """Return a check once more: what it asked for may be taken by an older worker, or fail."""
    if settings.settle_seconds is None:
        return []
    if check.held >= _MOST_HELD:
        _logger.error(
            "%s: exposures of another version were announced again %d times and not made again; look for "
            "their dead letters or rejections, then `nircam-darks reconcile --outdated`",
            check.configuration,
            check.held,
        )
        return []
    again = check.model_copy(update={"held": check.held + 1})
    identity = f"{message.id}:{again.held}"
    return [Outgoing(Envelope.of(again, identity=identity, cause=message), delay=settings.settle_seconds)]


def _sets_of_before(
    index: ArrivalIndex, arrivals: Arrivals, epochs: Sequence[Epoch], settings: StageSettings
) -> list[SetReady]:
    """Return the sets of epochs that were ingested before an upgrade, unless they have a product already.

    They are as good as ever, and nobody else announces them if the upgrade came between the last exposure and
    its check.
    """
    ramp_of = {each.member.manifest: each.ramp for each in arrivals.outdated}
    provenances = {each.member.manifest: each.provenance for each in arrivals.outdated}
    groups = epoch_groups([each.member for each in arrivals.outdated], provenances, settings.epoch_gap_days)
    sets: list[tuple[str, list[SetMember]]] = []
    for epoch in epochs:
        alike: dict[str, list[SetMember]] = {}
        for member in epoch.outdated:
            alike.setdefault(groups[member.manifest], []).append(member)
        for members in alike.values():
            name = set_id(members)
            built = (f"{stage}/{index.configuration}/{name}/" for stage in ("darkref", "noise"))
            if not any(next(iter(index.store.list(prefix)), None) for prefix in built):
                sets.append((name, members))
    return _set_ready(index, sets, ramp_of)


class _Makings:
    """How ramps were made, and whether they would be made so today."""

    def __init__(self, index: ArrivalIndex, settings: StageSettings) -> None:
        self._index = index
        self._settings = settings
        self._plans: dict[str, Plan] = {}
        self._today: dict[str, bool] = {}

    def of(self, arrival: Arrival) -> tuple[HowRampWasMade, Plan, bool]:
        """Return how a ramp was made, the plan of today, and whether that would make the same."""
        assert arrival.ramp is not None
        made, digest = self._index.made(arrival), arrival.ramp.made
        parameters = json.dumps(made.parameters, sort_keys=True)
        if parameters not in self._plans:
            self._plans[parameters] = plan_like(made.parameters, self._settings)
        plan = self._plans[parameters]
        if digest not in self._today:
            self._today[digest] = plan.made(made.parameters, made.versions, made.references)
        return made, plan, self._today[digest]


def _arrivals(index: ArrivalIndex, around: Neighbourhood, settings: StageSettings) -> Arrivals:
    """Sort arrivals into those that count; ramps of superseded files do not."""
    makings = _Makings(index, settings)
    rejected: list[RejectedExposure] = []
    refused: dict[str, datetime] = {}
    current: list[tuple[IndexedRamp, HowRampWasMade]] = []
    others: list[tuple[IndexedRamp, HowRampWasMade, Plan]] = []
    for arrival in around.arrivals:
        if arrival.ramp is None:
            start = arrival.span[0] if arrival.span is not None else None
            rejected.append(RejectedExposure(arrival.exposure_id, start))
            before = refused.get(arrival.exposure_id, arrival.created)
            refused[arrival.exposure_id] = max(arrival.created, before)
            continue
        made, plan, today = makings.of(arrival)
        if today:
            current.append((arrival.ramp, made))
        else:
            others.append((arrival.ramp, made, plan))
    counting = counting_ramps(current, lambda pair: pair[0].delivery)
    exposures = {ramp.member.exposure_id for ramp, _ in counting}
    others = counting_ramps(others, lambda each: each[0].delivery)
    others.sort(key=lambda each: (each[0].delivery.created, each[0].member.manifest))
    latest = {each[0].member.exposure_id: each for each in others}
    return Arrivals(
        ramps=[ramp for ramp, _ in counting],
        rejected=rejected,
        newest=max((arrival.created for arrival in around.arrivals), default=None),
        outdated=[
            OutdatedRamp(ramp, made.provenance, made.making, plan.is_older_than(made.versions))
            for name, (ramp, made, plan) in latest.items()
            # This version may have refused what an earlier one took.
            if name not in exposures and (name not in refused or refused[name] < ramp.delivery.created)
        ],
        remade=frozenset(latest.keys() & exposures),
        # Of the ramps that count alone, as `status` forms them.
        groups=epoch_groups(
            [ramp.member for ramp, _ in counting],
            {ramp.member.manifest: made.provenance for ramp, made in counting},
            settings.epoch_gap_days,
        ),
        around=around,
    )
