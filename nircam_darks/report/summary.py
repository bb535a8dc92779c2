"""The results of a run: the keys and types of ``summary.json``, and how they follow from the manifests."""

import math
import platform
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

from pydantic import BaseModel, BeforeValidator

from nircam_darks.operations.find_exposures import FileSelection
from nircam_darks.operations.set_remarks import different_calibrations, odd_lengths
from nircam_darks.report.exposure_entries import (
    ExposureEntry,
    Failure,
    exposure_entries,
    path_of,
    unneeded_entries,
)
from nircam_darks.report.text import count
from shared.catalog.products import RunProducts, StoredProduct
from shared.products.figures import SET_FIGURES, figures_of
from shared.products.noise import SetNoiseResults
from shared.products.ramp import RampMetadata
from shared.products.reference import FigureChange, LeftOutExposure, ReferenceResults, stored_acceptance
from shared.products.sign_off import SignOff
from shared.settings.stage import StageSettings
from shared.statistics.verdicts import Acceptance, Measured, Verdict, VerificationVerdict
from shared.store.base import Store
from shared.store.manifest import Manifest


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


#: A figure, or null if there is none, since JSON has no NaN.
Number = Annotated[float | None, BeforeValidator(_finite)]


class ReferenceEntry(BaseModel):
    """One dark reference, or the reason why none was built for a set, in which case `path` is null.

    `comparison` is the verdict on its dark current, and `verdict` the same as a sentence. `acceptance`,
    `verification_outcome` and, as a sentence, `verification` are the outcome of its verification, and null
    if it was not verified; `sign_off` is the word of a person who accepted one that was held. `accepted` says
    whether it can be used: accepted by either. `figures` are all figures of the reference, by name; `reasons`
    say why there is no reference. `integrations` are those of the set, of which `integrations_in_use` are in
    the mean; `left_out_exposures` names the others, and what stands apart from the set.
    `amplifier_dark_current_e_per_ks` and its error are by output, in order of columns. `changes` holds rate,
    noise and flags beside those of the reference that is replaced.
    """

    configuration: str
    path: str | None
    mode: str
    exposures: int
    integrations: int
    dark_current_e_per_ks: Number
    dark_current_error_e_per_ks: Number
    expected_e_per_ks: Number
    verdict: str
    expected_sigma_e_per_ks: Number = None
    set_id: str | None = None
    exposure_ids: list[str] = []
    simulated: bool | None = None
    accepted: bool | None = None
    acceptance: Acceptance | None = None
    sign_off: SignOff | None = None
    verification: str | None = None
    comparison: Verdict | None = None
    verification_outcome: VerificationVerdict | None = None
    figures: dict[str, Measured] = {}
    reasons: list[str] = []
    integrations_in_use: int | None = None
    left_out_exposures: list[LeftOutExposure] = []
    amplifier_dark_current_e_per_ks: list[Number] = []
    amplifier_dark_current_error_e_per_ks: list[Number] = []
    changes: list[FigureChange] = []


class NoiseEntry(BaseModel):
    """The noise of one set; a figure that could not be measured is null.

    `figures` are all figures of the set, by name, with errors, expected values and verdicts; the other
    keys repeat some of their values. `reasons` say why nothing was measured.
    """

    configuration: str
    ramps: int
    cds_noise_e: Number
    spatial_effective_noise_e: Number
    temporal_effective_noise_e: Number
    jump_flags: int | None
    jump_pixel_percent: Number
    verdict: str
    cds_noise_error_e: Number = None
    spatial_effective_noise_error_e: Number = None
    temporal_effective_noise_error_e: Number = None
    jump_flags_error: Number = None
    jump_pixel_percent_error: Number = None
    hits_per_cm2_s: Number = None
    hits_per_cm2_s_error: Number = None
    set_id: str | None = None
    exposure_ids: list[str] = []
    simulated: bool | None = None
    figures: dict[str, Measured] = {}
    reasons: list[str] = []

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """The verdicts that `verdict` sums up in one line, by the names it uses."""
        return {
            row.verdict_name: self.figures[row.name].comparison
            for row in SET_FIGURES
            if row.verdict_name is not None and row.name in self.figures
        }


class FailureEntry(BaseModel):
    """A dead-lettered message: work that was not done."""

    service: str
    subject: str
    configuration: str | None
    reason: str


