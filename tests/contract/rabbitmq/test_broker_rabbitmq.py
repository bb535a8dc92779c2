"""RabbitMQ's own: restarts, alarms, timeouts, cancels, refusals, hostile messages."""

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pika
import pytest
from handlers_for_tests import announcement
from rabbitmq_node import RabbitNode

from shared.broker.base import Delivery
from shared.broker.rabbitmq import BrokerSettings, RabbitBroker
from shared.broker.rabbitmq.management import Management
from shared.broker.rabbitmq.topology import apply
from shared.broker.rabbitmq.wire import LONGEST_DELAY
from shared.errors import DarksError, EnvironmentFault, PublishFailed, TransientError
from shared.messages import parse
from shared.topology import DELIVERY_LIMIT, EXCHANGE

SOON = 20.0


def take(consumer: Any, within: float = SOON) -> Delivery:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        delivery = consumer.poll(0.2)
        if delivery is not None:
            return delivery
    raise AssertionError("nothing came")


def name(delivery: Delivery) -> str:
    return parse(delivery.body).content.exposure_id


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


def test_over_a_restart_of_the_broker_nothing_is_lost(
    rabbit_node: RabbitNode, vhost: str, broker: RabbitBroker
) -> None:
    # Given a consumer at work, whose broker goes away
    for n in range(10):
        broker.publish(announcement(f"e{n}"))
    consumer = broker.consume("ingest")
    held = take(consumer)
    rabbit_node.stop_server()
    for _ in range(5):
        assert consumer.poll(0.2) is None
    assert not consumer.attached
    assert not broker.attached
    # And a publisher that goes on meanwhile, for as long as a busy machine may take to start the broker
    patient = RabbitBroker(rabbit_node.settings(vhost, publish_timeout=90.0))
    publisher = threading.Thread(target=patient.publish, args=(announcement("meanwhile"),))
    publisher.start()
    # When it comes back, and the old delivery is settled
    rabbit_node.start()
    consumer.ack(held)
    # Then every message comes, the held one again, and the waiting publish is confirmed
    came: list[str] = []
    while len(set(came)) < 11:
        delivery = take(consumer)
        came.append(name(delivery))
        consumer.ack(delivery)
    publisher.join(SOON)
    assert not publisher.is_alive()
    patient.close()
    assert broker.attached
    assert set(came) == {f"e{n}" for n in range(10)} | {"meanwhile"}
    assert consumer.poll(0.3) is None


def test_a_publisher_whose_connection_was_cut_connects_again(
    rabbit_node: RabbitNode, vhost: str, broker: RabbitBroker
) -> None:
    broker.publish(announcement("before"))
    rabbit_node.cut(vhost)
    broker.publish(announcement("after"))
    consumer = broker.consume("ingest", prefetch=5)
    assert [name(take(consumer)) for _ in range(2)] == ["before", "after"]


def test_under_cuts_every_message_arrives(rabbit_node: RabbitNode, vhost: str, broker: RabbitBroker) -> None:
    # Given 2 publishers of 60 and 2 consumers that ack, and some cuts
    acked: set[str] = set()
    done = threading.Event()

    def publish(who: str) -> None:
        for n in range(60):
            broker.publish(announcement(f"{who}{n}"))
            time.sleep(0.01)

    def consume() -> None:
        consumer = broker.consume("ingest")
        while not done.is_set():
            delivery = consumer.poll(0.1)
            if delivery is not None:
                acked.add(name(delivery))
                consumer.ack(delivery)
        consumer.close()

    publishers = [threading.Thread(target=publish, args=(who,)) for who in "ab"]
    consumers = [threading.Thread(target=consume) for _ in range(2)]
    for thread in (*publishers, *consumers):
        thread.start()
    for _ in range(3):
        rabbit_node.cut(vhost)
    for thread in publishers:
        thread.join(60)
    # When all is calm, Then none is missing
    deadline = time.monotonic() + SOON
    while len(acked) < 120 and time.monotonic() < deadline:
        time.sleep(0.05)
    done.set()
    for thread in consumers:
        thread.join(SOON)
    assert len(acked) == 120
    assert broker.dead_letters("ingest") == []


def test_a_consumer_that_the_broker_cancels_consumes_again(
    rabbit_node: RabbitNode, vhost: str, broker: RabbitBroker, caplog: pytest.LogCaptureFixture
) -> None:
    consumer = broker.consume("ingest")
    assert consumer.poll(0.1) is None
    Management(rabbit_node.settings(vhost)).delete("queues", vhost, "ingest")
    deadline = time.monotonic() + SOON
    while consumer.attached and time.monotonic() < deadline:
        assert consumer.poll(0.1) is None
    assert not consumer.attached
    # Without its queue it says what to do, and goes on when that was done.
    consumer.poll(0.5)
    assert "nircam-darks topology apply" in caplog.text
    apply(rabbit_node.settings(vhost))
    broker.publish(announcement("e"))
    assert name(take(consumer)) == "e"


