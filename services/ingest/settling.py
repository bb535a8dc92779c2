"""The exposures of a configuration that wait for it to settle, and the one `set.check` that they share.

An exposure that comes without a number may be the last of its set. A `set.check` that is delivered a settling
time later finds whether anything came since. One check for each exposure would be as many as exposures, each
about the same sets. So each exposure puts a key into the folder of those that wait, and only the first of the
folder sends a check. If the folder has changed when the check is delivered, the check is sent once more, with
what it saw; if not, the configuration has settled, and the sets of all that wait are announced.

The folder is emptied by the next check, when the announcements are with the broker for certain, and the check
goes on if anything came meanwhile. So whoever finds an earlier one in the folder can rely on a check that is
under way. Only keys in the store decide; no clock has a part in it, except that a check of which nothing was
heard for three settling times counts as lost.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from shared.catalog.arrival_keys import Arrival, Span, is_usable
from shared.catalog.exposure_sets import arrivals_token
from shared.store.base import Store

#: The number is the version of the keys.
_ROOT = "index/settling-1/"
#: Keys that say when a check was sent come first in a listing.
_SENT = "sent/"
_WAITING = "waiting/"
_BETWEEN = "~"
_UNDATED = "u"
#: Settling times after which a check counts as lost.
_LOST_AFTER = 3.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class SettlingExposures:
    """The exposures that wait for their configuration to settle.

    Attributes
    ----------
    names : tuple of str
        Their keys in the folder, sorted.
    """

    names: tuple[str, ...]

    @property
    def token(self) -> str:
        """What stands for these exposures and no others."""
        return arrivals_token(self.names)

    @property
    def spans(self) -> list[Span]:
        """Starts and ends, MJD, of those that have usable ones."""
        return list(dict.fromkeys(self._spans()))

    def _spans(self) -> Iterator[Span]:
        for name in self.names:
            _, start, end, _ = name.split(_BETWEEN)
            if start != _UNDATED and is_usable(span := (float(start), float(end))):
                yield span


def wait_to_settle(arrival: Arrival, configuration: str, settle_seconds: float, store: Store) -> str | None:
    """Put an exposure among those that wait.

    Returns
    -------
    str or None
        What the check has seen that is to be sent; None if one is under way.
    """
    folder = f"{_ROOT}{configuration}/{_WAITING}"
    start, end = map(repr, arrival.span) if arrival.span is not None else (_UNDATED, _UNDATED)
    name = _BETWEEN.join([_stamp(arrival.created), start, end, arrival.exposure_id])
    store.put(folder + name, b"")
    # One request: the first thousand keys have all that is asked.
    sent, first = _EPOCH, folder + name
    for key in store.list(f"{_ROOT}{configuration}/"):
        if key.startswith(folder):
            first = key
            break
        sent = _EPOCH + timedelta(microseconds=int(key.rpartition("/")[2]))
    is_lost = arrival.created - sent > timedelta(seconds=_LOST_AFTER * settle_seconds)
    if first != folder + name and not is_lost:
        return None
    check_is_sent(configuration, store)
    return waiting_to_settle(configuration, store).token


def waiting_to_settle(configuration: str, store: Store) -> SettlingExposures:
    """Return the exposures that wait."""
    folder = f"{_ROOT}{configuration}/{_WAITING}"
    return SettlingExposures(tuple(key.removeprefix(folder) for key in store.list(folder)))


def wait_no_longer(waiting: SettlingExposures, configuration: str, store: Store) -> None:
    """Remove exposures from those that wait."""
    for name in waiting.names:
        store.delete(f"{_ROOT}{configuration}/{_WAITING}{name}")


def check_is_sent(configuration: str, store: Store) -> None:
    """Note that a check is sent about now."""
    folder = f"{_ROOT}{configuration}/{_SENT}"
    earlier = list(store.list(folder))
    now = folder + _stamp(datetime.now(UTC))
    store.put(now, b"")
    for key in earlier:
        if key != now:
            store.delete(key)


def _stamp(time: datetime) -> str:
    return f"{(time - _EPOCH) // timedelta(microseconds=1):016d}"
