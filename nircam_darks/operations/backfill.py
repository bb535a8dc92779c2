"""Announce every exposure of a source, at a pace that the services can follow, and resume after a stop."""

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ValidationError

from nircam_darks.operations.backfill_sources import AddressSource, FoundAddress, refused_addresses
from nircam_darks.operations.redeliveries import Redeliveries
from shared.broker.base import Broker
from shared.contracts.messages import Envelope, ExposureAnnounced
from shared.errors import DarksError, EnvironmentFault, PermanentError
from shared.settings.stage import StageSettings
from shared.store.base import Store

#: Announced and skipped addresses after which the progress is saved.
_SAVE_EVERY, _SAVE_EVERY_PASSED = 10, 1000
#: Seconds between two looks at a full queue.
_LOOK_AGAIN = 2.0
#: Number of reasons quoted in the error about addresses that would be refused.
_QUOTED = 3


@dataclass(frozen=True)
class Pace:
    """How fast exposures are announced.

    Attributes
    ----------
    rate : float or None
        Maximum number per second.
    max_ready : int or None
        Pause while this many messages are waiting for ingest.
    waiting : callable
        Returns how many are waiting.
    pause, clock : callable
        Wait for a number of seconds; return the time in seconds.
    """

    rate: float | None = None
    max_ready: int | None = None
    waiting: Callable[[], int] = lambda: 0
    pause: Callable[[float], object] = threading.Event().wait
    clock: Callable[[], float] = time.monotonic

    def steps(self) -> Iterator[None]:
        """Yield whenever another exposure may be announced."""
        room, due = 0, self.clock()
        while True:
            while self.max_ready is not None and room <= 0:
                # Announcements since the last look are counted here, so that not each one asks the broker.
                room = self.max_ready - self.waiting()
                if room <= 0:
                    self.pause(_LOOK_AGAIN)
            if self.rate is not None:
                if (early := due - self.clock()) > 0:
                    self.pause(early)
                due = max(due, self.clock()) + 1 / self.rate
            room -= 1
            yield


class BackfillProgress(BaseModel):
    """Progress of a backfill, as saved in the store.

    Attributes
    ----------
    after : str
        Position of the last address that was announced or skipped.
    announced, passed : int
        Addresses announced and skipped.
    finished : bool
        True at the end of the source; the next backfill then starts from the beginning.
    began : datetime or None
        When this backfill began.
    handled_before : datetime or None
        When the last one that finished began: it has announced or skipped what is older.
    """

    source: str
    after: str = ""
    announced: int = 0
    passed: int = 0
    finished: bool = False
    updated: datetime | None = None
    began: datetime | None = None
    handled_before: datetime | None = None


@dataclass(frozen=True)
class HandledAddress:
    """One address that was ``announced``, or ``passed`` over because its exposure was processed before."""

    outcome: Literal["announced", "passed"]
    exposure_id: str
    uri: str
    message_id: str | None = None


def progress_key(source: AddressSource) -> str:
    """Return the store key of the progress of a backfill of `source`."""
    return f"backfill/{hashlib.sha256(source.name.encode()).hexdigest()[:32]}.json"


def read_progress(source: AddressSource, store: Store) -> BackfillProgress:
    """Return the progress of an unfinished backfill of `source`, or that of a new one.

    Raises
    ------
    EnvironmentFault
        If the saved progress cannot be read.
    """
    key = progress_key(source)
    try:
        saved = BackfillProgress.model_validate_json(store.get(key))
    except KeyError:
        return BackfillProgress(source=source.name)
    except ValidationError:
        raise EnvironmentFault(
            f"{store.uri(key)} is not the progress of a backfill; start from the beginning with --restart",
            where=store.uri(key),
            setting="--restart",
        ) from None
    if saved.finished:
        return BackfillProgress(source=source.name, handled_before=saved.began)
    return saved


def backfill(
    source: AddressSource,
    store: Store,
    broker: Broker,
    settings: StageSettings,
    pace: Pace,
    restart: bool = False,
    again: bool = False,
) -> Generator[HandledAddress, None, None]:
    """Announce the exposures of `source`, from where its last backfill stopped.

    The progress is saved only now and then. A backfill that was killed therefore repeats a few of its last
    announcements, which does no harm.

    Parameters
    ----------
    source : AddressSource
    store : Store
        Holds the products of ingest, and the progress.
    broker : Broker
    settings : StageSettings
        With ``allowed_sources`` as in the settings of ingest.
    pace : Pace
    restart : bool
        Start from the beginning.
    again : bool
        Also announce exposures that have a ramp or a rejection; otherwise only where their file was delivered
        again since.

    Yields
    ------
    HandledAddress
        Once the broker has confirmed it.

    Raises
    ------
    PermanentError
        If ingest would refuse an address; nothing is announced then.
    PublishFailed
        If the broker did not confirm an announcement.
    """
    progress = BackfillProgress(source=source.name) if restart else read_progress(source, store)
    _require_allowed(source, progress.after, settings)
    progress.began = progress.began or datetime.now(UTC)
    redeliveries = None if again else Redeliveries(store, progress.handled_before)
    steps, key = pace.steps(), progress_key(source)
    saved = progress.model_copy()

    def save() -> None:
        nonlocal saved
        progress.updated = datetime.now(UTC)
        store.put(key, progress.model_dump_json(indent=1).encode())
        saved = progress.model_copy()

    try:
        for address in source.addresses(progress.after):
            handled = _handle(address, redeliveries, steps, broker)
            progress.after = address.position
            progress.announced += handled.outcome == "announced"
            progress.passed += handled.outcome == "passed"
            if (
                progress.announced - saved.announced >= _SAVE_EVERY
                or progress.passed - saved.passed >= _SAVE_EVERY_PASSED
            ):
                save()
            yield handled
    except BaseException:
        # What stopped the backfill matters more than that its progress could not be saved either.
        with contextlib.suppress(DarksError):
            save()
        raise
    progress.finished = True
    save()


def _handle(
    address: FoundAddress, redeliveries: Redeliveries | None, steps: Iterator[None], broker: Broker
) -> HandledAddress:
    exposure = address.exposure_id
    if redeliveries is not None and redeliveries.is_settled(address):
        return HandledAddress("passed", exposure, address.uri)
    next(steps)
    content = ExposureAnnounced(exposure_id=exposure, uri=address.uri, size=address.size)
    message = Envelope.of(content, identity=f"{address.uri}{address.mark}")
    broker.publish(message)
    return HandledAddress("announced", exposure, address.uri, str(message.id))


def _require_allowed(source: AddressSource, after: str, settings: StageSettings) -> None:
    total, reasons = refused_addresses(source, after, settings)
    if reasons:
        more = f"; and {len(reasons) - _QUOTED} more" if len(reasons) > _QUOTED else ""
        raise PermanentError(
            f"nothing was announced: ingest would refuse {len(reasons)} of {total} addresses: "
            f"{'; '.join(reasons[:_QUOTED])}{more}"
        )
