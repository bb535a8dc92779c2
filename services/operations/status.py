"""What waits where, what the sets wait for, and what was made last."""

from collections.abc import Callable
from datetime import UTC, datetime

from pydantic import BaseModel

from services.operations.stored import Product, Stored, read_stored
from services.operations.stored_sets import StoredConfiguration, StoredSet, stored_sets
from shared.broker.rabbitmq.queues import QueueState
from shared.errors import DarksError
from shared.settings import StageSettings
from shared.store.base import Store


class QueueStatus(BaseModel):
    """One queue: messages that wait, messages in work, consumers."""

    name: str
    kind: str
    ready: int
    unacked: int
    consumers: int


class SetStatus(BaseModel):
    """One set; `expected` is what was announced for its campaign, null where nobody said.

    `reference` and `noise` are the paths of what is current of it, null where nothing is.
    """

    set_id: str
    exposures: list[str]
    integrations: int
    complete: bool
    expected: int | None
    reference: str | None
    noise: str | None


class ReferenceStatus(BaseModel):
    """One dark reference; `superseded_by` is the path of the one that stands in its place."""

    path: str
    set_id: str
    exposures: int
    created: datetime
    verdict: str | None
    superseded_by: str | None


class ConfigurationStatus(BaseModel):
    """What came of one configuration; `waits_for` is null if every set is complete.

    `expected` is the number announced, of all campaigns of which somebody said.
    """

    configuration: str
    ingested: int
    rejected: int
    expected: int | None
    waits_for: str | None
    sets: list[SetStatus]
    references: list[ReferenceStatus]


class ProductStatus(BaseModel):
    """One of the products made last; of a rejection `verdict` is the reason."""

    kind: str
    configuration: str | None
    subject: str
    verdict: str | None
    created: datetime
    age_seconds: float
    path: str


class StoreStatus(BaseModel):
    """What the store holds."""

    ingested: int
    rejected: int
    configurations: list[ConfigurationStatus]
    last_products: list[ProductStatus]
    damaged: list[str]


class Status(BaseModel):
    """What `nircam-darks status --json` prints; a part that could not be had is null, and says why."""

    time: datetime
    queues: list[QueueStatus] | None
    broker_problem: str | None
    store: StoreStatus | None
    store_problem: str | None

    @property
    def whole(self) -> bool:
        """Whether both broker and store answered."""
        return self.broker_problem is None and self.store_problem is None


def status(
    queues: Callable[[], list[QueueState]],
    open_store: Callable[[], Store],
    settings: StageSettings,
    last: int = 10,
    now: datetime | None = None,
) -> Status:
    """Ask broker and store; where one is away, still tell of the other.

    Parameters
    ----------
    queues : callable
        Asks the broker.
    open_store : callable
        Opens the store; it is closed again here.
    settings : StageSettings
    last : int
        How many of the newest products are told of.
    now : datetime, optional
    """
    now = now or datetime.now(UTC)
    found = Status(time=now, queues=None, broker_problem=None, store=None, store_problem=None)
    try:
        found.queues = [QueueStatus(**vars(state)) for state in queues()]
    except DarksError as error:
        found.broker_problem = _one_line(error)
    try:
        store = open_store()
        try:
            found.store = store_status(read_stored(store), settings, last, now)
        finally:
            store.close()
    except DarksError as error:
        found.store_problem = _one_line(error)
    return found


def store_status(stored: Stored, settings: StageSettings, last: int, now: datetime) -> StoreStatus:
    """Return what is told of the store's content."""
    configurations = stored_sets(stored, settings, now)
    ramps = {one.subject for one in stored.of_kind("ramp")}
    newest = sorted(stored.products, key=lambda one: (one.created, one.path), reverse=True)[:last]
    return StoreStatus(
        ingested=len(ramps),
        rejected=len({one.subject for one in stored.of_kind("rejection")} - ramps),
        configurations=[_configuration(one, stored) for one in configurations],
        last_products=[
            ProductStatus(
                kind=one.kind,
                configuration=one.configuration,
                subject=one.subject,
                verdict=one.verdict,
                created=one.created,
                age_seconds=round((now - one.created).total_seconds(), 3),
                path=one.path,
            )
            for one in newest
        ],
        damaged=sorted(stored.damaged),
    )


def _configuration(one: StoredConfiguration, stored: Stored) -> ConfigurationStatus:
    references = [p for p in stored.of_kind("reference") if p.path in one.superseded]
    current = {p.path for p in references if one.superseded[p.path] is None}
    return ConfigurationStatus(
        configuration=one.configuration,
        ingested=one.ingested,
        rejected=one.rejected,
        expected=one.expected,
        waits_for=one.waits_for,
        sets=[_set(each, current) for each in one.sets],
        references=[
            ReferenceStatus(
                path=p.path,
                set_id=p.subject,
                exposures=len(p.exposures),
                created=p.created,
                verdict=p.verdict,
                superseded_by=one.superseded[p.path],
            )
            for p in sorted(references, key=lambda p: (p.created, p.path))
        ],
    )


def _set(one: StoredSet, current: set[str]) -> SetStatus:
    return SetStatus(
        set_id=one.set_id,
        exposures=list(one.exposures),
        integrations=one.integrations,
        complete=one.complete,
        expected=one.expected,
        reference=next((p.path for p in one.references if p.path in current), None),
        noise=_newest(one.noise),
    )


def _newest(products: tuple[Product, ...]) -> str | None:
    newest = max(products, key=lambda one: (one.created, one.path), default=None)
    return newest.path if newest is not None else None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
