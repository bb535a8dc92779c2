"""deploy/compose.yaml run as the runbook says: up, scaled, watched, broken in three ways, mended, down.

RabbitMQ, Ceph, Prometheus and Alertmanager are Debian's, in an image that stands in for their own.
"""

import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from services.ingest.plan import ALGORITHM_VERSION
from shared.contracts.routing import BINDINGS
from support.compose_stack import ALERTMANAGER, PROMETHEUS, Stack, started_apart
from support.docker_engine import Engine

pytestmark = [pytest.mark.image, pytest.mark.timeout(1200)]

SERVERS = {
    "RABBITMQ_IMAGE": (
        # As the official image has it: the log on the console.
        "RUN echo 'log.console = true' > /etc/rabbitmq/conf.d/10-defaults.conf",
        "ENV HOME=/var/lib/rabbitmq PATH=/usr/lib/rabbitmq/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        'CMD ["rabbitmq-server"]',
    ),
    "CEPH_IMAGE": (),
    "PROMETHEUS_IMAGE": ("WORKDIR /prometheus", 'ENTRYPOINT ["prometheus"]'),
    "ALERTMANAGER_IMAGE": ("WORKDIR /alertmanager", 'ENTRYPOINT ["prometheus-alertmanager"]'),
    # Named so that nobody looks for one elsewhere; none is started of it.
    "GRAFANA_IMAGE": (),
}
WAIT = 120.0


@pytest.fixture(scope="module")
def servers(engine: Engine) -> dict[str, str]:
    """Images that stand in for those that can be pulled elsewhere, by compose's variable."""
    if engine.ask("image", "inspect", "darks-servers").returncode:
        with tempfile.TemporaryDirectory(prefix="darks-servers-") as folder:
            archive = Path(folder) / "servers.tar"
            subprocess.run(["sh", Path(__file__).with_name("servers.sh"), archive], check=True)
            engine.docker("import", str(archive), "darks-servers")
    return {
        variable: engine.derive(f"darks-{variable.removesuffix('_IMAGE').lower()}", "darks-servers", *lines)
        for variable, lines in SERVERS.items()
    }


@pytest.fixture(scope="module")
def stack(engine: Engine, images, base_image: str, servers, tmp_path_factory) -> Iterator[Stack]:
    with started_apart(engine):
        here = Stack(engine, tmp_path_factory.mktemp("compose"), {**servers, "BASE_IMAGE": base_image})
        try:
            yield here
        finally:
            here.compose("--profile", "*", "down", "--volumes")


def test_one_command_brings_it_up_and_all_of_it_is_confined_and_watched(stack: Stack) -> None:
    # Given a clone and no secrets; when it is brought up
    stack.up()
    # Then what stays is well, and what ends has ended well
    running = {
        name: stack.containers(name) for name in (*BINDINGS, "rabbitmq", "s3", "prometheus", "alertmanager")
    }
    for service, containers in running.items():
        [container] = containers
        result = stack.inspect(container)
        assert result["State"]["Health"]["Status"] == "healthy", service
        # And as it runs it is nobody's root, and writes nowhere but where it may
        assert result["Config"]["User"].split(":")[0] not in ("", "0", "root"), service
        assert result["HostConfig"]["ReadonlyRootfs"], service
        assert result["HostConfig"]["CapDrop"] == ["ALL"], service
    # And Prometheus reaches all that it should, takes every rule, and tells Alertmanager
    wanted = {"ingest", "darkref", "noise", "prometheus", "alertmanager", "rabbitmq", "rabbitmq-queues"}

    def up() -> set[str]:
        return {sample["metric"].get("service", sample["metric"]["job"]) for sample in stack.query("up == 1")}

    stack.until(lambda: up() == wanted, "every target to be up")
    groups = stack.get(f"{PROMETHEUS}/api/v1/rules")["data"]["groups"]
    stack.until(
        lambda: all(
            rule["health"] == "ok"
            for group in stack.get(f"{PROMETHEUS}/api/v1/rules")["data"]["groups"]
            for rule in group["rules"]
        ),
        "every rule to have been evaluated",
    )
    assert sum(len(group["rules"]) for group in groups) > 40
    assert len(stack.get(f"{PROMETHEUS}/api/v1/alertmanagers")["data"]["activeAlertmanagers"]) == 1


