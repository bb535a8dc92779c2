"""`nircam-darks stability`: its options, its call, its tables."""

from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING

import typer
from rich.console import RenderableType
from rich.text import Text

from nircam_darks.cli.options import AsJson
from nircam_darks.cli.tables import damaged_manifest, print_answer, short_names, titled_table
from nircam_darks.report.text import count

if TYPE_CHECKING:
    from nircam_darks.operations.stability import StabilityAnswer, StoreSeries, StoreStability

#: Color of each `shared.statistics.trends.StabilityState`, which is costly to import.
_STYLES = {
    "drifts": "red",
    "steady": "green",
    "not enough data": "dim",
}


def stability_command(as_json: AsJson = False) -> None:
    """Show whether the dark rate, noise and jump rate of every configuration are steady in time.

    Uses all products in the store that DARKS_STORE names, which may be a results folder of `run`. Exit code 3
    if it does not answer.
    """
    from nircam_darks.operations.stability import ask_stability
    from nircam_darks.operations.store_access import impatient, open_existing, operator_settings

    settings = operator_settings()
    answer = ask_stability(lambda: open_existing(impatient(settings)))
    print_answer(answer, stability_tables(answer), as_json)
    raise typer.Exit(0 if answer.stability is not None else 3)


def stability_tables(answer: "StabilityAnswer") -> Iterator[RenderableType]:
    """Yield what the terminal shows: a summary line, then one table per configuration."""
    if answer.stability is None:
        yield Text(f"Store: {answer.store_problem}", style="bold red")
        return
    yield _head(answer.stability)
    for address in answer.stability.damaged:
        yield damaged_manifest(address)
    names = short_names({series.configuration for series in answer.stability.series})
    for configuration, group in groupby(answer.stability.series, lambda series: series.configuration):
        table = titled_table(names[configuration], "quantity", "per", "points", "verdict")
        for series in group:
            table.add_row(series.quantity, series.of, str(series.test.points), _verdict(series))
        yield table


def _head(stability: "StoreStability") -> Text:
    if not stability.series:
        return Text("No measurements yet")
    head = Text(
        f"{stability.tested} of {count(len(stability.series), 'series', 'series')} have enough points. "
    )
    drifts = count(stability.drifting, "drift") if stability.drifting else "No drift"
    head.append(drifts, style="bold red" if stability.drifting else "")
    alarms = f"{stability.by_chance:.2g} false alarms expected"
    head.append(
        f" ({alarms}), {count(stability.outliers, 'outlier') if stability.outliers else 'no outliers'}"
    )
    if stability.simulated:
        head.append("\nSIMULATED DATA: no number here is a flight result", style="bold yellow")
    return head


def _verdict(series: "StoreSeries") -> Text:
    return Text(series.test.verdict, style=_STYLES[series.test.state])
