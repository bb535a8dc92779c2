"""When exposures form a complete set: what is announced after an exposure, and at a `set.check`.

No state is held in memory: what was ingested and rejected is read from the manifests of the configuration,
and the numbers of exposures announced from notes beside them. Any worker can therefore answer at any time,
and `shared.catalog.exposure_sets` makes sure that all give the same answer.

A set is announced when the announced number of exposures was ingested or rejected. Without such a number, a
`set.check` that is delayed by the settling time finds that nothing arrived since, and announces the sets with
enough integrations. "Since" is no matter of clocks: the check carries what had arrived when it was sent.

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
from shared.catalog.exposure_sets import (
    Epoch,
    RejectedExposure,
    arrivals_token,
    complete_sets,
    form_epochs,
    set_id,
)
from shared.catalog.products import walk
from shared.contracts.messages import Envelope, ExposureAnnounced, SetCheck, SetMember, SetReady
from shared.products.announced_counts import announced_counts, note_key, notes_prefix
from shared.products.provenance import provenance_groups
from shared.products.ramp import (
    RAMP,
    REFERENCE_ROLE,
    RampDelivery,
    RampMetadata,
    RejectionMetadata,
    configuration_prefix,
    counting_ramps,
    member_of,
)
from shared.runtime.handler import Outgoing, StageContext
from shared.settings.stage import StageSettings
from shared.store.base import Store
from shared.store.manifest import MANIFEST, Manifest

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
    member : SetMember
    results : RampMetadata
    making : str
        Equal for ramps that were made in the same way: versions, parameters and reference overrides.
    is_newer : bool
        Whether it was made by newer software than this worker's.
    """

    member: SetMember
    results: RampMetadata
    making: str
    is_newer: bool


@dataclass(frozen=True)
class Arrivals:
    """The exposures of one configuration so far.

    Attributes
    ----------
    ramps : list of (SetMember, RampMetadata)
        Ingested exposures whose ramps the current settings would make in the same way.
    rejected : list of RejectedExposure
    newest : datetime or None
        When the latest of all was committed; None if there is none.
    outdated : list of OutdatedRamp
        One of each exposure that was ingested, but has no such ramp.
    remade : frozenset of str
        Exposures that have such a ramp and one that was made in another way.
    groups : dict of str to str
        By manifest of all ramps: their `shared.products.provenance.provenance_groups`.
    """

    ramps: list[tuple[SetMember, RampMetadata]]
    rejected: list[RejectedExposure]
    newest: datetime | None
    outdated: list[OutdatedRamp] = field(default_factory=list)
    remade: frozenset[str] = frozenset()
    groups: dict[str, str] = field(default_factory=dict)

    def of_exposures(self, exposure_ids: Iterable[str]) -> "Arrivals":
        """Return what arrived of some exposures; the groups stay, so that every check forms the same sets."""
        wanted = set(exposure_ids)
        return replace(
            self,
            ramps=[(member, results) for member, results in self.ramps if member.exposure_id in wanted],
            rejected=[exposure for exposure in self.rejected if exposure.exposure_id in wanted],
            outdated=[ramp for ramp in self.outdated if ramp.member.exposure_id in wanted],
        )

    def epochs(
        self, settings: StageSettings, counts: Mapping[str, int], concerning: str | None = None
    ) -> list[Epoch]:
        """Return the epochs, or only those to which the exposure `concerning` belongs."""
        members, outdated = [member for member, _ in self.ramps], [ramp.member for ramp in self.outdated]
        epochs = form_epochs(members, self.rejected, counts, settings.epoch_gap_days, self.groups, outdated)
        return [epoch for epoch in epochs if concerning is None or epoch.concerns(concerning)]

    def is_of_before(self, epoch: Epoch) -> bool:
        """Return whether all exposures of an epoch were ingested in one way that is not today's."""
        making = {ramp.member.manifest: ramp.making for ramp in self.outdated}
        return not epoch.sets and len({making[member.manifest] for member in epoch.outdated}) == 1


def ready_sets(
    configuration: str, arrivals: Arrivals, epochs: Sequence[Epoch], settings: StageSettings, **when: bool
) -> list[SetReady]:
    """Return the `set.ready` of every set that is complete by now.

    Parameters
    ----------
    configuration : str
        Slug of the configuration key.
    arrivals : Arrivals
    epochs : sequence of Epoch
        Of these arrivals.
    settings : StageSettings
    **when : bool
        ``settled`` and ``final`` of `shared.catalog.exposure_sets.complete_sets`.
    """
    ready = complete_sets(epochs, **when, min_integrations=settings.min_integrations)
    results_of = {member.manifest: results for member, results in arrivals.ramps}
    return [_set_ready(configuration, each.set_id, each.members, results_of) for each in ready]


