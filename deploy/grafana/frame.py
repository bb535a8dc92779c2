"""What both dashboards have around their panels: variables, links, and marks where an alert fired."""

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
    """Marks that name their alert; the SDK has no fields for that."""

    def to_json(self) -> dict[str, object]:
        labels = {"titleFormat": "{{alertname}}", "tagKeys": "service,detector,subarray,configuration"}
        return super().to_json() | labels


class _AlertMarks(AnnotationQuery):
    def __init__(self) -> None:
        super().__init__()
        self._internal = _TitledMarks()


def begin(title: str, uid: str, description: str, alerts: str) -> Dashboard:
    """Begin a dashboard whose only variable is the data source, with alerts drawn into every panel.

    Parameters
    ----------
    alerts : str
        Pattern of the names of the alerts to draw.
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
            .description("The Prometheus server to query.")
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
            .tooltip("The other dashboard, for the same time range.")
            .keep_time(True)
        )
    )


def labels_variable(name: str, label: str, description: str, metric: str) -> QueryVariable:
    """Return a variable with the values of the label `name` of a metric; all are selected by default."""
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
