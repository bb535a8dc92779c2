"""What the tests of RabbitMQ's own share: a node of each version, a virtual host each, the command."""

import contextlib
from collections.abc import Callable, Iterator

import pytest
from typer.testing import CliRunner, Result

from nircam_darks.cli.main import app
from shared.broker.rabbitmq import BrokerSettings, RabbitBroker
from shared.broker.rabbitmq.topology import apply
from support.rabbitmq_node import VERSIONS, RabbitNode


@pytest.fixture(params=VERSIONS)
def rabbit_node(
    request: pytest.FixtureRequest, rabbit_nodes: Callable[[str | None], RabbitNode]
) -> RabbitNode:
    return rabbit_nodes(request.param)


@pytest.fixture
def vhost(rabbit_node: RabbitNode) -> Iterator[str]:
    """A virtual host with the topology applied."""
    with rabbit_node.new_vhost() as name:
        apply(rabbit_node.settings(name))
        yield name


@pytest.fixture
def settings(rabbit_node: RabbitNode, vhost: str) -> BrokerSettings:
    return rabbit_node.settings(vhost)


@pytest.fixture
def broker(settings: BrokerSettings) -> Iterator[RabbitBroker]:
    with contextlib.closing(RabbitBroker(settings)) as broker:
        yield broker


@pytest.fixture
def command(settings: BrokerSettings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run ``nircam-darks`` with these words, against this broker."""
    monkeypatch.setenv("DARKS_BROKER_URL", settings.url.get_secret_value())
    monkeypatch.setenv("DARKS_BROKER_MANAGEMENT_URL", settings.management_url.get_secret_value())

    def run(*words: str, code: int = 0) -> Result:
        done = CliRunner().invoke(app, words, catch_exceptions=False)
        assert done.exit_code == code, done.output
        return done

    return run