def _set_ready(
    configuration: str, name: str, members: Sequence[SetMember], results_of: Mapping[str, RampMetadata]
) -> SetReady:
    return SetReady(
        configuration=configuration,
        key=results_of[members[0].manifest].key,
        set_id=name,
        members=list(members),
        gain=median(results_of[member.manifest].gain for member in members),
        simulated=any(results_of[member.manifest].simulated for member in members),
    )


def made_by(manifest: Manifest, plan: Plan) -> bool:
    """Return whether a product is a ramp that `plan` would make from the same exposure."""
    digests = _override_digests(manifest)
    return manifest.product == "ramp" and plan.made(manifest.parameters, manifest.versions, digests)


def _override_digests(manifest: Manifest) -> dict[str, str]:
    return {
        source.role.removeprefix(REFERENCE_ROLE): source.sha256
        for source in manifest.inputs
        if source.role.startswith(REFERENCE_ROLE)
    }


def note_expected(configuration: str, count: int, exposure_id: str, store: Store) -> None:
    """Note the number of exposures that was announced with an exposure; the largest of its epoch counts."""
    store.put_if_absent(note_key(configuration, exposure_id, count), json.dumps({"expected": count}).encode())


def sets_at_check(check: SetCheck, message: Envelope, context: StageContext) -> list[Outgoing]:
    """Return what follows from a `set.check`.

    Returns
    -------
    list of Outgoing
        A `set.ready` for every set that is complete by now. For sets that lack only exposures of another
        version: the announcements of these, and the check itself once more, after the settling time.
    """
    arrivals = _arrivals(check.configuration, context)
    # After the manifests were read: what is committed in between has a check of its own.
    settled = _has_settled(check, arrivals, context.store)
    if check.exposure_ids is not None:
        # A sender that names the exposures knows their number better than the announcements do.
        arrivals, counts = arrivals.of_exposures(check.exposure_ids), {}
    else:
        counts = _counts(check.configuration, context.store)
    epochs = arrivals.epochs(context.settings, counts)
    ready = ready_sets(
        check.configuration, arrivals, epochs, context.settings, settled=settled, final=check.final
    )
    if check.final:
        return _announce(ready, message)
    held = [epoch for epoch in epochs if epoch.is_held(settled, context.settings.min_integrations)]
    before = [epoch for epoch in held if arrivals.is_of_before(epoch)]
    outgoing = _announce(
        [*ready, *_sets_of_before(check.configuration, arrivals, before, context.store)], message
    )
    held = [epoch for epoch in held if epoch not in before]
    if held:
        outgoing += _make_again(held, arrivals, message, with_newer=check.held >= _ROLLED_BACK)
        outgoing += _pass_on(check, message, context.settings)
    return outgoing


def sets_at_arrival(
    configuration: str, manifest: Manifest, message: Envelope, context: StageContext
) -> list[Outgoing]:
    """Return what to announce after an exposure was ingested or rejected.

    Call this after the exposure's manifest is committed and its announced number noted: if several workers
    do so at once, the last one to write then sees what all of them wrote.

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
        a `set.check` delayed by the settling time, if one is set.
    """
    outgoing: list[Outgoing] = []
    counts, paths = _counts(configuration, context.store), _committed(configuration, context.store)
    # The exposures on record are an upper limit for any epoch: until they reach the smallest announced
    # number, no set can be complete, and the manifests need not be read.
    if counts and len({path.partition("/")[0] for path in paths}) >= min(counts.values()):
        arrivals, concerning = _arrivals(configuration, context), str(manifest.results["exposure_id"])
        epochs = arrivals.epochs(context.settings, counts, concerning)
        outgoing += _announce(
            ready_sets(configuration, arrivals, epochs, context.settings, settled=False, final=False), message
        )
        held = [epoch for epoch in epochs if epoch.is_held(False, context.settings.min_integrations)]
        if held and concerning not in arrivals.remade:
            # One that was made again comes of such an announcement itself.
            outgoing += _make_again(held, arrivals, message)
    settle = context.settings.settle_seconds
    if settle is not None:
        token = arrivals_token(paths)
        check = SetCheck(configuration=configuration, scheduled_at=datetime.now(UTC), seen=token)
        identity = f"{manifest.path}:{check.scheduled_at.isoformat()}"
        outgoing.append(Outgoing(Envelope.of(check, identity=identity, cause=message), delay=settle))
    return outgoing


@dataclass(frozen=True)
class _Ramp:
    """A ramp in the store, and the plan by which it would be made today."""

    manifest: Manifest
    results: RampMetadata
    plan: Plan

    @property
    def member(self) -> SetMember:
        return member_of(self.results, f"{self.manifest.path}/{MANIFEST}", self.manifest.object(RAMP))

    @property
    def delivery(self) -> RampDelivery:
        return RampDelivery.of(self.results, self.manifest.path, self.manifest.created)

    @property
    def outdated(self) -> OutdatedRamp:
        making = [self.manifest.versions, self.manifest.parameters, _override_digests(self.manifest)]
        is_newer = self.plan.is_older_than(self.manifest.versions)
        return OutdatedRamp(self.member, self.results, json.dumps(making, sort_keys=True), is_newer)


