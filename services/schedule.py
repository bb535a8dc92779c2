"""In which order a folder's exposures are announced, and when a configuration has no more to come."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from astropy.io import fits

from shared.configuration import ConfigurationKey
from shared.errors import BadInput
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
        header = fits.getheader(path)
    except (OSError, ValueError, TypeError, LookupError):  # ingest examines the file and says why
        return Candidate(path, exposure_id(path.name))
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
        for candidate in self._waiting:
            if any(self._must_follow(candidate, earlier) for earlier in [*self._running.values(), *held]):
                held.append(candidate)
            else:
                free.append(candidate)
                self._running[candidate.uri] = candidate
        self._waiting = held
        return free

    def settle(self, uri: str) -> None:
        """Take an exposure as done with, however it ended."""
        self._running.pop(uri, None)
        self._settled.add(uri)

    @property
    def finished(self) -> bool:
        """True when every exposure has been settled."""
        return not self._waiting and not self._running

    def complete(self, configuration: str) -> bool:
        """Say whether every file of a configuration has been settled."""
        return all(c.uri in self._settled for c in self._all if c.configuration == configuration)

    def _must_follow(self, candidate: Candidate, earlier: Candidate) -> bool:
        if candidate.exposure_id == earlier.exposure_id:
            return True  # two files of one exposure: which of them counts must not be a race
        if candidate.detector is None or candidate.detector != earlier.detector or not self.persistence_time:
            return False
        if candidate.start_mjd is None or earlier.end_mjd is None:
            return False
        return (candidate.start_mjd - earlier.end_mjd) * _SECONDS_A_DAY < self.persistence_time
