"""Ingest: ``exposure.announced`` -> ``exposure.ingested`` or ``exposure.rejected``, and ``set.ready``.

An announced exposure is checked, calibrated with the steps of calwebb_detector1 that it still needs, and
committed as a jump-flagged ramp. An exposure that fails a check becomes a ``rejection`` product instead.
Whenever an exposure was ingested or rejected, ingest looks whether a set of its configuration is complete.
"""

import logging
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from services.ingest import steps
from services.ingest.adapted import Adaptation, adapted_file
from services.ingest.checks import Check, ExposureProbe, first_failure, numbers
from services.ingest.claim import claim_ends_with_failure, segments_are_ingested, take_claim
from services.ingest.compressed import uncompressed
from services.ingest.delivery import Standing, revision_of
from services.ingest.exposure import ValidExposure
from services.ingest.file_sums import read_sums
from services.ingest.header_checks import finite_check, header_checks, usable_check
from services.ingest.memory_plan import require_memory
from services.ingest.persistence import CarriedState, PersistenceState, carried_state, keep_state
from services.ingest.plan import ALGORITHM_VERSION, Plan, plan_for
from services.ingest.probe import not_finite, open_exposure, unusable_pixels
from services.ingest.problem_data import header_remarks
from services.ingest.ramp_file import RampFile, make_ramp_file
from services.ingest.segments import arrived_segments, joined_file, segment_of
from services.ingest.sets import note_expected, sets_at_arrival, sets_at_check
from services.ingest.telemetry import find_lost_telemetry, telemetry_check
from services.ingest.unserved import noted_if_unserved
from shared.contracts.messages import (
    Envelope,
    ExposureAnnounced,
    ExposureIngested,
    ExposureRejected,
    SetCheck,
)
from shared.errors import BadInput, BadMessage
from shared.nircam.configuration import ConfigurationKey
from shared.nircam.exposure_id import contradicts, exposure_id_of
from shared.nircam.exposure_times import is_plausible_mjd
from shared.nircam.geometry import science_pixels
from shared.nircam.pedigree import SIMULATION
from shared.products.claim import Claim, Segment
from shared.products.ramp import (
    EXPOSURE_ROLE,
    RAMP,
    REFERENCE_ROLE,
    RampMetadata,
    RejectionMetadata,
    configuration_prefix,
    member_of,
)
from shared.ramps.digests import DIGESTS, RampDigester
from shared.ramps.ramp import Ramp
from shared.runtime.handler import Outgoing, StageContext, outbox
from shared.settings.stage import StageSettings
from shared.store.base import Store
from shared.store.manifest import (
    BuiltProduct,
    Draft,
    InputDigest,
    Manifest,
    ObjectEntry,
    ProductSpec,
    get_or_build,
)
from shared.store.sources import FileReader, FileState, source_of

#: Stands for the configuration of an exposure whose header does not give one.
UNKNOWN = "unknown"
_logger = logging.getLogger(__name__)
#: An id is a folder's name in the store, and most of a file's.
_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199}")
_SLUG = re.compile(r"[A-Za-z0-9_-]{1,200}")
#: Characters of a reason: it travels in messages, and a header may hold strings of any length.
_LONGEST_REASON = 1000
#: Characters of DATE, which a claim keeps; ISO 8601 has fewer.
_LONGEST_DATE = 40