class Summary(BaseModel):
    """`summary.json`. `simulated` is true if any exposure of the run is simulated.

    `passed_over` has the number of files in the folders that are no dark exposures, by kind. `set_remarks`
    say why exposures of one configuration form more than one set, and how to make one set of them.
    """

    exposures: list[ExposureEntry]
    references: list[ReferenceEntry]
    noise: list[NoiseEntry]
    failures: list[FailureEntry]
    simulated: bool
    mode: str
    started: datetime
    finished: datetime
    versions: dict[str, str]
    passed_over: dict[str, int] = {}
    set_remarks: list[str] = []

    @property
    def ingested(self) -> int:
        """Number of exposures that were ingested, each from one file or from its segments."""
        return len({exposure.id for exposure in self.exposures if exposure.status == "ingested"})

    @property
    def rejected(self) -> list[ExposureEntry]:
        """The files that failed a check, or whose work failed."""
        return [exposure for exposure in self.exposures if exposure.status == "rejected"]

    @property
    def waiting(self) -> list[ExposureEntry]:
        """The segments whose exposures wait for others."""
        return [exposure for exposure in self.exposures if exposure.status == "waiting"]

    @property
    def all_well(self) -> bool:
        """Whether every file counts or is not needed, no work failed, and every reference is accepted."""
        return (
            not self.failures
            and all(exposure.status in ("ingested", "not needed") for exposure in self.exposures)
            and all(reference.accepted is not False for reference in self.references)
        )


@dataclass(frozen=True)
class RunResult:
    """What only the run itself knows; everything else is read from the manifests.

    Attributes
    ----------
    files : list of (Path, str)
        The files given and the exposure id of each.
    manifests : list of str
        Key or path of the manifest of every product that the run made, or found already made.
    rejected : dict of str to str
        Reason by URI.
    selection : FileSelection or None
        With the files that were not announced.
    """

    files: list[tuple[Path, str]]
    manifests: list[str]
    rejected: dict[str, str]
    failures: list[Failure]
    settings: StageSettings
    started: datetime
    finished: datetime
    selection: FileSelection | None = None


def build_summary(store: Store, run: RunResult) -> Summary:
    """Return the summary of a run.

    Parameters
    ----------
    store : Store
        Holds the products that `run` names.
    run : RunResult

    Returns
    -------
    Summary
        One entry per file, per set with or without a dark reference, and per set with or without measured
        noise.
    """
    products = RunProducts.of(store, run.manifests)
    ramps = [ramp for _, ramp in products.ramps]
    return Summary(
        exposures=[
            *exposure_entries(store, run.files, products, run.rejected, run.failures),
            *unneeded_entries(run.selection.not_needed if run.selection is not None else []),
        ],
        references=_references(store, run, products),
        noise=_noise(run, products),
        failures=[
            FailureEntry(
                service=failure.service,
                subject=failure.uri or failure.set_id or failure.configuration or "unknown",
                configuration=failure.configuration,
                reason=failure.reason,
            )
            for failure in run.failures
        ],
        simulated=any(ramp.simulated for ramp in ramps),
        mode=run.settings.mode,
        started=run.started,
        finished=run.finished,
        versions=_versions(ramps),
        passed_over=dict(run.selection.passed_over.kinds) if run.selection is not None else {},
        set_remarks=[
            *odd_lengths((ramp.key, ramp.file) for ramp in ramps),
            *different_calibrations(ramps),
        ],
    )


def write_summary(summary: Summary, path: Path) -> None:
    """Write `summary` as JSON, atomically: a reader sees the old file or the new one."""
    write_atomically(path, summary.model_dump_json(indent=2) + "\n")


