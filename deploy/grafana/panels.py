"""The panels that both dashboards are made of, so that they look alike."""

from dataclasses import dataclass
from typing import TypeVar

from grafana_foundation_sdk.builders.common import (
    GraphThresholdsStyleConfig,
    ReduceDataOptions,
    StackingConfig,
    VizLegendOptions,
    VizTooltipOptions,
)
from grafana_foundation_sdk.builders.dashboard import (
    FieldColor,
    ThresholdsConfig,
)
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.statetimeline import Panel as StateTimeline
from grafana_foundation_sdk.builders.table import Panel as Table
from grafana_foundation_sdk.builders.timeseries import Panel as Timeseries
from grafana_foundation_sdk.models import common, prometheus
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    DynamicConfigValue,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)

#: The data source selected at the top of each dashboard.
PROMETHEUS = DataSourceRef(type_val="prometheus", uid="${datasource}")
GOOD, LOOK, BAD, PLAIN = "green", "orange", "red", "blue"

AnyPanel = TypeVar("AnyPanel", Timeseries, Stat, Table, StateTimeline)
#: Selects the services chosen at the top of the dashboard.
SERVICE = 'service=~"$service"'
INGESTED = 'darks_messages_published_total{schema="exposure.ingested"}'
#: (value from which the colour applies, colour); None in the first.
Steps = tuple[tuple[float | None, str], ...]
ANY_IS_BAD: Steps = ((None, GOOD), (1, BAD))


@dataclass(frozen=True)
class Query:
    """A query, with the legend of its series.

    Attributes
    ----------
    legend : str
        ``{{label}}`` stands for a label's value; in a table it is the heading of the column.
    """

    expr: str
    legend: str


def asked(
    panel: AnyPanel, queries: tuple[Query, ...], instant: bool = False, table: bool = False
) -> AnyPanel:
    """Give a panel its queries, named A, B, C ..., and their data source."""
    for number, query in enumerate(queries):
        target = (
            Dataquery()
            .datasource(PROMETHEUS)
            .ref_id(chr(ord("A") + number))
            .expr(query.expr)
            .editor_mode(prometheus.QueryEditorMode.CODE)
            .legend_format(query.legend)
            .format(prometheus.PromQueryFormat.TABLE if table else prometheus.PromQueryFormat.TIME_SERIES)
        )
        panel.with_target(target.instant() if instant else target.range())
    return panel.datasource(PROMETHEUS)


def thresholds(steps: Steps) -> ThresholdsConfig:
    """Return the colour thresholds."""
    return (
        ThresholdsConfig()
        .mode(ThresholdsMode.ABSOLUTE)
        .steps([Threshold(value=value, color=color) for value, color in steps])
    )


def timeseries(
    title: str,
    description: str,
    *queries: Query,
    unit: str = "short",
    width: int = 8,
    steps: Steps = (),
    stacked: bool = False,
    floor: float | None = 0,
) -> Timeseries:
    """Return a panel of lines over time.

    Parameters
    ----------
    unit : str
        Grafana's name for it, or ``suffix:`` and a word.
    width : int
        Number of columns, out of 24.
    steps : Steps
        Drawn as coloured areas, if given.
    floor : float, optional
        The axis starts here, or lower if the values do.
    """
    panel = asked(Timeseries(), queries).title(title).description(description)
    panel = (
        panel.unit(unit)
        .span(width)
        .height(8)
        .line_width(1)
        .fill_opacity(30 if stacked else 5)
        # A rate after the first sample of a process has no neighbour and would not be drawn as a line.
        .show_points(common.VisibilityMode.AUTO)
        .tooltip(VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING))
        .legend(
            VizLegendOptions()
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
    )
    if floor is not None:
        panel.axis_soft_min(floor)
    if steps:
        panel.thresholds(thresholds(steps)).thresholds_style(
            GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED_AND_AREA)
        )
    if stacked:
        panel.stacking(StackingConfig().mode(common.StackingMode.NORMAL))
    return panel


def with_band(panel: Timeseries, low: str, high: str) -> Timeseries:
    """Fill what lies between the series of these two legends in grey, and draw no line of theirs."""
    grey = DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": "text"})
    thin = DynamicConfigValue(id_val="custom.lineWidth", value=0)
    for name, fill in ((low, 0), (high, 15)):
        properties = [grey, thin, DynamicConfigValue(id_val="custom.fillOpacity", value=fill)]
        if name == high:
            properties.append(DynamicConfigValue(id_val="custom.fillBelowTo", value=low))
        panel.override_by_name(name, properties)
    return panel


def with_dashes(panel: Timeseries, legends: str) -> Timeseries:
    """Draw the series whose legend fits a pattern, ``/.../``, dashed, with nothing below them."""
    dashes = DynamicConfigValue(id_val="custom.lineStyle", value={"fill": "dash", "dash": [4, 4]})
    return panel.override_by_regexp(
        legends, [dashes, DynamicConfigValue(id_val="custom.fillOpacity", value=0)]
    )


def stat(
    title: str,
    description: str,
    *queries: Query,
    unit: str = "short",
    width: int = 4,
    steps: Steps = ((None, PLAIN),),
    decimals: int | None = None,
    over_range: bool = False,
) -> Stat:
    """Return a panel of one number a series.

    Parameters
    ----------
    over_range : bool
        The query looks at the whole of the time shown by itself; else its newest value is shown, over a
        line of those before.
    """
    panel = asked(Stat(), queries, instant=over_range).title(title).description(description)
    panel = (
        panel.unit(unit)
        .span(width)
        .height(4)
        .thresholds(thresholds(steps))
        .color_scheme(FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .graph_mode(common.BigValueGraphMode.NONE if over_range else common.BigValueGraphMode.AREA)
        .text_mode(common.BigValueTextMode.VALUE if len(queries) == 1 else common.BigValueTextMode.AUTO)
        .reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
        .no_value("-")
    )
    return panel if decimals is None else panel.decimals(decimals)


def named(names: tuple[tuple[float, str, str], ...]) -> ValueMap:
    """Return the words and colours that stand for values."""
    return ValueMap(
        options={f"{value:g}": ValueMappingResult(text=text, color=color) for value, text, color in names}
    )


def states(
    title: str,
    description: str,
    *queries: Query,
    names: tuple[tuple[float, str, str], ...],
    width: int = 24,
    height: int = 8,
) -> StateTimeline:
    """Return a panel with a bar a series, coloured by what its value is called."""
    panel = asked(StateTimeline(), queries).title(title).description(description)
    return (
        panel.span(width)
        .height(height)
        .mappings([named(names)])
        .merge_values(True)
        .show_value(common.VisibilityMode.NEVER)
        .row_height(0.8)
        .fill_opacity(70)
        .legend(VizLegendOptions().show_legend(False))
    )
