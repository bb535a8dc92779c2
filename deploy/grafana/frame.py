"""What both dashboards have around their panels: variables, links, marks where an alert was told."""

from grafana_foundation_sdk.builders.dashboard import (
    AnnotationQuery,
    Dashboard,
    DashboardLink,
    DatasourceVariable,
    QueryVariable,
)
from grafana_foundation_sdk.models.dashboard import AnnotationQuery as AnnotationModel
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from panels import BAD, PROMETHEUS

TAG = "nircam-darks"


class _TitledMarks(AnnotationModel):
    """Marks that say what was told; the SDK has no fields for it."""

    def to_json(self) -> dict[str, object]:
        said = {"titleFormat": "{{alertname}}", "tagKeys": "service,detector,subarray,configuration"}
        return super().to_json() | said


class _AlertMarks(AnnotationQuery):
    def __init__(self) -> None:
        super().__init__()
        self._internal = _TitledMarks()


def begin(title: str, uid: str, description: str, alerts: str) -> Dashboard:
    """Begin a dashboard: its variables are the datasource alone; alerts are drawn into every panel.

    Parameters
    ----------
    alerts : str
        A pattern of the names of the alerts that are drawn.
    """
    return (
        Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .timezone("utc")
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(
            DatasourceVariable("datasource")
            .label("Prometheus")
            .description("Which Prometheus is asked.")
            .type("prometheus")
        )
        .annotation(
            _AlertMarks()
            .name("Alerts")
            .datasource(PROMETHEUS)
            .enable(True)
            .icon_color(BAD)
            .expr(f'ALERTS{{alertname=~"{alerts}",alertstate="firing"}}')
        )
        .link(
            DashboardLink("nircam-darks")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .tooltip("The other dashboard, for the same time.")
            .keep_time(True)
        )
    )


def labels_variable(name: str, label: str, description: str, metric: str) -> QueryVariable:
    """Return a variable whose values are those of the label `name` of a metric; all are chosen at first."""
    return (
        QueryVariable(name)
        .label(label)
        .description(description)
        .datasource(PROMETHEUS)
        .query({"query": f"label_values({metric}, {name})", "refId": name})
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .current(VariableOption(selected=True, text=["All"], value=["$__all"]))
    )