def test_the_demo_ends_with_references_though_a_worker_is_killed_in_its_job(stack: Stack) -> None:
    # Given the demo with three workers of ingest
    thread = ThreadPoolExecutor(1)
    demo = thread.submit(stack.up, "--demo", "--scale", "ingest=3", within=600)
    # When one of them is killed amid a job
    killed = ""

    def amid_a_job(container: str) -> bool:
        outcomes = [line["outcome"] for line in stack.said(container) if "outcome" in line]
        return bool(outcomes) and outcomes[-1] in ("received", "progress")

    while not demo.done() and not killed:
        workers = stack.containers("ingest")
        for container in workers if len(workers) == 3 else ():
            if amid_a_job(container):
                stack.run("docker", "kill", container)
                # It may have been done between the look and the kill.
                if amid_a_job(container):
                    killed = container
                    break
                stack.run("docker", "start", container)
    # Then the demo ends with the references of both configurations all the same
    text = demo.result(600)
    thread.shutdown()
    assert killed, text
    assert text.count("reference of ") == 2, text
    assert "s3://darks/products/darkref/" in text
    # And it is seen: a worker less, a message that was delivered once more, and no dead letter
    stack.until(lambda: stack.value('darks:workers{service="ingest"}') == 2, "a worker less")
    stack.until(lambda: stack.value("sum(darks_redeliveries_total)") >= 1, "a redelivery")
    assert "ingest.dead: 0, darkref.dead: 0, noise.dead: 0" in stack.cli("dead-letters", "list")
    # When it is started again, Then there are three
    stack.run("docker", "start", killed)
    stack.until(lambda: stack.value('darks:workers{service="ingest"}') == 3, "three workers")
    # And what was measured is there for the dashboards
    for metric in ("darks_dark_current_electrons_per_kilosecond", "darks_cds_noise_electrons"):
        stack.until(lambda metric=metric: len(stack.query(metric)) == 2, metric)


def test_without_its_store_it_waits_and_says_so(stack: Stack) -> None:
    # Given an exposure that is announced while the store is away
    workers = stack.containers("ingest")

    def outcomes(kind: str) -> int:
        return sum(line.get("outcome") == kind for worker in workers for line in stack.said(worker))

    before = outcomes("finished")
    stack.compose("stop", "s3")
    stack.until(lambda: stack.alerts("DarksStoreAway") == set(BINDINGS), "DarksStoreAway of each service")
    assert "s3://darks" in stack.cli("status", expect=3)
    stack.cli("announce", "s3://darks/raw/jw01062001001_02101_00001_nrcalong_uncal.fits")
    # Then no message is lost meanwhile
    assert outcomes("dead-lettered") == 0
    # When it is back, Then the services go on by themselves
    stack.compose("start", "s3")
    stack.until(lambda: not stack.alerts("DarksStoreAway"), "the alert to end")
    stack.until(lambda: outcomes("finished") > before, "the exposure to be done with")
    assert "ingest.dead: 0, darkref.dead: 0, noise.dead: 0" in stack.cli("dead-letters", "list")
    stack.cli("status")


def test_what_may_not_be_read_is_a_dead_letter_that_is_told_of_and_kept(stack: Stack) -> None:
    # Given an address that is not allowed; when it is announced
    stack.cli("announce", "s3://elsewhere/raw/x_uncal.fits")
    # Then it is a dead letter that says so
    stack.until(
        lambda: "DARKS_ALLOWED_SOURCES: s3://darks/raw/" in stack.cli("dead-letters", "list"),
        "the dead letter",
        30,
    )

    # And Alertmanager is told
    def told() -> bool:
        alerts = stack.get(f"{ALERTMANAGER}/api/v2/alerts")
        return "DarksDeadLetters" in {alert["labels"]["alertname"] for alert in alerts}

    stack.until(told, "DarksDeadLetters at Alertmanager", WAIT)
    # When it is exported and removed, to a folder outside that is whoever's who runs it
    letters = stack.checkout / "letters"
    letters.mkdir()
    options = ("--user", str(os.getuid()), "--volume", f"{stack.checkout}:/work", "--workdir", "/work")
    stack.cli("dead-letters", "export", "--out", "letters", "--remove", options=options)
    # Then it is there, and no longer in the queue
    [kept] = letters.rglob("*.json")
    assert "s3://elsewhere/raw/x_uncal.fits" in kept.read_text()
    assert "ingest.dead: 0, darkref.dead: 0, noise.dead: 0" in stack.cli("dead-letters", "list")


