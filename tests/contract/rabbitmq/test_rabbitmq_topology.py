"""`topology apply` against a real broker: what it makes, what it mends, what it leaves alone."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from shared.broker.rabbitmq import BrokerSettings
from shared.broker.rabbitmq.management import Management
from shared.broker.rabbitmq.topology import Hold, apply, policies, queues
from shared.contracts.routing import BINDINGS, DELIVERY_LIMIT, EXCHANGE, HELD_QUEUE
from shared.errors import DarksError, EnvironmentFault, TransientError
from support.rabbitmq_node import RabbitNode


@pytest.fixture
def settings(rabbit_node: RabbitNode) -> Iterator[BrokerSettings]:
    with rabbit_node.new_vhost() as name:
        yield rabbit_node.settings(name)


@pytest.fixture
def api(settings: BrokerSettings) -> Management:
    return Management(settings)


def state(api: Management, vhost: str) -> dict[str, Any]:
    """What there is in the virtual host, without its statistics."""
    return {
        "queues": sorted((q["name"], str(q["arguments"])) for q in api.get("queues", vhost)),
        "exchanges": sorted(e["name"] for e in api.get("exchanges", vhost)),
        "bindings": sorted(
            (b["source"], b["routing_key"], b["destination"]) for b in api.get("bindings", vhost)
        ),
        "policies": sorted(str(p) for p in api.get("policies", vhost)),
    }


def test_a_dry_run_changes_nothing_and_the_second_time_finds_nothing(
    settings: BrokerSettings, api: Management
) -> None:
    # Given an empty virtual host
    empty = state(api, settings.vhost)
    # When a dry run says what it lacks
    foreseen = apply(settings, dry_run=True)
    # Then nothing was made, and what is then made is what was said
    assert state(api, settings.vhost) == empty
    assert apply(settings) == foreseen
    assert {each.action for each in foreseen} == {"create"}
    made = state(api, settings.vhost)
    assert [name for name, _ in made["queues"]] == sorted(queues())
    assert {arguments for _, arguments in made["queues"]} == {"{'x-queue-type': 'quorum'}"}
    assert {(EXCHANGE, key, queue) for queue, keys in BINDINGS.items() for key in keys} <= set(
        made["bindings"]
    )
    assert apply(settings) == apply(settings, dry_run=True) == []
    assert state(api, settings.vhost) == made


def test_limits_stand_in_policies_and_dead_letters_have_none_that_loses_them() -> None:
    definitions = dict(policies().values())
    for queue in BINDINGS:
        # The broker dead-letters at the return after its limit.
        assert definitions[f"^{queue}$"]["delivery-limit"] == DELIVERY_LIMIT - 1
        assert definitions[f"^{queue}$"]["dead-letter-strategy"] == "at-least-once"
        assert definitions[f"^{queue}$"]["overflow"] == "reject-publish"
        assert definitions[f"^{queue}\\.dead$"]["delivery-limit"] > 1_000_000
    held = definitions[r"^ingest\.held$"]
    assert held["delivery-limit"] > 1_000_000
    assert (held["dead-letter-routing-key"], held["overflow"]) == ("ingest.dead", "reject-publish")


def test_what_drifted_is_mended(settings: BrokerSettings, api: Management) -> None:
    # Given a changed limit, a lost binding, one too many, a lost queue, and a listener of somebody else
    apply(settings)
    wanted = state(api, settings.vhost)
    vhost = settings.vhost
    pattern, definition = policies()["darks-noise"]
    body = {"pattern": pattern, "definition": definition | {"delivery-limit": 99}, "priority": 10}
    api.put("policies", vhost, "darks-noise", body={**body, "apply-to": "queues"})
    api.delete("bindings", vhost, "e", EXCHANGE, "q", "noise", "set.ready")
    api.post("bindings", vhost, "e", EXCHANGE, "q", "noise", body={"routing_key": "set.#"})
    api.delete("queues", vhost, "darkref")
    api.put("queues", vhost, "archive", body={"durable": True})
    api.post("bindings", vhost, "e", EXCHANGE, "q", "archive", body={"routing_key": "reference.built"})
    # When it is applied, Then each is named and mended, and the listener is left alone
    output = [str(each) for each in apply(settings)]
    assert [line.split(":")[0] for line in output if line.startswith("change")] == [
        "change policy darks-noise of ^noise$"
    ]
    assert "delivery-limit=99" in output[0]
    assert "create queue darkref (quorum)" in output
    assert "create binding darks --set.ready--> noise" in output
    assert "remove binding darks --set.#--> noise" in output
    after = state(api, settings.vhost)
    assert (EXCHANGE, "reference.built", "archive") in after["bindings"]
    api.delete("queues", vhost, "archive")
    assert state(api, settings.vhost) == wanted


def test_a_hold_of_announcements_is_left_alone_and_said(settings: BrokerSettings, api: Management) -> None:
    # Given a drained broker that lost a queue, with something else bound to the held one
    apply(settings)
    with Hold(settings) as hold:
        hold.hold()
    wanted = state(api, settings.vhost)
    api.delete("queues", settings.vhost, "darkref")
    api.post("bindings", settings.vhost, "e", EXCHANGE, "q", HELD_QUEUE, body={"routing_key": "set.check"})
    # When the topology is applied, Then the rest is mended, and announcements stay held
    output = [str(each) for each in apply(settings)]
    assert "remove binding darks --set.check--> ingest.held" in output
    assert [line for line in output if line.startswith("leave")] == [
        "leave binding darks --exposure.announced--> ingest.held: announcements are held, "
        "`nircam-darks drain --resume` lets them in"
    ]
    assert state(api, settings.vhost) == wanted
    assert [each.action for each in apply(settings)] == ["leave"]
    with Hold(settings) as hold:
        hold.release()
    assert apply(settings) == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (("queues", "ingest"), {"durable": True}),
        (("exchanges", "darks"), {"type": "fanout", "durable": True}),
        (
            ("policies", "all"),
            {"pattern": "", "definition": {"max-length": 5}, "priority": 50, "apply-to": "all"},
        ),
    ],
    ids=["classic queue", "fanout", "policy"],
)
def test_what_only_its_owner_can_decide_is_a_conflict_and_nothing_is_changed(
    settings: BrokerSettings, api: Management, path: tuple[str, str], body: dict[str, Any]
) -> None:
    kind, name = path
    api.put(kind, settings.vhost, name, body=body)
    before = state(api, settings.vhost)
    [conflict] = [each for each in apply(settings, dry_run=True) if each.action == "conflict"]
    assert name in conflict.what.split()
    with pytest.raises(EnvironmentFault) as caught:
        apply(settings)
    assert str(conflict) in str(caught.value)
    assert state(api, settings.vhost) == before


def test_without_the_api_the_host_or_the_rights_it_says_so_in_one_line(
    rabbit_node: RabbitNode, settings: BrokerSettings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    def refusal(**changes: Any) -> DarksError:
        with pytest.raises(DarksError) as raised:
            apply(rabbit_node.settings(settings.vhost, **changes))
        assert "\n" not in str(raised.value)
        assert "s3cr3t-pass" not in str(raised.value) + caplog.text
        return raised.value

    away = refusal(management_url="http://x:s3cr3t-pass@127.0.0.1:9")
    assert isinstance(away, TransientError)
    assert (away.where, away.setting) == ("http://127.0.0.1:9", "DARKS_BROKER_MANAGEMENT_URL")
    wrong = refusal(management_url=f"http://guest:s3cr3t-pass@127.0.0.1:{rabbit_node.management_port}")
    assert isinstance(wrong, EnvironmentFault)
    assert wrong.where == f"http://127.0.0.1:{rabbit_node.management_port}"
    not_http = refusal(management_url=f"http://127.0.0.1:{rabbit_node.port}")
    assert isinstance(not_http, TransientError)
    missing = refusal(url=f"amqp://guest:guest@127.0.0.1:{rabbit_node.port}/none")
    assert isinstance(missing, EnvironmentFault)
    assert (missing.where, missing.setting) == (settings.where, "DARKS_BROKER_URL")
