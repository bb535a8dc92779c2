"""Compares what a store holds with what NRC-09 requests, detector by detector."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel

from nircam_darks.operations.required_coverage import AskedConfiguration, asked_configurations
from shared.catalog.exposure_sets import BuiltSet, superseded_by
from shared.catalog.packs import collecting_later, stored_by_catalog
from shared.catalog.sets import StoredConfiguration, stored_sets
from shared.catalog.store_contents import ProductSummary, Stored
from shared.errors import DarksError
from shared.nircam.configuration import ConfigurationKey
from shared.products.unserved import UnservedConfiguration
from shared.settings.stage import StageSettings
from shared.statistics.verdicts import Acceptance
from shared.store.base import Store

#: The only pattern that counts: the dark_current step takes each group of a dark for one frame.
_PATTERN = "RAPID"

CellStatus = Literal[
    "complete", "partial", "missing", "no reference", "reference held", "reference rejected", "beyond"
]
#: Detector, subarray, number of outputs.
_Place = tuple[str, str, int]


class CoverageReference(BaseModel):
    """A dark reference; `acceptance` and `accepted` are null if it was not verified.

    `acceptance` is accepted, too, where a person accepted one that was held.
    """

    path: str
    configuration: str
    set_id: str
    exposures: int
    created: datetime
    accepted: bool | None
    acceptance: Acceptance | None
    verdict: str | None


class CoverageCell(BaseModel):
    """One cell of the matrix DETECTOR x SUBARRAY x NOUTPUTS.

    Attributes
    ----------
    coronmsk : list of str
        CORONMSK of the exposures in the store; the expected one if there are none.
    asked : int
        Ramps that NRC-09 requests, or 0.
    ramps : int
        Integrations in the largest RAPID set of one configuration, from which one reference can be made.
    groups : int or None
        NGROUPS of that set.
    ramps_in_all : int
        Integrations of all sets and readout patterns.
    configurations : list of str
        All configurations in the store.
    reference : CoverageReference or None
        The newest current RAPID reference that is neither held nor rejected.
    held_references, rejected_references : list of CoverageReference
        References that their verification held for review or rejected, newest first.
    status : str
        ``beyond``: in the store, but not requested.
    words : str
        The status in words, such as ``3 of 5 ramps``.
    """

    detector: str
    subarray: str
    noutputs: int
    coronmsk: list[str]
    asked: int
    ramps: int
    groups: int | None
    ramps_in_all: int
    configurations: list[str]
    reference: CoverageReference | None
    held_references: list[CoverageReference]
    rejected_references: list[CoverageReference]
    status: CellStatus
    words: str


class CoverageMatrix(BaseModel):
    """The matrix, by detector; `damaged` are addresses of manifests that cannot be read.

    `asked` counts the cells that NRC-09 requests, and `complete` those of them that are complete. `unserved`
    are the configurations that cannot be calibrated: CRDS has no reference for them, or the cache lacks it.
    """

    asked: int
    complete: int
    simulated: bool
    cells: list[CoverageCell]
    damaged: list[str]
    unserved: list[UnservedConfiguration] = []


class Coverage(BaseModel):
    """Output of `nircam-darks coverage --json`; `store_problem` says why the store did not answer."""

    time: datetime
    coverage: CoverageMatrix | None
    store_problem: str | None


def ask_coverage(
    open_store: Callable[[], Store], settings: StageSettings, now: datetime | None = None
) -> Coverage:
    """Compare what a store holds with what NRC-09 requests.

    Parameters
    ----------
    open_store : callable
        Opens the store, which is closed again here.
    settings : StageSettings
        With the services' ``epoch_gap_days``.
    now : datetime, optional

    Returns
    -------
    Coverage
        Also if the store does not answer.
    """
    now = now or datetime.now(UTC)
    try:
        store = open_store()
        try:
            with collecting_later():
                matrix = coverage_matrix(store, settings, now)
            return Coverage(time=now, coverage=matrix, store_problem=None)
        finally:
            store.close()
    except DarksError as error:
        return Coverage(time=now, coverage=None, store_problem=" ".join(str(error).split()))


def coverage_matrix(store: Store, settings: StageSettings, now: datetime) -> CoverageMatrix:
    """Return the matrix of what a store holds; see `ask_coverage`.

    Raises
    ------
    StoreUnavailable, EnvironmentFault
        If the store does not answer, or refuses.
    """
    stored = stored_by_catalog(store)
    ramps, references, simulated = _contents(stored, settings, now)
    asked = {(row.detector, row.subarray, row.noutputs): row for row in asked_configurations()}
    places = [*asked, *sorted((ramps.keys() | references.keys()) - asked.keys())]
    cells = [
        _cell(place, asked.get(place), ramps.get(place, []), references.get(place, [])) for place in places
    ]
    cells.sort(key=lambda cell: cell.detector)
    return CoverageMatrix(
        asked=len(asked),
        complete=sum(cell.status == "complete" for cell in cells),
        simulated=simulated,
        cells=cells,
        damaged=sorted(stored.damaged),
        unserved=stored.still_unserved(),
    )


@dataclass(frozen=True)
class _Ramps:
    """The ramps of one configuration."""

    key: ConfigurationKey
    configuration: StoredConfiguration

    @property
    def best(self) -> int:
        return max((each.integrations for each in self.configuration.sets), default=0)

    @property
    def in_all(self) -> int:
        return sum(each.integrations for each in self.configuration.sets)


@dataclass(frozen=True)
class _Built:
    """A RAPID reference: its product, and its entry in the matrix."""

    product: ProductSummary
    entry: CoverageReference


def _contents(
    stored: Stored, settings: StageSettings, now: datetime
) -> tuple[dict[_Place, list[_Ramps]], dict[_Place, list[_Built]], bool]:
    """Return ramps and references by cell, and whether any of them is simulated."""
    ramps: dict[_Place, list[_Ramps]] = defaultdict(list)
    references: dict[_Place, list[_Built]] = defaultdict(list)
    simulated = False
    # Any ramp will do: all of them have the key of the configuration.
    any_ramp = {ramp.configuration: ramp for ramp in stored.of_kind("ramp")}
    for configuration in stored_sets(stored, settings, now):
        ramp = any_ramp.get(configuration.configuration)
        if ramp is not None and ramp.key is not None:
            simulated |= ramp.simulated
            ramps[_place(ramp.key)].append(_Ramps(ramp.key, configuration))
    for product in stored.of_kind("reference"):
        if product.key is not None:
            simulated |= product.simulated
            if product.key.readpatt == _PATTERN:
                references[_place(product.key)].append(_Built(product, _reference(product)))
    return ramps, references, simulated


def _place(key: ConfigurationKey) -> _Place:
    return key.detector, key.subarray, key.noutputs


def _reference(product: ProductSummary) -> CoverageReference:
    return CoverageReference(
        path=product.path,
        configuration=product.configuration or "",
        set_id=product.subject,
        exposures=len(product.exposures),
        created=product.created,
        accepted=None if product.acceptance is None else not product.withheld,
        acceptance=product.acceptance,
        verdict=product.verdict,
    )


def _cell(
    place: _Place, asked: AskedConfiguration | None, stored: list[_Ramps], built: list[_Built]
) -> CoverageCell:
    usable = [each for each in stored if each.key.readpatt == _PATTERN]
    best = max(usable, key=lambda each: (each.best, each.key.ngroups, each.key.slug), default=None)
    ramps = best.best if best is not None else 0
    wanted = asked.ramps if asked is not None else 0
    newest = sorted(built, key=lambda each: (each.entry.created, each.entry.path), reverse=True)
    held = [each.entry for each in newest if each.entry.acceptance == Acceptance.HELD]
    rejected = [each.entry for each in newest if each.entry.acceptance == Acceptance.REJECTED]
    reference = _current([each for each in newest if each.entry.accepted is not False])
    masks = sorted({each.key.coronmsk for each in stored})
    status = _status(ramps, wanted, reference, held, rejected)
    return CoverageCell(
        detector=place[0],
        subarray=place[1],
        noutputs=place[2],
        coronmsk=masks or [asked.coronmsk if asked is not None else "NONE"],
        asked=wanted,
        ramps=ramps,
        groups=best.key.ngroups if best is not None else None,
        ramps_in_all=sum(each.in_all for each in stored),
        configurations=sorted(each.key.slug for each in stored),
        reference=reference,
        held_references=held,
        rejected_references=rejected,
        status=status,
        words=_words(status, ramps, wanted),
    )


def _current(newest: list[_Built]) -> CoverageReference | None:
    """Return the newest of references that no other supersedes."""
    superseded = superseded_by(
        BuiltSet(each.product.path, each.entry.configuration, each.product.exposures, each.product.created)
        for each in newest
    )
    return next((each.entry for each in newest if superseded[each.product.path] is None), None)


def _status(
    ramps: int,
    asked: int,
    reference: CoverageReference | None,
    held: list[CoverageReference],
    rejected: list[CoverageReference],
) -> CellStatus:
    if not asked:
        return "beyond"
    if reference is None and held:
        return "reference held"
    if reference is None and rejected:
        return "reference rejected"
    if ramps < asked:
        return "partial" if ramps or reference is not None else "missing"
    return "complete" if reference is not None else "no reference"


def _words(status: CellStatus, ramps: int, asked: int) -> str:
    if status == "partial":
        return f"{ramps} of {asked} ramps"
    return "not requested" if status == "beyond" else status
