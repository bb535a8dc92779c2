"""A cluster of three nodes, one of which is killed amid the work."""

import contextlib
import signal
import time

import pytest

from shared.broker.rabbitmq import RabbitBroker
from shared.broker.rabbitmq.topology import apply
from shared.contracts.routing import BINDINGS
from support.rabbitmq_cluster import three_nodes
from support.steady_services import INGEST, NOISE, Effect, Flow, Service, until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("rabbitmq")]


def test_a_node_killed_amid_the_work_costs_a_reconnect_only(tmp_path, record_property) -> None:
    with contextlib.ExitStack() as stack:
        # Given quorum queues over three nodes, of which the first one leads and is connected to
        cluster = stack.enter_context(three_nodes(tmp_path / "nodes"))
        first = cluster.nodes[0]
        settings = cluster.settings()
        apply(settings)
        queue = cluster.queue("ingest")
        assert (queue["leader"], len(queue["online"])) == (first.name, 3)
        services = [
            Service("ingest", INGEST, settings, tmp_path, "ingest-1"),
            Service("ingest", INGEST, settings, tmp_path, "ingest-2"),
            Service("noise", NOISE, settings, tmp_path),
        ]
        for service in services:
            stack.callback(service.kill)
            service.start()
        broker = stack.enter_context(contextlib.closing(RabbitBroker(settings)))
        effect = Effect(tmp_path)
        with Flow(broker, interval=0.08, does="sleep=0.1") as flow:
            until(lambda: len(effect.heard()) >= 50, "the first 50 exposures")
            # When it is killed while messages flow
            killed = time.monotonic()
            first.stop_server(signal.SIGKILL)
            before = effect.heard()
            until(lambda: effect.heard() > before, "the first exposure after the kill")
            resumed = time.monotonic() - killed
            # Then the work goes on at the others, and commands find one that answers
            until(lambda: len(effect.heard() - before) >= 100, "100 exposures without the node")
            assert apply(settings, dry_run=True) == []
            assert [broker.dead_letters(name) for name in BINDINGS] == [[], [], []]
            moved = [service.said(f"consuming {service.service} again from") for service in services]
            assert all(moved)
            assert not any(first.host + ":" in line["event"] for lines in moved for line in lines)
            # And the node comes back as a member
            first.start()
            until(lambda: len(cluster.queue("ingest")["online"]) == 3, "three members")
            back = effect.heard()
            until(lambda: len(effect.heard() - back) >= 50, "50 exposures with the node back")
        until(lambda: effect.heard() >= set(flow.announced), "every exposure")
        assert [service.stop() for service in services] == [0, 0, 0]
        dead = [letter.reason for name in BINDINGS for letter in broker.dead_letters(name)]
        redelivered = sum(line["attempt"] > 1 for each in services for line in each.outcomes("received"))
    figures = {
        "exposures": len(flow.announced),
        "lost": len(set(flow.announced) - effect.heard()),
        "doubled": len(effect.products()) - len(set(effect.products())),
        "computed again": len(effect.computed_again(flow.announced)),
        "publishes that failed": flow.failures,
        "redelivered": redelivered,
        "slowest publish in s": round(flow.slowest, 2),
        "standstill in s": round(resumed, 2),
    }
    record_property("figures", str(figures))
    print(figures)
    # And nothing was lost, doubled or given up
    assert effect.products() == sorted(flow.announced)
    assert effect.said_differently() == []
    assert dead == []
    assert flow.failures == 0
    assert resumed < 20
