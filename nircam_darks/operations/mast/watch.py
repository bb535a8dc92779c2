"""Watch the archive for new darks and announce them.

Each round asks MAST for the NIRCam darks of a program, starting an overlap before the newest known exposure,
and announces the new files, and those that were delivered again with another size or ETag: at their address
in the archive's public bucket, or after a download. The store records what has been announced, exposure by
exposure, once the broker has confirmed it. A watch that is killed in between announces one exposure again,
under the same message ids, which does no harm.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import ClassVar

from nircam_darks.operations.mast.client import DownloadRefused, MastArchive
from nircam_darks.operations.mast.locations import Placed, Places
from nircam_darks.operations.mast.records import DarkExposure, DarkFile
from nircam_darks.operations.mast.signals import Stop
from nircam_darks.operations.mast.state import FileMark, WatchState, load_state, save_state, state_key
from shared.broker.base import Broker
from shared.contracts.messages import Envelope, ExposureAnnounced
from shared.errors import TransientError
from shared.nircam.exposure_id import exposure_id
from shared.store.base import Store

#: Longest pause between two rounds while the archive, the store or the broker does not answer (s).
_LONGEST_WAIT = 6 * 3600.0


@dataclass(frozen=True)
class AnnouncedFile:
    """A file whose announcement the broker has confirmed; in a dry run, one that would be announced.

    Attributes
    ----------
    uri : str or None
        None in a dry run if the file would have to be downloaded first.
    message_id : str or None
        None in a dry run.
    """

    event: ClassVar[str] = "announced"

    exposure_id: str
    uri: str | None
    size: int | None
    sha256: str | None
    message_id: str | None


@dataclass(frozen=True)
class RefusedFile:
    """A file that was not announced, and why; the next round tries it again."""

    event: ClassVar[str] = "refused"

    file: str
    reason: str


@dataclass
class WatchRound:
    """The result of one look at the archive.

    Attributes
    ----------
    begin : datetime
        Start of the period that was searched.
    exposures : int
        Exposures that the archive lists.
    announced, known, withheld, refused : int
        Files announced now; announced before; not public; different from what the archive lists.
    without_files : int
        Exposures for which the archive has no raw file yet.
    """

    event: ClassVar[str] = "round"

    begin: datetime
    exposures: int = 0
    announced: int = 0
    known: int = 0
    withheld: int = 0
    refused: int = 0
    without_files: int = 0


@dataclass(frozen=True)
class ServerAway:
    """The archive, the store or the broker did not answer; the next round begins after `seconds`."""

    event: ClassVar[str] = "away"

    reason: str
    seconds: float


@dataclass
class ArchiveWatch:
    """Watches for the darks of one program and period, and announces them.

    Attributes
    ----------
    since, until : datetime
        Period of observation (UTC), `until` excluded; None: no end.
    overlap : timedelta
        How far before the newest known exposure to look for exposures that are published late.
    broker : Broker or None
        None for a dry run, which announces, downloads and records nothing.
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

    def look(self) -> Iterator[AnnouncedFile | RefusedFile | WatchRound]:
        """Look once; yield each announced and each refused file, and finally the round.

        Raises
        ------
        ArchiveUnavailable, StoreUnavailable, PublishFailed, EnvironmentFault
            Whatever was yielded before has been announced.
        Stopped
            If a signal arrived.
        """
        key = state_key(self.program, self.since, self.until)
        state = load_state(self.store, key)
        round_ = WatchRound(state.begin(self.since, self.overlap))
        self._open_since = None
        listed = self.archive.exposures(self.program, round_.begin, self.until)
        for exposure in self.stop.interruptibly(listed):
            yield from self._exposure(exposure, state, key, round_)
        if self.broker is not None:
            state.finish(self._open_since, self.since, self.overlap)
            save_state(self.store, key, state)
        yield round_

    def keep_looking(self, every: float) -> Iterator[AnnouncedFile | RefusedFile | WatchRound | ServerAway]:
        """Look every `every` seconds without end, with growing pauses while a server does not answer.

        Raises
        ------
        EnvironmentFault
            If only a change of the set-up helps.
        Stopped
            If a signal arrived.
        """
        wait = every
        while True:
            try:
                yield from self.look()
                wait = every
            except TransientError as error:
                wait = max(every, min(2 * wait, _LONGEST_WAIT))
                yield ServerAway(str(error), wait)
            self.stop.wait(wait)

    def _exposure(
        self, exposure: DarkExposure, state: WatchState, key: str, round_: WatchRound
    ) -> Iterator[AnnouncedFile | RefusedFile]:
        round_.exposures += 1
        round_.without_files += not exposure.files
        done: list[str] = []
        whole = False
        try:
            outstanding = 0
            for file in exposure.files:
                mark = self._mark(file) if file.name in state.announced else FileMark(size=file.size)
                if state.is_known(file.name, mark):
                    round_.known += 1
                elif not file.public:
                    round_.withheld += 1
                    outstanding += 1
                else:
                    try:
                        # A later delivery has a message of its own, even at the same address.
                        again = file.name in state.announced
                        announced, mark = self._announce(file, again)
                    except DownloadRefused as error:
                        round_.refused += 1
                        outstanding += 1
                        yield RefusedFile(file.name, str(error))
                    else:
                        round_.announced += 1
                        done.append(file.name)
                        state.marks[file.name] = mark
                        yield announced
            whole = bool(exposure.files) and not outstanding
        finally:
            # Confirmed files are recorded even if the rest failed: they may have been gigabytes to download.
            self._record(exposure, done, whole, state, key)

    def _record(
        self, exposure: DarkExposure, done: list[str], whole: bool, state: WatchState, key: str
    ) -> None:
        if not whole:
            self._open_since = min(self._open_since or exposure.observed, exposure.observed)
        if self.broker is not None:
            state.record(exposure.observed, done, whole)
            if done:
                save_state(self.store, key, state)

    def _mark(self, file: DarkFile) -> FileMark:
        """Return what tells this delivery of a file from an earlier one."""
        with self.stop.interruptible():
            placed = self.places.public(file)
        return FileMark(size=file.size, etag=placed.etag if placed else None)

    def _announce(self, file: DarkFile, again: bool) -> tuple[AnnouncedFile, FileMark]:
        name = exposure_id(file.name)
        with self.stop.interruptible():
            placed = self.places.public(file)
            if placed is None and self.broker is not None:
                placed = self.places.download(file)
        mark = FileMark(size=file.size, etag=placed.etag if placed else None)
        if self.broker is None or placed is None:
            return AnnouncedFile(name, placed.uri if placed else None, file.size, None, None), mark
        message = _announcement(name, placed, again)
        self.broker.publish(message)
        return AnnouncedFile(name, placed.uri, placed.size, placed.sha256, str(message.id)), mark


def _announcement(name: str, placed: Placed, again: bool) -> Envelope:
    # No expected count: the archive does not say how many exposures a configuration will have.
    content = ExposureAnnounced(exposure_id=name, uri=placed.uri, size=placed.size, sha256=placed.sha256)
    delivery = f":{placed.etag}" if again and placed.etag else ""
    return Envelope.of(content, identity=f"{placed.uri}:{placed.sha256 or placed.size}{delivery}")
