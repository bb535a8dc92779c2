"""A real Alertmanager, with the project's configuration, tells whom it should what they need, and no more."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.alertmanager_server import PAGE_KEY, Alertmanager, running_alertmanager
from support.prometheus_server import CONFIGURATION, DEPLOY, program, running_prometheus

RULES = {
    rule["alert"]: rule
    for group in yaml.safe_load((CONFIGURATION / "rules" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
}
SERVICES = ("ingest", "noise")
#: A cause, as it is told -> whom it silences: of every service, or of its own.
SILENCES: dict[str, tuple[dict[str, str], set[tuple[str, str]]]] = {
    "DarksBrokerDown": (
        {"instance": "rabbit-1"},
        {
            (name, service)
            for name in ("DarksWorkerQuiet", "DarksPublishFailures", "DarksFailureRatio")
            for service in SERVICES
        },
    ),
    "DarksStoreAway": (
        {"service": "ingest"},
        {
            ("DarksStoreErrors", "ingest"),
            ("DarksFailureRatio", "ingest"),
            ("DarksOldestMessage", "ingest"),
            ("DarksBacklogWithoutConsumers", "ingest"),
        },
    ),
    "DarksBacklogWithoutConsumers": ({"service": "ingest"}, {("DarksOldestMessage", "ingest")}),
}


def alert(name: str, **labels: str) -> dict[str, Any]:
    """Return an alert as Prometheus posts it, with the rule's own labels; its texts say whose it is."""
    rule = RULES[name]
    whose = " ".join(labels.values())
    return {
        "labels": {"alertname": name, **rule["labels"], **labels},
        "annotations": {
            "summary": f"{name} of {whose}",
            "description": f"What is wrong with {whose}.",
            "runbook_url": rule["annotations"]["runbook_url"],
        },
    }


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Alertmanager]:
    with running_alertmanager(tmp_path / "alertmanager") as server:
        yield server


def test_a_page_wakes_somebody_with_what_is_wrong_and_where_to_read_on(manager: Alertmanager) -> None:
    # When a page is told
    fired = alert("DarksBacklogWithoutConsumers", service="ingest")
    manager.tell(fired)
    # Then PagerDuty gets it with the key, and everything that the alert says
    [page] = manager.until(lambda: manager.told.events("trigger"), "the page")
    assert page["routing_key"] == PAGE_KEY
    assert page["payload"]["summary"] == fired["annotations"]["summary"]
    details = page["payload"]["custom_details"]
    assert fired["annotations"]["description"] in details["description"]
    assert details["runbook"] == "docs/runbook.md#darksbacklogwithoutconsumers"
    # And when it is over, the same incident ends
    manager.tell(fired, over=True)
    [end] = manager.until(lambda: manager.told.events("resolve"), "the end of the page")
    assert end["dedup_key"] == page["dedup_key"]
    # And no ticket was written
    assert manager.told.tickets == []


def test_a_ticket_is_written_in_the_channel_and_again_when_it_is_over(manager: Alertmanager) -> None:
    # When a ticket is told
    fired = alert("DarksDeadLetters", service="darkref")
    manager.tell(fired)
    # Then the channel gets it in Slack's form, nobody is woken
    [ticket] = manager.until(manager.told.attachments, "the ticket")
    assert ticket["title"] == "DarksDeadLetters: DarksDeadLetters of darkref"
    assert ticket["color"] == "danger"
    assert ticket["text"].strip() == (
        "DarksDeadLetters of darkref. What is wrong with darkref. (docs/runbook.md#darksdeadletters)"
    )
    # And again when it is over, which its words say
    manager.tell(fired, over=True)
    manager.until(lambda: len(manager.told.attachments()) == 2, "the end of the ticket")
    over = manager.told.attachments()[-1]
    assert over["title"] == "Over: DarksDeadLetters: DarksDeadLetters of darkref"
    assert over["color"] == "good"
    assert manager.told.pages == []


def test_what_is_told_of_several_names_each(manager: Alertmanager) -> None:
    # Given three nodes of a broker that are away at once, and two detectors that are not as expected
    nodes = [alert("DarksBrokerDown", instance=f"rabbit-{number}") for number in (1, 2, 3)]
    detectors = [alert("DarksDarkCurrentOutOfBand", detector=name) for name in ("NRCA1", "NRCB1")]
    manager.tell(*nodes, *detectors)
    # Then one page is told, which PagerDuty takes, and one ticket
    [page] = manager.until(lambda: manager.told.events("trigger"), "the page")
    [ticket] = manager.until(manager.told.attachments, "the ticket")
    assert manager.told.refused == []
    # And each says all of it
    for node in nodes:
        assert node["annotations"]["summary"] in page["payload"]["summary"]
        assert node["annotations"]["description"] in page["payload"]["custom_details"]["description"]
    assert ticket["title"] == "DarksDarkCurrentOutOfBand: 2 at once"
    for detector in detectors:
        assert detector["annotations"]["summary"] in ticket["text"]
    # When one of the detectors is, its line says so, and the ticket as a whole does not
    manager.tell(detectors[0], over=True)
    manager.until(lambda: len(manager.told.attachments()) == 2, "what became of the ticket")
    ticket = manager.told.attachments()[-1]
    assert not ticket["title"].startswith("Over")
    lines = ticket["text"].strip().splitlines()
    assert [line.startswith("Over: ") for line in lines] == ["NRCA1" in line for line in lines]