@dataclass
class _Exposure:
    """An announced exposure; the fields with defaults are filled in as its file is read.

    Attributes
    ----------
    exposure_id : str
        As announced, until the header is read and says otherwise.
    name, uri, sha256 : str
        Of the announced file.
    path : Path
        The exposure as one file on this machine's disk.
    files : list of InputDigest
        The files it was delivered in: one, or its segments in order.
    adaptation : Adaptation
        What is changed in it before it is calibrated.
    delivered : FileState or None
        The file as it was when work on it began.
    """

    announced: ExposureAnnounced
    exposure_id: str
    name: str
    uri: str
    path: Path
    sha256: str = ""
    identity: Literal["header", "announced"] = "announced"
    key: ConfigurationKey | None = None
    start_mjd: float | None = None
    date: str = ""
    segment: Segment | None = None
    files: list[InputDigest] = field(default_factory=list)
    adaptation: Adaptation = field(default_factory=Adaptation)
    delivered: FileState | None = None

    def adapt(self, probe: ExposureProbe, settings: StageSettings) -> ExposureProbe:
        """Decide what is changed in the exposure; return the probe with the keywords that were derived."""
        self.adaptation = Adaptation.of(probe, settings)
        return self.adaptation.probe(probe)

    @contextmanager
    def as_delivered(self, path: Path) -> Iterator[None]:
        """Watch over the delivered file: nothing that it is rejected for may be of a file that changed."""
        state = self.delivered = FileState.of(path)
        try:
            yield
        except BadInput:
            state.require_unchanged()
            raise

    @property
    def folder(self) -> str:
        configuration = self.key.slug if self.key is not None else UNKNOWN
        return f"{configuration_prefix(configuration)}{self.exposure_id}"

    def claim(self, stands_aside: str = "") -> Claim:
        """Return the claim of the announced file."""
        return Claim(
            exposure_id=self.exposure_id,
            uri=self.uri,
            file=self.name,
            sha256=self.sha256,
            date=self.date,
            segment=self.segment,
            stands_aside=stands_aside,
        )


def handle(message: Envelope, context: StageContext) -> list[Outgoing]:
    """Ingest an announced exposure, or check whether the sets of a configuration are complete.

    An exposure that fails a check is not a failure of the stage: it becomes a ``rejection`` product and an
    `exposure.rejected` message.

    Parameters
    ----------
    message : Envelope
        `exposure.announced` or `set.check`.
    context : StageContext

    Returns
    -------
    list of Outgoing
        `exposure.ingested` or `exposure.rejected`, `set.ready` for every set that is complete by now, and
        a delayed `set.check` if a settling time is set.

    Raises
    ------
    BadMessage
        If ingest does not handle this message, or its exposure id or address is not valid.
    EnvironmentFault
        If CRDS or a reference file is missing or wrong; nothing is recorded.
    TransientError
        If trying again may help.
    """
    content = message.content
    if isinstance(content, SetCheck):
        if not _SLUG.fullmatch(content.configuration):
            raise BadMessage(
                f"message {message.id}: {content.configuration[:100]!r} is no name of a configuration",
                keyword="configuration",
            )
        return sets_at_check(content, message, context)
    if not isinstance(content, ExposureAnnounced):
        raise BadMessage(f"message {message.id}: ingest does not handle {message.schema_name}")
    if not _ID.fullmatch(content.exposure_id):
        raise BadMessage(
            f"message {message.id}: exposure id {content.exposure_id[:100]!r} may hold only letters, "
            "digits, '_', '-' and '.', at most 200 of them",
            keyword="exposure_id",
        )
    source = source_of(content.uri, context.settings, content.etag)
    exposure = _Exposure(content, content.exposure_id, source.name, source.uri, Path(source.name))
    manifest: Manifest | None
    try:
        with (
            source.on_disk(context.store.scratch) as delivered,
            exposure.as_delivered(delivered),
            uncompressed(delivered, content, context.store.scratch) as (exposure.path, exposure.announced),
        ):
            manifest = _ingest(exposure, message, context)
    except BadInput as fault:
        manifest = _reject(exposure, fault, message, context.store)
    if exposure.key is not None and content.expected_exposures is not None:
        note_expected(exposure.key.slug, content.expected_exposures, exposure.exposure_id, context.store)
    if manifest is None:
        # The worker that sees the last segment announces the exposure.
        return []
    outgoing = outbox(manifest)
    if exposure.key is not None:
        outgoing += sets_at_arrival(exposure.key.slug, manifest, message, context)
    return outgoing


