"""A new version is rolled out at noon: each service is stopped and started anew while messages flow."""

import contextlib

import pytest

from shared.broker.rabbitmq import RabbitBroker
from shared.broker.rabbitmq.topology import apply
from shared.contracts.routing import BINDINGS
from support.steady_services import INGEST, NOISE, Effect, Flow, Service, until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("rabbitmq")]

ROUNDS = 3


def test_services_stopped_and_started_one_after_the_other_lose_and_double_nothing(
    rabbit_node, tmp_path, record_property
) -> None:
    with contextlib.ExitStack() as stack:
        settings = rabbit_node.settings(stack.enter_context(rabbit_node.new_vhost()))
        apply(settings)
        # Given two of ingest and one of noise, and jobs that take a moment
        services = [
            Service("ingest", INGEST, settings, tmp_path, "ingest-1"),
            Service("ingest", INGEST, settings, tmp_path, "ingest-2"),
            Service("noise", NOISE, settings, tmp_path),
        ]
        for service in services:
            stack.callback(service.kill)
            service.start()
        broker = stack.enter_context(contextlib.closing(RabbitBroker(settings)))
        effect, codes = Effect(tmp_path), []
        with Flow(broker, interval=0.08, does="sleep=0.05") as flow:
            # When each is stopped at work and started again, several times over
            for _ in range(ROUNDS):
                for service in services:
                    done = len(service.outcomes("finished"))
                    until(lambda: len(service.outcomes("finished")) > done, "the service at work")  # noqa: B023
                    codes.append(service.stop())
                    service.start()
        until(lambda: effect.heard() >= set(flow.announced), "every exposure")
        codes += [service.stop() for service in services]
        dead = [letter.reason for name in BINDINGS for letter in broker.dead_letters(name)]
        attempts = [line["attempt"] for each in services for line in each.outcomes("received")]
        kinds = {line["outcome"] for entry in services for line in entry.lines() if "outcome" in line}
    figures = {
        "exposures": len(flow.announced),
        "restarts": ROUNDS * len(services),
        "lost": len(set(flow.announced) - effect.heard()),
        "computed again": len(effect.computed_again(flow.announced)),
        "second attempts": sum(attempt > 1 for attempt in attempts),
    }
    record_property("figures", str(figures))
    print(figures)
    # Then every exposure was worked on once, at the first attempt, and each service ended as asked
    assert effect.products() == sorted(flow.announced)
    assert effect.computed_again(flow.announced) == []
    assert effect.said_differently() == []
    assert set(attempts) == {1}
    assert dead == []
    assert kinds <= {"received", "progress", "finished", "requeued"}
    assert set(codes) == {0}
    assert flow.failures == 0
