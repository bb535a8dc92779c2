"""What came of a configuration, read from the store, and the sets that are complete by it."""

import json
from dataclasses import replace
from datetime import UTC, datetime

from services.ingest.plan import Plan, plan_like
from services.ingest.products import (
    RAMP,
    REFERENCE_ROLE,
    RampFacts,
    RejectionFacts,
    configuration_prefix,
    member_of,
)
from services.ingest.sets.expected import announced_counts, note_key, notes_prefix
from services.ingest.sets.ready import Arrivals, ready_sets
from shared.exposure_sets import RejectedExposure
from shared.messages import Envelope, SetCheck, SetReady
from shared.stage import Outgoing, StageContext
from shared.store.base import Store
from shared.store.manifest import MANIFEST, Manifest, find_all


def made_by(manifest: Manifest, plan: Plan) -> bool:
    """Say whether a product is a ramp that `plan` would make of the same exposure."""
    digests = {
        i.role.removeprefix(REFERENCE_ROLE): i.sha256
        for i in manifest.inputs
        if i.role.startswith(REFERENCE_ROLE)
    }
    return manifest.product == "ramp" and plan.made(manifest.parameters, manifest.versions, digests)


def note_expected(configuration: str, count: int, exposure_id: str, store: Store) -> None:
    """Keep the count that was announced with an exposure; the largest one of its campaign counts."""
    store.put_if_absent(note_key(configuration, exposure_id, count), json.dumps({"expected": count}).encode())


def sets_at_check(check: SetCheck, message: Envelope, context: StageContext) -> list[Outgoing]:
    """Return what to announce at a `set.check`: every set that is complete by now."""
    # Who names the exposures knows better than the announcements how many there are.
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
    """Return what to announce once an exposure came, or was refused.

    Call it when the exposure's manifest is committed and its count noted: of several workers that do
    so at once, whoever was the last to write then sees what all of them wrote.

    Parameters
    ----------
    configuration : str
    manifest : Manifest
        What became of the exposure.
    message : Envelope
    context : StageContext

    Returns
    -------
    list of Outgoing
        The sets complete now whose campaign the exposure has a part in, if a count was announced for
        it; and a `set.check` for when nothing came for a while, if that is set.
    """
    outgoing: list[Outgoing] = []
    counts = _counts(configuration, context.store)
    if counts and _came(configuration, context.store) >= min(counts.values()):
        arrivals, concerning = _arrivals(configuration, context), str(manifest.facts["exposure_id"])
        ready = ready_sets(configuration, arrivals, context.settings, counts, concerning=concerning)
        outgoing += _announce(ready, message)
    settle = context.settings.settle_seconds
    if settle is not None:
        check = SetCheck(configuration=configuration, scheduled_at=datetime.now(UTC))
        identity = f"{manifest.path}:{check.scheduled_at.isoformat()}"
        outgoing.append(Outgoing(Envelope.of(check, identity=identity, cause=message), delay=settle))
    return outgoing


def _announce(ready: list[SetReady], cause: Envelope) -> list[Outgoing]:
    return [Outgoing(Envelope.of(one, identity=one.set_id, cause=cause)) for one in ready]


def _counts(configuration: str, store: Store) -> dict[str, int]:
    return announced_counts(store.list(notes_prefix(configuration))).get(configuration, {})


def _came(configuration: str, store: Store) -> int:
    """Count the exposures that came or were refused, without reading what became of them.

    Never fewer than count for a campaign: until enough came for any, nobody has to read all manifests.
    """
    prefix = configuration_prefix(configuration)
    committed = (key for key in store.list(prefix) if key.endswith(f"/{MANIFEST}"))
    return len({key.removeprefix(prefix).partition("/")[0] for key in committed})


def _arrivals(configuration: str, context: StageContext) -> Arrivals:
    """Read what came of a configuration; a ramp that would be made otherwise now is no part of it."""
    plans: dict[str, Plan] = {}
    arrivals = Arrivals([], [], None)
    for manifest in find_all(context.store, configuration_prefix(configuration)):
        newest = manifest.created if arrivals.newest is None else max(arrivals.newest, manifest.created)
        arrivals = replace(arrivals, newest=newest)
        if manifest.product == "rejection":
            refused = RejectionFacts.model_validate(manifest.facts)
            arrivals.rejected.append(RejectedExposure(refused.exposure_id, refused.start_mjd))
        elif manifest.product == "ramp":
            same = json.dumps(manifest.parameters, sort_keys=True)
            if same not in plans:
                plans[same] = plan_like(manifest.parameters, context.settings)
            if made_by(manifest, plans[same]):
                facts = RampFacts.model_validate(manifest.facts)
                entry = manifest.object(RAMP)
                where = f"{manifest.path}/{MANIFEST}"
                arrivals.ramps.append((member_of(facts, where, entry.key, entry.size, entry.sha256), facts))
    return arrivals
