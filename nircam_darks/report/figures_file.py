"""``figures.ecsv``: every figure of a run, one per row, for astropy and everything that reads CSV.

Read it with ``astropy.table.Table.read("figures.ecsv")``.
"""

from collections.abc import Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import MaskedColumn, Table

from nircam_darks.report.summary import Summary, write_atomically
from shared.products.figures import EXPOSURE_FIGURES, REFERENCE_FIGURES, SET_FIGURES, FigureDefinition
from shared.statistics.verdicts import Measured

FIGURES_FILE = "figures.ecsv"
#: Type and description of each column.
COLUMNS: dict[str, tuple[type, str]] = {
    "figure": (str, "name of the figure, as in summary.json"),
    "label": (str, "what the report calls it"),
    "product": (str, "reference, set-noise or exposure-noise"),
    "configuration": (str, "configuration of the exposures"),
    "subject": (str, "the set, or the exposure, that it is measured on"),
    "value": (float, "value in the unit of its row; masked where it could not be measured"),
    "error": (float, "1-sigma error"),
    "unit": (str, "unit of value, error, expected and expected_sigma"),
    "expected": (float, "what is expected; masked where nothing is"),
    "expected_sigma": (float, "1-sigma width of what is expected"),
    "state": (str, "within, above, below, not enough data, or not compared"),
    "sigma": (float, "signed deviation in units of both errors together"),
    "simulated": (bool, "whether the exposures are simulated"),
}


def figures_table_of(summary: Summary) -> Table:
    """Return every figure of a run as a table, one per row.

    Parameters
    ----------
    summary : Summary

    Returns
    -------
    astropy.table.Table
        With the columns of `COLUMNS`. Units differ from row to row, so each row names its own.
    """
    rows = list(_rows(summary))
    table = Table(meta={"simulated": summary.simulated, "finished": summary.finished.isoformat()})
    for name, (kind, description) in COLUMNS.items():
        values = [row[name] for row in rows]
        if kind is float:
            data = np.array([np.nan if value is None else value for value in values], float)
            table[name] = MaskedColumn(data, mask=~np.isfinite(data), description=description)
        else:
            table[name] = MaskedColumn(np.array(values, kind), description=description)
    return table


def write_figures(summary: Summary, path: Path) -> None:
    """Write the figures of a run as ECSV, all at once."""
    text = StringIO()
    figures_table_of(summary).write(text, format="ascii.ecsv")
    write_atomically(path, text.getvalue())


def _rows(summary: Summary) -> Iterator[dict[str, Any]]:
    for reference in summary.references:
        common = ("reference", reference.configuration, reference.set_id, reference.simulated)
        yield from _of_product(REFERENCE_FIGURES, reference.figures, *common)
    for noise in summary.noise:
        common = ("set-noise", noise.configuration, noise.set_id, noise.simulated)
        yield from _of_product(SET_FIGURES, noise.figures, *common)
    # The segments of an exposure have an entry each, with the figures of the exposure.
    for exposure in {entry.id: entry for entry in summary.exposures if entry.figures}.values():
        common = ("exposure-noise", exposure.configuration or "", exposure.id, exposure.simulated)
        yield from _of_product(EXPOSURE_FIGURES, exposure.figures, *common)


def _of_product(
    rows: tuple[FigureDefinition, ...],
    figures: Mapping[str, Measured],
    product: str,
    configuration: str,
    subject: str | None,
    simulated: bool | None,
) -> Iterator[dict[str, Any]]:
    for row in rows:
        if row.name not in figures:
            continue
        figure = figures[row.name]
        yield {
            "figure": row.name,
            "label": row.label,
            "product": product,
            "configuration": configuration,
            "subject": subject or "",
            "value": figure.value,
            "error": figure.error,
            "unit": row.unit,
            "expected": figure.expected,
            "expected_sigma": figure.expected_sigma,
            "state": str(figure.comparison.state),
            "sigma": figure.comparison.sigma,
            "simulated": bool(simulated),
        }
