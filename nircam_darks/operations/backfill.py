"""Announce all that lies somewhere, at a pace that the services can follow; go on after a stop."""

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ValidationError

from services.operations.backfill_sources import Found, Source, refused
from services.operations.stored import settled_exposures
from shared.broker.base import Broker
from shared.errors import DarksError, EnvironmentFault, PermanentError
from shared.messages import Envelope, ExposureAnnounced
from shared.settings import StageSettings
from shared.store.base import Store

#: Announcements, and addresses passed over, after which it is noted how far it went.
_NOTE_EVERY, _NOTE_EVERY_PASSED = 10, 1000
#: Seconds between two looks at a queue that is full.
_LOOK_AGAIN = 2.0
#: Reasons that are quoted of those for which addresses would be refused.
_QUOTED = 3


@dataclass(frozen=True)
class Pace:
    """How fast exposures are announced.

    Attributes
    ----------
    rate : float or None
        At most so many a second.
    max_ready : int or None
        None is announced while so many wait in ingest's queue.
    waiting : callable
        Tells how many wait there.
    pause, clock : callable
        Wait for some seconds; tell the time in seconds.
    """

    rate: float | None = None
    max_ready: int | None = None
    waiting: Callable[[], int] = lambda: 0
    pause: Callable[[float], object] = threading.Event().wait
    clock: Callable[[], float] = time.monotonic

    def steps(self) -> Iterator[None]:
        """Yield whenever one more may be announced."""
        room, due = 0, self.clock()
        while True:
            while self.max_ready is not None and room <= 0:
                # What was announced since the last look is counted here: the broker is not asked each time.
                room = self.max_ready - self.waiting()
                if room <= 0:
                    self.pause(_LOOK_AGAIN)
            if self.rate is not None:
                if (early := due - self.clock()) > 0:
                    self.pause(early)
                due = max(due, self.clock()) + 1 / self.rate
            room -= 1
            yield


class Progress(BaseModel):
    """How far a backfill went, as it is noted in the store.

    Attributes
    ----------
    after : str
        Position of the last address that was announced, or passed over.
    finished : bool
        It came to the end; the next one begins anew.
    """

    source: str
    after: str = ""
    announced: int = 0
    passed: int = 0
    finished: bool = False
    updated: datetime | None = None


@dataclass(frozen=True)
class Said:
    """What became of one address: ``announced``, or ``passed`` over, for its exposure came before."""

    outcome: Literal["announced", "passed"]
    exposure_id: str
    uri: str
    message_id: str | None = None


def progress_key(source: Source) -> str:
    """Return the key under which it is noted how far a backfill of `source` went."""
    return f"backfill/{hashlib.sha256(source.name.encode()).hexdigest()[:32]}.json"


def read_progress(source: Source, store: Store) -> Progress:
    """Return how far an earlier backfill of `source` went; one that came to its end counts as none.

    Raises
    ------
    EnvironmentFault
        If the note cannot be read.
    """
    key = progress_key(source)
    try:
        noted = Progress.model_validate_json(store.get(key))
    except KeyError:
        return Progress(source=source.name)
    except ValidationError:
        raise EnvironmentFault(
            f"{store.uri(key)} is no note of a backfill; begin anew with --restart"
        ) from None
    return Progress(source=source.name) if noted.finished else noted


def backfill(
    source: Source,
    store: Store,
    broker: Broker,
    settings: StageSettings,
    pace: Pace,
    restart: bool = False,
    again: bool = False,
) -> Generator[Said, None, None]:
    """Announce what lies in `source`, from where the last backfill of it stopped.

    It is noted only now and then how far it went, so one that was killed says a few of its last
    announcements once more, which does no harm.

    Parameters
    ----------
    source : Source
    store : Store
        Holds what was ingested before, and how far it went.
    broker : Broker
    settings : StageSettings
        ``allowed_sources`` as ingest has them.
    pace : Pace
    restart : bool
        Begin at the beginning.
    again : bool
        Also announce exposures that have a ramp or a rejection.

    Yields
    ------
    Said
        Once the broker has confirmed it.

    Raises
    ------
    PermanentError
        If ingest would refuse an address; nothing is announced then.
    PublishFailed
        If the broker did not confirm.
    """
    progress = Progress(source=source.name) if restart else read_progress(source, store)
    _require_allowed(source, progress.after, settings)
    settled = set() if again else settled_exposures(store)
    steps, key = pace.steps(), progress_key(source)
    noted = progress.model_copy()

    def note() -> None:
        nonlocal noted
        progress.updated = datetime.now(UTC)
        store.put(key, progress.model_dump_json(indent=1).encode())
        noted = progress.model_copy()

    try:
        for found in source.addresses(progress.after):
            said = _say(found, settled, steps, broker)
            progress.after = found.position
            progress.announced += said.outcome == "announced"
            progress.passed += said.outcome == "passed"
            if (
                progress.announced - noted.announced >= _NOTE_EVERY
                or progress.passed - noted.passed >= _NOTE_EVERY_PASSED
            ):
                note()
            yield said
    except BaseException:
        # What stops it is told, not that this could not be noted either.
        with contextlib.suppress(DarksError):
            note()
        raise
    progress.finished = True
    note()


def _say(found: Found, settled: set[str], steps: Iterator[None], broker: Broker) -> Said:
    exposure = found.exposure_id
    if exposure in settled:
        return Said("passed", exposure, found.uri)
    next(steps)
    content = ExposureAnnounced(exposure_id=exposure, uri=found.uri, size=found.size)
    message = Envelope.of(content, identity=f"{found.uri}{found.mark}")
    broker.publish(message)
    return Said("announced", exposure, found.uri, str(message.id))


def _require_allowed(source: Source, after: str, settings: StageSettings) -> None:
    many, reasons = refused(source, after, settings)
    if reasons:
        more = f"; and {len(reasons) - _QUOTED} more" if len(reasons) > _QUOTED else ""
        raise PermanentError(
            f"nothing was announced: ingest would refuse {len(reasons)} of {many} addresses: "
            f"{'; '.join(reasons[:_QUOTED])}{more}"
        )
