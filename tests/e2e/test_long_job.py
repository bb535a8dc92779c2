"""Jobs that outlast the broker's patience: its heartbeat, and the time it gives to an ack."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pika
import pytest

from shared.broker.rabbitmq import RabbitBroker
from shared.broker.rabbitmq.management import Management
from shared.broker.rabbitmq.topology import apply
from shared.broker.rabbitmq.wire import ATTEMPTS
from shared.contracts.routing import BINDINGS, DELIVERY_LIMIT
from support.handlers import announcement, attempts, computations, released
from support.rabbitmq_node import VERSIONS, RabbitNode
from support.steady_services import INGEST, WAIT, Effect, Service, until

SECONDS = 180


@pytest.fixture(params=VERSIONS)
def node(request: pytest.FixtureRequest, rabbit_nodes: Callable[[str | None], RabbitNode]) -> RabbitNode:
    return rabbit_nodes(request.param)


class Bench:
    """One ingest service and its queues."""

    def __init__(self, node: RabbitNode, vhost: str, folder: Path, heartbeat: int) -> None:
        self.node, self.vhost, self.folder = node, vhost, folder
        self.settings = node.settings(vhost, heartbeat=heartbeat)
        apply(self.settings)
        self.broker = RabbitBroker(self.settings)
        self.service = Service("ingest", INGEST, self.settings, folder)

    def statistics(self) -> dict[str, int]:
        """What the broker itself counted at ingest's queue."""
        queue = Management(self.settings).get("queues", self.vhost, "ingest")
        return {name: n for name, n in queue.get("message_stats", {}).items() if isinstance(n, int)}

    def lost(self) -> list[dict[str, Any]]:
        """The lines in which the worker says that it lost its consumer."""
        return self.service.said("the consumer of ingest tries again")

    def require_one_ack(self) -> None:
        until(lambda: self.statistics().get("ack", 0) > 0, "the broker's count of the ack")
        assert self.statistics()["ack"] == 1

    def require_nothing_left(self) -> None:
        # The queue's own counts: a broker that ends a channel may lose what the channel counted.
        queues = Management(self.settings)
        until(
            lambda: queues.get("queues", self.vhost, "ingest").get("messages") == 0,
            "the broker to hold no message, acked or not",
        )
        consumer = self.broker.consume("ingest")
        assert consumer.poll(1.0) is None
        assert [self.broker.dead_letters(name) for name in BINDINGS] == [[], [], []]
        assert Effect(self.folder).products() == ["e"]
        assert computations(self.folder, "e") == 1


@pytest.fixture
def bench(node: RabbitNode, tmp_path: Path) -> Iterator[Callable[[int], Bench]]:
    with contextlib.ExitStack() as stack:

        def make(heartbeat: int) -> Bench:
            bench = Bench(node, stack.enter_context(node.new_vhost()), tmp_path, heartbeat)
            stack.callback(bench.broker.close)
            stack.callback(bench.service.kill)
            bench.service.start()
            return bench

        yield make


@pytest.mark.slow
@pytest.mark.parametrize("node", VERSIONS[:1], indirect=True)
def test_a_job_of_minutes_under_a_heartbeat_of_seconds_ends_in_one_ack(
    bench: Callable[[int], Bench], record_property: Callable[[str, object], None]
) -> None:
    # Given a heartbeat of 10 s, When a job takes 3 minutes
    here = bench(10)
    here.broker.publish(announcement("e", f"sleep={SECONDS}"))
    [finished] = until(lambda: here.service.outcomes("finished"), "the job", within=SECONDS + WAIT)
    record_property("seconds", finished["seconds"])
    # Then it had one delivery, one attempt and one ack, and its connection was never lost
    assert (finished["attempt"], finished["seconds"] >= SECONDS) == (1, True)
    assert here.lost() == []
    assert attempts(here.folder, "e") == 1
    here.require_one_ack()
    here.require_nothing_left()
    assert here.statistics().get("redeliver", 0) == 0


@contextlib.contextmanager
def impatient(node: RabbitNode) -> Iterator[None]:
    """Have the broker wait 2 s for an ack. Up to 4.2 its channels look after that, then its queues."""

    def wait_for(timeout: int, channel_tick: int, queue_tick: int) -> None:
        values = {
            "consumer_timeout": timeout,
            "channel_tick_interval": channel_tick,
            "quorum_tick_interval": queue_tick,
        }
        node.ctl(
            "eval", ", ".join(f"application:set_env(rabbit, {name}, {n})" for name, n in values.items()) + "."
        )

    wait_for(2000, 500, 500)
    try:
        yield
    finally:
        wait_for(1_800_000, 60_000, 5_000)


def test_a_job_longer_than_the_broker_waits_for_its_ack_is_computed_once(
    node: RabbitNode, bench: Callable[[int], Bench]
) -> None:
    with impatient(node):
        # Given a message at its last attempt, whose job takes longer than the broker waits for the ack
        here = bench(10)
        body = announcement("e", "wait").encode()
        last = pika.BasicProperties(headers={ATTEMPTS: DELIVERY_LIMIT - 1}, delivery_mode=2)
        url = here.settings.url.get_secret_value()
        with contextlib.closing(pika.BlockingConnection(pika.URLParameters(url))) as connection:
            connection.channel().basic_publish("", "ingest", body, last)
        # When it was taken from the worker twice, which noticed, and held it again each time
        until(lambda: len(here.service.said("consuming ingest again")) >= 2, "two timeouts")
        assert here.service.outcomes("finished") == []
        assert attempts(here.folder, "e") == 1
    # And the job comes to its end
    released(here.folder, "e").touch()
    until(lambda: len(here.service.outcomes("finished")) >= 2, "the redelivery")
    # Then the redelivery found the manifest, whatever its count, and was acked
    assert all("consumer_timeout" in line["event"] or "timed out" in line["event"] for line in here.lost())
    here.require_nothing_left()
    names = {message["message_id"] for message in here.service.outcomes("finished")}
    assert len(names) == 1
