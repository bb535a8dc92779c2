"""An announced exposure -> validated, calibrated, jump-flagged ramp in the store."""

import json
import re
import tempfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from services.ingest import claims, persistence, steps
from services.ingest.checks import Check, Evidence, first_failure
from services.ingest.evidence import not_finite, open_exposure, unusable_pixels
from services.ingest.persistence import CarriedState, PersistenceState
from services.ingest.plan import ALGORITHM_VERSION, Plan, plan_for, plan_like
from services.ingest.products import (
    RAMP,
    PersistenceFacts,
    RampFacts,
    RejectionFacts,
    configuration_prefix,
    member_of,
)
from services.ingest.ramp_file import SIMULATION, ValidExposure, make_ramp_file
from services.ingest.sets import Arrivals, ready_sets
from services.ingest.validation import finite_check, header_checks, usable_check
from shared.configuration import ConfigurationKey
from shared.errors import BadInput, BadMessage
from shared.geometry import science_pixels
from shared.messages import (
    Envelope,
    ExposureAnnounced,
    ExposureIngested,
    ExposureRejected,
    SetCheck,
    SetReady,
)
from shared.sources import canonical_uri, local_path, sha256_of
from shared.stage import Outgoing, StageContext
from shared.store.base import Store
from shared.store.manifest import MANIFEST, Draft, InputDigest, Manifest, find, find_all, product_key

#: Stands for the configuration of an exposure whose header does not give one.
UNKNOWN = "unknown"
_MANIFEST = f"/{MANIFEST}"
#: Roles of inputs in a manifest.
_EXPOSURE = "exposure"
_REFERENCE = "reference:"
_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")


@dataclass
class _Exposure:
    """An announced exposure, as far as it is known by now."""

    said: ExposureAnnounced
    path: Path
    uri: str
    sha256: str = ""
    key: ConfigurationKey | None = None

    @property
    def folder(self) -> str:
        configuration = self.key.slug if self.key is not None else UNKNOWN
        return f"{configuration_prefix(configuration)}{self.said.exposure_id}"


def handle(message: Envelope, context: StageContext) -> list[Outgoing]:
    """Ingest an announced exposure, or look whether a configuration's sets are complete.

    An exposure that fails a check is no failure of the stage: it becomes a ``rejection`` product and
    an `exposure.rejected` message.

    Raises
    ------
    BadMessage
        If the message is of another kind, or its exposure id or address cannot be used.
    EnvironmentFault
        If CRDS or a reference file is missing or wrong. Nothing is recorded.
    TransientError
        If trying again may help.
    """
    said = message.content
    if isinstance(said, SetCheck):
        ready = ready_sets(
            said.configuration,
            _arrivals(said.configuration, context),
            context.settings,
            final=said.final,
            as_of=said.scheduled_at,
            exposure_ids=said.exposure_ids,
        )
        return _announce(ready, message)
    if not isinstance(said, ExposureAnnounced):
        raise BadMessage(f"message {message.id}: ingest does not handle {message.schema_name}")
    if not _ID.fullmatch(said.exposure_id):
        raise BadMessage(
            f"message {message.id}: exposure id {said.exposure_id!r} may hold only letters, digits, "
            "'_', '-' and '.'"
        )
    exposure = _Exposure(said, local_path(said.uri), canonical_uri(said.uri))
    try:
        manifest = _ingest(exposure, message, context)
    except BadInput as fault:
        manifest = _reject(exposure, fault, message, context.store)
    return [*(Outgoing(one) for one in manifest.messages), *_sets_after(exposure, manifest, message, context)]


def _ingest(exposure: _Exposure, message: Envelope, context: StageContext) -> Manifest:
    context.progress(0, 1, "reading")
    said = exposure.said
    exposure.sha256 = sha256_of(exposure.path)
    evidence, ramp = open_exposure(exposure.path, exposure.sha256, said.size, said.sha256)
    exposure.key = _key_if_any(evidence)
    if ramp is None:
        _require(header_checks(evidence), evidence)
        raise BadInput("FITS", f"{evidence.where}: cannot be read as FITS; fetch it again")
    with ramp:
        _require(header_checks(evidence), evidence)
        exposure.key = ConfigurationKey.from_header(evidence.primary, evidence.where)
        plan = plan_for(
            steps.to_run(evidence.primary, persistence=context.settings.persistence_time > 0),
            context.settings,
            persistence_done="persistence" in steps.completed(evidence.primary),
        )
        standing = _standing(exposure, plan, context.store)
        if standing is None:
            science = science_pixels(exposure.key)
            unusable = unusable_pixels(ramp, science)
            _require([finite_check(not_finite(ramp)), usable_check(unusable, int(science.sum()))], evidence)
    _claim(exposure, context.store)
    if standing is not None:
        return standing
    valid = ValidExposure(
        exposure_id=said.exposure_id,
        path=exposure.path,
        uri=exposure.uri,
        sha256=exposure.sha256,
        key=exposure.key,
        header=evidence.primary,
    )
    return _make_ramp(valid, exposure.folder, plan, message, context)


