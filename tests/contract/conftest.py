"""The implementations that must keep the contracts: the next one drops in as another entry."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared.broker.base import Broker
from shared.broker.memory import MemoryBroker
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


def memory() -> BrokerUnderTest:
    broker = MemoryBroker()
    return BrokerUnderTest(
        broker,
        broker.publish_body,
        lambda queue: [(letter.body, letter.reason) for letter in broker.dead_letters(queue)],
        broker.drop_consumers,
    )


BROKERS: dict[str, Callable[[], BrokerUnderTest]] = {"memory": memory}

# A factory: every call opens the same store, empty at first, as another process would.
STORES: dict[str, Callable[[Path], Callable[[], Store]]] = {
    "local": lambda folder: lambda: LocalStore(folder / "store"),
}


@pytest.fixture(params=sorted(BROKERS))
def under_test(request: pytest.FixtureRequest) -> Iterator[BrokerUnderTest]:
    under_test = BROKERS[request.param]()
    yield under_test
    under_test.broker.close()


@pytest.fixture(params=sorted(STORES))
def open_again(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Store]:
    return STORES[request.param](tmp_path)


@pytest.fixture
def store(open_again: Callable[[], Store]) -> Iterator[Store]:
    store = open_again()
    yield store
    store.close()
