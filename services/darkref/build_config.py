"""What a build starts from, and what its steps hand to each other."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from services.darkref.combine.combine_set import CombinedSet
from services.darkref.combine.methods import Mode
from services.darkref.combine.segments import SegmentFit
from services.darkref.measure.bad_pixels import PixelCounts, Thresholds
from services.darkref.measure.dark_current import DarkCurrent
from services.darkref.measure.difference import DarkDifference
from services.darkref.measure.planes import MeanRamp
from services.darkref.reference_file.writer import ArrayPlace
from shared.contracts.messages import SetMember, SetReady
from shared.nircam.configuration import ConfigurationKey
from shared.nircam.geometry import amplifiers, science_pixels
from shared.products.ramp import RampCalibration, SupersededRamp
from shared.products.reference import LeftOutExposure, Verification
from shared.ramps.ramp import Ramp
from shared.ramps.window_plan import WindowPlan
from shared.ramps.window_reader import Integration
from shared.runtime.handler import Progress
from shared.settings.stage import StageSettings
from shared.store.base import ObjectReader

#: Width of the clip on either side, in standard deviations: the notebook's.
SIGMA = 3.0

#: Opens the ramps of some members of a set; they are closed with the context.
OpenRamps = Callable[[Sequence[SetMember]], AbstractContextManager[list[Integration]]]


@dataclass(frozen=True)
class PreviousReference:
    """A reference that a new one replaces.

    Attributes
    ----------
    name : str
        For people.
    where : str
        Its key in the store, or the address it was given by.
    errors : str
        What its ERR is.
    open : callable
    """

    name: str
    where: str
    errors: str
    open: Callable[[], ObjectReader]


def _none() -> PreviousReference | None:
    return None


@dataclass(frozen=True)
class BuildConfig:
    """Which set is combined, and how.

    Attributes
    ----------
    ready : SetReady
    members : sequence of SetMember
        In order of time.
    mode : Mode
    settings : StageSettings
    open_ramps : callable
    progress : callable
    find_previous : callable
        Returns the reference that the new one replaces, or None; called once it is needed.
    left_out : tuple of LeftOutExposure
        Exposures and integrations of the members that are not combined.
    read_noise_map : Path or None
        The READNOISE reference of CRDS that the ramps were made with, if it is on this machine.
    superseded : dict of str to list of SupersededRamp
        By exposure: earlier ramps of it, which are not combined.
    calibrated : dict of str to RampCalibration
        By exposure: how its ramp was made.
    """

    ready: SetReady
    members: Sequence[SetMember]
    mode: Mode
    settings: StageSettings
    open_ramps: OpenRamps
    progress: Progress
    find_previous: Callable[[], PreviousReference | None] = _none
    left_out: tuple[LeftOutExposure, ...] = ()
    read_noise_map: Path | None = None
    superseded: Mapping[str, Sequence[SupersededRamp]] = field(default_factory=dict)
    calibrated: Mapping[str, RampCalibration] = field(default_factory=dict)

    @property
    def key(self) -> ConfigurationKey:
        """The configuration of the set."""
        return self.ready.key

    @property
    def set_name(self) -> str:
        """The set, for errors."""
        return f"set {self.ready.set_id} of {self.ready.configuration}"

    @property
    def integrations(self) -> int:
        """How many integrations of all members are in use."""
        return len(self.in_use(self.members))

    def in_use(self, members: Sequence[SetMember]) -> list[tuple[SetMember, int]]:
        """Return the integrations of some members that are combined: the member, and the index within it."""
        gone = {(entry.exposure, entry.integration) for entry in self.left_out if entry.left_out}
        return [
            (member, index)
            for member in members
            for index in range(member.integrations)
            if not {(member.exposure_id, index), (member.exposure_id, None)} & gone
        ]

    @property
    def members_in_use(self) -> list[SetMember]:
        """The members with an integration in use, in order of time."""
        names = {member.exposure_id for member, _ in self.in_use(self.members)}
        return [member for member in self.members if member.exposure_id in names]

    @contextmanager
    def open(self, members: Sequence[SetMember]) -> Iterator[list[Integration]]:
        """Open the integrations of some members that are in use; they are closed with the context."""
        wanted = {(member.exposure_id, index) for member, index in self.in_use(members)}
        places = [(member.exposure_id, index) for member in members for index in range(member.integrations)]
        with self.open_ramps(members) as integrations:
            yield [each for each, place in zip(integrations, places, strict=True) if place in wanted]

    def leaving_out(self, entries: Sequence[LeftOutExposure]) -> "BuildConfig":
        """Return the same with further exposures and integrations that are not combined."""
        return replace(self, left_out=(*self.left_out, *entries))

    def comparing_with(self, find_previous: Callable[[], PreviousReference | None]) -> "BuildConfig":
        """Return the same with another `find_previous`."""
        return replace(self, find_previous=find_previous)


@dataclass(frozen=True)
class CombinedDark:
    """A dark on this machine's disk, of which all is written but what measurements of it will say.

    Attributes
    ----------
    path : Path
    places : dict of str to ArrayPlace
        Where its arrays lie in the file, and those of `CONTRIBUTIONS` in that.
    combined : CombinedSet
        Closed with the context that made it.
    plan : WindowPlan
    key : ConfigurationKey
    gain : float
        e-/DN.
    fit : SegmentFit or None
        What the second pass found out; None in notebook mode, which has none, and for a single integration.
    """

    path: Path
    places: dict[str, ArrayPlace]
    combined: CombinedSet
    plan: WindowPlan
    key: ConfigurationKey
    gain: float
    fit: SegmentFit | None = None

    @property
    def typical_n_valid(self) -> float:
        """The usual number of integrations behind a (group, pixel): the median of the last group."""
        last = self.combined.n_valid.plane(self.key.ngroups - 1)
        return float(np.median(last[science_pixels(self.key)]))

    def mean_ramp(self) -> MeanRamp:
        """Return its planes, for the measurements."""
        combined = self.combined
        return MeanRamp(
            slope=combined.slope,
            integration_slope=combined.slopes.plane,
            integrations=combined.integrations,
            sci=combined.sci.plane,
            err=combined.err.plane,
            n_valid=combined.n_valid.plane,
            groups=self.key.ngroups,
            science=science_pixels(self.key),
            amplifiers=amplifiers(self.key),
            gain=self.gain,
            group_time=self.key.group_time,
        )


@dataclass(frozen=True)
class FlagResult:
    """The bad pixels of a dark.

    Attributes
    ----------
    quality : ndarray of uint32, 2D (y, x)
        DQ.
    counts : PixelCounts
    thresholds : Thresholds
    average_rates : ndarray of float32, 2D (y, x)
        Image AVDRKCUR, e-/s.
    model_ramp : int or None
        Pixels whose ramp is its model; None where there is no model.
    """

    quality: NDArray[np.uint32]
    counts: PixelCounts
    thresholds: Thresholds
    average_rates: NDArray[np.float32]
    model_ramp: int | None = None


@dataclass(frozen=True)
class PreviousComparison:
    """The reference that is replaced, and what changes.

    Attributes
    ----------
    name : str
        For people.
    where : str
        Its key in the store, or the address it was given by.
    difference : DarkDifference or None
        None where the two could not be compared.
    why_not : str or None
        The reason, in that case.
    """

    name: str
    where: str
    difference: DarkDifference | None
    why_not: str | None


@dataclass(frozen=True)
class LeaveOneOut:
    """An exposure, and a reference that was built without it.

    Attributes
    ----------
    exposure : str
        Its name.
    key : ConfigurationKey
        Its configuration; the same pixels, any readout pattern.
    ramp : Ramp
        As ingest leaves it.
    reference : Path
        The dark without it; the one to be delivered, if that does not contain it.
    n_valid : float
        Median number of integrations behind a (group, pixel) of that dark.
    """

    exposure: str
    key: ConfigurationKey
    ramp: Ramp
    reference: Path
    n_valid: float


@dataclass(frozen=True)
class BuiltDark:
    """A finished dark with everything that was found out about it.

    Attributes
    ----------
    dark : CombinedDark
    current : DarkCurrent
    flags : FlagResult or None
        None in notebook mode, which flags nothing and compares with nothing.
    comparison : PreviousComparison or None
        None also where nothing is replaced.
    median_ramps : list of list of float
        Medians over pixels of SCI and of ERR, for each group, DN.
    pedigree : str
    verification : Verification or None
        None where it was not asked for.
    left_out : tuple of LeftOutExposure
        What is not in it, and what stands apart.
    too_few_to_compare : bool
        Whether there were too few integrations to tell.
    """

    dark: CombinedDark
    current: DarkCurrent
    flags: FlagResult | None
    comparison: PreviousComparison | None
    median_ramps: list[list[float]]
    pedigree: str
    verification: Verification | None = None
    left_out: tuple[LeftOutExposure, ...] = ()
    too_few_to_compare: bool = False


@dataclass(frozen=True)
class Stopwatch:
    """Seconds that each step took.

    Attributes
    ----------
    timings : dict of str to float
        By step, in the order in which they began.
    """

    timings: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time what is done within, added to what the step took before."""
        start = perf_counter()
        yield
        self.timings[name] = self.timings.get(name, 0.0) + perf_counter() - start
