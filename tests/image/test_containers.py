"""The services as containers, without root, rights or a disk, over a real RabbitMQ and a real bucket."""

import contextlib
import io
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from nircam_darks.operations.candidates import Candidate, peek
from nircam_darks.simulation.simulate import SimulationPlan, simulate
from shared.runtime.metrics import METRICS
from shared.settings.stage import StageSettings
from support.container_services import Container, in_containers
from support.deployed_services import Deployment, deployed
from support.docker_engine import Engine
from support.paths import ROOT
from support.running import run_darks

pytestmark = [pytest.mark.image, pytest.mark.timeout(1800)]

#: Seconds that anything may take to come about; a flight-mode dark is verified too.
WAIT = 500.0
HEALTH = "{{.State.Health.Status}}"
#: What services do that are told nothing.
MODE = StageSettings.model_fields["mode"].default


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("support.deployed_services.WAIT", WAIT)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """Three long-wave ramps and two short-wave exposures of 2 integrations, which anybody may read."""
    made = simulate(
        [
            SimulationPlan("NRCALONG", "SUB64P", ngroups=8, exposures=3),
            SimulationPlan("NRCB1", "SUB64P", ngroups=8, nints=2, exposures=2),
        ],
        tmp_path_factory.mktemp("simulated"),
    )
    # Temporary folders are their owner's alone; the containers run as somebody else.
    for path in (made.crds_path, *made.crds_path.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return made


@pytest.fixture(scope="module")
def candidates(simulated) -> list[Candidate]:
    return [peek(path) for path in simulated.files]


@pytest.fixture(scope="module")
def references(candidates, tmp_path_factory) -> dict[str, Path]:
    """By configuration the dark reference that one process outside makes of the same files."""
    out = tmp_path_factory.mktemp("at once") / "results"
    run = run_darks(*(candidate.path for candidate in candidates), "--mode", MODE, out=out)
    assert run.code == 0, run.text
    return {reference["configuration"]: Path(reference["path"]) for reference in run.summary["references"]}


def until(condition: Callable[[], Any], what: str, containers: list[Container], within: float = WAIT) -> None:
    deadline = time.monotonic() + within
    while not condition():
        for container in containers:
            container.require_alive()
        logs = "\n".join(container.tail() for container in containers)
        assert time.monotonic() < deadline, f"waited {within:.0f} s for {what}\n{logs}"
        time.sleep(0.05)


def require_every_product_once(here: Deployment, references: dict[str, Path]) -> None:
    found = here.committed()
    assert {product: found[product] for product in here.wanted} == here.wanted
    assert here.dead_letters() == []
    built = [manifest for manifest in here.manifests() if manifest.product == "reference"]
    assert {each.results["configuration"] for each in built} == references.keys()
    for one in built:
        [entry] = [entry for entry in one.objects if entry.name == one.results["file"]]
        with fits.open(io.BytesIO(here.store.get(entry.key))) as hdus:
            for plane in ("SCI", "ERR"):
                expected = fits.getdata(references[one.results["configuration"]], plane)
                np.testing.assert_array_equal(hdus[plane].data, expected)


def test_from_announcement_to_reference_and_noise_report(
    engine: Engine, images, rabbit_node, ceph, simulated, candidates, references, tmp_path
) -> None:
    with (
        deployed(rabbit_node, ceph, candidates, simulated.crds_path, tmp_path, ()) as here,
        contextlib.ExitStack() as stack,
    ):
        containers = in_containers(engine, images, here, ceph, simulated.crds_path, tmp_path)
        here.services.extend(containers)
        # Given a broker that is away
        rabbit_node.stop_server()
        for container in containers:
            stack.callback(container.kill)
            container.start()
        # Then each is alive and not ready
        for container in containers:
            until(lambda each=container: each.get("/live")[0] == 200, "/live", containers)
            status, output = container.get("/ready")
            assert (status, "no consumer is attached" in output) == (503, True), output
        # When it comes, Then each is ready, and Docker calls it healthy
        rabbit_node.start()
        for container in containers:
            until(lambda entry=container: entry.get("/ready")[0] == 200, "/ready", containers)
            until(lambda one=container: one.inspect(HEALTH) == "healthy", "Docker's health check", containers)
        # When it goes again, Then none is ready though all live, until it is back
        rabbit_node.stop_server()
        for container in containers:
            until(lambda one=container: one.get("/ready")[0] == 503, "/ready to be 503", containers)
            assert container.get("/live")[0] == 200
        rabbit_node.start()
        for container in containers:
            until(lambda one=container: one.get("/ready")[0] == 200, "/ready again", containers)
        # And it runs as its image says, with no right at all
        for container in containers:
            assert container.inspect("{{.Config.User}} {{.HostConfig.ReadonlyRootfs}}") == "65532:65532 true"
            status = container.inside("cat", "/proc/1/status")
            assert re.search(r"^Uid:\s+65532\s", status, re.M)
            assert re.search(r"^CapEff:\s+0+$", status, re.M)
            assert re.search(r"^NoNewPrivs:\s+1$", status, re.M)

        # When the exposures are announced
        for announcement in here.announcements:
            here.broker.publish(announcement)
        here.wait_until_all_is_done()
        # Then every product is there, and the references are to the last bit those of a process outside
        require_every_product_once(here, references)
        # And every metric that is documented is there, and shows the work
        documented = re.findall(r"^\| `(darks_\w+)` \|", (ROOT / "docs" / "services.md").read_text(), re.M)
        assert set(documented) == {metric.name for metric in METRICS}
        for container in containers:
            shown = container.get("/metrics")[1]
            names = {line.split()[2] for line in shown.splitlines() if line.startswith("# TYPE ")}
            assert {name for name in documented if name not in names} == set()
            finished = f'darks_messages_processed_total{{outcome="finished",service="{container.name}"}}'
            [count] = [float(line.split()[-1]) for line in shown.splitlines() if line.startswith(finished)]
            assert count == container.outcomes()["finished"] > 0
        # And no kernel was compiled: each was found in the image
        for container in containers[1:]:
            listing = "cd {} && find . -name '*.nbc' -exec sha256sum {{}} + | sort"
            own = container.inside("sh", "-c", listing.format("/tmp/nircam-darks-kernels-*"))
            assert own == container.inside("sh", "-c", listing.format("/opt/darks/kernels"))
            assert own
        here.stop()


def test_stopped_and_killed_amid_their_work_they_lose_nothing(
    engine: Engine, images, rabbit_node, ceph, simulated, candidates, references, tmp_path, record_property
) -> None:
    done: Counter[str] = Counter()
    with (
        deployed(rabbit_node, ceph, candidates, simulated.crds_path, tmp_path, ()) as here,
        contextlib.ExitStack() as stack,
    ):
        # Given services as somebody whom the image does not know, that put a job back at once when stopped
        containers = in_containers(
            engine,
            images,
            here,
            ceph,
            simulated.crds_path,
            tmp_path,
            *("--user", "12345:54321"),
            DARKS_GRACE_SECONDS="0",
        )
        here.services.extend(containers)
        for container in containers:
            stack.callback(container.kill)
            container.start()
        for announcement in here.announcements:
            here.broker.publish(announcement)
        # When each is stopped, and then killed, amid its first jobs
        waiting = {container.name: [container.stop, container.kill] for container in containers}
        deadline = time.monotonic() + 2 * WAIT
        while any(waiting.values()):
            assert time.monotonic() < deadline, (done, waiting, here.committed(), here.ready())
            for container in containers:
                if waiting[container.name] and container.at_work:
                    end = waiting[container.name].pop(0)
                    code = end()
                    assert code in (0, None), container.tail()
                    done[f"{container.name} {end.__name__}"] += container.at_work if code is None else 1
                    container.start()
                container.require_alive()
            time.sleep(0.02)
        here.wait_until_all_is_done()
        outcomes = {container.name: container.outcomes() for container in containers}
        here.stop()
        # Then nothing is lost, doubled or different
        require_every_product_once(here, references)
    record_property("disturbances", str(dict(done)))
    print(f"disturbances {dict(done)}, outcomes {outcomes}")
    # And it was amid their work: what was stopped was put back, what was killed has no outcome
    for container in containers:
        assert outcomes[container.name]["requeued"] >= 1, outcomes
        assert done[f"{container.name} kill"] == 1, done
