"""What the report says of a whole store: which configurations are in hand, and whether all is steady."""

from collections.abc import Iterator, Sequence
from urllib.parse import quote

from services.operations.coverage import CoverageCell, CoverageMatrix
from services.operations.trends import StoreSeries, StoreStability
from services.report.content import Block, Cell, Chapter, Pictures, SetEntry, SetPage, Table, Words
from services.report.plots_series import series_picture
from services.report.wording import Tone, count, in_words, number

#: Name of the page of the series, which no set has: a set's name has its id after a hyphen.
STABILITY = "stability"
#: Pictures of series on their page: what drifts comes first, the others as far as these go.
_MOST_PICTURES = 36

_COVERED: dict[str, Tone] = {"complete": "good", "reference rejected": "off"}
_STATES: dict[str, Tone] = {"steady": "good", "drifts": "off"}


def coverage_chapter(matrix: CoverageMatrix) -> Chapter:
    """Return the matrix of what NRC-09 asks for: a configuration a row, a detector a column."""
    detectors = sorted({cell.detector for cell in matrix.cells})
    by_row: dict[tuple[str, int], dict[str, CoverageCell]] = {}
    for cell in matrix.cells:
        by_row.setdefault((cell.subarray, cell.noutputs), {})[cell.detector] = cell
    lines = []
    for (subarray, outputs), cells in by_row.items():
        masks = sorted({mask for cell in cells.values() for mask in cell.coronmsk} - {"NONE"})
        named = ", ".join(mask.removeprefix("MASK") for mask in masks) or "–"
        places = [_place(cells.get(detector)) for detector in detectors]
        lines.append([Cell(subarray), Cell(str(outputs)), Cell(named), *places])
    said = (
        f"{matrix.complete} of {count(matrix.asked, 'configuration')} that NRC-09 asks for have all their "
        "ramps and a reference that was not rejected."
    )
    if matrix.simulated:
        said += " Some of what is in hand is simulated, and covers nothing in flight."
    note = (
        "In each place: integrations of the largest RAPID set, of those asked for, and the state; a dot is "
        "missing, an empty place is not asked for. nircam-darks coverage says more."
    )
    head = ["Subarray", "Outputs", "Mask", *(name.removeprefix("NRC") for name in detectors)]
    widths = (0.13, 0.07, 0.07, *[0.73 / len(detectors)] * len(detectors)) if detectors else None
    return Chapter("Coverage", [Words(said), Table(head, lines, widths), Words(note, weight="note")])


def _place(cell: CoverageCell | None) -> Cell:
    if cell is None:
        return Cell("")
    if cell.status == "missing":
        return Cell("·")
    if cell.status == "beyond":
        return Cell(f"{cell.ramps_in_all}, not asked for")
    short = {"complete": "", "partial": "", "no reference": "no reference", "reference rejected": "rejected"}
    above = f"{cell.ramps} of {cell.asked}"
    state = short[cell.status]
    if not state:
        return Cell(above, tone=_COVERED.get(cell.status))
    return Cell(f"{above}\n{state}", tone=_COVERED.get(cell.status, "none"))


def stability_chapter(found: StoreStability, pages: str) -> Chapter:
    """Return what the index says of the series, with a link to their page in the folder `pages`."""
    said = (
        f"{count(found.tested, 'series', 'series')} of a figure against time could be judged: "
        f"{found.drifting} drift (by chance {number(found.by_chance, 2)} would), "
        f"{count(found.outliers, 'outlier')}."
    )
    link = ("Every series, with its picture", f"{quote(pages)}/{STABILITY}.html") if pages else None
    blocks: list[Block] = [Words(said, link=link)]
    off = [one for one in found.series if one.test.state == "drifts" or one.test.outliers]
    if off:
        blocks.append(_table(off))
    return Chapter("Stability in time", blocks)


def stability_page(found: StoreStability) -> SetPage:
    """Return the page of the series; call inside `style.styled`."""
    entry = SetEntry(STABILITY, "Stability in time", found.simulated, [])
    tested = [one for one in found.series if one.test.drift is not None]
    tested.sort(key=lambda one: (one.test.state != "drifts", not one.test.outliers))
    drawn = [series_picture(one) for one in tested[:_MOST_PICTURES]]
    chapters = [Chapter("Verdicts", [_table(found.series), *_how()])]
    if drawn:
        blocks: list[Block] = [Pictures(drawn)]
        if len(tested) > len(drawn):
            left = count(len(tested) - len(drawn), "series", "series")
            blocks.append(Words(f"{left} that neither drift nor have outliers are not drawn.", weight="note"))
        chapters.append(Chapter("Against time", blocks))
    return SetPage(entry, "every figure of each configuration, over all products of the store", chapters)


def _how() -> Iterator[Block]:
    yield Words(
        "A series drifts where its slope is 3 sigma from none, by the points' errors and by their scatter; "
        "an outlier lies 4 robust sigma off the line through the others.",
        weight="note",
    )


def _table(series: Sequence[StoreSeries]) -> Table:
    return Table(
        ["Configuration", "Figure", "Points", "Verdict"],
        [
            [
                Cell(one.configuration, file=True),
                Cell(f"{one.quantity} of each {one.of}, {in_words(one.unit)}"),
                Cell(str(one.test.points)),
                Cell(in_words(one.test.verdict), tone=_STATES.get(one.test.state, "none")),
            ]
            for one in series
        ],
        widths=(0.27, 0.23, 0.06, 0.44),
    )
