"""What a watch of the archive has announced so far, kept as one small object in the store."""

from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.errors import EnvironmentFault
from shared.store.base import Store


class FileMark(BaseModel):
    """What tells a delivery of a file from an earlier one: its size, and its ETag in the public bucket.

    Either is None where it is not known.
    """

    size: int | None = None
    etag: str | None = None

    def differs(self, other: "FileMark") -> bool:
        """Return whether two deliveries are known to be different."""
        pairs = ((self.size, other.size), (self.etag, other.etag))
        return any(first != second for first, second in pairs if None not in (first, second))


class WatchState(BaseModel):
    """How far a watch has come.

    Attributes
    ----------
    newest : datetime or None
        Start of the newest exposure that was processed.
    open_since : datetime or None
        Start of the oldest exposure with an outstanding file: not public yet, or refused.
    announced : dict
        Announced files, each with the start of its exposure. Holds only the period that is searched again.
    marks : dict of str to FileMark
        Which delivery of each of these files was announced; a state of an earlier version has none.
    """

    model_config = ConfigDict(extra="ignore")

    newest: datetime | None = None
    open_since: datetime | None = None
    announced: dict[str, datetime] = Field(default_factory=dict)
    marks: dict[str, FileMark] = Field(default_factory=dict)

    def begin(self, since: datetime, overlap: timedelta) -> datetime:
        """Return the start of the period to search next."""
        if self.newest is None:
            return since
        begin = self.newest - overlap
        return max(since, begin if self.open_since is None else min(begin, self.open_since))

    def record(self, observed: datetime, announced: list[str], whole: bool) -> None:
        """Record the announced files of an exposure, and whether that is the `whole` exposure."""
        self.announced |= dict.fromkeys(announced, observed)
        self.newest = max(self.newest or observed, observed)
        if not whole:
            self.open_since = min(self.open_since or observed, observed)

    def finish(self, open_since: datetime | None, since: datetime, overlap: timedelta) -> None:
        """End a complete round; `open_since` is the oldest exposure with an outstanding file."""
        self.open_since = open_since
        begin = self.begin(since, overlap)
        self.announced = {name: start for name, start in self.announced.items() if start >= begin}
        self.marks = {name: mark for name, mark in self.marks.items() if name in self.announced}

    def is_known(self, name: str, mark: FileMark) -> bool:
        """Return whether this delivery of a file was announced, and keep what is known of it."""
        if name not in self.announced:
            return False
        before = self.marks.get(name, FileMark())
        if before.differs(mark):
            return False
        size = before.size if mark.size is None else mark.size
        self.marks[name] = FileMark(size=size, etag=mark.etag or before.etag)
        return True


def state_key(program: int, since: datetime, until: datetime | None) -> str:
    """Return the store key of a watch's state; each program and period has its own."""
    period = f"since-{since:%Y%m%dT%H%M%S}" + (f"-until-{until:%Y%m%dT%H%M%S}" if until else "")
    return f"mast/program-{program}/{period}.json"


def load_state(store: Store, key: str) -> WatchState:
    """Return the state under `key`, or a new one if there is none.

    Raises
    ------
    StoreUnavailable
        If the store does not answer.
    EnvironmentFault
        If the object is not such a state.
    """
    try:
        return WatchState.model_validate_json(store.get(key))
    except KeyError:
        return WatchState()
    except ValidationError:
        raise EnvironmentFault(
            f"{store.uri(key)} is not the state of a watch; remove it to have everything announced once more"
        ) from None


def save_state(store: Store, key: str, state: WatchState) -> None:
    """Store the state, whole or not at all; raises as `Store.put` does."""
    store.put(key, state.model_dump_json(indent=1).encode())
