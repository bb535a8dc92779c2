"""What products add to series in time, for `nircam-darks stability`: the points, and which product counts."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from shared.catalog.exposure_sets import BuiltSet
from shared.catalog.products import StoredProduct
from shared.products.figures import FigureResults, declared_figures
from shared.products.noise import ExposureNoiseResults, SetNoiseResults
from shared.products.reference import ReferenceResults
from shared.statistics.trends import SeriesPoint

SeriesOf = Literal["exposure", "set"]
#: A point of the series of a quantity, per exposure or per set.
QuantityPoint = tuple[str, SeriesOf, SeriesPoint]


class SeriesProduct(BaseModel):
    """What one product adds to the series of its configuration.

    Attributes
    ----------
    exposures : frozenset of str or None
        Ids of the exposures of its set; None of a single exposure.
    withheld : bool
        Whether it is a reference that is held or rejected.
    """

    model_config = ConfigDict(frozen=True)

    kind: str
    path: str
    created: datetime
    configuration: str
    detector: str
    simulated: bool
    points: list[QuantityPoint]
    exposures: frozenset[str] | None = None
    withheld: bool = False

    @property
    def built_set(self) -> BuiltSet | None:
        """The set that it was made from; None of a single exposure."""
        if self.exposures is None:
            return None
        # A reference does not supersede a noise product, nor the other way round.
        name = f"{self.kind} {self.configuration}"
        return BuiltSet(self.path, name, self.exposures, self.created, self.withheld)


def series_product_of(product: StoredProduct[BaseModel]) -> SeriesProduct | None:
    """Return what a product adds to the series; None if its kind adds nothing.

    Raises
    ------
    pydantic.ValidationError, KeyError
        If its manifest does not hold what a product of its kind must have.
    """
    match product.results:
        case ReferenceResults() as reference:
            # Rejected references too: a drifting detector may be why they failed.
            return _of_set(product, reference, of_reference(reference))
        case SetNoiseResults() as noise:
            return _of_set(product, noise, of_set_noise(noise))
        case ExposureNoiseResults() as exposure:
            return SeriesProduct(
                kind=product.kind,
                path=product.path,
                created=product.manifest.created,
                configuration=exposure.configuration,
                # The slug begins with the detector; the results of an exposure have no key.
                detector=exposure.configuration.partition("_")[0].upper(),
                simulated=exposure.simulated,
                points=of_exposure_noise(exposure),
            )
    return None


def _of_set(
    product: StoredProduct[BaseModel],
    results: ReferenceResults | SetNoiseResults,
    points: list[QuantityPoint],
) -> SeriesProduct:
    return SeriesProduct(
        kind=product.kind,
        path=product.path,
        created=product.manifest.created,
        configuration=results.configuration,
        detector=results.key.detector,
        simulated=results.simulated,
        points=points,
        exposures=product.exposures,
        withheld=product.is_withheld,
    )


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


def _points(results: FigureResults, of: SeriesOf, name: str, mjd: Sequence[float]) -> Iterator[QuantityPoint]:
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
