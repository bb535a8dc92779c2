"""Whether detectors are stable over everything in a store: dark rate, noise and jumps against time.

Each product adds points to series, one series per quantity and configuration; each series is tested for drift
and outliers.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ValidationError

from shared.catalog.exposure_sets import BuiltSet, superseded_by
from shared.catalog.products import StoredProduct, walk
from shared.errors import DarksError
from shared.nircam.detectors import detectors
from shared.products.figures import (
    EXPOSURE_FIGURES,
    REFERENCE_FIGURES,
    SET_FIGURES,
    FigureResults,
    declared_figures,
)
from shared.products.noise import ExposureNoiseResults, SetNoiseResults
from shared.products.reference import ReferenceResults
from shared.statistics.trends import (
    DRIFT_SIGMA,
    SeriesPoint,
    StabilityState,
    StabilityTest,
    assess_series,
    chance_of,
)
from shared.store.base import Store
from shared.store.manifest import MANIFEST

Of = Literal["exposure", "set"]
#: Unit of every quantity that is followed in time, in the order in which they are shown.
UNITS: dict[str, str] = {
    row.quantity: row.unit for row in (*REFERENCE_FIGURES, *SET_FIGURES, *EXPOSURE_FIGURES) if row.quantity
}
#: A point of the series of a quantity, per exposure or per set.
QuantityPoint = tuple[str, Of, SeriesPoint]


def of_reference(results: ReferenceResults) -> list[QuantityPoint]:
    """Return the points that a dark reference adds to the series."""
    return list(_points(results, "set", results.set_id, results.integration_mjd))


def of_set_noise(results: SetNoiseResults) -> list[QuantityPoint]:
    """Return the points that a set adds: its figures, and the dark rate of each of its exposures."""
    series = results.stability
    points = list(_points(results, "set", results.set_id, series.integration_mjd))
    rates: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for exposure, mjd, rate, error in zip(
        series.exposure_ids,
        series.integration_mjd,
        series.dark_rate_e_per_ks,
        series.dark_rate_error_e_per_ks,
        strict=False,
    ):
        if math.isfinite(rate):
            rates[exposure].append((mjd, rate, error))
    for exposure, measurements in rates.items():
        mjds, values, errors = zip(*measurements, strict=True)
        mean = math.fsum(values) / len(values)
        point = _point(exposure, mjds, mean, math.hypot(*errors) / len(values))
        points.append(("dark rate", "exposure", point))
    return points


def of_exposure_noise(results: ExposureNoiseResults) -> list[QuantityPoint]:
    """Return the points that an exposure adds to the series."""
    return list(_points(results, "exposure", results.exposure_id, results.integration_mjd))


def _points(results: FigureResults, of: Of, name: str, mjd: Sequence[float]) -> Iterator[QuantityPoint]:
    """Yield one point per figure that is followed in time; none if the product has no time."""
    if not mjd:
        return
    for row, figure in declared_figures(results):
        if row.quantity and figure.value is not None and math.isfinite(figure.value):
            yield row.quantity, of, _point(name, mjd, figure.value, figure.error)


def _point(name: str, mjd: Sequence[float], value: float, error: float | None) -> SeriesPoint:
    return SeriesPoint(
        name=name,
        mjd=math.fsum(mjd) / len(mjd),
        value=value,
        error=error if error is not None and math.isfinite(error) else None,
        weight=float(len(mjd)),
    )


class StoreSeries(BaseModel):
    """One quantity of one configuration against time.

    Attributes
    ----------
    of : str
        What one point is: an exposure or a set, at the mean time of its integrations.
    points : list of SeriesPoint
        In time order, in `unit`.
    test : StabilityTest
        Drift, outliers and verdict.
    """

    detector: str
    configuration: str
    quantity: str
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
        Number of series that drift, and of outliers in all series.
    by_chance : float
        Number of drifting series expected by chance if all were stable.
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
    """Output of `nircam-darks stability --json`; `store_problem` says why the store did not answer."""

    time: datetime
    stability: StoreStability | None
    store_problem: str | None


def ask_stability(open_store: Callable[[], Store], now: datetime | None = None) -> StabilityAnswer:
    """Test every series of a store; `open_store` opens it, and it is closed again here."""
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
    """Return every quantity of every configuration against time, each with its verdict.

    For an exposure that was measured several times, the newest measurement counts; sets count only if no
    other set supersedes them.

    Raises
    ------
    StoreUnavailable, EnvironmentFault
        If the store does not answer, or refuses.
    """
    read = _Read()
    for product in walk(store, "darkref/", "noise/", damaged=read.damaged):
        try:
            read.add(product)
        except (ValidationError, KeyError):
            read.damaged.append(store.uri(f"{product.path}/{MANIFEST}"))
    series = read.series()
    tested = sum(each.test.drift is not None for each in series)
    return StoreStability(
        tested=tested,
        drifting=sum(each.test.state == StabilityState.DRIFTS for each in series),
        outliers=sum(len(each.test.outliers) for each in series),
        by_chance=tested * chance_of(DRIFT_SIGMA),
        simulated=any(each.simulated for each in series),
        series=series,
        damaged=sorted(read.damaged),
    )


def _matters(quantity: str, detector: str) -> float | None:
    """Return the change of a quantity that is worth knowing: the width of what is expected of it, if any."""
    channel = detectors()[detector].expected
    for row in (*REFERENCE_FIGURES, *SET_FIGURES):
        if row.quantity == quantity and row.expected is not None and not row.expected_for:
            return row.expected(channel).error
    return None


@dataclass(frozen=True)
class _Product:
    """The points of one product; `of_set` is the set it was made from, None for a single exposure."""

    path: str
    created: datetime
    detector: str
    simulated: bool
    of_set: BuiltSet | None
    points: list[QuantityPoint]


@dataclass
class _Read:
    """The points read so far, by configuration, and the addresses of damaged manifests."""

    products: dict[str, list[_Product]] = field(default_factory=lambda: defaultdict(list))
    damaged: list[str] = field(default_factory=list)

    def add(self, product: StoredProduct[BaseModel]) -> None:
        """Keep the points of a product, and drop the rest."""
        match product.results:
            case ReferenceResults() as reference:
                # Rejected references too: a drifting detector may be why they failed.
                self._add_set(product, reference, of_reference(reference))
            case SetNoiseResults() as noise:
                self._add_set(product, noise, of_set_noise(noise))
            case ExposureNoiseResults() as exposure:
                # The slug begins with the detector; the results of an exposure have no key.
                detector = exposure.configuration.partition("_")[0].upper()
                self.products[exposure.configuration].append(
                    _Product(
                        product.path,
                        product.manifest.created,
                        detector,
                        exposure.simulated,
                        None,
                        of_exposure_noise(exposure),
                    )
                )

    def _add_set(
        self,
        product: StoredProduct[BaseModel],
        results: ReferenceResults | SetNoiseResults,
        points: list[QuantityPoint],
    ) -> None:
        created = product.manifest.created
        # A reference does not supersede a noise product, nor the other way round.
        name = f"{product.kind} {results.configuration}"
        built = BuiltSet(product.path, name, product.exposures, created, product.is_withheld)
        self.products[results.configuration].append(
            _Product(product.path, created, results.key.detector, results.simulated, built, points)
        )

    def series(self) -> list[StoreSeries]:
        """Return the series of all products added."""
        result = []
        for configuration, products in self.products.items():
            superseded = superseded_by(each.of_set for each in products if each.of_set is not None)
            points: dict[tuple[str, Of], dict[str, SeriesPoint]] = defaultdict(dict)
            # In order of time, so that a newer measurement of the same exposure replaces an older one.
            for product in sorted(products, key=lambda each: (each.created, each.path)):
                if superseded.get(product.path) is None:
                    for quantity, of, point in product.points:
                        points[quantity, of][point.name] = point
            for (quantity, of), by_name in points.items():
                ordered = sorted(by_name.values(), key=lambda point: (point.mjd, point.name))
                result.append(
                    StoreSeries(
                        detector=products[0].detector,
                        configuration=configuration,
                        quantity=quantity,
                        of=of,
                        unit=UNITS[quantity],
                        simulated=any(each.simulated for each in products),
                        points=ordered,
                        test=assess_series(
                            ordered, UNITS[quantity], _matters(quantity, products[0].detector)
                        ),
                    )
                )
        order = list(UNITS)
        result.sort(key=lambda each: (each.detector, each.configuration, order.index(each.quantity), each.of))
        return result
