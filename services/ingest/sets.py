"""When exposures form a complete set: what is announced after an exposure, and at a `set.check`.

No state is held in memory: what was ingested and rejected is read from the manifests of the configuration,
and the numbers of exposures announced from notes beside them. Any worker can therefore answer at any time,
and `shared.catalog.exposure_sets` makes sure that all give the same answer.

A set is announced when the announced number of exposures was ingested or rejected. Without such a number, a
`set.check` that is delayed by the settling time finds that nothing arrived since, and announces the sets with
enough integrations.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from statistics import median

from services.ingest.plan import Plan, plan_like
from shared.catalog.exposure_sets import RejectedExposure, complete_sets, form_epochs
from shared.catalog.products import walk
from shared.contracts.messages import Envelope, SetCheck, SetMember, SetReady
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
    """

    ramps: list[tuple[SetMember, RampMetadata]]
    rejected: list[RejectedExposure]
    newest: datetime | None


def ready_sets(
    configuration: str,
    arrivals: Arrivals,
    settings: StageSettings,
    counts: Mapping[str, int],
    final: bool = False,
    as_of: datetime | None = None,
    exposure_ids: Iterable[str] | None = None,
    concerning: str | None = None,
) -> list[SetReady]:
    """Return the `set.ready` of every set that is complete by now.

    Parameters
    ----------
    configuration : str
        Slug of the configuration key.
    arrivals : Arrivals
    settings : StageSettings
    counts : mapping of str to int
        Announced numbers of exposures, see `shared.catalog.exposure_sets.form_epochs`.
    final : bool, optional
        Whether the sender knows that no exposure is still to come.
    as_of : datetime, optional
        When this check was scheduled: the configuration has settled if nothing was committed since.
    exposure_ids : iterable of str, optional
        Form sets of these exposures only.
    concerning : str, optional
        Only the sets of epochs to which this exposure belongs.
    """
    wanted = None if exposure_ids is None else set(exposure_ids)
    ramps = [
        (member, results)
        for member, results in arrivals.ramps
        if wanted is None or member.exposure_id in wanted
    ]
    rejected = [
        exposure for exposure in arrivals.rejected if wanted is None or exposure.exposure_id in wanted
    ]
    results_of = {member.manifest: results for member, results in ramps}
    # Of all ramps, not only those that are wanted: so every check forms the same sets.
    groups = provenance_groups({member.manifest: about.provenance for member, about in arrivals.ramps})
    epochs = form_epochs([member for member, _ in ramps], rejected, counts, settings.epoch_gap_days, groups)
    ready = complete_sets(
        [epoch for epoch in epochs if concerning is None or epoch.concerns(concerning)],
        settled=as_of is not None and (arrivals.newest is None or arrivals.newest <= as_of),
        final=final,
        min_integrations=settings.min_integrations,
    )
    return [
        SetReady(
            configuration=configuration,
            key=results_of[exposure_set.members[0].manifest].key,
            set_id=exposure_set.set_id,
            members=list(exposure_set.members),
            gain=median(results_of[member.manifest].gain for member in exposure_set.members),
            simulated=any(results_of[member.manifest].simulated for member in exposure_set.members),
        )
        for exposure_set in ready
    ]


def made_by(manifest: Manifest, plan: Plan) -> bool:
    """Return whether a product is a ramp that `plan` would make from the same exposure."""
    digests = {
        source.role.removeprefix(REFERENCE_ROLE): source.sha256
        for source in manifest.inputs
        if source.role.startswith(REFERENCE_ROLE)
    }
    return manifest.product == "ramp" and plan.made(manifest.parameters, manifest.versions, digests)


def note_expected(configuration: str, count: int, exposure_id: str, store: Store) -> None:
    """Note the number of exposures that was announced with an exposure; the largest of its epoch counts."""
    store.put_if_absent(note_key(configuration, exposure_id, count), json.dumps({"expected": count}).encode())


def sets_at_check(check: SetCheck, message: Envelope, context: StageContext) -> list[Outgoing]:
    """Return the `set.ready` messages of a `set.check`: every set that is complete by now."""
    # A sender that names the exposures knows their number better than the announcements do.
    counts = {} if check.exposure_ids is not None else _counts(check.configuration, context.store)
    ready = ready_sets(
        check.configuration,
        _arrivals(check.configuration, context),
        context.settings,
        counts,
        final=check.final,
        as_of=check.scheduled_at,
        exposure_ids=check.exposure_ids,
    )
    return _announce(ready, message)


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
    counts = _counts(configuration, context.store)
    if counts and _committed(configuration, context.store) >= min(counts.values()):
        arrivals, concerning = _arrivals(configuration, context), str(manifest.results["exposure_id"])
        ready = ready_sets(configuration, arrivals, context.settings, counts, concerning=concerning)
        outgoing += _announce(ready, message)
    settle = context.settings.settle_seconds
    if settle is not None:
        check = SetCheck(configuration=configuration, scheduled_at=datetime.now(UTC))
        identity = f"{manifest.path}:{check.scheduled_at.isoformat()}"
        outgoing.append(Outgoing(Envelope.of(check, identity=identity, cause=message), delay=settle))
    return outgoing


def _announce(ready: list[SetReady], cause: Envelope) -> list[Outgoing]:
    return [Outgoing(Envelope.of(content, identity=content.set_id, cause=cause)) for content in ready]


def _counts(configuration: str, store: Store) -> dict[str, int]:
    return announced_counts(store.list(notes_prefix(configuration))).get(configuration, {})


def _committed(configuration: str, store: Store) -> int:
    """Count the exposures that were ingested or rejected, from the keys alone.

    This is an upper limit for any epoch: until it reaches the smallest announced number, no set can be
    complete, and the manifests need not be read.
    """
    prefix = configuration_prefix(configuration)
    keys = (key for key in store.list(prefix) if key.endswith(f"/{MANIFEST}"))
    return len({key.removeprefix(prefix).partition("/")[0] for key in keys})


def _arrivals(configuration: str, context: StageContext) -> Arrivals:
    """Read the exposures of a configuration.

    Ramps that would be made differently today, and those of superseded files, do not count.
    """
    plans: dict[str, Plan] = {}
    arrivals = Arrivals([], [], None)
    ramps: list[tuple[SetMember, RampMetadata, RampDelivery]] = []
    for product in walk(context.store, configuration_prefix(configuration)):
        manifest, results = product.manifest, product.results
        newest = manifest.created if arrivals.newest is None else max(arrivals.newest, manifest.created)
        arrivals = replace(arrivals, newest=newest)
        if isinstance(results, RejectionMetadata):
            arrivals.rejected.append(RejectedExposure(results.exposure_id, results.start_mjd))
        elif isinstance(results, RampMetadata):
            parameters = json.dumps(manifest.parameters, sort_keys=True)
            if parameters not in plans:
                plans[parameters] = plan_like(manifest.parameters, context.settings)
            if made_by(manifest, plans[parameters]):
                member = member_of(results, f"{product.path}/{MANIFEST}", manifest.object(RAMP))
                ramps.append((member, results, RampDelivery.of(results, product.path, manifest.created)))
    counting = counting_ramps(ramps, lambda ramp: ramp[2])
    return replace(arrivals, ramps=[(member, results) for member, results, _ in counting])
