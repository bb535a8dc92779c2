"""`nircam-darks coverage`: its options, its call, its tables."""

from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING

import typer
from rich.console import RenderableType
from rich.text import Text

from nircam_darks.cli.options import AsJson
from nircam_darks.cli.tables import damaged_manifest, print_answer, titled_table
from nircam_darks.report.text import count

if TYPE_CHECKING:
    from nircam_darks.operations.coverage import Coverage, CoverageCell, CoverageMatrix

_STYLES = {
    "complete": "green",
    "partial": "yellow",
    "missing": "dim",
    "no reference": "yellow",
    "reference held": "yellow",
    "reference rejected": "red",
    "beyond": "dim",
}


def coverage_command(as_json: AsJson = False) -> None:
    """Show how much of what NRC-09 requests is available: ramps and references, by detector and subarray.

    DARKS_STORE names the store, which may be a results folder of `run`. Exit code 3 if it does not answer.
    """
    from nircam_darks.operations.coverage import ask_coverage
    from nircam_darks.operations.store_access import impatient, open_existing, operator_settings

    settings = operator_settings()
    answer = ask_coverage(lambda: open_existing(impatient(settings)), settings)
    print_answer(answer, coverage_tables(answer), as_json)
    raise typer.Exit(0 if answer.coverage is not None else 3)


def coverage_tables(answer: "Coverage") -> Iterator[RenderableType]:
    """Yield what the terminal shows: a summary line, then one table per detector."""
    if answer.coverage is None:
        yield Text(f"Store: {answer.store_problem}", style="bold red")
        return
    yield _head(answer.coverage)
    for address in answer.coverage.damaged:
        yield damaged_manifest(address)
    for note in answer.coverage.unserved:
        yield Text(f"Not served: {note}", style="yellow")
    for detector, cells in groupby(answer.coverage.cells, lambda cell: cell.detector):
        table = titled_table(
            detector, "subarray", "outputs", "mask", "ramps", "groups", "reference", "status"
        )
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


def _head(matrix: "CoverageMatrix") -> Text:
    cells = Counter(cell.status for cell in matrix.cells)
    held, rejected = cells["reference held"], cells["reference rejected"]
    head = Text(
        f"{matrix.complete} of {count(matrix.asked, 'configuration')} requested by NRC-09 are complete: "
        f"{cells['partial']} with too few ramps, {cells['no reference']} without a reference, "
    )
    head.append(f"{held} with a reference held for review", "bold yellow" if held else "")
    head.append(f", {rejected} with a rejected reference", "bold red" if rejected else "")
    head.append(f", {cells['missing']} missing")
    if matrix.simulated:
        head.append("\nSIMULATED DATA: simulated exposures cover nothing in flight", style="bold yellow")
    return head


def _masks(cell: "CoverageCell") -> str:
    return ", ".join("–" if mask == "NONE" else mask.removeprefix("MASK") for mask in cell.coronmsk)


def _ramps(cell: "CoverageCell") -> str:
    more = cell.ramps_in_all - cell.ramps
    return f"{cell.ramps} (+{more} other)" if more else str(cell.ramps)


def _reference(cell: "CoverageCell") -> str:
    if cell.reference is not None:
        return "accepted" if cell.reference.accepted else "unverified"
    if cell.held_references:
        return "held"
    return "rejected" if cell.rejected_references else "–"
