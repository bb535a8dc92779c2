"""Watch the archive for new darks and announce them.

Each round asks MAST for the NIRCam darks of a program from the newest known one less the overlap on, and
announces the files that are new: where the archive's public bucket has them, else after a download. What
is announced is noted in the store exposure by exposure, after the broker's confirms: whoever is killed in
between announces one exposure again, under the same message ids.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.operations.mast_answers import DarkExposure, DarkFile
from services.operations.mast_archive import DownloadRefused, MastArchive
from services.operations.mast_places import Placed, Places
from services.operations.mast_state import WatchState, load_state, save_state, state_key
from services.operations.mast_stop import Stop
from shared.broker.base import Broker
from shared.errors import TransientError
from shared.exposures import exposure_id
from shared.messages import Envelope, ExposureAnnounced
from shared.store.base import Store

#: Seconds between two rounds at most while the archive, the store or the broker is away.
_LONGEST_WAIT = 6 * 3600.0


@dataclass(frozen=True)
class Announced:
    """A file that the broker has confirmed; in a dry run, one that would be announced.

    Attributes
    ----------
    uri : str or None
        None where it would have to be downloaded first (dry run).
    message_id : str or None
        None in a dry run.
    """

    exposure_id: str
    uri: str | None
    size: int | None
    sha256: str | None
    message_id: str | None


@dataclass(frozen=True)
class Refused:
    """A file that was not announced, and why; it is tried again in the next round."""

    file: str
    reason: str


@dataclass
class Round:
    """What one look at the archive came to.

    Attributes
    ----------
    begin : datetime
        From when on exposures were asked for.
    exposures : int
        Exposures that the archive lists.
    announced, known, withheld, refused : int
        Files announced now; announced before; not public; not what the archive lists.
    without_files : int
        Exposures of which the archive has no raw file as yet.
    """

    begin: datetime
    exposures: int = 0
    announced: int = 0
    known: int = 0
    withheld: int = 0
    refused: int = 0
    without_files: int = 0


@dataclass(frozen=True)
class Away:
    """The archive, the store or the broker did not answer; the next round comes after `seconds`."""

    reason: str
    seconds: float


@dataclass
class Watch:
    """A program's darks of a period, and whom to tell of them.

    Attributes
    ----------
    since, until : datetime
        UTC; observed at or after, and before (None: no end).
    overlap : timedelta
        How far before the newest known exposure later published ones are looked for.
    broker : Broker or None
        None in a dry run: nothing is announced, downloaded or noted then.
    """

    archive: MastArchive
    places: Places
    store: Store
    broker: Broker | None
    stop: Stop
    program: int
    since: datetime
    until: datetime | None
    overlap: timedelta
    _open_since: datetime | None = field(init=False, default=None)

    def look(self) -> Iterator[Announced | Refused | Round]:
        """Look once; yield what was announced and refused, at last the round.

        Raises
        ------
        ArchiveUnavailable, StoreUnavailable, PublishFailed, EnvironmentFault
            What was yielded before is announced.
        Stopped
            If a signal came.
        """
        key = state_key(self.program, self.since, self.until)
        state = load_state(self.store, key)
        this = Round(state.begin(self.since, self.overlap))
        self._open_since = None
        listed = self.archive.exposures(self.program, this.begin, self.until)
        for exposure in self.stop.interruptibly(listed):
            yield from self._exposure(exposure, state, key, this)
        if self.broker is not None:
            state.finish(self._open_since, self.since, self.overlap)
            save_state(self.store, key, state)
        yield this

    def look_again_and_again(self, every: float) -> Iterator[Announced | Refused | Round | Away]:
        """Look for ever, `every` so many seconds, ever more seldom while something is away.

        Raises
        ------
        EnvironmentFault
            If somebody must change something.
        Stopped
            If a signal came.
        """
        wait = every
        while True:
            try:
                yield from self.look()
                wait = every
            except TransientError as error:
                wait = max(every, min(2 * wait, _LONGEST_WAIT))
                yield Away(str(error), wait)
            self.stop.wait(wait)

    def _exposure(
        self, exposure: DarkExposure, state: WatchState, key: str, this: Round
    ) -> Iterator[Announced | Refused]:
        this.exposures += 1
        this.without_files += not exposure.files
        done: list[str] = []
        whole = False
        try:
            left = 0
            for file in exposure.files:
                if file.name in state.announced:
                    this.known += 1
                elif not file.public:
                    this.withheld += 1
                    left += 1
                else:
                    try:
                        said = self._file(file)
                    except DownloadRefused as error:
                        this.refused += 1
                        left += 1
                        yield Refused(file.name, str(error))
                    else:
                        this.announced += 1
                        done.append(file.name)
                        yield said
            whole = bool(exposure.files) and not left
        finally:
            # What is confirmed is noted also where the rest failed: it may have been gigabytes.
            self._note(exposure, done, whole, state, key)

    def _note(
        self, exposure: DarkExposure, done: list[str], whole: bool, state: WatchState, key: str
    ) -> None:
        if not whole:
            self._open_since = min(self._open_since or exposure.observed, exposure.observed)
        if self.broker is not None:
            state.dealt_with(exposure.observed, done, whole)
            if done:
                save_state(self.store, key, state)

    def _file(self, file: DarkFile) -> Announced:
        name = exposure_id(file.name)
        with self.stop.interruptible():
            placed = self.places.public(file)
            if placed is None and self.broker is not None:
                placed = self.places.download(file)
        if self.broker is None or placed is None:
            return Announced(name, placed.uri if placed else None, file.size, None, None)
        message = _announcement(name, placed)
        self.broker.publish(message)
        return Announced(name, placed.uri, placed.size, placed.sha256, str(message.id))


def _announcement(name: str, placed: Placed) -> Envelope:
    # How many exposures a configuration will have, the archive does not say.
    said = ExposureAnnounced(exposure_id=name, uri=placed.uri, size=placed.size, sha256=placed.sha256)
    return Envelope.of(said, identity=f"{placed.uri}:{placed.sha256 or placed.size}")
