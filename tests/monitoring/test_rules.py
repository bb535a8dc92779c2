"""Prometheus's and Alertmanager's files: checked by their own tools, and against what the services show."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.broker.rabbitmq.topology import queues
from shared.contracts.routing import BINDINGS, HELD_QUEUE
from shared.runtime.metric_names import METRICS
from support.prometheus_server import CONFIGURATION, DEPLOY, program

HERE = Path(__file__).parent
ALERTMANAGER = DEPLOY / "alertmanager" / "alertmanager.yml"
CASES = sorted((HERE / "rules").glob("*.yml"))
RUNBOOK = "docs/runbook.md"


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def rules(kind: str) -> list[dict[str, Any]]:
    files = (read(path) for path in sorted((CONFIGURATION / "rules").glob("*.yml")))
    return [rule for file in files for group in file["groups"] for rule in group["rules"] if kind in rule]


ALERTS = {rule["alert"]: rule for rule in rules("alert")}
RECORDED = {rule["record"] for rule in rules("record")}


def run(*words: object) -> str:
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_takes_its_configuration_and_every_rule() -> None:
    run(program("promtool"), "check", "config", CONFIGURATION / "prometheus.yml")
    run(program("promtool"), "check", "rules", "--lint=all", *(CONFIGURATION / "rules").glob("*.yml"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_the_rules_do_what_their_cases_say(case: Path) -> None:
    run(program("promtool"), "test", "rules", case)


def test_a_case_fails_where_its_rule_is_wrong(tmp_path: Path) -> None:
    # Given rules of which one alert can never fire
    tool, copy = program("promtool"), tmp_path / "deploy" / "prometheus"
    shutil.copytree(CONFIGURATION, copy)
    alerts = copy / "rules" / "alerts.yml"
    alerts.write_text(alerts.read_text().replace("darks:dead_letters > 0", "darks:dead_letters > 99"))
    case = tmp_path / "tests" / "monitoring" / "rules" / "messages.yml"
    case.parent.mkdir(parents=True)
    shutil.copy(HERE / "rules" / "messages.yml", case)
    # When its cases are run, Then they say so
    done = subprocess.run(
        [tool, "test", "rules", case], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode != 0
    assert "DarksDeadLetters" in done.stdout + done.stderr


def cases_of(alert: str) -> tuple[int, int]:
    """Return in how many cases an alert is told, and in how many it is not."""
    report = quiet = 0
    for test in (test for path in CASES for test in read(path)["tests"]):
        for each in test.get("alert_rule_test", []):
            if each["alertname"] == alert:
                report, quiet = report + bool(each["exp_alerts"]), quiet + (not each["exp_alerts"])
        report += sum(
            f'alertname="{alert}"' in each["expr"] and bool(each["exp_samples"])
            for each in test.get("promql_expr_test", [])
        )
    return report, quiet


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_has_a_case_that_tells_it_and_one_that_does_not(alert: str) -> None:
    report, quiet = cases_of(alert)
    assert report > 0
    assert quiet > 0


def test_every_recording_has_a_case() -> None:
    # Directly, or through the alert or the recording that stands on it
    text = "".join(path.read_text() for path in CASES)
    standing = {**{rule["record"]: rule["expr"] for rule in rules("record")}}
    used = text + "".join(rule["expr"] for rule in ALERTS.values()) + "".join(standing.values())
    assert {name for name in RECORDED if name not in used} == set()


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_to_somebody_new_what_is_wrong_and_where_to_read_on(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"] == {"severity": rule["labels"]["severity"]}
    assert rule["labels"]["severity"] in {"page", "ticket"}
    notes = rule["annotations"]
    assert notes.keys() == {"summary", "description", "runbook_url"}
    assert len(notes["summary"]) <= 100
    assert len(notes["description"]) > len(notes["summary"])
    assert notes["runbook_url"] == f"{RUNBOOK}#{alert.lower()}"


@pytest.mark.parametrize("alert", ALERTS)
def test_the_runbook_says_of_an_alert_where_to_look_and_what_to_do(alert: str) -> None:
    # Given its section, under the heading that its runbook_url leads to
    sections = re.split(r"(?m)^#+ +", (DEPLOY.parent / RUNBOOK).read_text())
    [section] = [each for each in sections if each.partition("\n")[0] == alert]
    # Then it says how urgent it is, as the rule does, where to look, and what to do
    assert re.match(rf"\w+\n\*{ALERTS[alert]['labels']['severity'].capitalize()}\b", section)
    assert "**Look**: " in section
    assert "**Do**: " in section


def test_rules_and_cases_use_only_metrics_that_there_are() -> None:
    known = {each.name for each in METRICS} | RECORDED
    known |= {
        f"{metric.name}_{end}"
        for metric in METRICS
        if metric.kind == "histogram"
        for end in ("bucket", "sum", "count")
    }
    output = [rule["expr"] for rule in (*rules("alert"), *rules("record"))]
    output += [path.read_text() for path in CASES]
    # A queue's name, such as darks.delay.5, has a dot behind it
    named = set(re.findall(r"\bdarks[:_][a-z0-9_:]+", "\n".join(output)))
    assert named - known == set()


def test_the_queues_in_the_rules_are_those_of_the_topology() -> None:
    text = (CONFIGURATION / "rules" / "recording.yml").read_text()
    patterns = {pattern.replace("\\\\", "\\") for pattern in re.findall(r'queue=~?"([^"]+)"', text)}
    matched = {queue for queue in queues() for each in patterns if re.fullmatch(each, queue)}
    assert matched == set(queues())
    assert "|".join(BINDINGS) in patterns
    assert HELD_QUEUE in patterns


def test_every_service_is_looked_for_under_its_name() -> None:
    jobs = {job["job_name"]: job for job in read(CONFIGURATION / "prometheus.yml")["scrape_configs"]}
    [result] = jobs["darks"]["dns_sd_configs"]
    assert result["names"] == list(BINDINGS)
    [named] = jobs["darks"]["relabel_configs"]
    for service in BINDINGS:
        for name in (service, f"{service}.darks.svc.cluster.local."):
            assert re.fullmatch(named["regex"], name)[1] == service


def test_alertmanager_takes_its_configuration_which_holds_no_secret() -> None:
    run(program("amtool"), "check-config", ALERTMANAGER)
    assert "://" not in ALERTMANAGER.read_text()
    for receiver in read(ALERTMANAGER)["receivers"]:
        [(kind, [settings])] = [(key, value) for key, value in receiver.items() if key != "name"]
        assert [key for key in settings if key.endswith("_file")], kind
    for rule in read(ALERTMANAGER)["inhibit_rules"]:
        text = " ".join([*rule["source_matchers"], *rule["target_matchers"]])
        assert set(re.findall(r"Darks\w+", text)) <= ALERTS.keys()


@pytest.mark.parametrize("alert", ALERTS)
def test_a_page_wakes_somebody_and_a_ticket_does_not(alert: str) -> None:
    severity = ALERTS[alert]["labels"]["severity"]
    words = ("config", "routes", "test", f"--config.file={ALERTMANAGER}")
    assert run(program("amtool"), *words, f"severity={severity}", f"alertname={alert}").strip() == severity
