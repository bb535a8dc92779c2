"""The state of the queues, of the exposure sets, and the most recent products."""

from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime

from pydantic import BaseModel

from shared.broker.rabbitmq.management import QueueState
from shared.catalog.packs import collecting_later, stored_by_catalog
from shared.catalog.sets import StoredConfiguration, StoredSet, stored_sets
from shared.catalog.store_contents import ProductSummary, Stored
from shared.errors import DarksError
from shared.products.claim import Claim, describe_missing, missing_segments, newest_segments
from shared.products.unserved import UnservedConfiguration
from shared.settings.stage import StageSettings
from shared.store.base import Store


class QueueStatus(BaseModel):
    """One queue: messages waiting (`ready`), messages in progress (`unacked`), consumers."""

    name: str
    kind: str
    ready: int
    unacked: int
    consumers: int


class SetStatus(BaseModel):
    """One set; `expected` is the number of exposures announced for its epoch, null if unknown.

    `reference` and `noise` are the paths of its current products, or null. `calibrated_before` says with what
    its exposures had been calibrated when they arrived, where that sets them apart; else it is empty.
    """

    set_id: str
    exposures: list[str]
    integrations: int
    complete: bool
    expected: int | None
    reference: str | None
    noise: str | None
    calibrated_before: str = ""


class ReferenceStatus(BaseModel):
    """One dark reference; `superseded_by` is the path of the reference that supersedes it."""

    path: str
    set_id: str
    exposures: int
    created: datetime
    verdict: str | None
    superseded_by: str | None


class ConfigurationStatus(BaseModel):
    """The exposures and products of one configuration; `waits_for` is null if every set is complete.

    `expected` is the number of exposures announced, over all epochs for which it is known.
    """

    configuration: str
    ingested: int
    rejected: int
    expected: int | None
    waits_for: str | None
    sets: list[SetStatus]
    references: list[ReferenceStatus]


class ProductStatus(BaseModel):
    """One of the most recent products; for a rejection, `verdict` is the reason.

    `short` is the verdict without its numbers; `is_off` says whether a figure is above or below its
    expectation, or a reference failed its verification.
    """

    kind: str
    configuration: str | None
    subject: str
    verdict: str | None
    short: str | None = None
    is_off: bool = False
    created: datetime
    age_seconds: float
    path: str


class SegmentsStatus(BaseModel):
    """An exposure that waits for segments: those that are `missing`, of `total`; the files that arrived."""

    exposure_id: str
    missing: list[int]
    total: int
    arrived: list[str]
    waits_for: str


class AsideStatus(BaseModel):
    """A file of an exposure that is not needed, because another of its files counts."""

    exposure_id: str
    uri: str
    reason: str


class StoreStatus(BaseModel):
    """Contents of the store; `unserved` are the configurations without a reference file to calibrate with."""

    ingested: int
    rejected: int
    waiting_for_segments: list[SegmentsStatus] = []
    not_needed: list[AsideStatus] = []
    configurations: list[ConfigurationStatus]
    last_products: list[ProductStatus]
    damaged: list[str]
    unserved: list[UnservedConfiguration] = []


class Status(BaseModel):
    """Output of `nircam-darks status --json`; a part that is not available is null, with the reason."""

    time: datetime
    queues: list[QueueStatus] | None
    broker_problem: str | None
    store: StoreStatus | None
    store_problem: str | None

    @property
    def whole(self) -> bool:
        """True if both broker and store answered."""
        return self.broker_problem is None and self.store_problem is None


def ask_status(
    queues: Callable[[], list[QueueState]],
    open_store: Callable[[], Store],
    settings: StageSettings,
    last: int = 10,
    now: datetime | None = None,
) -> Status:
    """Ask broker and store; if one does not answer, still return what the other says.

    Parameters
    ----------
    queues : callable
        Returns the state of the broker's queues.
    open_store : callable
        Opens the store, which is closed again here.
    settings : StageSettings
    last : int
        Number of most recent products to include.
    now : datetime, optional
    """
    now = now or datetime.now(UTC)
    answer = Status(time=now, queues=None, broker_problem=None, store=None, store_problem=None)
    try:
        answer.queues = [QueueStatus(**vars(state)) for state in queues()]
    except DarksError as error:
        answer.broker_problem = _one_line(error)
    try:
        store = open_store()
        try:
            with collecting_later():
                answer.store = store_status(stored_by_catalog(store), settings, last, now)
        finally:
            store.close()
    except DarksError as error:
        answer.store_problem = _one_line(error)
    return answer


