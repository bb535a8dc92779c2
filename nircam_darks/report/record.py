"""The record of a report: the products it covers, the summary of the run, coverage and stability."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ValidationError

from nircam_darks.operations.coverage import CoverageMatrix, coverage_matrix
from nircam_darks.operations.stability import StoreStability, store_stability
from nircam_darks.report.summary import RunResult, Summary, build_summary, write_atomically
from shared.catalog.products import StoredProduct, walk
from shared.contracts.routing import PRODUCT_FOLDERS
from shared.errors import EnvironmentFault
from shared.products.ramp import RampMetadata, RejectionMetadata
from shared.products.reference import ReferenceResults
from shared.settings.stage import StageSettings
from shared.store.base import Store

#: Kept beside the pages, so that the same report can be written again, in this format or another.
RECORD = "record.json"


class ReportRecord(BaseModel):
    """What a report covers.

    Attributes
    ----------
    scope : ``"run"`` or ``"store"``
        One run, or everything in a store.
    products : list of str
        Path of each product, or key of its manifest.
    min_integrations : int
        Integrations that a set needs for a dark reference.
    overrides : dict of str to str
        Names of the reference files that replaced those of CRDS, by type.
    coverage, stability
        Of everything in the store when the record was made.
    """

    scope: Literal["run", "store"]
    summary: Summary
    products: list[str]
    min_integrations: int
    overrides: dict[str, str] = {}
    coverage: CoverageMatrix
    stability: StoreStability


def of_run(store: Store, summary: Summary, run: RunResult) -> ReportRecord:
    """Return the record of a run that has just finished, whose products are in `store`."""
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
    """Return the record of the run that last wrote the pages; None if there is none.

    Raises
    ------
    EnvironmentFault
        If the file is not a valid record.
    """
    path = pages / RECORD
    try:
        return ReportRecord.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        fault = error.errors()[0]
        field = ".".join(map(str, fault["loc"])) or "the file"
        raise EnvironmentFault(
            f"{path} is not the record of a run ({field}: {fault['msg']}); run again, or use --all for a "
            "report of everything in the store"
        ) from None


def of_store(store: Store, settings: StageSettings) -> ReportRecord:
    """Return the record of everything in a store: the newest product of each exposure and set.

    Parameters
    ----------
    store : Store
    settings : StageSettings
        With ``min_integrations`` and ``mode`` as in the services.

    Raises
    ------
    EnvironmentFault
        If the store holds no product.
    """
    newest: dict[tuple[str, str, str], StoredProduct[BaseModel]] = {}
    for product in walk(store, *PRODUCT_FOLDERS):
        identity = (product.kind, str(product.configuration), product.subject)
        if identity not in newest or product.manifest.created > newest[identity].manifest.created:
            newest[identity] = product
    if not newest:
        raise EnvironmentFault(
            f"{settings.store} holds no nircam-darks products; give the folder passed to `run --out`, "
            "or the DARKS_STORE of the services"
        )
    return _record(store, settings, list(newest.values()))


def _record(store: Store, settings: StageSettings, products: list[StoredProduct[BaseModel]]) -> ReportRecord:
    ramps = [product.results for product in products if isinstance(product.results, RampMetadata)]
    ingested = {ramp.exposure_id for ramp in ramps}
    rejections = [
        product.results
        for product in products
        if isinstance(product.results, RejectionMetadata) and product.results.exposure_id not in ingested
    ]
    times = [product.manifest.created for product in products]
    exposures: list[RampMetadata | RejectionMetadata] = [*ramps, *rejections]
    run = RunResult(
        files=[(_file(exposure.uri), exposure.exposure_id) for exposure in exposures],
        manifests=[product.path for product in products if product.kind != "rejection"],
        rejected={rejection.uri: rejection.reason for rejection in rejections},
        failures=[],
        settings=settings,
        started=min(times),
        finished=max(times),
    )
    summary = build_summary(store, run)
    modes = {
        product.results.mode_name for product in products if isinstance(product.results, ReferenceResults)
    }
    pending = "`nircam-darks status` shows what their set is waiting for"
    return ReportRecord(
        scope="store",
        summary=summary.model_copy(
            update={
                "mode": " and ".join(sorted(modes)) or summary.mode,
                "references": [
                    entry
                    if entry.path
                    else entry.model_copy(update={"verdict": f"not built: {pending}", "reasons": [pending]})
                    for entry in summary.references
                ],
                "noise": [
                    entry
                    if entry.set_id
                    else entry.model_copy(
                        update={"verdict": f"not measured: {pending}", "reasons": [pending]}
                    )
                    for entry in summary.noise
                ],
            }
        ),
        products=run.manifests,
        min_integrations=settings.min_integrations,
        coverage=coverage_matrix(store, settings, datetime.now(UTC)),
        stability=store_stability(store),
    )


def _file(uri: str) -> Path:
    """Return the path of a file, or of an object in a bucket as if the bucket were a folder."""
    parts = urlsplit(uri)
    path = unquote(parts.path)
    return Path(path if parts.scheme in ("", "file") else f"/{parts.netloc}{path}")
