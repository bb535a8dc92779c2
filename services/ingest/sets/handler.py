"""What came of a configuration, read from the store, and the sets that are complete by it."""

import json
from dataclasses import replace
from datetime import UTC, datetime

from services.ingest.plan import Plan, plan_like
from services.ingest.products import RAMP, REFERENCE_ROLE, RampFacts, configuration_prefix, member_of
from services.ingest.sets.ready import Arrivals, ready_sets
from shared.messages import Envelope, SetCheck, SetReady
from shared.stage import Outgoing, StageContext
from shared.store.manifest import MANIFEST, Manifest, find_all


def made_by(manifest: Manifest, plan: Plan) -> bool:
    """Say whether a product is a ramp that `plan` would make of the same exposure."""
    digests = {
        i.role.removeprefix(REFERENCE_ROLE): i.sha256
        for i in manifest.inputs
        if i.role.startswith(REFERENCE_ROLE)
    }
    return manifest.product == "ramp" and plan.made(manifest.parameters, manifest.versions, digests)


def sets_at_check(check: SetCheck, message: Envelope, context: StageContext) -> list[Outgoing]:
    """Return what to announce at a `set.check`: every set that is complete by now."""
    ready = ready_sets(
        check.configuration,
        _arrivals(check.configuration, context),
        context.settings,
        final=check.final,
        as_of=check.scheduled_at,
        exposure_ids=check.exposure_ids,
    )
    return _announce(ready, message)


def sets_at_arrival(
    configuration: str, expected: int | None, manifest: Manifest, message: Envelope, context: StageContext
) -> list[Outgoing]:
    """Return what to announce once an exposure came, or was refused.

    Parameters
    ----------
    configuration : str
    expected : int or None
        Exposures announced for the configuration; without a count no set is complete by an arrival.
    manifest : Manifest
        What became of the exposure.
    message : Envelope
    context : StageContext

    Returns
    -------
    list of Outgoing
        The sets complete now; and a `set.check` for when nothing came for a while, if that is set.
    """
    outgoing: list[Outgoing] = []
    if expected is not None:
        arrivals = _arrivals(configuration, context)
        outgoing += _announce(
            ready_sets(configuration, arrivals, context.settings, expected=expected), message
        )
    settle = context.settings.settle_seconds
    if settle is not None:
        check = SetCheck(configuration=configuration, scheduled_at=datetime.now(UTC))
        identity = f"{manifest.path}:{check.scheduled_at.isoformat()}"
        outgoing.append(Outgoing(Envelope.of(check, identity=identity, cause=message), delay=settle))
    return outgoing


def _announce(ready: list[SetReady], cause: Envelope) -> list[Outgoing]:
    return [Outgoing(Envelope.of(one, identity=one.set_id, cause=cause)) for one in ready]


def _arrivals(configuration: str, context: StageContext) -> Arrivals:
    """Read what came of a configuration; a ramp that would be made otherwise now is no part of it."""
    plans: dict[str, Plan] = {}
    arrivals = Arrivals([], set(), None)
    for manifest in find_all(context.store, configuration_prefix(configuration)):
        newest = manifest.created if arrivals.newest is None else max(arrivals.newest, manifest.created)
        arrivals = replace(arrivals, newest=newest)
        if manifest.product == "rejection":
            arrivals.rejected.add(str(manifest.facts["exposure_id"]))
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