def store_status(stored: Stored, settings: StageSettings, last: int, now: datetime) -> StoreStatus:
    """Return the status of a store's contents."""
    configurations = stored_sets(stored, settings, now)
    ramps = {ramp.subject for ramp in stored.of_kind("ramp")}
    newest = sorted(stored.products, key=lambda product: (product.created, product.path), reverse=True)[:last]
    return StoreStatus(
        ingested=len(ramps),
        rejected=len({rejection.subject for rejection in stored.of_kind("rejection")} - ramps),
        waiting_for_segments=_waiting_for_segments(stored.claims, ramps),
        not_needed=[
            AsideStatus(exposure_id=claim.exposure_id, uri=claim.uri, reason=claim.stands_aside)
            for claim in stored.claims
            if claim.stands_aside
        ],
        configurations=[_configuration(configuration, stored) for configuration in configurations],
        last_products=[
            ProductStatus(
                kind=product.kind,
                configuration=product.configuration,
                subject=product.subject,
                verdict=product.verdict,
                short=product.short,
                is_off=product.is_off,
                created=product.created,
                age_seconds=round((now - product.created).total_seconds(), 3),
                path=product.path,
            )
            for product in newest
        ],
        damaged=sorted(stored.damaged),
        unserved=stored.still_unserved(),
    )


def _waiting_for_segments(claims: list[Claim], ingested: set[str]) -> list[SegmentsStatus]:
    by_exposure: dict[str, list[Claim]] = defaultdict(list)
    for claim in claims:
        if claim.segment is not None and claim.exposure_id not in ingested:
            by_exposure[claim.exposure_id].append(claim)
    waiting = []
    for exposure_id, parts in sorted(by_exposure.items()):
        segments = newest_segments(parts)
        if missing := missing_segments(segments):
            waiting.append(
                SegmentsStatus(
                    exposure_id=exposure_id,
                    missing=missing,
                    total=len(segments) + len(missing),
                    arrived=[segments[number].file for number in sorted(segments)],
                    waits_for=describe_missing(segments),
                )
            )
    return waiting


def _configuration(configuration: StoredConfiguration, stored: Stored) -> ConfigurationStatus:
    references = [p for p in stored.of_kind("reference") if p.path in configuration.superseded]
    current = {p.path for p in references if configuration.superseded[p.path] is None}
    return ConfigurationStatus(
        configuration=configuration.configuration,
        ingested=configuration.ingested,
        rejected=configuration.rejected,
        expected=configuration.expected,
        waits_for=configuration.waits_for,
        sets=[_set(each, current) for each in configuration.sets],
        references=[
            ReferenceStatus(
                path=p.path,
                set_id=p.subject,
                exposures=len(p.exposures),
                created=p.created,
                verdict=p.verdict,
                superseded_by=configuration.superseded[p.path],
            )
            for p in sorted(references, key=lambda p: (p.created, p.path))
        ],
    )


def _set(stored_set: StoredSet, current: set[str]) -> SetStatus:
    return SetStatus(
        set_id=stored_set.set_id,
        exposures=list(stored_set.exposures),
        integrations=stored_set.integrations,
        complete=stored_set.complete,
        expected=stored_set.expected,
        reference=next((p.path for p in stored_set.references if p.path in current), None),
        noise=_newest(stored_set.noise),
        calibrated_before=stored_set.calibrated_before,
    )


def _newest(products: tuple[ProductSummary, ...]) -> str | None:
    newest = max(products, key=lambda product: (product.created, product.path), default=None)
    return newest.path if newest is not None else None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
