"""Fixtures that more than one part of the suite uses."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ceph_server import Ceph, running_ceph
from rabbitmq_node import RabbitNode

from services.simulate import SimulationPlan, simulate

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@dataclass(frozen=True)
class Run:
    """A finished `nircam-darks run`."""

    code: int
    out: Path
    text: str

    @property
    def summary(self) -> dict:
        return json.loads((self.out / "summary.json").read_text())

    @property
    def manifests(self) -> dict[str, bytes]:
        """Every committed manifest, by its path under the results."""
        return {
            str(path.relative_to(self.out)): path.read_bytes()
            for path in sorted(self.out.rglob("manifest.json"))
        }


def command(*arguments) -> list[str]:
    """The command line as a user has it, in this environment's Python."""
    return [sys.executable, "-c", "from services.cli import main; main()", *map(str, arguments)]


def run_darks(*arguments, out: Path, environment: dict[str, str] | None = None) -> Run:
    done = subprocess.run(
        command("run", *arguments, "--out", out),
        capture_output=True,
        text=True,
        env=environment,
        timeout=500,
        check=False,
    )
    return Run(done.returncode, out, done.stdout + done.stderr)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real files beside the checkout; a newcomer has none."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real files at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def campaign(tmp_path_factory):
    """Twelve simulated long-wave ramps of 64 x 64 pixels, and two short-wave exposures of 2 integrations."""
    return simulate(
        [
            SimulationPlan("NRCALONG", "SUB64P", ngroups=12, exposures=12),
            SimulationPlan("NRCB1", "SUB64P", ngroups=10, nints=2, exposures=2),
        ],
        tmp_path_factory.mktemp("campaign"),
    )


@pytest.fixture(scope="session")
def finished(campaign, tmp_path_factory) -> Run:
    """The campaign run once, undisturbed."""
    return run_darks(campaign.files[0].parent, out=tmp_path_factory.mktemp("finished") / "results")


@pytest.fixture(scope="session")
def ceph() -> Iterator[Ceph]:
    """One S3 server for all tests of a process; theirs is the mark `xdist_group("ceph")`."""
    with running_ceph() as server:
        yield server


@pytest.fixture(scope="session")
def rabbit_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitNode]:
    """One RabbitMQ for all tests of a process; theirs is the mark `xdist_group("rabbitmq")`."""
    node = RabbitNode(tmp_path_factory.mktemp("rabbitmq"))
    try:
        node.start()
        yield node
    finally:
        node.stop()
