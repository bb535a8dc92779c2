"""What a watch of the archive has announced so far: one small object in the store."""

from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.errors import EnvironmentFault
from shared.store.base import Store


class WatchState(BaseModel):
    """How far a watch is.

    Attributes
    ----------
    newest : datetime or None
        Start of the newest exposure that was dealt with.
    open_since : datetime or None
        Start of the oldest exposure of which a file is still to come: not public yet, or refused.
    announced : dict
        The files announced, each with the start of its exposure. Only of what is looked at again.
    """

    model_config = ConfigDict(extra="ignore")

    newest: datetime | None = None
    open_since: datetime | None = None
    announced: dict[str, datetime] = Field(default_factory=dict)

    def begin(self, since: datetime, overlap: timedelta) -> datetime:
        """Return from when on the archive is to be asked."""
        if self.newest is None:
            return since
        looked = self.newest - overlap
        return max(since, looked if self.open_since is None else min(looked, self.open_since))

    def dealt_with(self, observed: datetime, announced: list[str], whole: bool) -> None:
        """Note an exposure: the files announced of it by now, and whether nothing more is to come."""
        self.announced |= dict.fromkeys(announced, observed)
        self.newest = max(self.newest or observed, observed)
        if not whole:
            self.open_since = min(self.open_since or observed, observed)

    def finish(self, open_since: datetime | None, since: datetime, overlap: timedelta) -> None:
        """End a round that saw everything: `open_since` is the oldest exposure it left open."""
        self.open_since = open_since
        begin = self.begin(since, overlap)
        self.announced = {name: start for name, start in self.announced.items() if start >= begin}


def state_key(program: int, since: datetime, until: datetime | None) -> str:
    """Return the key of a watch's state: another period is another watch."""
    period = f"since-{since:%Y%m%dT%H%M%S}" + (f"-until-{until:%Y%m%dT%H%M%S}" if until else "")
    return f"mast/program-{program}/{period}.json"


def load_state(store: Store, key: str) -> WatchState:
    """Return the state under `key`, a fresh one if there is none.

    Raises
    ------
    StoreUnavailable
        If the store does not answer.
    EnvironmentFault
        If something else lies there.
    """
    try:
        return WatchState.model_validate_json(store.get(key))
    except KeyError:
        return WatchState()
    except ValidationError:
        raise EnvironmentFault(
            f"{store.uri(key)} is not the state of a watch; remove it, and all is announced once more"
        ) from None


def save_state(store: Store, key: str, state: WatchState) -> None:
    """Put the state, whole or not at all; raises as the store does."""
    store.put(key, state.model_dump_json(indent=1).encode())