def _ingest(exposure: _Exposure, message: Envelope, context: StageContext) -> Manifest | None:
    """Ingest the announced file; None if other segments of its exposure have not arrived."""
    context.progress(0, 1, "reading")
    announced = exposure.announced
    sums = read_sums(exposure.path)
    exposure.sha256 = sums.sha256
    exposure.files = [_input_of(exposure.uri, exposure.sha256)]
    probe, ramp = open_exposure(exposure.path, sums, announced.size, announced.sha256)
    with ramp or nullcontext():
        _identify(exposure, probe, message)
        probe = exposure.adapt(probe, context.settings)
        header = exposure.adaptation.header(probe.primary)
        exposure.key = _key_if_any(header, probe.where)
        started = numbers(probe, "EXPSTART")
        if started is not None and is_plausible_mjd(started[0]):
            exposure.start_mjd = started[0]
        exposure.date = str(probe.primary.get("DATE", "")).strip()[:_LONGEST_DATE]
        _require(header_checks(probe, context.settings.use_problem_data), probe)
        if ramp is None:
            raise BadInput("FITS", f"{probe.where}: cannot be read as FITS; fetch it again")
        exposure.key = ConfigurationKey.from_header(header, probe.where)
        exposure.segment = segment_of(probe.primary, probe.where)
        if exposure.segment is None:
            return _ingest_whole(exposure, probe, ramp, message, context)
        _require([finite_check(not_finite(ramp))], probe)
    return _ingest_segment(exposure, message, context)


def _ingest_segment(exposure: _Exposure, message: Envelope, context: StageContext) -> Manifest | None:
    """Record a segment, and ingest its exposure if it is the last to arrive."""
    take_claim(exposure.claim(), context.store)
    segments = arrived_segments(exposure.exposure_id, context.store)
    if segments is None:
        return None
    exposure.files = [_input_of(claim.uri, claim.sha256) for claim in segments]
    standing = Standing.of(exposure.folder, context.store, context.settings)
    existing = standing.made_from([entry.sha256 for entry in exposure.files])
    if existing is not None:
        segments_are_ingested(segments, context.store)
        return existing
    with joined_file(segments, exposure.path, context) as exposure.path:
        probe, ramp = open_exposure(exposure.path)
        probe = exposure.adapt(probe, context.settings)
        with ramp or nullcontext():
            _require(header_checks(probe, context.settings.use_problem_data), probe)
            exposure.date = str(probe.primary.get("DATE", "")).strip()[:_LONGEST_DATE]
            if ramp is not None:
                manifest = _ingest_whole(exposure, probe, ramp, message, context)
                segments_are_ingested(segments, context.store)
                return manifest
    raise RuntimeError(f"{probe.where}: the joined file passed its checks and cannot be read")


def _ingest_whole(
    exposure: _Exposure, probe: ExposureProbe, ramp: Ramp, message: Envelope, context: StageContext
) -> Manifest:
    """Return the ramp that stands for an exposure: one that the store has, or the one made from this file."""
    header, store = exposure.adaptation.header(probe.primary), context.store
    plan = plan_for(
        steps.to_run(header, persistence=context.settings.persistence_time > 0),
        context.settings,
        persistence_done="persistence" in steps.completed(header),
        adapted=exposure.adaptation.parameters,
    )
    standing = Standing.of(exposure.folder, store, context.settings)
    existing = standing.made_from([entry.sha256 for entry in exposure.files])
    if existing is not None:
        take_claim(exposure.claim(), store)
        return existing
    require_memory(ramp.shape("SCI"), plan.step_parameters, context.settings.max_memory, probe.where)
    better = standing.better_than(header, exposure.date)
    if better is not None:
        return _stand_aside(exposure, *better, store)
    with adapted_file(ramp, exposure.path, exposure.adaptation, store) as (exposure.path, adapted):
        checked = replace(probe, primary=header)
        return _ingest_pixels(exposure, checked, adapted, plan, standing, message, context)


