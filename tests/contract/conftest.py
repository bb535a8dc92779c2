"""The implementations that must keep the contracts: the next one drops in as another entry."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from rabbitmq_node import RabbitNode

from shared.broker.base import Broker
from shared.broker.memory import MemoryBroker
from shared.broker.rabbitmq import RabbitBroker
from shared.broker.rabbitmq.topology import apply
from shared.store.base import Store
from shared.store.local import LocalStore


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
def rabbitmq(request: pytest.FixtureRequest) -> Iterator[BrokerUnderTest]:
    node: RabbitNode = request.getfixturevalue("rabbit_node")
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


BROKERS: dict[str, Callable[..., contextlib.AbstractContextManager[BrokerUnderTest]]] = {
    "memory": memory,
    "rabbitmq": rabbitmq,
}
# The tests of one server share a worker of pytest-xdist, and so the server.
SERVED = [
    pytest.param(name, marks=[pytest.mark.xdist_group(name)] if name != "memory" else []) for name in BROKERS
]


# A factory: every call opens the same store, empty at first, as another process would.
def local_store(request: pytest.FixtureRequest, folder: Path) -> Callable[[], Store]:
    return lambda: LocalStore(folder / "store")


def bucket(request: pytest.FixtureRequest, folder: Path) -> Callable[[], Store]:
    server = request.getfixturevalue("ceph")
    name = f"{server.new_bucket()}/results"
    return lambda: server.store(name, folder / "scratch")


STORES: dict[str, Callable[[pytest.FixtureRequest, Path], Callable[[], Store]]] = {
    "local": local_store,
    "s3": bucket,
}
#: Tests that share one server run in one process.
SERVERS = {"s3": pytest.mark.xdist_group("ceph")}


@pytest.fixture(params=SERVED)
def under_test(request: pytest.FixtureRequest) -> Iterator[BrokerUnderTest]:
    with BROKERS[request.param](request) as under_test:
        yield under_test


@pytest.fixture(params=[pytest.param(kind, marks=SERVERS.get(kind, ())) for kind in sorted(STORES)])
def open_again(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Store]:
    return STORES[request.param](request, tmp_path)


@pytest.fixture
def store(open_again: Callable[[], Store]) -> Iterator[Store]:
    store = open_again()
    yield store
    store.close()
