"""The implementations that must keep the contracts: the next one drops in as another entry."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from shared.broker.base import Broker
from shared.broker.memory import MemoryBroker
from shared.broker.rabbitmq import RabbitBroker
from shared.broker.rabbitmq.topology import apply
from shared.settings.stage import S3Settings
from shared.store.base import Store
from shared.store.local import LocalStore
from shared.store.s3 import S3Store
from support.rabbitmq_node import VERSIONS, RabbitNode


@dataclass
class BrokerUnderTest:
    """A broker, and what a test does to it from outside.

    `send_raw(routing_key, body)` publishes as a foreigner may; `dead_letters(queue)` gives (body,
    reason) of each; `cut()` cuts every connection.
    """

    broker: Broker
    send_raw: Callable[[str, bytes], None]
    dead_letters: Callable[[str], list[tuple[bytes, str]]]
    cut: Callable[[], None]


@contextlib.contextmanager
def memory(request: pytest.FixtureRequest) -> Iterator[BrokerUnderTest]:
    broker = MemoryBroker()
    yield BrokerUnderTest(
        broker,
        broker.publish_body,
        lambda queue: [(letter.body, letter.reason) for letter in broker.dead_letters(queue)],
        broker.drop_consumers,
    )
    broker.close()


@contextlib.contextmanager
def rabbitmq(version: str | None, request: pytest.FixtureRequest) -> Iterator[BrokerUnderTest]:
    node: RabbitNode = request.getfixturevalue("rabbit_nodes")(version)
    with node.new_vhost() as vhost:
        apply(node.settings(vhost))
        broker = RabbitBroker(node.settings(vhost))

        def dead_letters(queue: str) -> list[tuple[bytes, str]]:
            # What the broker itself dead-letters is there a little later.
            deadline = time.monotonic() + 0.5
            while not (letters := broker.dead_letters(queue)) and time.monotonic() < deadline:
                time.sleep(0.05)
            return [(letter.body, letter.reason) for letter in letters]

        yield BrokerUnderTest(broker, broker.publish_body, dead_letters, lambda: node.cut(vhost))
        broker.close()


BROKERS = [
    pytest.param(memory, id="memory"),
    *(
        pytest.param(functools.partial(rabbitmq, each.values[0]), id=each.id, marks=each.marks)
        for each in VERSIONS
    ),
]


# A factory: every call opens the same store, empty at first, as another process would.
def local_store(request: pytest.FixtureRequest, folder: Path) -> Callable[[], Store]:
    return lambda: LocalStore(folder / "store")


def bucket(request: pytest.FixtureRequest, folder: Path) -> Callable[[], Store]:
    server = request.getfixturevalue("ceph")
    name = f"{server.new_bucket()}/results"
    return lambda: server.store(name, folder / "scratch")


def mocked_bucket(request: pytest.FixtureRequest, folder: Path) -> Callable[[], Store]:
    # Needs no server, so a laptop without Ceph still tries the store in a bucket. It is more lenient than
    # any server (it takes a wrong secret, and a body that was damaged): a pass here proves less.
    mock = mock_aws()
    mock.start()
    request.addfinalizer(mock.stop)
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="mocked")
    settings = S3Settings(region="us-east-1")
    return lambda: S3Store("s3://mocked/results", settings, folder / "scratch")


STORES: dict[str, Callable[[pytest.FixtureRequest, Path], Callable[[], Store]]] = {
    "local": local_store,
    "moto": mocked_bucket,
    "s3": bucket,
}
#: Tests that share one server run in one process.
SERVERS = {"s3": pytest.mark.xdist_group("ceph")}


@pytest.fixture(params=BROKERS)
def under_test(request: pytest.FixtureRequest) -> Iterator[BrokerUnderTest]:
    with request.param(request) as under_test:
        yield under_test


@pytest.fixture(params=[pytest.param(kind, marks=SERVERS.get(kind, ())) for kind in sorted(STORES)])
def open_again(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Store]:
    return STORES[request.param](request, tmp_path)


@pytest.fixture
def store(open_again: Callable[[], Store]) -> Iterator[Store]:
    store = open_again()
    yield store
    store.close()