def _make_ramp(
    exposure: ValidExposure, folder: str, plan: Plan, message: Envelope, context: StageContext
) -> Manifest:
    """Calibrate an exposure and commit its ramp; return the manifest that stands."""
    store = context.store
    with tempfile.TemporaryDirectory(dir=store.scratch(), prefix="ingest-") as scratch:
        carried = _carried_state(exposure, plan, store, Path(scratch))
        inputs = _inputs(exposure, plan, carried)
        product = product_key(inputs, plan.parameters, plan.versions)
        path = f"{folder}/{product}"
        standing = find(store, path)
        if standing is not None:
            return standing
        made = make_ramp_file(
            exposure, plan, carried.exposure if carried else None, Path(scratch), context.progress
        )
        facts = RampFacts(
            exposure_id=exposure.exposure_id,
            uri=exposure.uri,
            file=exposure.path.name,
            configuration=exposure.key.slug,
            key=exposure.key,
            integrations=made.integrations,
            start_mjd=exposure.start_mjd,
            end_mjd=exposure.end_mjd,
            date_obs=str(exposure.header["DATE-OBS"]).strip(),
            gain=made.gain,
            gain_source=made.gain_source,
            simulated=exposure.pedigree == SIMULATION,
            pedigree=exposure.pedigree,
            steps=made.steps,
            references=made.references,
            persistence_from=carried.exposure_id if carried else None,
            persistence_pixels=len(carried.exposure) if carried else 0,
            flagged_fraction=made.flagged_fraction,
            jwst_version=plan.versions["jwst"],
            crds_context=plan.context,
        )
        if made.state is not None:
            # Before the ramp's manifest: once that stands, nobody comes back to keep the state.
            left = persistence.to_detector(
                made.state, carried.detector if carried else None, exposure.key, facts.end_mjd
            )
            _keep_state(left, facts, product, inputs, plan, store, Path(scratch))
        # Another worker may have come as far with the same exposure; then its file must stay.
        standing = find(store, path)
        if standing is not None:
            return standing
        draft = Draft(store, "ramp", path, inputs, plan.parameters, plan.versions)
        entry = draft.add(RAMP, made.path)
        ingested = ExposureIngested(
            configuration=exposure.key.slug,
            key=exposure.key,
            member=member_of(facts, f"{path}/{MANIFEST}", entry.key, entry.size, entry.sha256),
            gain=made.gain,
            simulated=facts.simulated,
            versions=plan.versions,
        )
        timings = {record.name: record.seconds for record in made.steps if record.seconds}
        return draft.commit(
            facts,
            [Envelope.of(ingested, identity=product, cause=message)],
            {**timings, "write": made.write_seconds},
        )


def _inputs(exposure: ValidExposure, plan: Plan, carried: CarriedState | None) -> list[InputDigest]:
    found = [InputDigest(role=_EXPOSURE, uri=exposure.uri, sha256=exposure.sha256)]
    for reftype, digest in sorted(plan.digests.items()):
        found.append(
            InputDigest(role=f"{_REFERENCE}{reftype}", uri=str(plan.overrides[reftype]), sha256=digest)
        )
    if carried is not None and carried.digest is not None:
        found.append(InputDigest(role="persistence", uri=carried.exposure_id, sha256=carried.digest))
    return found


def _made_by(manifest: Manifest, plan: Plan) -> bool:
    digests = {
        i.role.removeprefix(_REFERENCE): i.sha256 for i in manifest.inputs if i.role.startswith(_REFERENCE)
    }
    return manifest.product == "ramp" and plan.made(manifest.parameters, manifest.versions, digests)


def _carried_state(exposure: ValidExposure, plan: Plan, store: Store, scratch: Path) -> CarriedState | None:
    """Find the newest state of the detector that ends before the exposure starts and may still matter.

    A state that was made with another window is none: the jwst step would ignore it.
    """
    if "persistence" not in plan.steps:
        return None
    window = plan.parameters["persistence_time"]
    keys = [
        key for key in store.list(persistence.state_prefix(exposure.key.detector)) if key.endswith(_MANIFEST)
    ]
    for together in persistence.newest_first(keys, exposure.start_mjd, window):
        there = [find(store, key.removesuffix(_MANIFEST)) for key in together]
        usable = [state for state in there if state and state.facts["persistence_time"] == window]
        if not usable:
            continue
        newest = max(usable, key=lambda manifest: manifest.created)
        entry = newest.object(persistence.STATE)
        file = scratch / "carried.asdf"
        file.write_bytes(store.get(entry.key))
        state = persistence.read_state(file, exposure.key.detector)
        return CarriedState(
            exposure_id=str(newest.facts["exposure_id"]),
            sha256=entry.sha256,
            detector=state,
            exposure=persistence.to_subarray(state, exposure.key, exposure.start_mjd),
        )
    return None


