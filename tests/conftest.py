"""Fixtures that more than one part of the suite uses."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from nircam_darks.simulation.simulate import SimulationPlan, simulate
from support.ceph_server import Ceph, running_ceph
from support.paths import SHARED_DATA
from support.rabbitmq_node import RabbitNode, rabbitmq_system
from support.running import Run, run_darks

# A verification takes some 5 s of processor for every dark; tests that are about it ask for it by name.
os.environ.setdefault("DARKS_VERIFY", "false")
# How long an example takes says more of what else the machine does than of the code.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--exposures",
        type=int,
        default=24,
        help="how many exposures go through tests/e2e/test_exactly_once.py (200 for the figures of "
        "docs/reliability.md; with -o timeout=7200)",
    )


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
def rabbit_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str | None], RabbitNode]]:
    """One RabbitMQ of each version for all tests of a process: this machine's (None), "4.0", "4.3".

    Each is started when it is first asked for; theirs are the marks of `VERSIONS`.
    """
    running: dict[str | None, RabbitNode] = {}

    def node_of(version: str | None) -> RabbitNode:
        if version not in running:
            system = rabbitmq_system(version) if version else None
            node = RabbitNode(tmp_path_factory.mktemp(f"rabbitmq-{version or 'here'}"), system)
            running[version] = node
            node.start()
        return running[version]

    yield node_of
    for node in running.values():
        node.stop()


@pytest.fixture(scope="session")
def rabbit_node(rabbit_nodes: Callable[[str | None], RabbitNode]) -> RabbitNode:
    """This machine's RabbitMQ for all tests of a process; theirs is the mark `xdist_group("rabbitmq")`."""
    return rabbit_nodes(None)
