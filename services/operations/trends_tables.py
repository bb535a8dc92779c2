"""The tables of `nircam-darks stability`."""

from collections.abc import Iterator
from itertools import groupby

from rich.console import RenderableType
from rich.text import Text

from services.operations.trends import StabilityAnswer, StoreSeries, StoreStability
from services.report.wording import count
from services.terminal import short_names, titled_table

_STYLES = {"drifts": "red", "steady": "green", "not enough data": "dim"}


def stability_tables(found: StabilityAnswer) -> Iterator[RenderableType]:
    """Yield what a person at the terminal is told: a table a configuration."""
    if found.stability is None:
        yield Text(f"Store: {found.store_problem}", style="bold red")
        return
    yield _head(found.stability)
    for address in found.stability.damaged:
        yield Text(f"damaged: {address}; remove the folder it is in, and it is made again", style="red")
    short = short_names({one.configuration for one in found.stability.series})
    for configuration, series in groupby(found.stability.series, lambda one: one.configuration):
        table = titled_table(short[configuration], "figure", "by", "points", "verdict")
        for one in series:
            table.add_row(one.quantity, one.of, str(one.test.points), _verdict(one))
        yield table


def _head(found: StoreStability) -> Text:
    if not found.series:
        return Text("Nothing was measured yet")
    head = Text(f"{found.tested} of {count(len(found.series), 'series', 'series')} have enough points; ")
    head.append(f"{found.drifting} drift", style="bold red" if found.drifting else "")
    head.append(
        f" ({found.by_chance:.2g} would by chance), {count(found.outliers, 'outlier')}",
    )
    if found.simulated:
        head.append("\nSIMULATED DATA: no number here is a flight result", style="bold yellow")
    return head


def _verdict(series: StoreSeries) -> Text:
    return Text(series.test.verdict, style=_STYLES[series.test.state])