def _announce(ready: list[SetReady], cause: Envelope) -> list[Outgoing]:
    return [Outgoing(Envelope.of(content, identity=content.set_id, cause=cause)) for content in ready]


def _counts(configuration: str, store: Store) -> dict[str, int]:
    return announced_counts(store.list(notes_prefix(configuration))).get(configuration, {})


def _committed(configuration: str, store: Store) -> list[str]:
    """Return the paths, below the configuration's, of all ramps and rejections, from the keys alone."""
    prefix = configuration_prefix(configuration)
    return [
        key.removeprefix(prefix).removesuffix(f"/{MANIFEST}")
        for key in store.list(prefix)
        if key.endswith(f"/{MANIFEST}")
    ]


def _has_settled(check: SetCheck, arrivals: Arrivals, store: Store) -> bool:
    """Return whether nothing arrived since a check was scheduled."""
    if check.seen is not None:
        return check.seen == arrivals_token(_committed(check.configuration, store))
    # From `reconcile`, or from a version that compared times.
    return arrivals.newest is None or arrivals.newest <= check.scheduled_at


def _make_again(
    held: Sequence[Epoch], arrivals: Arrivals, cause: Envelope, with_newer: bool = False
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
            outdated[0].results.configuration,
            len(outdated),
            epoch.ingested + len(outdated),
            min(member.start_mjd for member in epoch.outdated),
            len(wanted),
        )
        for ramp in wanted:
            content = ExposureAnnounced(exposure_id=ramp.results.exposure_id, uri=ramp.results.uri)
            identity = f"{ramp.results.uri}:{ramp.member.manifest.removesuffix(f'/{MANIFEST}')}"
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
    configuration: str, arrivals: Arrivals, epochs: Sequence[Epoch], store: Store
) -> list[SetReady]:
    """Return the sets of epochs that were ingested before an upgrade, unless they have a product already.

    They are as good as ever, and nobody else announces them if the upgrade came between the last exposure and
    its check.
    """
    results_of = {ramp.member.manifest: ramp.results for ramp in arrivals.outdated}
    groups = provenance_groups({name: results.provenance for name, results in results_of.items()})
    ready = []
    for epoch in epochs:
        alike: dict[str, list[SetMember]] = {}
        for member in epoch.outdated:
            alike.setdefault(groups[member.manifest], []).append(member)
        for members in alike.values():
            name = set_id(members)
            built = (f"{stage}/{configuration}/{name}/" for stage in ("darkref", "noise"))
            if not any(next(iter(store.list(prefix)), None) for prefix in built):
                ready.append(_set_ready(configuration, name, members, results_of))
    return ready


def _arrivals(configuration: str, context: StageContext) -> Arrivals:
    """Read the exposures of a configuration; ramps of superseded files do not count."""
    plans: dict[str, Plan] = {}
    newest: datetime | None = None
    rejected: list[RejectedExposure] = []
    refused: dict[str, datetime] = {}
    current: list[_Ramp] = []
    others: list[_Ramp] = []
    for product in walk(context.store, configuration_prefix(configuration)):
        manifest, results = product.manifest, product.results
        newest = manifest.created if newest is None else max(newest, manifest.created)
        if isinstance(results, RejectionMetadata):
            rejected.append(RejectedExposure(results.exposure_id, results.start_mjd))
            before = refused.get(product.subject, manifest.created)
            refused[product.subject] = max(manifest.created, before)
        elif isinstance(results, RampMetadata):
            parameters = json.dumps(manifest.parameters, sort_keys=True)
            if parameters not in plans:
                plans[parameters] = plan_like(manifest.parameters, context.settings)
            ramp = _Ramp(product.manifest, results, plans[parameters])
            (current if made_by(manifest, ramp.plan) else others).append(ramp)
    counting = counting_ramps(current, lambda ramp: ramp.delivery)
    made = {ramp.results.exposure_id for ramp in counting}
    latest: dict[str, _Ramp] = {}
    others = counting_ramps(others, lambda ramp: ramp.delivery)
    for ramp in sorted(others, key=lambda ramp: (ramp.manifest.created, ramp.manifest.path)):
        latest[ramp.results.exposure_id] = ramp
    return Arrivals(
        ramps=[(ramp.member, ramp.results) for ramp in counting],
        rejected=rejected,
        newest=newest,
        outdated=[
            ramp.outdated
            for name, ramp in latest.items()
            # This version may have refused what an earlier one took.
            if name not in made and (name not in refused or refused[name] < ramp.manifest.created)
        ],
        remade=frozenset(latest.keys() & made),
        # Of the ramps that count alone, as `status` forms them.
        groups=provenance_groups({ramp.member.manifest: ramp.results.provenance for ramp in counting}),
    )
