"""The tables of `nircam-darks coverage`."""

from collections import Counter
from collections.abc import Iterator
from itertools import groupby

from rich.console import RenderableType
from rich.text import Text

from services.operations.coverage import Coverage, CoverageCell, CoverageMatrix
from services.report.wording import count
from services.terminal import titled_table

_STYLES = {
    "complete": "green",
    "partial": "yellow",
    "missing": "dim",
    "no reference": "yellow",
    "reference rejected": "red",
    "beyond": "dim",
}


def coverage_tables(found: Coverage) -> Iterator[RenderableType]:
    """Yield what a person at the terminal is told: a table a detector."""
    if found.coverage is None:
        yield Text(f"Store: {found.store_problem}", style="bold red")
        return
    yield _head(found.coverage)
    for address in found.coverage.damaged:
        yield Text(f"damaged: {address}; remove the folder it is in, and it is made again", style="red")
    for detector, cells in groupby(found.coverage.cells, lambda cell: cell.detector):
        table = titled_table(detector, "subarray", "outputs", "mask", "ramps", "groups", "reference", "state")
        for cell in cells:
            table.add_row(
                cell.subarray,
                str(cell.noutputs),
                _masks(cell),
                _ramps(cell),
                "–" if cell.groups is None else str(cell.groups),
                _reference(cell),
                Text(cell.words, style=_STYLES[cell.status]),
            )
        yield table


def _head(matrix: CoverageMatrix) -> Text:
    of = Counter(cell.status for cell in matrix.cells)
    head = Text(
        f"{matrix.complete} of {count(matrix.asked, 'configuration')} that NRC-09 asks for are complete: "
        f"{of['partial']} with too few ramps, {of['no reference']} without a reference, "
    )
    head.append(
        f"{of['reference rejected']} with a rejected one", "bold red" if of["reference rejected"] else ""
    )
    head.append(f", {of['missing']} missing")
    if matrix.simulated:
        head.append("\nSIMULATED DATA: what is simulated covers nothing in flight", style="bold yellow")
    return head


def _masks(cell: CoverageCell) -> str:
    return ", ".join("–" if mask == "NONE" else mask.removeprefix("MASK") for mask in cell.coronmsk)


def _ramps(cell: CoverageCell) -> str:
    more = cell.ramps_in_all - cell.ramps
    return f"{cell.ramps} (+{more} apart)" if more else str(cell.ramps)


def _reference(cell: CoverageCell) -> str:
    if cell.reference is not None:
        return "accepted" if cell.reference.accepted else "unverified"
    return "rejected" if cell.rejected_references else "–"
