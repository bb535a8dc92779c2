"""deploy/compose.yaml: Compose takes it, and it keeps what it says of rights, secrets and order."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from shared.contracts.routing import BINDINGS
from shared.settings.service import ServiceSettings, known_variables
from shared.settings.stage import StageSettings
from support.compose_program import plugin
from support.paths import ROOT

DEPLOY = ROOT / "deploy"
SERVICES = tuple(BINDINGS)
#: Read by the jwst pipeline and boto3 themselves.
OTHERS = {
    "CRDS_PATH",
    "CRDS_CONTEXT",
    "CRDS_SERVER_URL",
    "AWS_EC2_METADATA_DISABLED",
}


@pytest.fixture(scope="module")
def compose() -> Path:
    """Compose 2 as a program of its own: it needs no engine to read a file."""
    return plugin("compose")


@pytest.fixture(scope="module")
def secrets(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("compose") / "secrets"
    subprocess.run(["sh", DEPLOY / "compose" / "secrets.sh", folder], check=True)
    return folder


def config(compose: Path, secrets: Path, *words: str) -> dict[str, Any]:
    """Compose's own reading of the file, with everything that is not always there."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DARKS_", "CRDS_"))}
    done = subprocess.run(
        [compose, "--file", DEPLOY / "compose.yaml", *words, "--profile", "*", "config", "--format", "json"],
        env={**kept, "SECRETS": str(secrets)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr.lower(), done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def read(compose: Path, secrets: Path) -> dict[str, Any]:
    return config(compose, secrets)


@pytest.fixture(scope="module")
def services(read: dict[str, Any]) -> dict[str, Any]:
    return read["services"]


def each(services: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from services.items()


def test_nobody_has_a_right_that_he_does_not_need(services: dict[str, Any]) -> None:
    built = {service["image"] for _, service in each(services) if "build" in service}
    for name, service in each(services):
        # Given any container; then it may write to volumes and memory only, and has no capability
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "cap_add" not in service, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("privileged"), name
        # And it is not root: our images say so themselves, of the others it is said here
        assert service["image"] in built or service["user"].split(":")[0].isdecimal(), name
        assert not service.get("user", "1").startswith("0"), name
        # And it sees nothing of the machine but files of this repository, to read
        for volume in service.get("volumes", []):
            if volume["type"] == "bind":
                assert volume["read_only"], (name, volume)
                assert Path(volume["source"]).is_relative_to(DEPLOY), (name, volume)
        # And temporary folders have a bound
        for temporary in service.get("tmpfs", []):
            assert "size=" in temporary, name


def test_a_job_fits_its_container_and_its_files_lie_on_disk(services: dict[str, Any]) -> None:
    for name in SERVICES:
        service = services[name]
        environment = service["environment"]
        # Given a job that takes the 2 GiB that it plans with; then it is not stopped, and 3 GiB hold it
        job, container = int(environment["DARKS_JOB_MEMORY"]), int(service["mem_limit"])
        assert StageSettings(store="memory:").max_memory <= 0.8 * job, name
        assert job < container <= 3 * 1024**3, name
        # And what it writes does not count as memory
        scratch = PurePosixPath(environment["DARKS_SCRATCH"])
        volumes = [volume["target"] for volume in service["volumes"] if volume["type"] == "volume"]
        assert any(scratch.is_relative_to(volume) for volume in volumes), name
        assert not any(scratch.is_relative_to(entry.split(":")[0]) for entry in service["tmpfs"]), name


def test_only_this_machine_reaches_a_port_and_workers_can_be_scaled(services: dict[str, Any]) -> None:
    for name, service in each(services):
        assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", [])), name
        assert "container_name" not in service, name
    for name in SERVICES:
        # Given a service of which there may be several; then nothing of it can be there only once
        assert "ports" not in services[name]
        assert "hostname" not in services[name]
        # And each has a name at which Prometheus finds all of them
        assert "watch" in services[name]["networks"]


def test_a_service_that_was_taken_over_reaches_nobody_outside(read: dict[str, Any]) -> None:
    for name in (
        *SERVICES,
        "broker-topology-user",
        "broker-users",
        "topology",
        "buckets",
        "cli",
        "demo",
        "sweep",
    ):
        for network in read["services"][name]["networks"]:
            assert read["networks"][network]["internal"], (name, network)


def test_passwords_are_files_and_each_has_its_own(services: dict[str, Any], secrets: Path) -> None:
    held = {
        name: {entry["source"] for entry in service.get("secrets", [])} for name, service in each(services)
    }
    # Given the services; then each has its own two, and no other's
    for name in SERVICES:
        assert held[name] == {f"broker-{name}", f"s3-{name}"}
    # And of the rest only who makes users knows theirs, and who is to sweep may
    assert held["cli"] == held["demo"] == {"broker-operator", "s3-operator"}
    assert held["sweep"] == {"broker-operator", "s3-sweep"}
    assert held["topology"] == {"broker-topology"}
    assert held["buckets"] == {"s3-owner"}
    # And no secret stands in what everybody may read
    output = (DEPLOY / "compose.yaml").read_text() + json.dumps(services)
    for path in secrets.iterdir():
        for line in path.read_text().split():
            value = line.rpartition("=")[2]
            assert len(value) < 8 or value not in output, path.name
    # And every user that RabbitMQ and the store know has one
    at_broker = set(json.loads((DEPLOY / "rabbitmq" / "permissions.json").read_text()))
    assert {f"broker-{user}" for user in at_broker} <= {path.name for path in secrets.iterdir()}
    assert {f"broker-{user}" for user in at_broker} | {"broker-admin"} == held["broker-users"]
    at_store = {f"s3-{path.stem}" for path in (DEPLOY / "s3" / "policies").glob("*.json")}
    assert at_store | {"s3-owner"} == held["s3"]


def test_secrets_are_made_once_and_only_their_owner_gets_to_them(secrets: Path) -> None:
    # Given secrets that were made; when they are made again, with one of them gone
    before = {path.name: path.read_text() for path in secrets.iterdir()}
    (secrets / "broker-noise").unlink()
    subprocess.run(["sh", DEPLOY / "compose" / "secrets.sh", secrets], check=True)
    after = {path.name: path.read_text() for path in secrets.iterdir()}
    # Then only that one is new
    assert {name for name in before if before[name] != after[name]} == {"broker-noise"}
    # And the folder is shut, and no two are the same
    assert secrets.stat().st_mode & 0o777 == 0o700
    passwords = [
        text.strip() for name, text in after.items() if name.startswith("broker-") and "." not in name
    ]
    assert len(set(passwords)) == len(passwords)
    assert all(len(password) >= 32 for password in passwords)


def test_everything_that_stays_is_asked_whether_it_is_well(services: dict[str, Any]) -> None:
    for name, service in each(services):
        if service["restart"] == "unless-stopped":
            # Of ours the image says what to ask.
            assert "healthcheck" in service, name
            assert name in SERVICES or service["healthcheck"]["test"][0] == "CMD", name


def test_each_starts_when_what_it_needs_is_there(services: dict[str, Any]) -> None:
    # Given what waits for what; then a job has to have ended well, and a server to be well
    for name, service in each(services):
        for needed, how in service.get("depends_on", {}).items():
            stays = services[needed]["restart"] == "unless-stopped"
            assert how["condition"] == ("service_healthy" if stays else "service_completed_successfully"), (
                name
            )
    # And rights are given after the topology, and before anybody works
    assert "topology" in services["broker-users"]["depends_on"]
    for name in SERVICES:
        assert {"broker-users", "topology", "buckets", "rabbitmq", "s3"} <= set(services[name]["depends_on"])


def test_settings_are_known_and_a_job_may_end_before_its_container_must(services: dict[str, Any]) -> None:
    for name in (*SERVICES, "cli", "demo", "sweep"):
        environment = services[name]["environment"]
        assert set(environment) <= known_variables() | OTHERS | {"DARKS_SETTINGS_FILE"}, name
    for name in SERVICES:
        output = services[name]["environment"]["DARKS_GRACE_SECONDS"]
        grace = ServiceSettings(grace_seconds=output).grace_seconds
        minutes, _, seconds = services[name]["stop_grace_period"].removesuffix("s").rpartition("m")
        assert int(minutes or 0) * 60 + int(seconds) > grace
        # And what is read of the images' targets is their own
        assert services[name]["build"]["target"] == name


def test_demo_has_its_own_references(compose: Path, secrets: Path) -> None:
    # Given the demo's variables; then ingest finds the references that the simulator writes
    from nircam_darks.simulation.crds_cache import environment

    shown = config(compose, secrets, "--env-file", str(DEPLOY / "compose" / "demo.env"))["services"]["ingest"]
    wanted = environment(Path("/crds/crds_cache"))
    # For whoever calls jwst's steps by hand; ingest never asks CRDS for parameters.
    del wanted["STPIPE_DISABLE_CRDS_STEPPARS"]
    assert wanted.items() <= shown["environment"].items()
    assert {"type": "volume", "source": "crds", "target": "/crds", "read_only": True} in [
        {key: volume.get(key) for key in ("type", "source", "target", "read_only")}
        for volume in shown["volumes"]
    ]


def test_what_is_mounted_is_there(services: dict[str, Any]) -> None:
    missing = {
        volume["source"]
        for _, service in each(services)
        for volume in service.get("volumes", [])
        if volume["type"] == "bind" and not Path(volume["source"]).exists()
    }
    assert not missing


def test_prometheus_asks_names_that_there_are(services: dict[str, Any]) -> None:
    # Given the names that Prometheus looks up; then each is a service here, on the network that it is on
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    groups = [*scraped["scrape_configs"], *scraped["alerting"]["alertmanagers"]]
    names = {name for group in groups for found in group.get("dns_sd_configs", []) for name in found["names"]}
    assert set(SERVICES) <= names
    for name in names:
        assert "watch" in services[name]["networks"], name


def test_scripts_are_shell() -> None:
    for script in ("compose/secrets.sh", "compose/up.sh", "s3/start.sh"):
        subprocess.run(["sh", "-n", DEPLOY / script], check=True)