def _ingest_pixels(
    exposure: _Exposure,
    probe: ExposureProbe,
    ramp: Ramp,
    plan: Plan,
    standing: Standing,
    message: Envelope,
    context: StageContext,
) -> Manifest:
    """Check the pixels of an exposure and make its ramp, unless the store has the ramp of these pixels."""
    header, store = probe.primary, context.store
    assert exposure.key is not None
    science = science_pixels(exposure.key)
    unusable = unusable_pixels(ramp, science)
    _require([finite_check(not_finite(ramp)), usable_check(unusable, int(science.sum()))], probe)
    telemetry = None
    if "dq_init" in plan.steps:
        telemetry = find_lost_telemetry(ramp, exposure.key)
        _require([telemetry_check(telemetry)], probe)
    revision = revision_of(ramp, header)
    same = standing.of_revision(revision)
    if same is not None:
        why = f"not needed: its pixels are those of {same.results.file}, only cards were changed"
        return _stand_aside(exposure, same.manifest, why, store)
    take_claim(exposure.claim(), store)
    supersedes = standing.superseded_by(header)
    valid = ValidExposure(
        exposure_id=exposure.exposure_id,
        path=exposure.path,
        uri=exposure.files[0].uri,
        key=exposure.key,
        header=header,
        telemetry=telemetry if telemetry is not None and telemetry.lost else None,
        files=tuple(exposure.files),
        identity=exposure.identity,
        revision=revision,
        date=exposure.date,
        supersedes=tuple(supersedes),
        adaptations=tuple(exposure.adaptation.remarks),
        delivered=exposure.delivered,
    )
    # A segment's claim stays: the fault may be another segment's, which is then delivered again.
    bad_file = claim_ends_with_failure(exposure.claim(), store) if exposure.segment is None else nullcontext()
    with bad_file, noted_if_unserved(exposure.key.slug, plan, store):
        return _make_ramp(valid, exposure.folder, plan, message, context)


def _stand_aside(exposure: _Exposure, standing: Manifest, why: str, store: Store) -> Manifest:
    """Note that a file is not needed, and return the ramp that stands in its place."""
    _logger.info("%s (%s): %s", exposure.name, exposure.exposure_id, why)
    take_claim(exposure.claim(stands_aside=why), store)
    return standing


def _identify(exposure: _Exposure, probe: ExposureProbe, message: Envelope) -> None:
    """Take the exposure's id from its header, if that says which exposure it is.

    Raises
    ------
    BadMessage
        If the announcement is of another exposure. Nothing is recorded for either: a rejection would count
        as an exposure of the set.
    """
    identity = exposure_id_of(probe.primary)
    if identity is None:
        return
    announced = exposure.announced.exposure_id
    if contradicts(announced, identity):
        raise BadMessage(
            f"message {message.id}: announced as {announced}, but the header of {probe.where} says "
            f"that it is {identity}; announce it under that id",
            where=exposure.uri,
            keyword="exposure_id",
        )
    exposure.exposure_id, exposure.identity = identity, "header"


def _input_of(uri: str, sha256: str) -> InputDigest:
    return InputDigest(role=EXPOSURE_ROLE, uri=uri, sha256=sha256)


def _make_ramp(
    exposure: ValidExposure, folder: str, plan: Plan, message: Envelope, context: StageContext
) -> Manifest:
    """Calibrate an exposure and commit its ramp; return the manifest of the ramp in the store."""
    store = context.store
    with tempfile.TemporaryDirectory(dir=store.scratch(), prefix="ingest-") as scratch:
        folder_of_files = Path(scratch)
        carried: CarriedState | None = None

        def begin_persistence() -> PersistenceState | None:
            nonlocal carried
            context.wait_turn()
            carried = carried_state(exposure, plan, store, folder_of_files)
            return carried.exposure if carried else None

        # Before the product has a key: the state that it begins with is one of its inputs.
        threads = context.settings.ingest_threads
        made = make_ramp_file(exposure, plan, begin_persistence, folder_of_files, context.progress, threads)
        # Its digest was taken before its pixels were read.
        if exposure.delivered is not None:
            exposure.delivered.require_unchanged()
        spec = ProductSpec("ramp", folder, _inputs(exposure, plan, carried), plan.parameters, plan.versions)

        def build(draft: Draft) -> BuiltProduct:
            results = _ramp_metadata(exposure, plan, carried, made)
            if made.state is not None:
                # Before the ramp is committed: a redelivery that finds the ramp would not keep the state.
                keep_state(made.state, carried, results, spec, store, folder_of_files)
            entry = _add_with_digests(draft, made.path)
            ingested = ExposureIngested(
                configuration=exposure.key.slug,
                key=exposure.key,
                member=member_of(results, spec.manifest_key, entry),
                gain=made.gain,
                simulated=results.simulated,
                versions=plan.versions,
            )
            timings = {record.name: record.seconds for record in made.steps if record.seconds}
            return BuiltProduct(results, ingested, {**timings, "write": made.write_seconds})

        return get_or_build(store, spec, build, cause=message)


