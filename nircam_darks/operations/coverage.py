"""What NRC-09 asks for, what of it is in hand, and what is missing."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel

from services.operations.nrc09 import AskedConfiguration, asked_configurations
from services.operations.stored import Product, Stored, read_stored
from services.operations.stored_sets import StoredConfiguration, stored_sets
from shared.configuration import ConfigurationKey
from shared.errors import DarksError
from shared.exposure_sets import BuiltSet, superseded_by
from shared.settings import StageSettings
from shared.store.base import Store
from shared.store.manifest import find

#: What only counts: the dark_current step takes each group of a dark as one frame.
_PATTERN = "RAPID"

CellStatus = Literal["complete", "partial", "missing", "no reference", "reference rejected", "beyond"]
#: Detector, subarray, number of outputs.
_Place = tuple[str, str, int]


class CoverageReference(BaseModel):
    """A dark reference; `accepted` is null where nobody verified it."""

    path: str
    configuration: str
    set_id: str
    exposures: int
    created: datetime
    accepted: bool | None
    verdict: str | None


class CoverageCell(BaseModel):
    """One place of the matrix DETECTOR x SUBARRAY x NOUTPUTS.

    Attributes
    ----------
    coronmsk : list of str
        What the exposures in hand have; the one that is expected where there are none.
    asked : int
        Ramps that NRC-09 asks for; 0 where it asks for none.
    ramps : int
        Integrations of the largest RAPID set of one configuration: what one reference can be made from.
    groups : int or None
        NGROUPS of that set.
    ramps_in_all : int
        Integrations of all sets and readout patterns.
    configurations : list of str
        All that are in hand.
    reference : CoverageReference or None
        The newest current RAPID reference that was not rejected.
    rejected_references : list of CoverageReference
        Those that failed their verification, newest first.
    status : str
        ``beyond``: in hand, though nobody asked for it.
    words : str
        The same for a person, such as ``3 of 5 ramps``.
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
    rejected_references: list[CoverageReference]
    status: CellStatus
    words: str


class CoverageMatrix(BaseModel):
    """The matrix, by detector; `damaged` are addresses of manifests that cannot be read.

    `asked` and `complete` count places that NRC-09 asks for, and those of them that have all.
    """

    asked: int
    complete: int
    simulated: bool
    cells: list[CoverageCell]
    damaged: list[str]


class Coverage(BaseModel):
    """What `nircam-darks coverage --json` prints; without an answer of the store, why there is none."""

    time: datetime
    coverage: CoverageMatrix | None
    store_problem: str | None


def coverage(
    open_store: Callable[[], Store], settings: StageSettings, now: datetime | None = None
) -> Coverage:
    """Ask the store what is in hand.

    Parameters
    ----------
    open_store : callable
        Opens the store; it is closed again here.
    settings : StageSettings
        ``epoch_gap_days`` as the services have it.
    now : datetime, optional
    """
    now = now or datetime.now(UTC)
    try:
        store = open_store()
        try:
            return Coverage(time=now, coverage=coverage_matrix(store, settings, now), store_problem=None)
        finally:
            store.close()
    except DarksError as error:
        return Coverage(time=now, coverage=None, store_problem=" ".join(str(error).split()))


def coverage_matrix(store: Store, settings: StageSettings, now: datetime) -> CoverageMatrix:
    """Return the matrix of what a store holds; see `coverage`.

    Raises
    ------
    StoreUnavailable, EnvironmentFault
        If the store does not answer, or refuses.
    """
    stored = read_stored(store)
    held, made, simulated = _in_hand(store, stored, settings, now)
    asked = {(one.detector, one.subarray, one.noutputs): one for one in asked_configurations()}
    places = [*asked, *sorted((held.keys() | made.keys()) - asked.keys())]
    cells = [_cell(place, asked.get(place), held.get(place, []), made.get(place, [])) for place in places]
    cells.sort(key=lambda cell: cell.detector)
    return CoverageMatrix(
        asked=len(asked),
        complete=sum(cell.status == "complete" for cell in cells),
        simulated=simulated,
        cells=cells,
        damaged=sorted(stored.damaged),
    )


@dataclass(frozen=True)
class _Held:
    key: ConfigurationKey
    configuration: StoredConfiguration

    @property
    def best(self) -> int:
        return max((one.integrations for one in self.configuration.sets), default=0)

    @property
    def in_all(self) -> int:
        return sum(one.integrations for one in self.configuration.sets)


