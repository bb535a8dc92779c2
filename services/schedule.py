"""In which order a folder's exposures are announced, and when a configuration has no more to come."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from services.ingest.evidence import open_exposure
from shared.configuration import ConfigurationKey
from shared.errors import BadInput, DarksError
from shared.exposures import exposure_id

_SECONDS_A_DAY = 86400.0


@dataclass(frozen=True)
class Candidate:
    """One file of the run, as far as its primary header could be read.

    Attributes
    ----------
    configuration : str or None
        Slug of its configuration key; None where the header does not give one. Ingest says why.
    start_mjd, end_mjd : float or None
        UTC days.
    """

    path: Path
    exposure_id: str
    detector: str | None = None
    configuration: str | None = None
    start_mjd: float | None = None
    end_mjd: float | None = None
    simulated: bool = False

    @property
    def uri(self) -> str:
        """The address under which it is announced."""
        return self.path.as_uri()


def peek(path: Path) -> Candidate:
    """Read what the order of announcements needs from a primary header; never fails."""
    path = path.absolute()
    try:
        evidence, ramp = open_exposure(path)
    except (DarksError, OSError):  # ingest examines the file and says why
        return Candidate(path, exposure_id(path.name))
    if ramp is not None:
        ramp.close()
    header = evidence.primary
    try:
        slug = ConfigurationKey.from_header(header, path.name).slug
    except BadInput:
        slug = None
    start, end = header.get("EXPSTART"), header.get("EXPEND")
    return Candidate(
        path,
        exposure_id(path.name, header),
        detector=header.get("DETECTOR"),
        configuration=slug,
        start_mjd=float(start) if isinstance(start, (int, float)) else None,
        end_mjd=float(end) if isinstance(end, (int, float)) else None,
        simulated=str(header.get("PEDIGREE", "")).strip().upper() == "SIMULATION",
    )


@dataclass
class Schedule:
    """Which exposures may be announced now.

    An exposure waits for the earlier ones of its detector whose persistence may reach into it, so
    that their state is in the store when ingest looks for it. All others go side by side.

    Parameters
    ----------
    candidates : iterable of Candidate
    persistence_time : float
        Window of the persistence step in s; 0 if the step is skipped.
    """

    candidates: Iterable[Candidate]
    persistence_time: float
    _waiting: list[Candidate] = field(init=False)
    _running: dict[str, Candidate] = field(init=False, default_factory=dict)
    _settled: set[str] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        self._waiting = sorted(self.candidates, key=lambda c: (c.start_mjd or 0.0, c.path.name))
        self._all = list(self._waiting)

    def announce(self) -> list[Candidate]:
        """Return the exposures that wait for nothing, and take them as under way."""
        free: list[Candidate] = []
        held: list[Candidate] = []
        before = _Before(self.persistence_time)
        for candidate in self._running.values():
            before.add(candidate)
        for candidate in self._waiting:
            if before.must_end_before(candidate):
                held.append(candidate)
            else:
                free.append(candidate)
                self._running[candidate.uri] = candidate
            before.add(candidate)
        self._waiting = held
        return free

    def settle(self, uri: str) -> None:
        """Take an exposure as done with, however it ended."""
        self._running.pop(uri, None)
        self._settled.add(uri)

    @property
    def finished(self) -> bool:
        """True when every exposure has been settled."""
        return not self.unsettled

    @property
    def unsettled(self) -> list[Candidate]:
        """The exposures that still wait or are under way."""
        return [*self._running.values(), *self._waiting]

    def complete(self, configuration: str) -> bool:
        """Say whether every file of a configuration has been settled."""
        return all(c.uri in self._settled for c in self._all if c.configuration == configuration)


class _Before:
    """The exposures that are under way or come first, as far as another may have to wait for them."""

    def __init__(self, persistence_time: float) -> None:
        self._persistence_time = persistence_time
        self._ids: set[str] = set()
        self._latest: dict[str, float] = {}

    def add(self, candidate: Candidate) -> None:
        self._ids.add(candidate.exposure_id)
        if candidate.detector is not None and candidate.end_mjd is not None:
            latest = self._latest.get(candidate.detector, candidate.end_mjd)
            self._latest[candidate.detector] = max(latest, candidate.end_mjd)

    def must_end_before(self, candidate: Candidate) -> bool:
        if candidate.exposure_id in self._ids:
            return True  # two files of one exposure: which of them counts must not be a race
        if candidate.detector is None or candidate.start_mjd is None or not self._persistence_time:
            return False
        latest = self._latest.get(candidate.detector)
        return latest is not None and (candidate.start_mjd - latest) * _SECONDS_A_DAY < self._persistence_time
