"""What a run came to: `summary.json`."""

import platform
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path, PurePath
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from services.darkref.products import ReferenceFacts
from services.ingest.products import RampFacts
from services.noise.products import SetNoiseFacts
from services.report.collect import RunProducts, rejections
from services.summary_model import ExposureEntry, FailureEntry, NoiseEntry, ReferenceEntry, Summary
from shared.settings import StageSettings
from shared.store.base import Store
from shared.store.manifest import Manifest

__all__ = ["Failure", "RunResult", "Summary", "build_summary", "write_atomically", "write_summary"]


@dataclass(frozen=True)
class Failure:
    """A message that was dead-lettered during the run.

    Attributes
    ----------
    uri : str or None
        The exposure it announced.
    configuration, set_id : str or None
        The set it was about.
    """

    service: str
    reason: str
    uri: str | None = None
    configuration: str | None = None
    set_id: str | None = None


@dataclass(frozen=True)
class RunResult:
    """What the run itself knows; everything else is read from the manifests.

    Attributes
    ----------
    files : list of (Path, str)
        The files given and the exposure id of each.
    manifests : list of str
        Key or path of the manifest of every product that the run made or found already made.
    rejected : dict of str to str
        Reason by URI.
    """

    files: list[tuple[Path, str]]
    manifests: list[str]
    rejected: dict[str, str]
    failures: list[Failure]
    settings: StageSettings
    started: datetime
    finished: datetime


def build_summary(store: Store, run: RunResult) -> Summary:
    """Put together what the run came to.

    Parameters
    ----------
    store : Store
        Holds the products that `run` names.
    run : RunResult

    Returns
    -------
    Summary
        One entry per file given, per reference built or not built, and per set of which the noise
        was measured or not.
    """
    products = RunProducts.of(store, run.manifests)
    ramps = [ramp for _, ramp in products.ramps]
    return Summary(
        exposures=_exposures(store, run, ramps),
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
    )


def write_summary(summary: Summary, path: Path) -> None:
    """Write `summary` as JSON, all at once: a reader sees the old file or the new one."""
    write_atomically(path, summary.model_dump_json(indent=2) + "\n")


def write_atomically(path: Path, text: str) -> None:
    """Replace the file at `path` by `text` in UTF-8; a failure leaves the old file and nothing else."""
    draft = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _exposures(store: Store, run: RunResult, ramps: list[RampFacts]) -> list[ExposureEntry]:
    committed = rejections(store) if run.rejected else {}
    refused = {_place(uri): (reason, committed.get((uri, reason))) for uri, reason in run.rejected.items()}
    refused |= {_place(f.uri): (f.reason, None) for f in run.failures if f.uri}
    places = [_place(str(path.absolute())) for path, _ in run.files]
    # What an earlier run did with a file that was moved since still carries its old address.
    refused_by_name = {PurePath(place).name: why for place, why in refused.items() if place not in places}
    by_place = {_place(ramp.uri): ramp for ramp in ramps}
    by_id = {ramp.exposure_id: ramp for ramp in ramps}
    entries = []
    for (path, exposure_id), place in zip(run.files, places, strict=True):
        ramp = by_place.get(place)
        why = refused.get(place) or (None if ramp else refused_by_name.get(path.name))
        ramp = ramp or by_id.get(exposure_id)
        if why is None and ramp is None:
            why = ("no answer came from ingest; run it again", None)
        if why is not None:
            reason, facts = why
            entries.append(
                ExposureEntry(
                    id=exposure_id,
                    file=str(path),
                    configuration=facts.configuration if facts else None,
                    status="rejected",
                    reason=reason,
                    check=facts.check if facts else None,
                )
            )
        elif ramp is not None:
            entries.append(
                ExposureEntry(
                    id=ramp.exposure_id,
                    file=str(path),
                    configuration=ramp.configuration,
                    status="ingested",
                    reason=None,
                    integrations=ramp.integrations,
                    simulated=ramp.simulated,
                )
            )
    return entries


def _place(uri: str) -> str:
    """Return the path that a ``file:`` URI or a path means, so that the two compare."""
    parts = urlsplit(uri)
    return unquote(parts.path) if parts.scheme == "file" else uri