@dataclass(frozen=True)
class _Made:
    """A RAPID reference, as its product and as what is told of it."""

    product: Product
    told: CoverageReference


def _in_hand(
    store: Store, stored: Stored, settings: StageSettings, now: datetime
) -> tuple[dict[_Place, list[_Held]], dict[_Place, list[_Made]], bool]:
    """Return ramps and references by place, and whether any of it is simulated."""
    held: dict[_Place, list[_Held]] = defaultdict(list)
    made: dict[_Place, list[_Made]] = defaultdict(list)
    simulated = False
    one_ramp = {one.configuration: one for one in stored.of_kind("ramp")}
    for configuration in stored_sets(stored, settings, now):
        ramp = one_ramp.get(configuration.configuration)
        facts = _facts(store, ramp) if ramp is not None else {}
        if "key" in facts:
            key = ConfigurationKey.model_validate(facts["key"])
            simulated |= bool(facts.get("simulated"))
            held[_place(key)].append(_Held(key, configuration))
    for product in stored.of_kind("reference"):
        facts = _facts(store, product)
        if "key" in facts:
            key = ConfigurationKey.model_validate(facts["key"])
            simulated |= bool(facts.get("simulated"))
            if key.readpatt == _PATTERN:
                made[_place(key)].append(_Made(product, _reference(product, facts)))
    return held, made, simulated


def _facts(store: Store, product: Product) -> dict[str, Any]:
    manifest = find(store, product.path)
    return manifest.facts if manifest is not None else {}


def _place(key: ConfigurationKey) -> _Place:
    return key.detector, key.subarray, key.noutputs


def _reference(product: Product, facts: dict[str, Any]) -> CoverageReference:
    # References of earlier versions were never verified.
    verification = facts.get("verification")
    accepted = verification.get("accepted") if isinstance(verification, dict) else None
    return CoverageReference(
        path=product.path,
        configuration=product.configuration or "",
        set_id=product.subject,
        exposures=len(product.exposures),
        created=product.created,
        accepted=accepted if isinstance(accepted, bool) else None,
        verdict=product.verdict,
    )


def _cell(
    place: _Place, asked: AskedConfiguration | None, held: list[_Held], made: list[_Made]
) -> CoverageCell:
    serving = [one for one in held if one.key.readpatt == _PATTERN]
    best = max(serving, key=lambda one: (one.best, one.key.ngroups, one.key.slug), default=None)
    ramps = best.best if best is not None else 0
    wanted = asked.ramps if asked is not None else 0
    newest = sorted(made, key=lambda one: (one.told.created, one.told.path), reverse=True)
    rejected = [one.told for one in newest if one.told.accepted is False]
    reference = _current([one for one in newest if one.told.accepted is not False])
    masks = sorted({one.key.coronmsk for one in held})
    status = _status(ramps, wanted, reference, rejected)
    return CoverageCell(
        detector=place[0],
        subarray=place[1],
        noutputs=place[2],
        coronmsk=masks or [asked.coronmsk if asked is not None else "NONE"],
        asked=wanted,
        ramps=ramps,
        groups=best.key.ngroups if best is not None else None,
        ramps_in_all=sum(one.in_all for one in held),
        configurations=sorted(one.key.slug for one in held),
        reference=reference,
        rejected_references=rejected,
        status=status,
        words=_words(status, ramps, wanted),
    )


def _current(made: list[_Made]) -> CoverageReference | None:
    """Return the first of references, newest first, that none of the others stands in the place of."""
    stands_in = superseded_by(
        BuiltSet(one.product.path, one.told.configuration, one.product.exposures, one.product.created)
        for one in made
    )
    return next((one.told for one in made if stands_in[one.product.path] is None), None)


def _status(
    ramps: int, asked: int, reference: CoverageReference | None, rejected: list[CoverageReference]
) -> CellStatus:
    if not asked:
        return "beyond"
    if reference is None and rejected:
        return "reference rejected"
    if ramps < asked:
        return "partial" if ramps or reference is not None else "missing"
    return "complete" if reference is not None else "no reference"


def _words(status: CellStatus, ramps: int, asked: int) -> str:
    if status == "partial":
        return f"{ramps} of {asked} ramps"
    return "not asked for" if status == "beyond" else status