def _add_with_digests(draft: Draft, path: Path) -> ObjectEntry:
    """Add the ramp, and the digests of its blocks, which are taken while the store hashes the file."""
    with Ramp(FileReader(path), path.name) as ramp:
        digester = RampDigester(ramp)
    entry = draft.add(RAMP, path, digester.update)
    draft.add(DIGESTS, digester.finish().encode())
    return entry


def _ramp_metadata(
    exposure: ValidExposure, plan: Plan, carried: CarriedState | None, made: RampFile
) -> RampMetadata:
    telemetry = exposure.telemetry
    return RampMetadata(
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
        step_parameters=made.step_parameters,
        references=made.references,
        persistence_from=carried.exposure_id if carried else None,
        persistence_pixels=len(carried.exposure) if carried else 0,
        flagged_fraction=made.flagged_fraction,
        lost_telemetry=[] if telemetry is None else list(telemetry.lost),
        lost_integrations=[] if telemetry is None else telemetry.lost_integrations,
        common_steps=made.common_steps,
        first_group_snowballs=made.first_group_snowballs,
        jwst_version=plan.versions["jwst"],
        crds_context=plan.context,
        calibrated_before=steps.calibrated_before(exposure.header),
        identity=exposure.identity,
        revision=exposure.revision,
        file_date=exposure.date,
        segments=len(exposure.files),
        supersedes=list(exposure.supersedes),
        header_remarks=[*exposure.adaptations, *header_remarks(exposure.header)],
    )


def _inputs(exposure: ValidExposure, plan: Plan, carried: CarriedState | None) -> list[InputDigest]:
    inputs = list(exposure.files)
    for reftype, digest in sorted(plan.digests.items()):
        inputs.append(
            InputDigest(role=f"{REFERENCE_ROLE}{reftype}", uri=str(plan.overrides[reftype]), sha256=digest)
        )
    if carried is not None and carried.digest is not None:
        inputs.append(InputDigest(role="persistence", uri=carried.exposure_id, sha256=carried.digest))
    return inputs


def _require(checks: list[Check], probe: ExposureProbe) -> None:
    failure = first_failure(checks, probe.where)
    if failure is not None:
        raise failure


def _key_if_any(header: Mapping[str, Any], where: str) -> ConfigurationKey | None:
    try:
        return ConfigurationKey.from_header(header, where)
    except BadInput:
        return None


def _reject(exposure: _Exposure, fault: BadInput, message: Envelope, store: Store) -> Manifest:
    exposure_id = exposure.exposure_id
    configuration = exposure.key.slug if exposure.key is not None else None
    reason = fault.message
    if len(reason) > _LONGEST_REASON:
        reason = f"{reason[:_LONGEST_REASON]}..."
    spec = ProductSpec(
        "rejection",
        exposure.folder,
        exposure.files or [_input_of(exposure.uri, exposure.sha256)],
        {"check": fault.check, "reason": reason},
        {"algorithm": ALGORITHM_VERSION},
    )

    def build(_: Draft) -> BuiltProduct:
        results = RejectionMetadata(
            exposure_id=exposure_id,
            uri=exposure.uri,
            file=exposure.path.name,
            configuration=configuration,
            check=fault.check,
            reason=reason,
            # If its times contradict each other, nobody knows when the exposure began.
            start_mjd=exposure.start_mjd if fault.check != "times" else None,
        )
        rejected = ExposureRejected(
            exposure_id=exposure_id,
            uri=exposure.uri,
            check=fault.check,
            reason=reason,
            configuration=configuration,
        )
        return BuiltProduct(results, rejected)

    # Two copies of one bad file have the same key; each is reported under its own address.
    return get_or_build(store, spec, build, cause=message, identity=f"{spec.key}:{exposure.uri}")
