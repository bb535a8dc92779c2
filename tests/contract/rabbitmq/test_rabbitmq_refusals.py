"""RabbitMQ's refusals: passwords, certificates, missing and full queues."""

import contextlib
import logging
import time
from pathlib import Path

import pytest

from shared.broker.rabbitmq import RabbitBroker
from shared.broker.rabbitmq.management import Management
from shared.broker.rabbitmq.topology import apply
from shared.contracts.routing import EXCHANGE
from shared.errors import DarksError, EnvironmentFault, PublishFailed
from support.deliveries import name, take
from support.handlers import announcement
from support.rabbitmq_node import RabbitNode


@pytest.mark.parametrize("how", ["consume", "publish"])
@pytest.mark.parametrize(
    "change",
    [
        {"url": "amqp://guest:s3cr3t-pass@127.0.0.1:{port}/{vhost}"},
        {"url": "amqp://guest:guest@127.0.0.1:{port}/no-such"},
        {"url": "amqp://guest:guest@127.0.0.1:{port}/{empty}"},
        {"url": "amqps://guest:guest@127.0.0.1:{tls}/{vhost}"},
    ],
    ids=["password", "vhost", "queues", "certificate"],
)
def test_a_refusal_is_one_line_without_the_password(
    rabbit_node: RabbitNode,
    vhost: str,
    how: str,
    change: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    with rabbit_node.new_vhost() as empty:
        url = change["url"].format(port=rabbit_node.port, tls=rabbit_node.tls_port, vhost=vhost, empty=empty)
        settings = rabbit_node.settings(vhost, url=url)
        with contextlib.closing(RabbitBroker(settings)) as broker:
            started = time.monotonic()
            act = {
                "consume": lambda: broker.consume("ingest"),
                "publish": lambda: broker.publish(announcement("e")),
            }[how]
            with pytest.raises(DarksError) as raised:
                act()
            assert isinstance(raised.value, EnvironmentFault if how == "consume" else PublishFailed)
            # At once: nobody waits for an owner to act.
            assert time.monotonic() - started < 8
    text = str(raised.value) + caplog.text + repr(settings) + str(settings.model_dump())
    assert raised.value.where == settings.where
    assert "\n" not in str(raised.value)
    assert "s3cr3t-pass" not in text


def test_a_broker_that_is_away_is_waited_for_by_a_consumer_and_named_to_a_publisher(
    rabbit_node: RabbitNode, caplog: pytest.LogCaptureFixture
) -> None:
    settings = rabbit_node.settings(url="amqp://guest:s3cr3t-pass@127.0.0.1:9/", publish_timeout=0.5)
    with contextlib.closing(RabbitBroker(settings)) as broker:
        consumer = broker.consume("ingest")
        assert consumer.poll(0.2) is None
        with pytest.raises(PublishFailed) as raised:
            broker.publish(announcement("e"))
        assert raised.value.where == "amqp://127.0.0.1:9"
    assert "Connection refused" in caplog.text
    assert "s3cr3t-pass" not in caplog.text


def test_the_password_comes_from_its_file_anew_at_each_connection(
    rabbit_node: RabbitNode, vhost: str, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    settings = rabbit_node.settings(
        vhost, url=f"amqp://127.0.0.1:{rabbit_node.port}/{vhost}", user="guest", password_file=file
    )
    with contextlib.closing(RabbitBroker(settings)) as broker:
        with pytest.raises(EnvironmentFault) as unreadable:
            broker.consume("ingest")
        assert unreadable.value.where == str(file)
        file.write_text("wrong\n")
        with pytest.raises(EnvironmentFault) as refused:
            broker.consume("ingest")
        assert refused.value.where == settings.where
        file.write_text("guest\n")
        broker.publish(announcement("e"))
        assert name(take(broker.consume("ingest"))) == "e"


def test_over_tls_with_the_broker_s_certificate_known(rabbit_node: RabbitNode, vhost: str) -> None:
    settings = rabbit_node.settings(
        url=f"amqps://guest:guest@127.0.0.1:{rabbit_node.tls_port}/{vhost}", ca_file=rabbit_node.ca_file
    )
    with contextlib.closing(RabbitBroker(settings)) as broker:
        broker.publish(announcement("e"))
        assert name(take(broker.consume("ingest"))) == "e"


def test_what_no_queue_takes_is_not_published(
    rabbit_node: RabbitNode, vhost: str, broker: RabbitBroker
) -> None:
    api = Management(rabbit_node.settings(vhost))
    api.delete("bindings", vhost, "e", EXCHANGE, "q", "ingest", "exposure.announced")
    with pytest.raises(PublishFailed) as caught:
        broker.publish(announcement("e"))
    assert caught.value.keyword == "exposure.announced"
    # A refusal costs no later message its confirm.
    apply(rabbit_node.settings(vhost))
    broker.publish(announcement("e"))


def test_a_queue_that_is_full_is_tried_until_there_is_room(rabbit_node: RabbitNode, vhost: str) -> None:
    # Given a queue that its owner allows one message, which it has
    api = Management(rabbit_node.settings(vhost))
    full = {"max-length": 1, "overflow": "reject-publish"}
    policy = {"pattern": "^noise$", "definition": full, "priority": 99, "apply-to": "queues"}
    api.put("policies", vhost, "small", body=policy)
    with contextlib.closing(RabbitBroker(rabbit_node.settings(vhost, publish_timeout=2.0))) as broker:
        consumer = broker.consume("noise")
        for _ in range(10):
            # Until it knows its policy.
            try:
                broker.publish_body("exposure.ingested", b"x")
            except PublishFailed as error:
                message = str(error)
                break
        # When more is published, Then that fails in time and says why
        assert "refused it (a full queue" in message
        # And with room it is taken
        while (delivery := consumer.poll(0.5)) is not None:
            consumer.ack(delivery)
        broker.publish_body("exposure.ingested", b"y")
        assert take(consumer).body == b"y"