def write_atomically(path: Path, text: str) -> None:
    """Replace the file at `path` by `text` in UTF-8; a failure leaves the old file as it was."""
    draft = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _references(store: Store, run: RunResult, products: RunProducts) -> list[ReferenceEntry]:
    built = [
        ReferenceEntry(
            configuration=results.configuration,
            path=path_of(store.uri(manifest.object(results.file).key)),
            mode=results.mode_name,
            exposures=len(results.exposures),
            integrations=results.integrations,
            dark_current_e_per_ks=results.dark_current_e_per_ks,
            dark_current_error_e_per_ks=results.dark_current_error_e_per_ks,
            expected_e_per_ks=results.expected_e_per_ks,
            expected_sigma_e_per_ks=results.expected_sigma_e_per_ks,
            verdict=results.verdict,
            set_id=results.set_id,
            exposure_ids=results.exposures,
            simulated=results.simulated,
            accepted=None if product.acceptance is None else not product.is_withheld,
            acceptance=stored_acceptance(manifest.results),
            sign_off=product.sign_off,
            verification=None if results.verification is None else results.verification.verdict,
            comparison=results.comparison,
            verification_outcome=None if results.verification is None else results.verification.outcome,
            figures=figures_of(results),
            integrations_in_use=results.in_use,
            left_out_exposures=results.left_out_exposures,
            amplifier_dark_current_e_per_ks=results.amplifier_dark_current_e_per_ks,
            amplifier_dark_current_error_e_per_ks=results.amplifier_dark_current_error_e_per_ks,
            changes=results.changes,
        )
        for manifest, results in products.references
        for product in [StoredProduct[BaseModel](manifest, products.sign_offs.get(manifest.path))]
    ]
    missing = _without(products.ramps, [results for _, results in products.references])
    return built + [
        ReferenceEntry(
            configuration=configuration,
            path=None,
            mode=run.settings.mode,
            exposures=len(ramps),
            integrations=sum(ramp.integrations for ramp in ramps),
            dark_current_e_per_ks=None,
            dark_current_error_e_per_ks=None,
            expected_e_per_ks=None,
            verdict=f"not built: {'; '.join(_reasons(run, 'darkref', configuration, ramps))}",
            reasons=_reasons(run, "darkref", configuration, ramps),
            exposure_ids=[ramp.exposure_id for ramp in ramps],
            simulated=any(ramp.simulated for ramp in ramps),
        )
        for configuration, ramps in missing.items()
    ]


def _noise(run: RunResult, products: RunProducts) -> list[NoiseEntry]:
    measured = [
        NoiseEntry(
            configuration=results.configuration,
            ramps=results.ramps,
            verdict=results.verdict,
            figures=figures_of(results),
            **_flat(figures_of(results)),
            set_id=results.set_id,
            exposure_ids=results.exposures,
            simulated=results.simulated,
        )
        for _, results in products.set_noise
    ]
    missing = _without(products.ramps, [results for _, results in products.set_noise])
    return measured + [
        NoiseEntry(
            configuration=configuration,
            ramps=sum(ramp.integrations for ramp in ramps),
            cds_noise_e=None,
            spatial_effective_noise_e=None,
            temporal_effective_noise_e=None,
            jump_flags=None,
            jump_pixel_percent=None,
            verdict=f"not measured: {'; '.join(_reasons(run, 'noise', configuration, ramps))}",
            reasons=_reasons(run, "noise", configuration, ramps),
            exposure_ids=[ramp.exposure_id for ramp in ramps],
            simulated=any(ramp.simulated for ramp in ramps),
        )
        for configuration, ramps in missing.items()
    ]


def _flat(figures: Mapping[str, Measured]) -> dict[str, Any]:
    """Return values and errors under the keys of `NoiseEntry` other than `figures`."""
    keys: dict[str, Any] = {}
    for name, figure in figures.items():
        error = f"{name[:-2]}_error_e" if name.endswith("_e") else f"{name}_error"
        keys |= {name: figure.value, error: figure.error}
    # Figures added later are in `figures` only.
    return {key: value for key, value in keys.items() if key in NoiseEntry.model_fields}


def _without(
    products: Iterable[tuple[Manifest, RampMetadata]], made: Sequence[ReferenceResults | SetNoiseResults]
) -> dict[str, list[RampMetadata]]:
    """Return the ramps that are part of none of the products `made`, by configuration."""
    used = {(results.configuration, exposure) for results in made for exposure in results.exposures}
    ramps: dict[str, list[RampMetadata]] = defaultdict(list)
    for _, ramp in products:
        if (ramp.configuration, ramp.exposure_id) not in used:
            ramps[ramp.configuration].append(ramp)
    return dict(ramps)


def _reasons(run: RunResult, service: str, configuration: str, ramps: list[RampMetadata]) -> list[str]:
    """Return why a service made no product of a configuration's ramps."""
    reasons = dict.fromkeys(
        failure.reason
        for failure in run.failures
        if failure.service == service and failure.configuration == configuration
    )
    if reasons:
        return list(reasons)
    integrations, required = sum(ramp.integrations for ramp in ramps), run.settings.min_integrations
    if integrations < required:
        return [f"{count(integrations, 'integration')}, but --min-integrations requires {required}"]
    return ["no set of these exposures was complete when the run ended; run the command again"]


def _versions(ramps: list[RampMetadata]) -> dict[str, str]:
    versions = {
        "nircam-darks": metadata.version("nircam-darks"),
        "jwst": ", ".join(sorted({ramp.jwst_version for ramp in ramps})) or metadata.version("jwst"),
        "python": platform.python_version(),
    }
    if contexts := sorted({ramp.crds_context for ramp in ramps}):
        versions["crds_context"] = ", ".join(contexts)
    return versions
