"""The persistence states of a detector in the store: found before an exposure, kept after it."""

from pathlib import Path

from services.ingest.persistence import state as states
from services.ingest.persistence.state import CarriedState, PersistenceState
from services.ingest.plan import Plan
from services.ingest.products import PersistenceFacts, RampFacts
from services.ingest.ramp_file import ValidExposure
from shared.store.base import Store
from shared.store.manifest import MANIFEST, Draft, InputDigest, find

_MANIFEST = f"/{MANIFEST}"


def carried_state(exposure: ValidExposure, plan: Plan, store: Store, scratch: Path) -> CarriedState | None:
    """Find the newest state of the detector that ends before the exposure starts and may still matter.

    A state that was made with another window is none: the jwst step would ignore it.

    Parameters
    ----------
    exposure : ValidExposure
    plan : Plan
    store : Store
    scratch : Path
        Folder for the state's file.
    """
    if "persistence" not in plan.steps:
        return None
    window = plan.parameters["persistence_time"]
    keys = [key for key in store.list(states.state_prefix(exposure.key.detector)) if key.endswith(_MANIFEST)]
    for together in states.newest_first(keys, exposure.start_mjd, window):
        there = [find(store, key.removesuffix(_MANIFEST)) for key in together]
        usable = [manifest for manifest in there if manifest and manifest.facts["persistence_time"] == window]
        if not usable:
            continue
        newest = max(usable, key=lambda manifest: manifest.created)
        entry = newest.object(states.STATE)
        file = scratch / "carried.asdf"
        file.write_bytes(store.get(entry.key))
        state = states.read_state(file, exposure.key.detector)
        return CarriedState(
            exposure_id=str(newest.facts["exposure_id"]),
            sha256=entry.sha256,
            detector=state,
            exposure=states.to_subarray(state, exposure.key, exposure.start_mjd),
        )
    return None


def keep_state(
    left: PersistenceState,
    carried: CarriedState | None,
    facts: RampFacts,
    product: str,
    inputs: list[InputDigest],
    plan: Plan,
    store: Store,
    scratch: Path,
) -> None:
    """Commit the state that an exposure leaves, in detector pixels.

    Parameters
    ----------
    left : PersistenceState
        As the step left it, in the exposure's pixels.
    carried : CarriedState or None
        What the exposure began with.
    facts : RampFacts
        Of its ramp.
    product : str
        Key of its ramp.
    inputs : list of InputDigest
        Of its ramp.
    plan : Plan
    store : Store
    scratch : Path
        Folder for the state's file.
    """
    detector, window = facts.key.detector, int(plan.parameters["persistence_time"])
    path = states.state_path(detector, facts.end_mjd, facts.exposure_id, product)
    if find(store, path) is not None:
        return
    state = states.to_detector(left, carried.detector if carried else None, facts.key, facts.end_mjd)
    file = scratch / "left.asdf"
    states.write_state(file, state, detector, window, facts.file)
    draft = Draft(store, "persistence", path, inputs, plan.parameters, plan.versions)
    draft.add(states.STATE, file)
    draft.commit(
        PersistenceFacts(
            detector=detector,
            exposure_id=facts.exposure_id,
            end_mjd=facts.end_mjd,
            persistence_time=window,
            pixels=len(state),
        )
    )
