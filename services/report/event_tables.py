"""The numbers of what hit the detector, as the report's tables have them."""

from collections.abc import Iterator, Sequence

from services.noise.jump_products import JumpEvents
from services.noise.products import ExposureNoiseFacts
from services.noise.set_hits import set_hits
from services.report.content import Cell, Figure, Table
from services.report.wording import measured, number, plain, short_verdict, tone


def event_table(exposures: Sequence[ExposureNoiseFacts]) -> Table:
    """Return the table of events, an exposure a row; those without a measurement are left out."""
    rows = []
    for one in exposures:
        found = one.events
        if found is None:
            continue
        rows.append(
            [
                Cell(one.exposure_id, file=True),
                Cell(f"{found.events:,}"),
                Cell(f"{found.negative_events:,}"),
                Cell(measured(found.hits_per_cm2_s, found.hits_per_cm2_s_error)),
                Cell(_charge(found)),
                Cell(f"{found.large_events} ({number(found.expected_large_events, 2)})"),
                Cell(short_verdict(found.verdict), tone=tone(found.verdict)),
            ]
        )
    least, most = next(one.events.expected_hits_per_cm2_s for one in exposures if one.events)
    return Table(
        [
            "Exposure",
            "Events",
            "Of negative charge",
            f"Hits a cm² and s (expected {plain(least)} to {plain(most)})",
            "Median charge (e⁻)",
            "Large ones (expected)",
            "Verdict",
        ],
        rows,
        widths=(0.26, 0.08, 0.1, 0.18, 0.13, 0.11, 0.14),
    )


def event_figures(exposures: Sequence[JumpEvents]) -> Iterator[Figure]:
    """Yield the hits of a set: those of all its exposures over all their live time."""
    hits = set_hits(exposures)
    if hits is None:
        return
    least, most = exposures[0].expected_hits_per_cm2_s
    aim = f"{plain(least)} to {plain(most)} in flight"
    rate = measured(hits.value, hits.error)
    yield Figure("Hits", rate, "1/cm²/s", aim, short_verdict(hits.verdict), tone(hits.verdict))
    large = sum(one.large_events for one in exposures)
    expected = number(sum(one.expected_large_events for one in exposures), 2)
    yield Figure("Large events (snowballs)", str(large), "", f"about {expected}", "not compared", "none")


def _charge(found: JumpEvents) -> str:
    return measured(found.median_charge_e, found.median_charge_error_e)
