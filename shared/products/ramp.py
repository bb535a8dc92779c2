"""Ingest's products as their manifests record them: ramps, rejections and persistence states."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel

from shared.contracts.messages import ObjectRef, SetMember
from shared.nircam.configuration import ConfigurationKey
from shared.nircam.exposure_times import longest_days
from shared.products.provenance import Provenance
from shared.store.base import Store
from shared.store.manifest import InputDigest, Manifest, ObjectEntry

#: Recorded as the CRDS context if no step uses a reference file.
NO_CONTEXT = "none"
#: Object name of the ``ramp`` product.
RAMP = "ramp.fits"
#: Roles of a ramp's inputs in its manifest: the exposure, and a reference file that replaces the one that
#: CRDS selects (followed by its type).
EXPOSURE_ROLE = "exposure"
REFERENCE_ROLE = "reference:"
#: Role of each ramp among the inputs of a product made from ramps.
MEMBER_ROLE = "ramp"

_Ramp = TypeVar("_Ramp")


class StepRecord(BaseModel):
    """One pipeline step; `seconds` is 0 if it was ``already`` done in the input."""

    name: str
    status: Literal["complete", "already", "skipped"]
    seconds: float


class LostTelemetry(BaseModel):
    """Part of an exposure that was never read: it holds a constant where a detector has noise.

    Attributes
    ----------
    kind : str
        ``"frame"``, ``"output"`` (one amplifier's columns) or ``"rows"``.
    integration, first_group, last_group : int
        Where, 0-based; the last group is included.
    output : int or None
        From 1, in ascending order of columns.
    first_row, last_row : int or None
        0-based; the last row is included.
    value : float or None
        The constant, DN; None where every row has its own.
    """

    kind: Literal["frame", "output", "rows"]
    integration: int
    first_group: int
    last_group: int
    output: int | None = None
    first_row: int | None = None
    last_row: int | None = None
    value: float | None = None

    def __str__(self) -> str:
        first, last = self.first_group + 1, self.last_group + 1
        groups = f"group {first}" if first == last else f"groups {first} to {last}"
        part = {
            "frame": "",
            "output": f", output {self.output}",
            "rows": f", rows {(self.first_row or 0) + 1} to {(self.last_row or 0) + 1}",
        }[self.kind]
        value = "one value in each row" if self.value is None else f"{self.value:g} DN"
        return f"integration {self.integration + 1}, {groups}{part}: {value} in every pixel"


class CommonStep(BaseModel):
    """A step that all pixels of an output take in one group, such as a flash; it was subtracted from SCI.

    Attributes
    ----------
    integration, group : int
        The first group that has it, 0-based; all later groups of the integration have it, too.
    dn : list of float or None
        Its height by output, in ascending order of columns, DN; None for an output that does not have it.
    """

    integration: int
    group: int
    dn: list[float | None]

    def __str__(self) -> str:
        heights = ", ".join("none" if height is None else f"{height:+.1f}" for height in self.dn)
        by = " by output" if len(self.dn) > 1 else ""
        return f"integration {self.integration + 1}, from group {self.group + 1} on: {heights} DN{by}"


class SupersededRamp(BaseModel):
    """A ramp of the same exposure that another ramp takes the place of.

    Attributes
    ----------
    product : str
        Its product key.
    file, file_date : str
        The file that it was made from, and that file's DATE.
    reason : str
        ``"rawer"``: its file had gone through more steps; ``"newer"``: its file has other pixels, or other
        values that the calibration uses, and is older.
    """

    product: str
    file: str
    file_date: str
    reason: Literal["rawer", "newer"]

    def __str__(self) -> str:
        what = "a file with fewer steps done" if self.reason == "rawer" else "a later delivery"
        date = f", DATE {self.file_date}" if self.file_date else ""
        return f"{what} takes the place of {self.file}{date} (ramp {self.product})"


class RampMetadata(BaseModel):
    """A calibrated, jump-flagged exposure (product ``ramp``).

    Attributes
    ----------
    gain : float
        Median of the gain reference over science pixels, e-/DN.
    persistence_from : str or None
        Exposure whose persistence state this one started with; None if there was none.
    gain_source : str
        ``"reference"``, or ``"table"`` (`shared.nircam.detectors`) if there was no gain reference.
    persistence_pixels : int
        Pixels that were inside a persistence window when the exposure began; only if there are any does the
        ramp depend on the exposure in `persistence_from`.
    flagged_fraction : float
        Fraction of the science pixels that PIXELDQ marks DO_NOT_USE.
    pedigree : str
        ``"SIMULATION"``, ``"GROUND"`` or ``"INFLIGHT"``.
    lost_telemetry : list of LostTelemetry
        What was never read: NaN in SCI, DO_NOT_USE in GROUPDQ.
    lost_integrations : list of int
        Integrations, 0-based, that are DO_NOT_USE throughout, because their first group, or too many others,
        were never read.
    common_steps : list of CommonStep
        Steps that were subtracted from SCI.
    first_group_snowballs : int
        Snowballs that fell before group 0 was read; the rings around them are DO_NOT_USE.
    identity : str
        ``"header"`` if the id is that of the header's keywords; ``"announced"`` if the header lacks them, so
        that the announced id holds.
    revision : str or None
        sha256 of the pixels and of the header's values that the calibration uses, see
        `services.ingest.delivery`; None in manifests of earlier versions.
    file_date : str
        DATE of the file's header; empty if it has none, and in manifests of earlier versions.
    segments : int
        Number of files that the exposure was delivered in.
    supersedes : list of SupersededRamp
        Ramps of the exposure that were made from earlier or less raw files.
    header_remarks : list of str
        What is unusual in the header of the exposure, and problems in spite of which it was used.
    step_parameters : dict of str to dict
        The parameters with which each step ran, whether given or jwst's defaults; none for steps that were
        done before, and in manifests of earlier versions.
    calibrated_before : dict of str to str
        CRDS_CTX and CAL_VER of a file that arrived with steps done, as far as its header has them; empty in
        manifests of earlier versions. `references` has its R_* keywords.
    """

    exposure_id: str
    uri: str
    file: str
    configuration: str
    key: ConfigurationKey
    integrations: int
    start_mjd: float
    end_mjd: float
    date_obs: str
    gain: float
    simulated: bool
    pedigree: str
    steps: list[StepRecord]
    references: dict[str, str]
    persistence_from: str | None
    flagged_fraction: float
    jwst_version: str
    crds_context: str
    gain_source: Literal["reference", "table"] = "reference"
    persistence_pixels: int = 0
    lost_telemetry: list[LostTelemetry] = []
    lost_integrations: list[int] = []
    common_steps: list[CommonStep] = []
    first_group_snowballs: int = 0
    identity: Literal["header", "announced"] = "announced"
    revision: str | None = None
    file_date: str = ""
    segments: int = 1
    supersedes: list[SupersededRamp] = []
    header_remarks: list[str] = []
    step_parameters: dict[str, dict[str, Any]] = {}
    calibrated_before: dict[str, str] = {}

    @property
    def provenance(self) -> Provenance:
        """With what the ramp was calibrated, here and before it arrived."""
        here = {"CRDS_CTX": self.crds_context, "CAL_VER": self.jwst_version}
        if self.steps_done:
            # Of no step that ran here if all were done before; the persistence step needs no context.
            ran = any(step.status == "complete" for step in self.steps)
            here = {name: value for name, value in here.items() if ran and value != NO_CONTEXT}
        return Provenance.of(self.calibrated_before, here, self.references, bool(self.steps_done))

    @property
    def steps_done(self) -> int:
        """Number of steps that the file had gone through when it arrived."""
        return sum(step.status == "already" for step in self.steps)

    @property
    def remarks(self) -> list[str]:
        """What ingest met in the exposure beyond the steps of jwst, a sentence each; empty for most."""
        lost = [f"never read: {entry}" for entry in self.lost_telemetry]
        steps = [f"common step, subtracted: {step}" for step in self.common_steps]
        count = self.first_group_snowballs
        balls = [f"{count} snowball{'s' * (count != 1)} in the first group, rings masked"] if count else []
        joined = [f"joined from {self.segments} segments"] if self.segments > 1 else []
        return [*self.header_remarks, *lost, *steps, *balls, *joined, *map(str, self.supersedes)]


class RampCalibration(BaseModel):
    """With what a ramp was calibrated; a part of `RampMetadata`, which says what each field is."""

    jwst_version: str = ""
    crds_context: str = NO_CONTEXT
    references: dict[str, str] = {}
    step_parameters: dict[str, dict[str, Any]] = {}
    calibrated_before: dict[str, str] = {}


@dataclass(frozen=True)
class RampDelivery:
    """What decides which of several ramps of an exposure counts, see `counting_ramps`.

    Attributes
    ----------
    exposure_id : str
    revision : str
        Equal for files with equal pixels.
    steps_done : int
    file_date : str
    created : datetime
        When the ramp was committed.
    """

    exposure_id: str
    revision: str
    steps_done: int
    file_date: str
    created: datetime

    @classmethod
    def of(cls, results: RampMetadata, path: str, created: datetime) -> Self:
        """Return the delivery of a ramp; a ramp of an earlier version is a revision of its own."""
        revision = results.revision or path
        return cls(results.exposure_id, revision, results.steps_done, results.file_date, created)


def counting_ramps(ramps: Iterable[_Ramp], delivery: Callable[[_Ramp], RampDelivery]) -> list[_Ramp]:
    """Return the ramps that stand for their exposures.

    Of an exposure, the rawest file counts, since all steps can be run on it in the same way; among equally
    raw files the one that the archive made last (DATE); where that is equal, too, the one that arrived last.
    All ramps of the file's revision are returned: two workers may have made it at once.

    Parameters
    ----------
    ramps : iterable
        In any order.
    delivery : callable
        Returns the `RampDelivery` of a ramp.

    Returns
    -------
    list
        In the order of `ramps`.
    """
    deliveries = [(ramp, delivery(ramp)) for ramp in ramps]
    first: dict[tuple[str, str], RampDelivery] = {}
    for _, each in deliveries:
        key = each.exposure_id, each.revision
        if key not in first or each.created < first[key].created:
            first[key] = each
    best: dict[str, RampDelivery] = {}
    for each in first.values():
        other = best.get(each.exposure_id)
        if other is None or _rank(each) > _rank(other):
            best[each.exposure_id] = each
    return [ramp for ramp, each in deliveries if best[each.exposure_id].revision == each.revision]


def _rank(delivery: RampDelivery) -> tuple[int, str, datetime, str]:
    return -delivery.steps_done, delivery.file_date, delivery.created, delivery.revision


class RejectionMetadata(BaseModel):
    """An exposure that failed a check (product ``rejection``).

    Attributes
    ----------
    start_mjd : float or None
        Start of the exposure, UTC; None if the header does not give it, or if an earlier version wrote this.
    """

    exposure_id: str
    uri: str
    file: str
    configuration: str | None
    check: str
    reason: str
    start_mjd: float | None = None


class PersistenceMetadata(BaseModel):
    """The persistence state of a detector when an exposure ended (product ``persistence``).

    Attributes
    ----------
    persistence_time : int
        Length of the window, s; only exposures calibrated with the same length use the state.
    pixels : int
        Number of pixels inside a window.
    """

    detector: str
    exposure_id: str
    end_mjd: float
    persistence_time: int
    pixels: int


def configuration_prefix(configuration: str) -> str:
    """Return the key prefix of all ramps and rejections of a configuration."""
    return f"ingest/{configuration}/"


def reference_digests(manifest: Manifest) -> dict[str, str]:
    """Return the sha256 of the reference files that replaced CRDS's choice for a ramp, by type."""
    return {
        source.role.removeprefix(REFERENCE_ROLE): source.sha256
        for source in manifest.inputs
        if source.role.startswith(REFERENCE_ROLE)
    }


def member_of(results: RampMetadata, manifest_key: str, ramp: ObjectEntry) -> SetMember:
    """Return an ingested exposure as a member of a set.

    Parameters
    ----------
    results : RampMetadata
    manifest_key : str
        Key of the ramp's manifest.
    ramp : ObjectEntry
        The ramp's file.
    """
    # Ingest of earlier versions believed any EXPEND, and one of the far future would hold all campaigns
    # together.
    latest = results.start_mjd + longest_days(
        results.integrations, results.key.ngroups, results.key.group_time
    )
    return SetMember(
        exposure_id=results.exposure_id,
        manifest=manifest_key,
        ramp=ObjectRef(key=ramp.key, size=ramp.size, sha256=ramp.sha256),
        integrations=results.integrations,
        start_mjd=results.start_mjd,
        end_mjd=min(results.end_mjd, latest),
    )


def member_inputs(members: Iterable[SetMember], store: Store) -> list[InputDigest]:
    """Return the ramps of exposures as the inputs of a product made from them."""
    return [
        InputDigest(
            role=MEMBER_ROLE,
            uri=store.uri(member.ramp.key),
            sha256=member.ramp.sha256,
            product=member.product,
        )
        for member in members
    ]
