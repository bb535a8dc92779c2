"""Whether detectors are steady over all that the store holds: dark rate, noise and jumps against time."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice

from pydantic import BaseModel, ValidationError

from services.darkref.products import ReferenceFacts, is_rejected
from services.noise.products import ExposureNoiseFacts, SetNoiseFacts
from services.operations.trends_points import (
    UNITS,
    Of,
    Quantity,
    Taken,
    of_exposure_noise,
    of_reference,
    of_set_noise,
)
from services.report.collect import read_facts
from shared.errors import DarksError
from shared.exposure_sets import BuiltSet, superseded_by
from shared.store.base import Store
from shared.store.manifest import MANIFEST, Manifest
from shared.trends import DRIFT_SIGMA, SeriesPoint, StabilityTest, assess, chance_of

#: Manifests that are fetched, and held, at once: those of noise hold the medians of every group.
_AT_ONCE = 16


class StoreSeries(BaseModel):
    """One figure of one configuration against time.

    Attributes
    ----------
    of : str
        Whether a point is one exposure, or one set (the mean time of its integrations).
    points : list of SeriesPoint
        In time order, in `unit`.
    test : StabilityTest
        Drift, outliers and verdict.
    """

    detector: str
    configuration: str
    quantity: Quantity
    of: Of
    unit: str
    simulated: bool
    points: list[SeriesPoint]
    test: StabilityTest


class StoreStability(BaseModel):
    """All series of a store, by detector and configuration.

    Attributes
    ----------
    tested : int
        Series with enough points for a verdict.
    drifting, outliers : int
        Series that drift, and outliers of all series.
    by_chance : float
        How many of as many steady series would be called drifting.
    damaged : list of str
        Addresses of manifests that cannot be read.
    """

    tested: int
    drifting: int
    outliers: int
    by_chance: float
    simulated: bool
    series: list[StoreSeries]
    damaged: list[str]


class StabilityAnswer(BaseModel):
    """What `nircam-darks stability --json` prints; without an answer of the store, why there is none."""

    time: datetime
    stability: StoreStability | None
    store_problem: str | None


def stability(open_store: Callable[[], Store], now: datetime | None = None) -> StabilityAnswer:
    """Ask the store; `open_store` opens it, and it is closed again here."""
    now = now or datetime.now(UTC)
    try:
        store = open_store()
        try:
            return StabilityAnswer(time=now, stability=store_stability(store), store_problem=None)
        finally:
            store.close()
    except DarksError as error:
        return StabilityAnswer(time=now, stability=None, store_problem=" ".join(str(error).split()))


def store_stability(store: Store) -> StoreStability:
    """Return every figure of every configuration against time, each with its verdict.

    Of an exposure that was measured several times the newest measurement counts; of sets those that no
    other stands in the place of.

    Raises
    ------
    StoreUnavailable, EnvironmentFault
        If the store does not answer, or refuses.
    """
    read = _Read()
    for key, body in _manifests(store):
        try:
            read.add(Manifest.model_validate_json(body))
        except (ValidationError, KeyError):
            read.damaged.append(store.uri(key))
    series = read.series()
    tested = sum(one.test.drift is not None for one in series)
    return StoreStability(
        tested=tested,
        drifting=sum(one.test.state == "drifts" for one in series),
        outliers=sum(len(one.test.outliers) for one in series),
        by_chance=tested * chance_of(DRIFT_SIGMA),
        simulated=any(one.simulated for one in series),
        series=series,
        damaged=sorted(read.damaged),
    )


@dataclass(frozen=True)
class _Product:
    """What is kept of a product; `of_set` is what it was made of, None of a single exposure."""

    path: str
    created: datetime
    detector: str
    simulated: bool
    of_set: BuiltSet | None
    points: list[Taken]


@dataclass
class _Read:
    taken: dict[str, list[_Product]] = field(default_factory=lambda: defaultdict(list))
    damaged: list[str] = field(default_factory=list)

    def add(self, manifest: Manifest) -> None:
        """Take from a product what its series need, and let go of the rest."""
        if manifest.product == "reference":
            reference = read_facts(ReferenceFacts, manifest.facts)
            # Also one that failed its verification: a detector that drifts may be why.
            self._set(manifest, "reference", reference, of_reference(reference))
        elif manifest.product == "set-noise":
            noise = read_facts(SetNoiseFacts, manifest.facts)
            self._set(manifest, "set-noise", noise, of_set_noise(noise))
        elif manifest.product == "exposure-noise":
            exposure = read_facts(ExposureNoiseFacts, manifest.facts)
            # The slug begins with the detector; the facts of an exposure have no key.
            detector = exposure.configuration.partition("_")[0].upper()
            self.taken[exposure.configuration].append(
                _Product(
                    manifest.path,
                    manifest.created,
                    detector,
                    exposure.simulated,
                    None,
                    of_exposure_noise(exposure),
                )
            )

    def _set(
        self,
        manifest: Manifest,
        kind: str,
        facts: ReferenceFacts | SetNoiseFacts,
        points: list[Taken],
    ) -> None:
        members = frozenset(facts.exposures)
        # References and noise do not stand in each other's place.
        name = f"{kind} {facts.configuration}"
        built = BuiltSet(manifest.path, name, members, manifest.created, is_rejected(manifest.facts))
        self.taken[facts.configuration].append(
            _Product(manifest.path, manifest.created, facts.key.detector, facts.simulated, built, points)
        )

    def series(self) -> list[StoreSeries]:
        """Return the series of all that was added."""
        found = []
        for configuration, taken in self.taken.items():
            stands_in = superseded_by(one.of_set for one in taken if one.of_set is not None)
            together: dict[tuple[Quantity, Of], dict[str, SeriesPoint]] = defaultdict(dict)
            for one in sorted(taken, key=lambda one: (one.created, one.path)):
                if stands_in.get(one.path) is None:
                    for quantity, of, point in one.points:
                        together[quantity, of][point.name] = point
            for (quantity, of), points in together.items():
                ordered = sorted(points.values(), key=lambda point: (point.mjd, point.name))
                found.append(
                    StoreSeries(
                        detector=taken[0].detector,
                        configuration=configuration,
                        quantity=quantity,
                        of=of,
                        unit=UNITS[quantity],
                        simulated=any(one.simulated for one in taken),
                        points=ordered,
                        test=assess(ordered, UNITS[quantity]),
                    )
                )
        order = list(UNITS)
        found.sort(key=lambda one: (one.detector, one.configuration, order.index(one.quantity), one.of))
        return found


def _manifests(store: Store) -> Iterator[tuple[str, bytes]]:
    """Yield the manifests of darkref and noise, some at a time: a store may hold those of years."""

    def get(key: str) -> tuple[str, bytes | None]:
        try:
            return key, store.get(key)
        except KeyError:
            # Removed since it was listed.
            return key, None

    keys = (key for stage in ("darkref/", "noise/") for key in store.list(stage))
    wanted = (key for key in keys if key.endswith(f"/{MANIFEST}"))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        while some := list(islice(wanted, _AT_ONCE)):
            for key, body in pool.map(get, some):
                if body is not None:
                    yield key, body
