"""What the report says of a whole store: the coverage of the configurations, and the stability in time."""

from collections.abc import Sequence

from nircam_darks.operations.coverage import CoverageCell, CoverageMatrix
from nircam_darks.operations.stability import StoreSeries, StoreStability
from nircam_darks.report.content import (
    Block,
    Cell,
    Chapter,
    Paragraph,
    Pictures,
    SetEntry,
    SetPage,
    Table,
)
from nircam_darks.report.plots.series import series_picture
from nircam_darks.report.text import Tone, count, number, with_signs
from shared.statistics.trends import StabilityState

#: Name of the stability page. No set has it, because the name of a set ends in a hyphen and its id.
STABILITY = "stability"
#: At most this many series are drawn, those that drift first.
_MOST_PICTURES = 36

_COVERED: dict[str, Tone] = {"complete": "good", "reference held": "held", "reference rejected": "off"}
_STATES: dict[StabilityState, Tone] = {StabilityState.STEADY: "good", StabilityState.DRIFTS: "off"}


def coverage_chapter(matrix: CoverageMatrix) -> Chapter:
    """Return the coverage of what NRC-09 requires: one row per configuration, one column per detector."""
    detectors = sorted({cell.detector for cell in matrix.cells})
    by_row: dict[tuple[str, int], dict[str, CoverageCell]] = {}
    for cell in matrix.cells:
        by_row.setdefault((cell.subarray, cell.noutputs), {})[cell.detector] = cell
    rows = []
    for (subarray, outputs), cells in by_row.items():
        masks = sorted({mask for cell in cells.values() for mask in cell.coronmsk} - {"NONE"})
        mask_names = ", ".join(mask.removeprefix("MASK") for mask in masks) or "–"
        coverage = [_coverage_cell(cells.get(detector)) for detector in detectors]
        rows.append([Cell(subarray), Cell(str(outputs)), Cell(mask_names), *coverage])
    text = (
        f"{matrix.complete} of {count(matrix.asked, 'configuration')} required by NRC-09 have all their "
        "integrations and a reference that was not rejected."
    )
    if matrix.simulated:
        text += " Some of the exposures are simulated and cover nothing in flight."
    note = (
        "Each cell gives the integrations of the largest RAPID set over the number required, and the state. "
        "A dot means missing; brackets or an empty cell mean not required. See also nircam-darks coverage."
    )
    head = ["Subarray", "Outputs", "Mask", *(name.removeprefix("NRC") for name in detectors)]
    widths = (0.13, 0.07, 0.07, *[0.73 / len(detectors)] * len(detectors)) if detectors else None
    return Chapter("Coverage", [Paragraph(text), Table(head, rows, widths), Paragraph(note, weight="note")])


def _coverage_cell(cell: CoverageCell | None) -> Cell:
    if cell is None:
        return Cell("")
    if cell.status == "missing":
        return Cell("·")
    if cell.status == "beyond":
        return Cell(f"({cell.ramps_in_all})")
    integrations = f"{cell.ramps}/{cell.asked}"
    if cell.status in ("complete", "partial"):
        return Cell(integrations, tone=_COVERED.get(cell.status))
    state = {"reference held": "held", "reference rejected": "rejected"}.get(cell.status, cell.status)
    return Cell(f"{integrations}\n{state}", tone=_COVERED.get(cell.status, "none"))


def stability_chapter(stability: StoreStability, address: str) -> Chapter:
    """Return the summary of the series for the index, with a link to the `address` of their page."""
    drifting = f"{stability.drifting} drift" if stability.drifting else "no drift"
    outliers = count(stability.outliers, "outlier") if stability.outliers else "no outliers"
    # A series of a few minutes shows no drift because it could not have shown one.
    tested = [series.test for series in stability.series if series.test.drift is not None]
    blind = sum(test.state == StabilityState.NOT_ENOUGH for test in tested)
    unseen = f"; {blind} of them could not have shown a drift that matters" if blind else ""
    text = (
        f"{count(stability.tested, 'time series', 'time series')} tested: {drifting} "
        f"({number(stability.by_chance, 2)} false alarms expected), {outliers}{unseen}."
    )
    blocks: list[Block] = [Paragraph(text, link=("All series, with plots", address))]
    notable = [
        series
        for series in stability.series
        if series.test.state == StabilityState.DRIFTS or series.test.outliers
    ]
    if notable:
        blocks.append(_series_table(notable))
    return Chapter("Stability in time", blocks)


def stability_page(stability: StoreStability) -> SetPage:
    """Return the page of the series; call inside `style.styled`."""
    entry = SetEntry(STABILITY, "Stability in time", stability.simulated, [])
    tested = [series for series in stability.series if series.test.drift is not None]
    tested.sort(key=lambda series: (series.test.state != StabilityState.DRIFTS, not series.test.outliers))
    pictures = [series_picture(series) for series in tested[:_MOST_PICTURES]]
    criteria = Paragraph(
        "A series drifts if its slope differs from zero by 3 sigma, judged both by the errors of the points "
        "and by their scatter. An outlier lies 4 robust sigma off the line through the other points.",
        weight="note",
    )
    chapters = [Chapter("Verdicts", [_series_table(stability.series), criteria])]
    if pictures:
        blocks: list[Block] = [Pictures(pictures)]
        if len(tested) > len(pictures):
            omitted = count(len(tested) - len(pictures), "series", "series")
            blocks.append(Paragraph(f"{omitted} without drift or outliers are not shown.", weight="note"))
        chapters.append(Chapter("Time series", blocks))
    return SetPage(entry, "every figure of every configuration, over all products in the store", chapters)


def _series_table(series: Sequence[StoreSeries]) -> Table:
    return Table(
        ["Configuration", "Figure", "Points", "Verdict"],
        [
            [
                Cell(each.configuration, file=True),
                Cell(f"{each.quantity} of each {each.of}, {with_signs(each.unit)}"),
                Cell(str(each.test.points)),
                Cell(with_signs(each.test.verdict), tone=_STATES.get(each.test.state, "none")),
            ]
            for each in series
        ],
        widths=(0.27, 0.23, 0.06, 0.44),
    )
