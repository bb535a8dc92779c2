"""What became of each file that was given to a run: ingested, rejected, waiting, or not needed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel

from nircam_darks.operations.find_exposures import UnneededFile
from shared.catalog.products import RunProducts, rejections
from shared.catalog.store_contents import claims_of_exposures
from shared.products.claim import Claim, describe_missing, missing_segments, newest_segments
from shared.products.figures import figures_of
from shared.products.noise import ExposureNoiseResults
from shared.products.ramp import EXPOSURE_ROLE, RampMetadata, RejectionMetadata
from shared.statistics.verdicts import Measured
from shared.store.base import Store

#: Rejected files with the same failed check that are listed one by one; `summary.json` has all of them.
_SHOWN_SINGLY = 20


class ExposureEntry(BaseModel):
    """One file given to the run.

    `status` is ``not needed`` of a file whose exposure was ingested from another, rawer or newer file, and
    ``waiting`` of a segment while other segments of its exposure are missing; `reason` says which. All
    segments of an exposure have its `id`, and an entry each. `figures` are those of the exposure itself, by
    name; see `shared.products.figures`. `remarks` say what ingest met in it: frames that were never read,
    common steps, snowballs of the first group, what it supersedes.
    """

    id: str
    file: str
    configuration: str | None
    status: Literal["ingested", "rejected", "waiting", "not needed"]
    reason: str | None
    check: str | None = None
    integrations: int | None = None
    simulated: bool | None = None
    figures: dict[str, Measured] = {}
    remarks: list[str] = []


@dataclass(frozen=True)
class Failure:
    """A message that was dead-lettered during the run.

    Attributes
    ----------
    uri : str or None
        The exposure that the message announced.
    configuration, set_id : str or None
        The set that the message was about.
    """

    service: str
    reason: str
    uri: str | None = None
    configuration: str | None = None
    set_id: str | None = None


@dataclass(frozen=True)
class _Refusal:
    """Why a file is not ingested; `results` are those of its rejection, None if its work failed."""

    reason: str
    results: RejectionMetadata | None = None


@dataclass(frozen=True)
class _Ingested:
    """An exposure's ramp, and the sha256 of the files that it was made from."""

    ramp: RampMetadata
    noise: ExposureNoiseResults | None
    digests: frozenset[str]


def exposure_entries(
    store: Store,
    files: Sequence[tuple[Path, str]],
    products: RunProducts,
    rejected: Mapping[str, str],
    failures: Sequence[Failure],
) -> list[ExposureEntry]:
    """Return an entry for each file of a run.

    Parameters
    ----------
    store : Store
    files : sequence of (Path, str)
        The files given and the exposure id of each.
    products : RunProducts
        Of the run.
    rejected : mapping of str to str
        Reason by URI.
    failures : sequence of Failure
    """
    refused = _refusals(store, files, rejected, failures)
    noise = {results.exposure_id: results for _, results in products.exposure_noise}
    ingested = {
        ramp.exposure_id: _Ingested(
            ramp,
            noise.get(ramp.exposure_id),
            frozenset(entry.sha256 for entry in manifest.inputs if entry.role == EXPOSURE_ROLE),
        )
        for manifest, ramp in products.ramps
    }
    # An exposure may have been announced under another id than its file's name or header gives here.
    by_place = {path_of(each.ramp.uri): each for each in ingested.values()}
    claims: dict[str, list[Claim]] = claims_of_exposures(store, {name for _, name in files})
    entries = []
    for path, exposure_id in files:
        absolute = path_of(str(path.absolute()))
        of_exposure = claims.get(exposure_id, [])
        claim = next((each for each in of_exposure if path_of(each.uri) == absolute), None)
        exposure = by_place.get(absolute) or ingested.get(exposure_id)
        entry = _entry(path, exposure_id, refused.get(absolute), exposure, claim)
        if entry is None:
            entry = _unfinished(path, exposure_id, of_exposure, refused)
        entries.append(entry)
    return entries


