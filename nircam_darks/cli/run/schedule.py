"""The order in which exposures are announced, and when the exposures of a configuration are complete."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from nircam_darks.operations.candidates import Candidate

_SECONDS_PER_DAY = 86400.0


@dataclass
class Schedule:
    """Decides which exposures may be announced now, and which of them have to wait for their turn.

    An exposure needs the persistence state of the earlier exposures of its detector, as far as their
    persistence may reach into it. Only its last and cheapest step uses the state, so the exposure may be
    announced before they are settled: its job does everything else, and then waits for its turn
    (`shared.runtime.turns`).

    A waiting job holds a process. At most ``jobs - 1`` exposures are therefore announced that way: a process
    remains for the exposures that they wait for, also when one of those has to be tried again.

    Parameters
    ----------
    candidates : iterable of Candidate
    persistence_time : float
        Window of the persistence step (s); 0 if the step is skipped.
    jobs : int
        Number of processes. With one, every exposure is announced only when its turn has come.
    """

    candidates: Iterable[Candidate]
    persistence_time: float
    jobs: int
    _waiting: list[Candidate] = field(init=False)
    _running: dict[str, Candidate] = field(init=False, default_factory=dict)
    _held: set[str] = field(init=False, default_factory=set)
    _settled: set[str] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        self._waiting = sorted(self.candidates, key=_by_time)
        self._all = list(self._waiting)

    def release(self) -> list[Candidate]:
        """Return the exposures in progress whose turn has come since they were announced."""
        earlier, free = _Earlier(self.persistence_time), []
        for candidate in sorted(self.unsettled, key=_by_time):
            if candidate.uri in self._held and not earlier.reach_into(candidate):
                free.append(candidate)
            earlier.add(candidate)
        self._held -= {candidate.uri for candidate in free}
        return free

    def announce(self) -> list[Candidate]:
        """Return the exposures that may start, and count them as in progress; see `has_turn`."""
        start: list[Candidate] = []
        rest: list[Candidate] = []
        earlier, ids = _Earlier(self.persistence_time), {c.exposure_id for c in self._running.values()}
        waiting = {candidate.uri for candidate in self._waiting}
        for candidate in sorted(self.unsettled, key=_by_time):
            if candidate.uri in waiting:
                needs_turn = earlier.reach_into(candidate)
                # Two files of one exposure: the order in which they count must not be a race.
                if candidate.exposure_id in ids or (needs_turn and len(self._held) >= self.jobs - 1):
                    rest.append(candidate)
                else:
                    start.append(candidate)
                    if needs_turn:
                        self._held.add(candidate.uri)
                ids.add(candidate.exposure_id)
            earlier.add(candidate)
        self._running.update({candidate.uri: candidate for candidate in start})
        self._waiting = rest
        return start

    def has_turn(self, uri: str) -> bool:
        """Return False while an exposure in progress has to wait for the state of an earlier one."""
        return uri not in self._held

    def postpone(self, candidate: Candidate) -> None:
        """Take back an exposure that `announce` returned and that could not be announced after all."""
        self._running.pop(candidate.uri)
        self._held.discard(candidate.uri)
        self._waiting = sorted([*self._waiting, candidate], key=_by_time)

    def add(self, candidate: Candidate) -> None:
        """Add a file that takes the place of a rejected one; call this before that is settled."""
        self._all.append(candidate)
        self._waiting = sorted([*self._waiting, candidate], key=_by_time)

    def settle(self, uri: str) -> None:
        """Count an exposure as finished, whatever the outcome."""
        self._running.pop(uri, None)
        self._held.discard(uri)
        self._settled.add(uri)

    @property
    def finished(self) -> bool:
        """True when every exposure has been settled."""
        return not self.unsettled

    @property
    def unsettled(self) -> list[Candidate]:
        """The exposures that are waiting or in progress."""
        return [*self._running.values(), *self._waiting]

    def complete(self, configuration: str) -> bool:
        """Return True if every file of a configuration has been settled."""
        return all(c.uri in self._settled for c in self._all if c.configuration == configuration)


def _by_time(candidate: Candidate) -> tuple[float, str]:
    return candidate.start_mjd or 0.0, candidate.path.name


class _Earlier:
    """The latest end of the unsettled exposures of each detector that begin earlier than another."""

    def __init__(self, persistence_time: float) -> None:
        self._persistence_time = persistence_time
        self._latest: dict[str, float] = {}

    def add(self, candidate: Candidate) -> None:
        if candidate.detector is not None and candidate.end_mjd is not None:
            latest = self._latest.get(candidate.detector, candidate.end_mjd)
            self._latest[candidate.detector] = max(latest, candidate.end_mjd)

    def reach_into(self, candidate: Candidate) -> bool:
        """Return whether the persistence of one of them may reach into `candidate`."""
        if candidate.detector is None or candidate.start_mjd is None or not self._persistence_time:
            return False
        latest = self._latest.get(candidate.detector)
        return (
            latest is not None and (candidate.start_mjd - latest) * _SECONDS_PER_DAY < self._persistence_time
        )