def test_a_password_is_changed_as_the_security_page_says(stack: Stack) -> None:
    # Given a service's password; when it is made anew, given to the broker, and the service restarted
    secret = stack.checkout / "deploy" / "compose" / "secrets" / "broker-noise"
    before = secret.read_text()
    secret.unlink()
    stack.run("sh", "deploy/compose/secrets.sh")
    stack.compose("run", "--rm", "--no-deps", "broker-users")
    stack.compose("restart", "noise")
    # Then the broker knows the new one only, and the service is back with it
    words = ("exec", "-T", "rabbitmq", "rabbitmqctl", "authenticate_user", "noise")
    assert "Success" in stack.compose(*words, secret.read_text().strip())
    with pytest.raises(AssertionError) as refused:
        stack.compose(*words, before.strip())
    assert "authenticate" in refused.value.args[0]
    stack.until(lambda: stack.value('sum(darks:queue_consumers{queue="noise"})') == 1, "noise's consumer")


def configurations(stack: Stack) -> list[dict[str, Any]]:
    """What `status` says of each configuration."""
    text = stack.cli("status", "--json")
    return json.loads(text[text.index("{") : text.rindex("}") + 1])["store"]["configurations"]


def newer_ingest(engine: Engine) -> str:
    """Make an image of ingest whose algorithm is of the next version; return its name."""
    plan = "/opt/darks/lib/python3*/site-packages/services/ingest/plan.py"
    change = f's/^ALGORITHM_VERSION = .*/ALGORITHM_VERSION = "{int(ALGORITHM_VERSION) + 1}"/'
    return engine.derive(
        "darks-ingest-newer",
        "nircam-darks-ingest",
        "USER 0",
        f"RUN sed -i '{change}' {plan}",
        "USER 65532:65532",
    )


def test_a_version_rolled_out_under_load_halves_no_set(stack: Stack, engine: Engine) -> None:
    # Given two sets with their references, and an ingest of a newer version
    before = configurations(stack)
    exposures = [each["sets"][0]["exposures"] for each in before]
    sizes = [len(names) for names in exposures]
    assert sorted(sizes) == [2, 4]
    addresses = [f"s3://darks/raw/{name}_uncal.fits" for names in exposures for name in names]
    # What the demo was brought up with: nothing else is started anew
    demo = (stack.checkout / "deploy" / "compose" / "demo.env").read_text().splitlines()
    more = dict(line.split("=", 1) for line in demo if "=" in line and not line.startswith("#"))
    as_it_was = dict(stack.environment)
    stack.environment |= {**more, "INGEST_IMAGE": newer_ingest(engine)}
    stack.up("--no-build", "--no-recreate", "--scale", "ingest=1")
    # When it is started beside the other, and then takes its place, while exposures are announced
    stop = threading.Event()

    def announce_on() -> None:
        while not stop.is_set():
            stack.cli("announce", *addresses)

    with ThreadPoolExecutor(1) as thread:
        load = thread.submit(announce_on)
        try:
            stack.up("--no-build", "--no-recreate", "--scale", "ingest=2")
            images = {stack.inspect(name)["Config"]["Image"] for name in stack.containers("ingest")}
            stack.up("--no-build", "--scale", "ingest=2")
        finally:
            stop.set()
        load.result(300)
    assert images == {"nircam-darks-ingest", "darks-ingest-newer"}

    # Then each set is made again, whole
    def made_again() -> bool:
        now = configurations(stack)
        known = {reference["path"] for each in before for reference in each["references"]}
        return all(
            each["waits_for"] is None and each["sets"][0]["reference"] not in (None, *known) for each in now
        )

    stack.until(made_again, "the references of the newer version", 240)
    # And no reference of a part was ever built, and nothing was lost
    after = configurations(stack)
    assert [each["sets"][0]["exposures"] for each in after] == exposures
    references = [[reference["exposures"] for reference in each["references"]] for each in after]
    assert references == [[size, size] for size in sizes]
    assert "ingest.dead: 0, darkref.dead: 0, noise.dead: 0" in stack.cli("dead-letters", "list")
    stack.environment = as_it_was


def test_down_keeps_what_was_made_and_leaves_nothing_else(stack: Stack) -> None:
    # Given references; when all goes down by one command, and comes up again
    before = stack.cli("status")
    assert "6 exposures ingested" in before
    stack.run("make", "down")
    assert stack.run("docker", "ps", "--all", "--quiet") == ""
    assert stack.run("docker", "network", "ls", "--filter", "name=nircam-darks", "--quiet") == ""
    stack.up("--no-build")
    # Then they are there, and the queues too
    assert "6 exposures ingested" in stack.cli("status")