def _keep_state(
    state: PersistenceState,
    facts: RampFacts,
    product: str,
    inputs: list[InputDigest],
    plan: Plan,
    store: Store,
    scratch: Path,
) -> None:
    """Commit the state that an exposure leaves, in detector pixels."""
    detector, window = facts.key.detector, int(plan.parameters["persistence_time"])
    path = persistence.state_path(detector, facts.end_mjd, facts.exposure_id, product)
    if find(store, path) is not None:
        return
    file = scratch / "left.asdf"
    persistence.write_state(file, state, detector, window, facts.file)
    draft = Draft(store, "persistence", path, inputs, plan.parameters, plan.versions)
    draft.add(persistence.STATE, file)
    draft.commit(
        PersistenceFacts(
            detector=detector,
            exposure_id=facts.exposure_id,
            end_mjd=facts.end_mjd,
            persistence_time=window,
            pixels=len(state),
        )
    )


def _require(checks: list[Check], evidence: Evidence) -> None:
    failure = first_failure(checks, evidence.where)
    if failure is not None:
        raise failure


def _key_if_any(evidence: Evidence) -> ConfigurationKey | None:
    try:
        return ConfigurationKey.from_header(evidence.primary, evidence.where)
    except BadInput:
        return None


def _standing(exposure: _Exposure, plan: Plan, store: Store) -> Manifest | None:
    """Return the ramp that was made of these bytes in this way before."""
    for manifest in find_all(store, f"{exposure.folder}/"):
        if _made_by(manifest, plan) and manifest.inputs[0].sha256 == exposure.sha256:
            return manifest
    return None


def _claim(exposure: _Exposure, store: Store) -> None:
    """Take the exposure for this file, or refuse the file as a duplicate of the first."""
    mine = claims.Claim(
        exposure_id=exposure.said.exposure_id,
        uri=exposure.uri,
        file=exposure.path.name,
        sha256=exposure.sha256,
    )
    for place in (claims.exposure_claim(mine.exposure_id), claims.bytes_claim(mine.sha256)):
        if store.put_if_absent(place, mine.model_dump_json().encode()):
            continue
        first = claims.Claim.model_validate_json(store.get(place))
        refusal = claims.refusal(mine, first, first_exists=local_path(first.uri).exists())
        if refusal is not None:
            raise refusal


def _reject(exposure: _Exposure, fault: BadInput, message: Envelope, store: Store) -> Manifest:
    said = exposure.said
    configuration = exposure.key.slug if exposure.key is not None else None
    inputs = [InputDigest(role=_EXPOSURE, uri=exposure.uri, sha256=exposure.sha256)]
    parameters = {"check": fault.check, "reason": fault.message}
    versions = {"algorithm": ALGORITHM_VERSION}
    key = product_key(inputs, parameters, versions)
    path = f"{exposure.folder}/{key}"
    standing = find(store, path)
    if standing is not None:
        return standing
    rejected = ExposureRejected(
        exposure_id=said.exposure_id,
        uri=exposure.uri,
        check=fault.check,
        reason=fault.message,
        configuration=configuration,
    )
    facts = RejectionFacts(
        exposure_id=said.exposure_id,
        uri=exposure.uri,
        file=exposure.path.name,
        configuration=configuration,
        check=fault.check,
        reason=fault.message,
    )
    # Two copies of one bad file have one key; each is told of under its own address.
    identity = f"{key}:{exposure.uri}"
    return Draft(store, "rejection", path, inputs, parameters, versions).commit(
        facts, [Envelope.of(rejected, identity=identity, cause=message)]
    )


def _sets_after(
    exposure: _Exposure, manifest: Manifest, message: Envelope, context: StageContext
) -> list[Outgoing]:
    """Say which sets are complete now, and have them looked at again when nothing came for a while."""
    if exposure.key is None:
        return []
    outgoing: list[Outgoing] = []
    configuration, expected = exposure.key.slug, exposure.said.expected_exposures
    # Without a count no set is complete by an arrival, and the store need not be read.
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
            if _made_by(manifest, plans[same]):
                facts = RampFacts.model_validate(manifest.facts)
                entry = manifest.object(RAMP)
                where = f"{manifest.path}{_MANIFEST}"
                arrivals.ramps.append((member_of(facts, where, entry.key, entry.size, entry.sha256), facts))
    return arrivals
