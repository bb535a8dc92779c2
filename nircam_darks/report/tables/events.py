"""The events that hit the detector, as tables of the report."""

from collections.abc import Iterator, Sequence

from nircam_darks.report.content import Cell, FigureRow, Table
from nircam_darks.report.text import figure_or_limit, measured, number, short_verdict, tabulated, verdict_tone
from services.noise.jumps.rates import set_hits
from shared.products.jumps import JumpEvents
from shared.products.noise import ExposureNoiseResults


def event_table(exposures: Sequence[ExposureNoiseResults]) -> Table:
    """Return the table of events, one exposure per row; exposures without a measurement are omitted."""
    rows = []
    for exposure in exposures:
        events = exposure.events
        if events is None:
            continue
        shown = events.hits_shown_per_cm2_s
        rows.append(
            [
                Cell(exposure.exposure_id, file=True),
                Cell(f"{events.events:,}"),
                Cell(f"{events.negative_events:,}"),
                Cell(figure_or_limit(shown.value, shown.error, events.hits_limit_per_cm2_s)),
                Cell(measured(events.median_charge_e, events.median_charge_error_e)),
                Cell(f"{events.large_events} ({number(events.expected_large_events, 2)})"),
                Cell(short_verdict(events), tone=verdict_tone(events.comparison)),
            ]
        )
    lowest, highest = next(each.events.expected_hits_per_cm2_s for each in exposures if each.events)
    return Table(
        [
            "Exposure",
            "Events",
            "Negative events",
            f"Hits per cm² and s (expected {tabulated(lowest)} to {tabulated(highest)})",
            "Median charge (e⁻)",
            "Large events (expected)",
            "Verdict",
        ],
        rows,
        widths=(0.26, 0.08, 0.1, 0.18, 0.13, 0.11, 0.14),
    )


def event_figures(exposures: Sequence[JumpEvents]) -> Iterator[FigureRow]:
    """Yield the hits of a set: those of all its exposures over their total live time."""
    hits = set_hits(exposures)
    if hits is None:
        return
    lowest, highest = exposures[0].expected_hits_per_cm2_s
    yield FigureRow(
        "Hits",
        figure_or_limit(hits.value, hits.error, hits.comparison.upper_limit),
        "1/cm²/s",
        f"{tabulated(lowest)} to {tabulated(highest)} in flight",
        short_verdict(hits),
        verdict_tone(hits.comparison),
    )
    large = sum(events.large_events for events in exposures)
    expected = number(sum(events.expected_large_events for events in exposures), 2)
    yield FigureRow("Large events (snowballs)", str(large), "", f"about {expected}", "not compared", "none")
