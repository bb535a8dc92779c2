"""Table panels: one row per place, one column per query."""

from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders.table import Panel as Table
from grafana_foundation_sdk.models.dashboard import DataTransformerConfig, DynamicConfigValue
from panels import Query, Steps, asked, named


@dataclass(frozen=True)
class Column(Query):
    """A column of a table, which shows the value of a query.

    Attributes
    ----------
    names : tuple of (float, str, str)
        Values shown by a name, with its colour: (value, name, colour).
    """

    unit: str = "short"
    decimals: int | None = None
    steps: Steps = ()
    names: tuple[tuple[float, str, str], ...] = ()

    def properties(self) -> list[DynamicConfigValue]:
        """Return the display properties of its cells."""
        properties: list[tuple[str, Any]] = [("unit", self.unit)]
        if self.decimals is not None:
            properties.append(("decimals", self.decimals))
        if self.steps:
            steps = [{"value": value, "color": color} for value, color in self.steps]
            properties.append(("thresholds", {"mode": "absolute", "steps": steps}))
        if self.names:
            properties.append(("mappings", [named(self.names)]))
        if self.steps or self.names:
            properties.append(("custom.cellOptions", {"type": "color-text"}))
        return [DynamicConfigValue(id_val=key, value=value) for key, value in properties]


def table(
    title: str, description: str, labels: dict[str, str], *columns: Column, width: int = 24, height: int = 8
) -> Table:
    """Return a table with one row for each combination of labels in the columns' queries.

    Parameters
    ----------
    labels : dict
        Label that every query has -> heading of its column. Of several values for the same labels the
        largest is shown.
    """
    # Grafana merges rows by all labels of the series, and by the metric's name as well.
    by = f"max by ({', '.join(labels)})"
    queries = tuple(Query(f"{by} ({column.expr})", column.legend) for column in columns)
    panel = asked(Table(), queries, instant=True, table=True).title(title).description(description)
    # With one query Grafana calls its column Value, with several Value #A, Value #B ...
    values = [
        "Value" if len(columns) == 1 else f"Value #{chr(ord('A') + number)}" for number in range(len(columns))
    ]
    order = [*labels, *values]
    heads = labels | {name: column.legend for name, column in zip(values, columns, strict=True)}
    panel = (
        panel.span(width)
        .height(height)
        .with_transformation(DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(
            DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": {"Time": True},
                    "indexByName": {name: place for place, name in enumerate(order)},
                    "renameByName": heads,
                },
            )
        )
        .no_value("-")
        .filterable(True)
    )
    for column in columns:
        panel.override_by_name(column.legend, column.properties())
    return panel
