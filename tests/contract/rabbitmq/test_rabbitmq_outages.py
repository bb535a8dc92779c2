"""RabbitMQ's outages: restarts, cuts, cancels, timeouts, alarms, lost nodes."""

import contextlib
import logging
import re
import signal
import threading
import time

import pytest

from shared.broker.rabbitmq import BrokerSettings, RabbitBroker
from shared.broker.rabbitmq.management import Management
from shared.broker.rabbitmq.topology import apply
from shared.errors import EnvironmentFault, PublishFailed, TransientError
from shared.runtime.events import WorkerEvent
from shared.runtime.health import Health
from shared.runtime.worker import Worker
from support.deliveries import SOON, name, take
from support.handlers import announcement
from support.rabbitmq_node import VERSIONS, RabbitNode


class NoJobs:
    """For a worker that gets no message."""

    def start(self, service: str, message: object, timeout: float = 0.0) -> None:
        raise AssertionError("a job was started")


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
    received: list[str] = []
    while len(set(received)) < 11:
        delivery = take(consumer)
        received.append(name(delivery))
        consumer.ack(delivery)
    publisher.join(SOON)
    assert not publisher.is_alive()
    patient.close()
    assert broker.attached
    assert set(received) == {f"e{n}" for n in range(10)} | {"meanwhile"}
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
            with pytest.raises(PublishFailed):
                broker.publish(announcement("more"))
            assert time.monotonic() - started < 15
            # And a failure that cannot be passed on stays held
            consumer.retry(delivery, "could not publish", 0.1)
            assert consumer.poll(1.5) is None
        finally:
            rabbit_node.ctl("set_vm_memory_high_watermark", "absolute", "512MB")
        # And it comes again, counted once, when the broker has memory; so may what was given up waiting
        received = take(consumer)
        if name(received) == "more":
            consumer.ack(received)
            received = take(consumer)
        assert (name(received), received.delivery_count) == ("e", 1)
        assert broker.dead_letters("ingest") == []


def test_what_a_worker_gives_up_is_counted_when_the_broker_has_taken_it(
    rabbit_node: RabbitNode, vhost: str, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a broker that blocks publishers, and a worker with a message that cannot be read
    events: list[WorkerEvent] = []
    stop = threading.Event()
    with contextlib.closing(RabbitBroker(rabbit_node.settings(vhost, publish_timeout=1.0))) as broker:
        broker.publish_body("exposure.announced", b"not json")
        rabbit_node.ctl("set_vm_memory_high_watermark", "0.0001")
        worker = Worker("ingest", broker, NoJobs(), events.append)
        thread = threading.Thread(target=worker.run, args=(stop,))
        try:
            # When it has tried for a while, Then it stands there, alive, and has counted nothing
            thread.start()
            time.sleep(4.0)
            assert worker.attached
            assert time.monotonic() - worker.last_tick < 3.0
            assert events == []
            # And it is told of: not ready, with the broker's reason, and in the log
            health = Health(worker, lambda: None, 60.0, lambda: broker.problem)
            [problem] = health.not_ready()
            assert broker.settings.where in problem
            assert health.not_alive() == []
            told = [each.levelname for each in caplog.records if each.name.endswith("rabbitmq.publisher")]
            assert told == ["WARNING"]
        finally:
            rabbit_node.ctl("set_vm_memory_high_watermark", "absolute", "512MB")
        # And once, when the broker has memory again
        deadline = time.monotonic() + 60
        while not events and time.monotonic() < deadline:
            time.sleep(0.1)
        stop.set()
        thread.join(60)
        assert [event.kind for event in events] == ["dead-lettered"]
        assert health.not_ready() == ["no consumer is attached to the queue"]
        # A copy that was given up waiting may arrive as well.
        assert {letter.body for letter in broker.dead_letters("ingest")} == {b"not json"}


def test_a_broker_that_stands_still_holds_nobody(rabbit_node: RabbitNode, vhost: str) -> None:
    with contextlib.closing(RabbitBroker(rabbit_node.settings(vhost, publish_timeout=1.5))) as broker:
        consumer = broker.consume("ingest")
        broker.publish(announcement("before"))
        consumer.ack(take(consumer))
        rabbit_node.send(signal.SIGSTOP)
        try:
            started = time.monotonic()
            with pytest.raises(PublishFailed):
                broker.publish(announcement("during"))
            with pytest.raises(PublishFailed):
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


def test_a_worker_outlives_a_broker_that_stands_still_and_ends_when_told(
    rabbit_node: RabbitNode, vhost: str, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a worker that consumes, and another that starts while the broker stands still
    settings = rabbit_node.settings(vhost, publish_timeout=1.5, heartbeat=2)
    stop = threading.Event()

    def work() -> None:
        with contextlib.closing(RabbitBroker(settings)) as broker:
            Worker("ingest", broker, NoJobs()).run(stop)

    threads = [threading.Thread(target=work) for _ in range(2)]
    threads[0].start()
    time.sleep(1.0)
    rabbit_node.send(signal.SIGSTOP)
    try:
        threads[1].start()
        # When heartbeats and connectors have run out of patience
        deadline = time.monotonic() + 60
        while sum("tries again" in line for line in caplog.messages) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        # Then both still wait, and end soon after they are told to
        assert all(thread.is_alive() for thread in threads)
        stop.set()
        started = time.monotonic()
        for thread in threads:
            thread.join(60)
        assert time.monotonic() - started < 25
    finally:
        stop.set()
        rabbit_node.send(signal.SIGCONT)
        for thread in threads:
            thread.join(60)


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
    assert raised.value.where == "amqp://127.0.0.1:9, amqp://127.0.0.2:9"
    with pytest.raises(TransientError) as api:
        Management(nowhere).get("overview")
    assert api.value.where == "http://127.0.0.1:9, http://127.0.0.2:9"


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


@pytest.mark.slow
def test_a_node_that_restarted_takes_the_queues_of_the_next_virtual_host(rabbit_node: RabbitNode) -> None:
    # Given a virtual host that is deleted right after the node came back, while its queues elect leaders
    for _ in range(2):
        with rabbit_node.new_vhost() as name:
            apply(rabbit_node.settings(name))
            rabbit_node.stop_server()
            rabbit_node.start()
        # Then RabbitMQ still has the supervisor that queues need
        with rabbit_node.new_vhost() as name:
            assert apply(rabbit_node.settings(name))


@pytest.mark.slow
# 4.3 answers that the queue's process ended, without a word of the supervisor.
@pytest.mark.parametrize("rabbit_node", VERSIONS[:2], indirect=True)
def test_without_its_supervisor_of_dead_letter_workers_the_cure_works_as_told(
    rabbit_node: RabbitNode,
) -> None:
    # Given a node whose supervisor has given up (rabbitmq-server issue 16652)
    rabbit_node.ctl("eval", "supervisor:terminate_child(rabbit_sup, rabbit_fifo_dlx_sup).")
    try:
        with rabbit_node.new_vhost() as name:
            # When the topology is applied, the error has the command that mends it
            with pytest.raises(EnvironmentFault) as told:
                apply(rabbit_node.settings(name))
            cure = re.search(r"rabbitmqctl eval '(.*?)'", str(told.value))
            assert cure is not None
    finally:
        rabbit_node.ctl("eval", "supervisor:restart_child(rabbit_sup, rabbit_fifo_dlx_sup).")
    # Then that command is what brought it back
    assert cure.group(1) == "supervisor:restart_child(rabbit_sup, rabbit_fifo_dlx_sup)."
    with rabbit_node.new_vhost() as name:
        assert apply(rabbit_node.settings(name))
