"""The dashboards: what the code makes, in a reader's words, of metrics that there are."""

import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.runtime.metric_names import METRICS
from support.grafana_dashboards import DASHBOARDS, GRAFANA, all_queries, named_in, panels, variables
from support.prometheus_server import CONFIGURATION, DEPLOY

#: Variables that Grafana has itself.
BUILT_IN = {"__range"}
COLUMNS = 24
ALL_PANELS = [
    pytest.param(panel, id=f"{name}-{panel['title']}")
    for name, board in DASHBOARDS.items()
    for panel, _ in panels(board)
]


def rules(file: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((CONFIGURATION / "rules" / file).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_the_checked_in_json_is_what_the_code_makes(tmp_path: Path) -> None:
    # When the dashboards are made anew
    made = [sys.executable, GRAFANA / "build.py", tmp_path]
    done = subprocess.run(made, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    # Then they are those that are checked in, every byte
    wanted = {path.name: path.read_text(encoding="utf-8") for path in (GRAFANA / "dashboards").iterdir()}
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == wanted, (
        "run `make dashboards`"
    )


@pytest.mark.parametrize("panel", ALL_PANELS)
def test_a_panel_says_what_it_shows(panel: dict[str, Any]) -> None:
    # A reader finds a sentence, a unit and a name for every series
    assert len(panel["description"]) > len(panel["title"])
    assert panel["description"].endswith(".")
    assert all(target["legendFormat"] for target in panel["targets"])
    fields = panel["fieldConfig"]
    if panel["type"] == "state-timeline":
        assert fields["defaults"]["mappings"]
    elif panel["type"] == "table":
        with_unit = {
            each["matcher"]["options"]
            for each in fields["overrides"]
            if any(set_to["id"] == "unit" for set_to in each["properties"])
        }
        assert with_unit == {target["legendFormat"] for target in panel["targets"]}
    else:
        assert fields["defaults"]["unit"]
    # And the Prometheus that is asked is the reader's choice
    for each in (panel, *panel["targets"]):
        assert each["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_have_numbers_and_places_of_their_own(name: str) -> None:
    board = DASHBOARDS[name]["panels"]
    assert len({panel["id"] for panel in board}) == len(board)
    taken: set[tuple[int, int]] = set()
    for panel in board:
        place = panel["gridPos"]
        across, down = range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        assert across.stop <= COLUMNS, panel["title"]
        here = {(x, y) for x in across for y in down}
        assert not here & taken, panel["title"]
        taken |= here


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_variable_is_explained_and_used(name: str) -> None:
    board = DASHBOARDS[name]
    known = variables(board)
    assert all(each["label"] and each["description"] for each in known.values())
    assert named_in(str(board["panels"])) - BUILT_IN == set(known)


def test_queries_use_only_metrics_that_there_are() -> None:
    known = {metric.name for metric in METRICS} | {rule["record"] for rule in rules("recording.yml")}
    text = " ".join(str(board) for board in DASHBOARDS.values())
    named = set(re.findall(r"\bdarks[:_][a-z0-9_:]+", text))
    assert named - known == set()
    # And every alert that a dashboard marks is one
    alerts = [rule["alert"] for rule in rules("alerts.yml")]
    for board in DASHBOARDS.values():
        [marks] = board["annotations"]["list"]
        pattern = re.search('alertname=~"([^"]+)"', marks["expr"])
        assert pattern is not None
        assert [alert for alert in alerts if re.fullmatch(pattern[1], alert)]
        report = re.findall(r"\bDarks[A-Z]\w+", "".join(panel["description"] for panel, _ in panels(board)))
        assert set(report) <= set(alerts)


LIMITS = (
    "darks:oldest_message_seconds",
    "darks:failed_attempts:ratio30m",
    "darks_last_tick_timestamp_seconds",
    "darks:set_quiet_seconds",
)


@pytest.mark.parametrize("metric", LIMITS)
def test_a_panel_turns_red_where_the_alert_is_told(metric: str) -> None:
    # Given the limit in the alert's expression
    result = re.search(
        metric + r" > ([\d.]+(?: \* [\d.]+)*)", "\n".join(r["expr"] for r in rules("alerts.yml"))
    )
    assert result is not None
    limit = math.prod(float(part) for part in result[1].split(" * "))
    # Then it is the last threshold of the panel's field
    [asked] = [all_query for all_query in all_queries() if metric in all_query.target["expr"]]
    fields = asked.panel["fieldConfig"]
    steps = next(
        (
            set_to["value"]["steps"]
            for override in fields["overrides"]
            if override["matcher"]["options"] == asked.target["legendFormat"]
            for set_to in override["properties"]
            if set_to["id"] == "thresholds"
        ),
        fields["defaults"].get("thresholds", {}).get("steps"),
    )
    assert (steps[-1]["value"], steps[-1]["color"]) == (limit, "red")


def test_grafana_finds_the_files_where_compose_puts_them_and_the_prometheus_by_its_name() -> None:
    provisioning = GRAFANA / "provisioning"
    [provider] = yaml.safe_load((provisioning / "dashboards" / "nircam-darks.yaml").read_text())["providers"]
    [source] = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    # Given what compose mounts into Grafana
    mounted = dict(volume.split(":")[:2] for volume in services["grafana"]["volumes"])
    # Then the provider looks there, and the datasource is that of Prometheus's service
    assert mounted["./grafana/dashboards"] == provider["options"]["path"]
    assert mounted["./grafana/provisioning"] == "/etc/grafana/provisioning"
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in services
    assert not {"password", "basicAuthPassword", "secureJsonData"} & source.keys()
    # And it knows how often Prometheus looks
    configured = yaml.safe_load((CONFIGURATION / "prometheus.yml").read_text())["global"]
    assert source["jsonData"]["timeInterval"] == configured["scrape_interval"]
