"""What a report is made of beside the store: which products, and what the run says of itself."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ValidationError

from services.ingest.products import RampFacts, RejectionFacts
from services.operations.coverage import CoverageMatrix, coverage_matrix
from services.operations.trends import StoreStability, store_stability
from services.report.collect import read_facts
from services.summary import RunResult, build_summary, write_atomically
from services.summary_model import Summary
from shared.errors import EnvironmentFault
from shared.settings import StageSettings
from shared.store.base import Store
from shared.store.manifest import Manifest, find_all

#: Kept beside the pages, so that the same report can be made again as something else.
RECORD = "record.json"
_STAGES = ("ingest/", "darkref/", "noise/")


class ReportRecord(BaseModel):
    """What the report tells of.

    Attributes
    ----------
    scope : ``"run"`` or ``"store"``
        One run, or everything that a store holds.
    products : list of str
        Path of each product, or the key of its manifest.
    overrides : dict of str to str
        Name of the reference file by the type that it stood in for.
    coverage, stability
        Over everything that the store held when the record was made.
    """

    scope: Literal["run", "store"]
    summary: Summary
    products: list[str]
    min_integrations: int
    overrides: dict[str, str] = {}
    coverage: CoverageMatrix
    stability: StoreStability


def of_run(store: Store, summary: Summary, run: RunResult) -> ReportRecord:
    """Return the record of a run that has just ended, of which `store` holds the products."""
    return ReportRecord(
        scope="run",
        summary=summary,
        products=run.manifests,
        min_integrations=run.settings.min_integrations,
        overrides={name: path.name for name, path in sorted(run.settings.overrides.items())},
        coverage=coverage_matrix(store, run.settings, run.finished),
        stability=store_stability(store),
    )


def keep(record: ReportRecord, pages: Path) -> None:
    """Write the record into the folder of the pages, all at once."""
    write_atomically(pages / RECORD, record.model_dump_json(indent=1) + "\n")


def kept(pages: Path) -> ReportRecord | None:
    """Return the record of the run that wrote the pages last; None if there is none.

    Raises
    ------
    EnvironmentFault
        If the file there is no record.
    """
    path = pages / RECORD
    try:
        return ReportRecord.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "it"
        raise EnvironmentFault(
            f"{path} is no record of a run: {where}: {fault['msg']}; run again, or give --all for the "
            "report of everything in the store"
        ) from None


def of_store(store: Store, settings: StageSettings) -> ReportRecord:
    """Return the record of everything that a store holds: of each exposure and set the newest.

    Parameters
    ----------
    store : Store
    settings : StageSettings
        ``min_integrations`` and ``mode`` as the services have them.

    Raises
    ------
    EnvironmentFault
        If there is no product at all.
    """
    newest: dict[tuple[str, str, str], Manifest] = {}
    for stage in _STAGES:
        for manifest in find_all(store, stage):
            facts = manifest.facts
            subject = facts.get("set_id") or facts.get("exposure_id")
            of = (manifest.product, str(facts.get("configuration")), str(subject))
            if of not in newest or manifest.created > newest[of].created:
                newest[of] = manifest
    if not newest:
        raise EnvironmentFault(
            f"{settings.store} holds no product of nircam-darks; give the folder that `run --out` "
            "named, or the services' DARKS_STORE"
        )
    return _record(store, settings, list(newest.values()))


def _record(store: Store, settings: StageSettings, manifests: list[Manifest]) -> ReportRecord:
    ramps = [read_facts(RampFacts, m.facts) for m in manifests if m.product == "ramp"]
    came = {ramp.exposure_id for ramp in ramps}
    refused = [
        facts
        for m in manifests
        if m.product == "rejection"
        for facts in [read_facts(RejectionFacts, m.facts)]
        if facts.exposure_id not in came
    ]
    times = [manifest.created for manifest in manifests]
    files = [(ramp.uri, ramp.exposure_id) for ramp in ramps] + [(one.uri, one.exposure_id) for one in refused]
    run = RunResult(
        files=[(_file(uri), exposure) for uri, exposure in files],
        manifests=[m.path for m in manifests if m.product != "rejection"],
        rejected={one.uri: one.reason for one in refused},
        failures=[],
        settings=settings,
        started=min(times),
        finished=max(times),
    )
    summary = build_summary(store, run)
    modes = {m.facts["mode"] for m in manifests if m.product == "reference" and "mode" in m.facts}
    waits = "`nircam-darks status` says what their set waits for"
    return ReportRecord(
        scope="store",
        summary=summary.model_copy(
            update={
                "mode": " and ".join(sorted(modes)) or summary.mode,
                "references": [
                    one if one.path else one.model_copy(update={"verdict": f"not built: {waits}"})
                    for one in summary.references
                ],
                "noise": [
                    one if one.set_id else one.model_copy(update={"verdict": f"not measured: {waits}"})
                    for one in summary.noise
                ],
            }
        ),
        products=run.manifests,
        min_integrations=settings.min_integrations,
        coverage=coverage_matrix(store, settings, datetime.now(UTC)),
        stability=store_stability(store),
    )


def _file(uri: str) -> Path:
    """Return the path of a file, or of an object as if its bucket were a folder."""
    parts = urlsplit(uri)
    path = unquote(parts.path)
    return Path(path if parts.scheme in ("", "file") else f"/{parts.netloc}{path}")
