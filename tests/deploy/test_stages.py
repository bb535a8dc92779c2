"""Whoever adds or renames a service learns here which files still lack it."""

import json
import re
from pathlib import Path

import pytest
import yaml

from shared.contracts.routing import BINDINGS, SENDS, STAGE_HANDLERS, STAGES
from support.paths import ROOT

NAMES = tuple(stage.name for stage in STAGES)
#: Files that spell out every service; compose, Kubernetes and Prometheus have no way to read a list of ours.
OF_EVERY_SERVICE = (
    "Dockerfile",
    "Makefile",
    "deploy/compose.yaml",
    "deploy/compose/secrets.sh",
    "deploy/kubernetes/base/accounts.yaml",
    "deploy/kubernetes/base/disruption.yaml",
    "deploy/kubernetes/base/kustomization.yaml",
    "deploy/kubernetes/base/network.yaml",
    "deploy/kubernetes/base/services.yaml",
    "deploy/kubernetes/images/kustomization.yaml",
    "deploy/kubernetes/keda/kustomization.yaml",
    "deploy/prometheus/prometheus.yml",
    "deploy/prometheus/rules/recording.yml",
    "deploy/rabbitmq/permissions.json",
    "deploy/s3/policies/sweep.json",
    "deploy/schemas/asyncapi.json",
)
#: Folders with a file for each service.
A_FILE_EACH = ("deploy/kubernetes/base", "deploy/kubernetes/keda", "deploy/s3/policies")


def text(path: str) -> str:
    return (ROOT / path).read_text()


@pytest.mark.parametrize("path", OF_EVERY_SERVICE)
def test_a_file_that_lists_the_services_has_all_of_them(path: str) -> None:
    assert {name for name in NAMES if re.search(rf"(?<!\w){name}(?!\w)", text(path))} == set(NAMES)


@pytest.mark.parametrize("folder", A_FILE_EACH)
def test_each_service_has_its_file(folder: str) -> None:
    assert {path.stem for path in (ROOT / folder).iterdir()} >= set(NAMES)


def test_each_service_is_a_package_that_starts_by_itself() -> None:
    packages = {path.parent.name for path in (ROOT / "services").glob("*/__main__.py")}
    assert packages == set(NAMES) == set(STAGE_HANDLERS)
    for handler in STAGE_HANDLERS.values():
        module, _, function = handler.partition(":")
        source = (ROOT / Path(*module.split("."))).with_suffix(".py").read_text()
        assert f"def {function}(" in source


def test_each_service_is_a_target_of_the_dockerfile_with_its_own_command() -> None:
    dockerfile = text("Dockerfile")
    targets = re.findall(r"^FROM service AS (\w+)$", dockerfile, re.MULTILINE)
    assert sorted(targets) == sorted(NAMES)
    started = re.findall(r'^CMD \["python", "-m", "services\.(\w+)"\]$', dockerfile, re.MULTILINE)
    assert sorted(started) == sorted(NAMES)
    assert "".join(re.findall(r"^IMAGES = (.*)$", text("Makefile"), re.MULTILINE)).split() == [
        f"nircam-darks-{name}" for name in (*NAMES, "cli")
    ]


def test_compose_starts_each_service_as_its_own_user() -> None:
    services = yaml.safe_load(text("deploy/compose.yaml"))["services"]
    for name in NAMES:
        assert services[name]["build"]["target"] == name
        assert services[name]["environment"]["DARKS_BROKER_USER"] == name
        assert set(services[name]["secrets"]) == {f"broker-{name}", f"s3-{name}"}


def test_prometheus_asks_each_service_and_reads_each_queue() -> None:
    [job] = [
        job
        for job in yaml.safe_load(text("deploy/prometheus/prometheus.yml"))["scrape_configs"]
        if any(set(NAMES) <= set(found.get("names", ())) for found in job.get("dns_sd_configs", ()))
    ]
    assert job["dns_sd_configs"][0]["names"] == list(NAMES)
    assert f'queue=~"{"|".join(NAMES)}"' in text("deploy/prometheus/rules/recording.yml")


@pytest.mark.parametrize("name", NAMES)
def test_the_broker_lets_each_service_do_what_it_does_and_no_more(name: str) -> None:
    rights = json.loads(text("deploy/rabbitmq/permissions.json"))[name]
    keys = {key for table in (BINDINGS, SENDS) for each in table.values() for key in each}
    may = {key for key in keys if re.search(rights["topics"]["darks"]["write"], key)}
    # Announcements in a foreign form are published again, in ours.
    foreign = {"exposure.announced"} if "exposure.announced" in BINDINGS[name] else set()
    assert may == set(SENDS[name]) | foreign
    assert [queue for queue in NAMES if re.search(rights["read"], queue)] == [name]
