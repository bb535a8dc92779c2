"""What each product gives to the series of `services.operations.trends`: points against time."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Literal

from services.darkref.products import ReferenceFacts
from services.noise.products import ExposureNoiseFacts, Measured, SetNoiseFacts
from shared.trends import SeriesPoint

Quantity = Literal[
    "dark rate", "CDS noise", "spatial effective noise", "temporal effective noise", "jump rate", "hits"
]
Of = Literal["exposure", "set"]
UNITS: dict[Quantity, str] = {
    "dark rate": "e-/1000 s",
    "CDS noise": "e-",
    "spatial effective noise": "e-",
    "temporal effective noise": "e-",
    "jump rate": "% of pixels per 1000 s",
    "hits": "hits/cm2/s",
}
#: A point of the series of a figure, by exposure or by set.
Taken = tuple[Quantity, Of, SeriesPoint]


def of_reference(facts: ReferenceFacts) -> list[Taken]:
    """Return the dark rate of a set."""
    error = facts.dark_current_error_e_per_ks
    return list(_set_point("dark rate", facts, facts.integration_mjd, facts.dark_current_e_per_ks, error))


def of_set_noise(facts: SetNoiseFacts) -> list[Taken]:
    """Return the noise of a set, and the dark rate of each of its exposures."""
    measured: list[tuple[Quantity, Measured]] = [
        ("CDS noise", facts.cds_noise),
        ("spatial effective noise", facts.spatial_effective_noise),
        ("temporal effective noise", facts.temporal_effective_noise),
    ]
    series = facts.stability
    found = [
        point
        for quantity, one in measured
        for point in _set_point(quantity, facts, series.integration_mjd, one.value, one.error)
    ]
    parts: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for name, mjd, rate, error in zip(
        series.exposure_ids,
        series.integration_mjd,
        series.dark_rate_e_per_ks,
        series.dark_rate_error_e_per_ks,
        strict=False,
    ):
        if math.isfinite(rate):
            parts[name].append((mjd, rate, error))
    for name, rates in parts.items():
        error = math.hypot(*(error for _, _, error in rates)) / len(rates)
        point = _point(name, [mjd for mjd, _, _ in rates], [rate for _, rate, _ in rates], error)
        found.append(("dark rate", "exposure", point))
    return found


def of_exposure_noise(facts: ExposureNoiseFacts) -> list[Taken]:
    """Return CDS noise and jumps of an exposure."""
    name, mjd = facts.exposure_id, facts.integration_mjd
    found: list[Taken] = []
    cds = [value for value in facts.cds_noise_e if math.isfinite(value)]
    if cds and mjd:
        found.append(("CDS noise", "exposure", _point(name, mjd, cds, None)))
    hit = facts.science_jump_pixel_percent / 100
    if mjd and hit < 1 and facts.live_seconds > 0:
        # Pixels hit at least once, back to hits: the rate does not depend on the exposure's length.
        per_ks = 1e5 / facts.live_seconds
        error = facts.science_jump_pixel_percent_error / 100 / (1 - hit) * per_ks
        found.append(("jump rate", "exposure", _point(name, mjd, [-math.log1p(-hit) * per_ks], error)))
    events = getattr(facts, "events", None)
    if events is not None and mjd:
        point = _point(name, mjd, [events.hits_per_cm2_s], events.hits_per_cm2_s_error)
        found.append(("hits", "exposure", point))
    return found


def _set_point(
    quantity: Quantity,
    facts: ReferenceFacts | SetNoiseFacts,
    mjd: Sequence[float],
    value: float | None,
    error: float | None,
) -> Iterator[Taken]:
    if value is not None and mjd:
        point = _point(facts.set_id, mjd, [value], error).model_copy(update={"weight": float(len(mjd))})
        yield quantity, "set", point


def _point(name: str, mjd: Sequence[float], values: Sequence[float], error: float | None) -> SeriesPoint:
    return SeriesPoint(
        name=name,
        mjd=math.fsum(mjd) / len(mjd),
        value=math.fsum(values) / len(values),
        error=error if error is not None and math.isfinite(error) else None,
        weight=float(len(values)),
    )