def test_a_consumer_whose_ack_took_too_long_gets_its_message_again(
    rabbit_node: RabbitNode, broker: RabbitBroker, caplog: pytest.LogCaptureFixture
) -> None:
    def timing(timeout: int, tick: int) -> None:
        rabbit_node.ctl(
            "eval",
            f"application:set_env(rabbit, consumer_timeout, {timeout}), "
            f"application:set_env(rabbit, channel_tick_interval, {tick}).",
        )

    timing(1000, 300)
    try:
        consumer = broker.consume("ingest")
        broker.publish(announcement("e"))
        old = take(consumer)
        again = take(consumer)
    finally:
        timing(1_800_000, 60_000)
    # RabbitMQ 4.3 cancels the consumer and counts no attempt; up to 4.2 the channel is closed, and it does.
    cancels = rabbit_node.system is not None and "4.3" in rabbit_node.system.name
    assert (again.delivery_count, again.redelivered) == (0 if cancels else 1, True)
    assert ("took longer than the broker's consumer_timeout" if cancels else "timed out") in caplog.text
    consumer.ack(old)
    consumer.close()
    assert name(take(broker.consume("ingest"))) == "e"


def test_a_broker_short_of_memory_holds_no_publisher(rabbit_node: RabbitNode, vhost: str) -> None:
    # Given a consumer that holds a message, and a broker that blocks publishers
    with contextlib.closing(RabbitBroker(rabbit_node.settings(vhost, publish_timeout=2.0))) as broker:
        consumer = broker.consume("ingest")
        broker.publish(announcement("e"))
        delivery = take(consumer)
        rabbit_node.ctl("set_vm_memory_high_watermark", "0.0001")
        try:
            # When it publishes, Then that fails in time and says why
            started = time.monotonic()
            with pytest.raises(PublishFailed, match=r"blocks publishers.*memory"):
                broker.publish(announcement("more"))
            assert time.monotonic() - started < 15
            # And a failure that cannot be passed on stays held
            consumer.retry(delivery, "could not publish", 0.1)
            assert consumer.poll(1.5) is None
        finally:
            rabbit_node.ctl("set_vm_memory_high_watermark", "absolute", "512MB")
        # And it comes again, counted once, when the broker has memory; so may what was given up waiting
        came = take(consumer)
        if name(came) == "more":
            consumer.ack(came)
            came = take(consumer)
        assert (name(came), came.delivery_count) == ("e", 1)
        assert broker.dead_letters("ingest") == []


def test_a_broker_that_stands_still_holds_nobody(rabbit_node: RabbitNode, vhost: str) -> None:
    with contextlib.closing(RabbitBroker(rabbit_node.settings(vhost, publish_timeout=1.5))) as broker:
        consumer = broker.consume("ingest")
        broker.publish(announcement("before"))
        consumer.ack(take(consumer))
        rabbit_node.send(signal.SIGSTOP)
        try:
            started = time.monotonic()
            with pytest.raises(PublishFailed, match="did not confirm it in time"):
                broker.publish(announcement("during"))
            with pytest.raises(PublishFailed, match="did not answer in time"):
                broker.publish(announcement("during"))
            assert consumer.poll(0.1) is None
            assert time.monotonic() - started < 30
        finally:
            rabbit_node.send(signal.SIGCONT)
        broker.publish(announcement("after"))
        names = {name(take(consumer))}
        while "after" not in names:
            consumer.close()
            consumer = broker.consume("ingest", prefetch=10)
            names.add(name(take(consumer)))
            names.add(name(take(consumer)))


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
    consumer.put_back(delivery)
    assert take(consumer).delivery_count == 3


