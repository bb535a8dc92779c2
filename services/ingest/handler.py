"""An announced exposure -> validated, calibrated, jump-flagged ramp in the store."""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from services.ingest import steps
from services.ingest.checks import Check, Evidence, first_failure, numbers
from services.ingest.claiming import handler as claiming
from services.ingest.claims import Claim
from services.ingest.evidence import not_finite, open_exposure, unusable_pixels
from services.ingest.persistence.handler import carried_state, keep_state
from services.ingest.persistence.state import CarriedState
from services.ingest.plan import ALGORITHM_VERSION, Plan, plan_for
from services.ingest.products import (
    EXPOSURE_ROLE,
    RAMP,
    REFERENCE_ROLE,
    RampFacts,
    RejectionFacts,
    configuration_prefix,
    member_of,
)
from services.ingest.ramp_file import SIMULATION, ValidExposure, make_ramp_file
from services.ingest.sets.handler import made_by, note_expected, sets_at_arrival, sets_at_check
from services.ingest.validation import finite_check, header_checks, usable_check
from shared.announced import source_of
from shared.configuration import ConfigurationKey
from shared.errors import BadInput, BadMessage
from shared.geometry import science_pixels
from shared.messages import Envelope, ExposureAnnounced, ExposureIngested, ExposureRejected, SetCheck
from shared.sources import sha256_of
from shared.stage import Outgoing, StageContext
from shared.store.base import Store
from shared.store.manifest import MANIFEST, Draft, InputDigest, Manifest, find, find_all, product_key

#: Stands for the configuration of an exposure whose header does not give one.
UNKNOWN = "unknown"
_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")


@dataclass
class _Exposure:
    """An announced exposure, as far as it is known by now."""

    said: ExposureAnnounced
    path: Path
    uri: str
    sha256: str = ""
    key: ConfigurationKey | None = None
    start_mjd: float | None = None

    @property
    def folder(self) -> str:
        configuration = self.key.slug if self.key is not None else UNKNOWN
        return f"{configuration_prefix(configuration)}{self.said.exposure_id}"

    @property
    def claim(self) -> Claim:
        return Claim(exposure_id=self.said.exposure_id, uri=self.uri, file=self.path.name, sha256=self.sha256)


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
        return sets_at_check(said, message, context)
    if not isinstance(said, ExposureAnnounced):
        raise BadMessage(f"message {message.id}: ingest does not handle {message.schema_name}")
    if not _ID.fullmatch(said.exposure_id):
        raise BadMessage(
            f"message {message.id}: exposure id {said.exposure_id!r} may hold only letters, digits, "
            "'_', '-' and '.'"
        )
    source = source_of(said.uri, context.settings)
    exposure = _Exposure(said, Path(source.name), source.uri)
    try:
        with source.on_disk(context.store.scratch) as exposure.path:
            manifest = _ingest(exposure, message, context)
    except BadInput as fault:
        manifest = _reject(exposure, fault, message, context.store)
    outgoing = [Outgoing(one) for one in manifest.messages]
    if exposure.key is not None:
        if said.expected_exposures is not None:
            note_expected(exposure.key.slug, said.expected_exposures, said.exposure_id, context.store)
        outgoing += sets_at_arrival(exposure.key.slug, manifest, message, context)
    return outgoing


def _ingest(exposure: _Exposure, message: Envelope, context: StageContext) -> Manifest:
    context.progress(0, 1, "reading")
    said = exposure.said
    exposure.sha256 = sha256_of(exposure.path)
    evidence, ramp = open_exposure(exposure.path, exposure.sha256, said.size, said.sha256)
    exposure.key = _key_if_any(evidence)
    started = numbers(evidence, "EXPSTART")
    exposure.start_mjd = started[0] if started is not None else None
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
    claiming.take(exposure.claim, context)
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
    try:
        return _make_ramp(valid, exposure.folder, plan, message, context)
    except BadInput:
        claiming.release(exposure.claim, exposure.folder, context.store)
        raise


def _make_ramp(
    exposure: ValidExposure, folder: str, plan: Plan, message: Envelope, context: StageContext
) -> Manifest:
    """Calibrate an exposure and commit its ramp; return the manifest that stands."""
    store = context.store
    with tempfile.TemporaryDirectory(dir=store.scratch(), prefix="ingest-") as scratch:
        carried = carried_state(exposure, plan, store, Path(scratch))
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
            keep_state(made.state, carried, facts, product, inputs, plan, store, Path(scratch))
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
    found = [InputDigest(role=EXPOSURE_ROLE, uri=exposure.uri, sha256=exposure.sha256)]
    for reftype, digest in sorted(plan.digests.items()):
        found.append(
            InputDigest(role=f"{REFERENCE_ROLE}{reftype}", uri=str(plan.overrides[reftype]), sha256=digest)
        )
    if carried is not None and carried.digest is not None:
        found.append(InputDigest(role="persistence", uri=carried.exposure_id, sha256=carried.digest))
    return found


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
        if made_by(manifest, plan) and manifest.inputs[0].sha256 == exposure.sha256:
            return manifest
    return None


def _reject(exposure: _Exposure, fault: BadInput, message: Envelope, store: Store) -> Manifest:
    said = exposure.said
    configuration = exposure.key.slug if exposure.key is not None else None
    inputs = [InputDigest(role=EXPOSURE_ROLE, uri=exposure.uri, sha256=exposure.sha256)]
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
        # Times that contradict each other do not say when it began.
        start_mjd=exposure.start_mjd if fault.check != "times" else None,
    )
    # Two copies of one bad file have one key; each is told of under its own address.
    identity = f"{key}:{exposure.uri}"
    return Draft(store, "rejection", path, inputs, parameters, versions).commit(
        facts, [Envelope.of(rejected, identity=identity, cause=message)]
    )