def _references(store: Store, run: RunResult, products: RunProducts) -> list[ReferenceEntry]:
    built = [
        ReferenceEntry(
            configuration=facts.configuration,
            path=_place(store.uri(manifest.object(facts.file).key)),
            mode=facts.mode,
            exposures=len(facts.exposures),
            integrations=facts.integrations,
            dark_current_e_per_ks=facts.dark_current_e_per_ks,
            dark_current_error_e_per_ks=facts.dark_current_error_e_per_ks,
            expected_e_per_ks=facts.expected_e_per_ks,
            expected_sigma_e_per_ks=facts.expected_sigma_e_per_ks,
            verdict=facts.verdict,
            set_id=facts.set_id,
            exposure_ids=facts.exposures,
            simulated=facts.simulated,
            accepted=None if facts.verification is None else facts.verification.accepted,
            verification=None if facts.verification is None else facts.verification.verdict,
        )
        for manifest, facts in products.references
    ]
    missing = _without(products.ramps, [facts for _, facts in products.references])
    return built + [
        ReferenceEntry(
            configuration=configuration,
            path=None,
            mode=run.settings.mode,
            exposures=len(left),
            integrations=sum(ramp.integrations for ramp in left),
            dark_current_e_per_ks=None,
            dark_current_error_e_per_ks=None,
            expected_e_per_ks=None,
            verdict=f"not built: {_why(run, 'darkref', configuration, left)}",
            exposure_ids=[ramp.exposure_id for ramp in left],
            simulated=any(ramp.simulated for ramp in left),
        )
        for configuration, left in missing.items()
    ]


def _noise(run: RunResult, products: RunProducts) -> list[NoiseEntry]:
    measured = [
        NoiseEntry(
            configuration=facts.configuration,
            ramps=facts.ramps,
            cds_noise_e=facts.cds_noise.value,
            cds_noise_error_e=facts.cds_noise.error,
            spatial_effective_noise_e=facts.spatial_effective_noise.value,
            spatial_effective_noise_error_e=facts.spatial_effective_noise.error,
            temporal_effective_noise_e=facts.temporal_effective_noise.value,
            temporal_effective_noise_error_e=facts.temporal_effective_noise.error,
            jump_flags=facts.jump_flags,
            jump_flags_error=facts.jump_flags_error,
            jump_pixel_percent=facts.jump_pixel_percent.value,
            jump_pixel_percent_error=facts.jump_pixel_percent.error,
            hits_per_cm2_s=None if facts.hits_per_cm2_s is None else facts.hits_per_cm2_s.value,
            hits_per_cm2_s_error=None if facts.hits_per_cm2_s is None else facts.hits_per_cm2_s.error,
            verdict=facts.verdict,
            set_id=facts.set_id,
            exposure_ids=facts.exposures,
            simulated=facts.simulated,
        )
        for _, facts in products.set_noise
    ]
    missing = _without(products.ramps, [facts for _, facts in products.set_noise])
    return measured + [
        NoiseEntry(
            configuration=configuration,
            ramps=sum(ramp.integrations for ramp in left),
            cds_noise_e=None,
            spatial_effective_noise_e=None,
            temporal_effective_noise_e=None,
            jump_flags=None,
            jump_pixel_percent=None,
            verdict=f"not measured: {_why(run, 'noise', configuration, left)}",
            exposure_ids=[ramp.exposure_id for ramp in left],
            simulated=any(ramp.simulated for ramp in left),
        )
        for configuration, left in missing.items()
    ]


def _without(
    ramps: Iterable[tuple[Manifest, RampFacts]], made: Sequence[ReferenceFacts | SetNoiseFacts]
) -> dict[str, list[RampFacts]]:
    """Return by configuration the ramps that are in none of the products `made`."""
    used = {(facts.configuration, exposure) for facts in made for exposure in facts.exposures}
    left: dict[str, list[RampFacts]] = defaultdict(list)
    for _, ramp in ramps:
        if (ramp.configuration, ramp.exposure_id) not in used:
            left[ramp.configuration].append(ramp)
    return dict(left)


def _why(run: RunResult, service: str, configuration: str, left: list[RampFacts]) -> str:
    reasons = dict.fromkeys(
        failure.reason
        for failure in run.failures
        if failure.service == service and failure.configuration == configuration
    )
    if reasons:
        return "; ".join(reasons)
    integrations, asked = sum(ramp.integrations for ramp in left), run.settings.min_integrations
    if integrations < asked:
        return f"{integrations} integration(s) where --min-integrations asks for {asked}"
    return "no set of these exposures was complete when the run ended; run it again"


def _versions(ramps: list[RampFacts]) -> dict[str, str]:
    versions = {
        "nircam-darks": metadata.version("nircam-darks"),
        "jwst": ", ".join(sorted({ramp.jwst_version for ramp in ramps})) or metadata.version("jwst"),
        "python": platform.python_version(),
    }
    if contexts := sorted({ramp.crds_context for ramp in ramps}):
        versions["crds_context"] = ", ".join(contexts)
    return versions