def rows_of_rejections(entries: Sequence[ExposureEntry]) -> list[tuple[str, str, str]]:
    """Return file, failed check and reason of rejected files; many that failed one check are one row.

    Parameters
    ----------
    entries : sequence of ExposureEntry

    Returns
    -------
    list of (str, str, str)
        The reason is without the name of its file; that of many files is that of the first.
    """
    of_check: dict[str | None, list[ExposureEntry]] = {}
    for entry in entries:
        of_check.setdefault(entry.check, []).append(entry)
    rows = []
    for check, alike in of_check.items():
        # Work that failed has no check: each may have a reason of its own.
        many = check is not None and len(alike) > _SHOWN_SINGLY
        for entry in alike[:1] if many else alike:
            name = PurePath(entry.file).name
            reason = (entry.reason or "").removeprefix(f"{name}: ")
            rows.append((f"{name} and {len(alike) - 1} more" if many else name, check or "–", reason))
    return rows


def unneeded_entries(files: Sequence[UnneededFile]) -> list[ExposureEntry]:
    """Return an entry for each file that was not announced because another of its exposure was."""
    return [
        ExposureEntry(
            id=file.candidate.exposure_id,
            file=str(file.candidate.path),
            configuration=file.candidate.configuration,
            status="not needed",
            reason=file.reason,
            simulated=file.candidate.simulated,
        )
        for file in files
    ]


def _refusals(
    store: Store,
    files: Sequence[tuple[Path, str]],
    rejected: Mapping[str, str],
    failures: Sequence[Failure],
) -> dict[str, _Refusal]:
    """Return the refusal of each file by its absolute path."""
    committed = rejections(store) if rejected else {}
    refused = {path_of(uri): _Refusal(why, committed.get((uri, why))) for uri, why in rejected.items()}
    refused |= {path_of(failure.uri): _Refusal(failure.reason) for failure in failures if failure.uri}
    paths = {path_of(str(path.absolute())) for path, _ in files}
    # A file that was moved since an earlier run is still recorded at its old address.
    moved = {PurePath(place).name: refusal for place, refusal in refused.items() if place not in paths}
    for path in paths - refused.keys():
        if (name := PurePath(path).name) in moved:
            refused[path] = moved[name]
    return refused


def _entry(
    path: Path, exposure_id: str, refusal: _Refusal | None, exposure: _Ingested | None, claim: Claim | None
) -> ExposureEntry | None:
    """Return the entry of a file that was refused, or whose exposure has a ramp; None of any other."""
    if refusal is not None:
        results = refusal.results
        return ExposureEntry(
            id=exposure_id,
            file=str(path),
            configuration=results.configuration if results else None,
            status="rejected",
            reason=refusal.reason,
            check=results.check if results else None,
        )
    if exposure is None:
        return None
    ramp = exposure.ramp
    reason = None
    if claim is not None and claim.sha256 not in exposure.digests:
        reason = claim.stands_aside or f"not needed: {ramp.file} of the same exposure counts"
    return ExposureEntry(
        id=ramp.exposure_id,
        file=str(path),
        configuration=ramp.configuration,
        status="ingested" if reason is None else "not needed",
        reason=reason,
        integrations=ramp.integrations if reason is None else None,
        simulated=ramp.simulated,
        figures=figures_of(exposure.noise) if exposure.noise is not None and reason is None else {},
        remarks=ramp.remarks if reason is None else [],
    )


def _unfinished(
    path: Path, exposure_id: str, claims: Sequence[Claim], refused: Mapping[str, _Refusal]
) -> ExposureEntry:
    """Return the entry of a file whose exposure has no ramp, though nothing was wrong with the file."""
    entry = ExposureEntry(
        id=exposure_id,
        file=str(path),
        configuration=None,
        status="rejected",
        reason="ingest did not answer; run the command again",
    )
    segments = newest_segments(claims)
    if not segments:
        return entry
    if missing_segments(segments):
        reason = f"{path.name}: its exposure {describe_missing(segments)}"
        return entry.model_copy(update={"status": "waiting", "check": "segments", "reason": reason})
    # All have arrived: what was found wrong with the whole was reported with the last.
    for claim in segments.values():
        if (refusal := refused.get(path_of(claim.uri))) is not None:
            return entry.model_copy(update={"check": "segments", "reason": refusal.reason})
    return entry


def path_of(uri: str) -> str:
    """Return the path of a ``file:`` URI, and anything else as it is, so that both can be compared."""
    parts = urlsplit(uri)
    return unquote(parts.path) if parts.scheme == "file" else uri
