"""Whether detectors are stable over everything in a store: dark rate, noise and jumps against time.

Each product adds points to series, one series per quantity and configuration; each series is tested for drift
and outliers.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pydantic import BaseModel

from shared.catalog.exposure_sets import superseded_by
from shared.catalog.packs import collecting_later, series_by_catalog
from shared.catalog.series_products import SeriesOf, SeriesProduct
from shared.errors import DarksError
from shared.nircam.detectors import detectors
from shared.products.figures import EXPOSURE_FIGURES, REFERENCE_FIGURES, SET_FIGURES
from shared.statistics.trends import (
    DRIFT_SIGMA,
    SeriesPoint,
    StabilityState,
    StabilityTest,
    assess_series,
    chance_of,
)
from shared.store.base import Store

#: Unit of every quantity that is followed in time, in the order in which they are shown.
UNITS: dict[str, str] = {
    row.quantity: row.unit for row in (*REFERENCE_FIGURES, *SET_FIGURES, *EXPOSURE_FIGURES) if row.quantity
}


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
    of: SeriesOf
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
            with collecting_later():
                stability = store_stability(store)
            return StabilityAnswer(time=now, stability=stability, store_problem=None)
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
    for product in series_by_catalog(store, read.damaged):
        read.add(product)
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


@dataclass
class _Read:
    """The products read so far, by configuration, and the addresses of damaged manifests."""

    products: dict[str, list[SeriesProduct]] = field(default_factory=lambda: defaultdict(list))
    damaged: list[str] = field(default_factory=list)

    def add(self, product: SeriesProduct) -> None:
        """Keep a product."""
        self.products[product.configuration].append(product)

    def series(self) -> list[StoreSeries]:
        """Return the series of all products added."""
        result = []
        for configuration, products in self.products.items():
            superseded = superseded_by(built for each in products if (built := each.built_set) is not None)
            points: dict[tuple[str, SeriesOf], dict[str, SeriesPoint]] = defaultdict(dict)
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
