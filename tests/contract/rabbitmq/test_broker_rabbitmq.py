"""RabbitMQ's own: its version, counts and keys of what failed, hostile messages, delays, threads."""

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

import pika
import pytest

from shared.broker.rabbitmq import RabbitBroker
from shared.broker.rabbitmq.wire import LONGEST_DELAY
from shared.contracts.routing import DELIVERY_LIMIT, EXCHANGE
from shared.errors import PublishFailed
from support.deliveries import SOON, name, take
from support.handlers import announcement
from support.rabbitmq_node import RabbitNode


def foreign(node: RabbitNode, vhost: str) -> Any:
    """A connection that knows nothing of this project."""
    url = node.settings(vhost).url.get_secret_value()
    return contextlib.closing(pika.BlockingConnection(pika.URLParameters(url)))


def test_the_broker_is_of_the_version_named(
    rabbit_node: RabbitNode, record_property: Callable[[str, str], None]
) -> None:
    version = rabbit_node.version
    record_property("rabbitmq", version)
    if rabbit_node.system is not None:
        # Debian's newest may have moved on.
        named = tuple(map(int, rabbit_node.system.name.removeprefix("rabbitmq-").split(".")))
        assert tuple(map(int, version.split(".")[:2])) >= named


def test_what_the_broker_gave_up_keeps_its_key_and_says_so(
    rabbit_node: RabbitNode, broker: RabbitBroker
) -> None:
    broker.publish_body("exposure.announced", b"poison")
    consumer = broker.consume("ingest")
    consumer.retry(take(consumer), "once", 0.05)
    consumer.close()
    for _ in range(DELIVERY_LIMIT):
        consumer = broker.consume("ingest")
        take(consumer)
        consumer.close()
    deadline = time.monotonic() + SOON
    while not broker.dead_letters("ingest") and time.monotonic() < deadline:
        time.sleep(0.05)
    [letter] = broker.dead_letters("ingest")
    assert (letter.body, letter.routing_key, letter.queue) == (b"poison", "exposure.announced", "ingest.dead")
    assert "delivery_limit" in letter.reason
    assert letter.attempts == 1 + DELIVERY_LIMIT


def test_a_dead_letter_of_a_worker_keeps_its_key_and_count(broker: RabbitBroker) -> None:
    broker.publish_body("set.check", b"x")
    consumer = broker.consume("ingest")
    consumer.retry(take(consumer), "once", 0.05)
    consumer.retry(take(consumer), "twice", 0.0)
    consumer.dead_letter(take(consumer), "no use")
    [letter] = broker.dead_letters("ingest")
    assert (letter.routing_key, letter.reason, letter.attempts) == ("set.check", "no use", 3)
    # To look at it takes nothing away, however often.
    assert all(len(broker.dead_letters("ingest")) == 1 for _ in range(3))


def test_counts_of_delayed_immediate_and_lost_attempts_add_up(broker: RabbitBroker) -> None:
    broker.publish(announcement("e"))
    consumer = broker.consume("ingest")
    consumer.retry(take(consumer), "delayed", 0.05)
    consumer.retry(take(consumer), "at once", 0.0)
    take(consumer)
    consumer.close()
    consumer = broker.consume("ingest")
    delivery = take(consumer)
    assert delivery.delivery_count == 3
    consumer.requeue(delivery)
    assert take(consumer).delivery_count == 3


def test_a_stranger_s_properties_do_no_harm(
    rabbit_node: RabbitNode, vhost: str, broker: RabbitBroker
) -> None:
    # Given a message whose properties would have copies refused, doubled, dropped or sent elsewhere
    headers = {
        "CC": ["noise"],
        "x-darks-attempts": "many",
        "x-darks-routing-key": 7,
        "x-death": [
            {"queue": "ingest", "reason": "expired", "count": 1, "exchange": "", "routing-keys": ["x"]}
        ],
        "mine": "kept",
    }
    properties = pika.BasicProperties(
        headers=headers, user_id="guest", reply_to="amq.rabbitmq.reply-to.x", priority=9, expiration="60000"
    )
    with foreign(rabbit_node, vhost) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish(EXCHANGE, "exposure.announced", b"x" * (10 << 20), properties)
    with contextlib.closing(broker.consume("noise")) as noise:
        # The broker itself obeys CC at the first publish only.
        assert noise.poll(0.3) is None
    consumer = broker.consume("ingest")
    first = take(consumer)
    assert (first.routing_key, first.delivery_count) == ("exposure.announced", 0)
    # When it fails, is put back and is given up
    consumer.retry(first, "again", 0.05)
    again = take(consumer)
    assert again.delivery_count == 1
    assert again.headers["mine"] == "kept"
    consumer.requeue(again)
    last = take(consumer)
    assert (last.delivery_count, len(last.body)) == (1, 10 << 20)
    consumer.dead_letter(last, "é" * 100_000)
    # Then it is in one place, once
    assert [len(letter.body) for letter in broker.dead_letters("ingest")] == [10 << 20]
    assert consumer.poll(0.2) is None
    assert broker.consume("noise").poll(0.2) is None


def test_a_short_delay_does_not_wait_for_a_long_one(broker: RabbitBroker) -> None:
    consumer = broker.consume("ingest", prefetch=3)
    for exposure, delay in (("hours", 7200.0), ("minute", 60.0), ("soon", 0.3)):
        broker.publish(announcement(exposure), delay=delay)
    assert name(take(consumer, within=3.0)) == "soon"
    assert consumer.poll(0.2) is None
    with pytest.raises(PublishFailed):
        broker.publish(announcement("never"), delay=LONGEST_DELAY + 1)


def test_many_threads_publish_at_once(broker: RabbitBroker) -> None:
    def publish(who: int) -> None:
        for n in range(25):
            broker.publish(announcement(f"{who}-{n}"))

    threads = [threading.Thread(target=publish, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    consumer = broker.consume("ingest", prefetch=200)
    assert len({name(take(consumer)) for _ in range(100)}) == 100
    assert consumer.poll(0.1) is None


def test_closing_while_others_poll_and_publish_ends_them(broker: RabbitBroker) -> None:
    failures: list[BaseException] = []
    stop = threading.Event()

    def poll() -> None:
        consumer = broker.consume("noise")
        while not stop.is_set():
            consumer.poll(0.1)

    def publish() -> None:
        try:
            while not stop.is_set():
                broker.publish(announcement("e"))
        except PublishFailed as error:
            failures.append(error)

    threads = [threading.Thread(target=poll), threading.Thread(target=publish)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    broker.close()
    threads[1].join(SOON)
    stop.set()
    threads[0].join(SOON)
    assert not any(thread.is_alive() for thread in threads)
    assert failures