@pytest.mark.parametrize("how", ["consume", "publish"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"url": "amqp://guest:s3cr3t-pass@127.0.0.1:{port}/{vhost}"}, "refuses user 'guest'"),
        ({"url": "amqp://guest:guest@127.0.0.1:{port}/no-such"}, "no virtual host 'no-such'"),
        ({"url": "amqp://guest:guest@127.0.0.1:{port}/{empty}"}, "nircam-darks topology apply"),
        ({"url": "amqps://guest:guest@127.0.0.1:{tls}/{vhost}"}, "no TLS.*DARKS_BROKER_CA_FILE"),
    ],
    ids=["password", "vhost", "queues", "certificate"],
)
def test_a_refusal_is_one_line_without_the_password(
    rabbit_node: RabbitNode,
    vhost: str,
    how: str,
    change: dict[str, str],
    words: str,
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
            with pytest.raises(DarksError, match=words) as raised:
                act()
            assert isinstance(raised.value, EnvironmentFault if how == "consume" else PublishFailed)
            # At once: nobody waits for an owner to act.
            assert time.monotonic() - started < 8
    text = str(raised.value) + caplog.text + repr(settings) + str(settings.model_dump())
    assert "\n" not in str(raised.value)
    assert "s3cr3t-pass" not in text


def test_a_broker_that_is_away_is_waited_for_by_a_consumer_and_named_to_a_publisher(
    rabbit_node: RabbitNode, caplog: pytest.LogCaptureFixture
) -> None:
    settings = rabbit_node.settings(url="amqp://guest:s3cr3t-pass@127.0.0.1:9/", publish_timeout=0.5)
    with contextlib.closing(RabbitBroker(settings)) as broker:
        consumer = broker.consume("ingest")
        assert consumer.poll(0.2) is None
        with pytest.raises(PublishFailed, match=r"127\.0\.0\.1:9 cannot be reached: Connection refused"):
            broker.publish(announcement("e"))
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
        with pytest.raises(EnvironmentFault, match=f"cannot be read from {file}"):
            broker.consume("ingest")
        file.write_text("wrong\n")
        with pytest.raises(EnvironmentFault, match="refuses user 'guest'"):
            broker.consume("ingest")
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
    with pytest.raises(PublishFailed, match=r"exposure\.announced.*no queue is bound.*topology apply"):
        broker.publish(announcement("e"))
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
                said = str(error)
                break
        # When more is published, Then that fails in time and says why
        assert "refused it (a full queue" in said
        # And with room it is taken
        while (delivery := consumer.poll(0.5)) is not None:
            consumer.ack(delivery)
        broker.publish_body("exposure.ingested", b"y")
        assert take(consumer).body == b"y"


def test_a_node_that_is_lost_costs_a_reconnect_only(
    rabbit_node: RabbitNode, vhost: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    # Given a cluster whose first node is away
    settings = rabbit_node.settings(
        vhost,
        url=f"amqp://guest:guest@127.0.0.2:{rabbit_node.port}/{vhost}",
        management_url=f"http://127.0.0.2:{rabbit_node.management_port}",
        nodes=[f"127.0.0.1:{rabbit_node.port}"],
    )
    with contextlib.closing(RabbitBroker(settings)) as broker:
        # When something is published, consumed, looked at and asked, Then the other node does it
        broker.publish(announcement("e"))
        consumer = broker.consume("ingest")
        consumer.dead_letter(take(consumer), "no use")
        assert [letter.reason for letter in broker.dead_letters("ingest")] == ["no use"]
        assert apply(settings, dry_run=True) == []
    # And it was said which node was tried, and which one answers
    where = f"amqp://127.0.0.{{}}:{rabbit_node.port}".format
    assert f"the broker at {where(2)} cannot be reached: Connection refused" in caplog.text
    assert f"consuming ingest again from {where(1)}" in caplog.text


def test_where_no_node_answers_each_is_named() -> None:
    nowhere = BrokerSettings(
        url="amqp://127.0.0.1:9/", nodes=["127.0.0.2:9"], management_url="http://127.0.0.1:9"
    )
    with contextlib.closing(RabbitBroker(nowhere)) as broker, pytest.raises(TransientError) as raised:
        broker.dead_letters("ingest")
    assert "127.0.0.1:9 cannot be reached" in str(raised.value)
    assert "127.0.0.2:9 cannot be reached" in str(raised.value)
    with pytest.raises(TransientError, match=r"http://127\.0\.0\.1:9.*http://127\.0\.0\.2:9"):
        Management(nowhere).get("overview")


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
    consumer.put_back(again)
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
    with pytest.raises(PublishFailed, match="can wait"):
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
    assert [str(failure) for failure in failures if "closed" in str(failure)]


@pytest.mark.slow
def test_heartbeats_outlive_a_long_job(rabbit_node: RabbitNode, vhost: str) -> None:
    # Given a heartbeat of 3 s and a job of 12 s, during which nothing but poll is called
    with contextlib.closing(RabbitBroker(rabbit_node.settings(vhost, heartbeat=3))) as broker:
        consumer = broker.consume("ingest")
        broker.publish(announcement("e"))
        delivery = take(consumer)
        end = time.monotonic() + 12
        while time.monotonic() < end:
            assert consumer.poll(0.25) is None
        # Then the delivery is still its own, and the publisher's connection still stands
        broker.publish(announcement("next"))
        consumer.ack(delivery)
        assert name(take(consumer)) == "next"
        assert consumer.poll(0.3) is None


@pytest.mark.slow
def test_after_sigkill_of_the_broker_what_was_confirmed_is_there(
    rabbit_node: RabbitNode, broker: RabbitBroker
) -> None:
    for n in range(20):
        broker.publish(announcement(f"e{n}"), delay=0.0 if n % 2 else 2.0)
    rabbit_node.stop_server(signal.SIGKILL)
    rabbit_node.start()
    consumer = broker.consume("ingest", prefetch=50)
    assert {name(take(consumer)) for _ in range(20)} == {f"e{n}" for n in range(20)}