def told(manager: Alertmanager) -> set[tuple[str, str]]:
    """Return which alerts anybody was told of, by name and service."""
    message = str([manager.told.pages, manager.told.tickets])
    return {(name, whose) for name, whose in re.findall(r"(Darks\w+) of (\w+)", message) if whose in SERVICES}


@pytest.mark.parametrize("cause", SILENCES)
def test_a_cause_silences_its_symptoms_and_nothing_else(manager: Alertmanager, cause: str) -> None:
    # Given a cause, and every alert that is none for two services at once
    labels, silent = SILENCES[cause]
    names = {(name, service) for name in RULES.keys() - SILENCES.keys() for service in SERVICES} | silent
    source = alert(cause, **labels)
    manager.tell(source, *(alert(name, service=service) for name, service in sorted(names)))
    # Then its symptoms, and they alone, are silent; all else is told
    manager.until(lambda: manager.suppressed() == silent, f"{silent} to be silent")
    manager.until(lambda: names - silent <= told(manager), f"{names - silent} to be told")
    assert told(manager) & silent == set()
    # When the cause is over, Then what remains of its symptoms is told
    manager.tell(source, over=True)
    # (A backlog is a cause itself, of work that waits.)
    still = SILENCES["DarksBacklogWithoutConsumers"][1] if cause == "DarksStoreAway" else set()
    manager.until(lambda: silent - still <= told(manager), f"{silent - still} to be told")


def test_the_runbook_s_words_silence_an_alert_and_let_it_speak_again(manager: Alertmanager) -> None:
    # Given what the runbook tells whoever is on call
    runbook = (DEPLOY.parent / "docs" / "runbook.md").read_text().replace("\\\n", "")
    words = [shlex.split(line, comments=True) for line in re.findall(r"(?m)^ +(amtool .+)$", runbook)]
    [add] = [each for each in words if each[1:3] == ["silence", "add"]]
    [query] = [each for each in words if each[1:3] == ["silence", "query"]]
    [expire] = [each for each in words if each[1:3] == ["silence", "expire"]]

    def amtool(*said: str) -> str:
        asked = [f"--alertmanager.url={manager.url}" if "alertmanager.url" in each else each for each in said]
        assert asked != list(said), "says which Alertmanager"
        done = subprocess.run(
            [program("amtool"), *asked[1:]], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    # When its silence is added, Then that configuration's alert is silent, another's is told
    identity = amtool(*add).strip()
    mine = dict(re.findall(r"(\w+)=(\w+)", " ".join(one for one in add if not one.startswith("--"))))
    name, configuration = mine["alertname"], mine["configuration"]
    assert name in RULES
    manager.tell(alert(name, configuration=configuration), alert(name, configuration="another"))
    manager.until(lambda: manager.suppressed() == {(name, "")}, "the silence")
    [ticket] = manager.until(manager.told.attachments, "the other's ticket")
    assert configuration not in str(ticket)
    assert identity in amtool(*query)
    # When it is taken away, Then it is told
    amtool(*(identity if entry == "ID" else entry for entry in expire))
    manager.until(lambda: configuration in str(manager.told.tickets), "the ticket")


def test_prometheus_tells_of_a_broker_that_is_away_and_of_its_return(
    manager: Alertmanager, tmp_path: Path
) -> None:
    # Given Prometheus with the project's rules, and a broker whose metrics cannot be had
    manager.told.watched_answers = False
    with running_prometheus(tmp_path / "prometheus", "darks", manager.address) as prometheus:
        prometheus.watch("rabbitmq", (manager.told.address, {}))
        # Then somebody is woken, with the rule's words about that broker
        [page] = manager.until(lambda: manager.told.events("trigger"), "the page", 40)
        assert page["payload"]["summary"] == f"RabbitMQ at {manager.told.address} does not answer"
        assert page["payload"]["custom_details"]["runbook"] == "docs/runbook.md#darksbrokerdown"
        assert "metrics plugin" in page["payload"]["custom_details"]["description"]
        # When it answers again, Then the same incident ends
        manager.told.watched_answers = True
        [end] = manager.until(lambda: manager.told.events("resolve"), "the end of the page", 40)
        assert end["dedup_key"] == page["dedup_key"]
    assert manager.told.refused == []
