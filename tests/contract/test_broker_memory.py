"""The embedded broker's own: faults on request, taps, idleness, threads."""

import threading
import time

import pytest

from shared.broker.memory import Faults, MemoryBroker
from shared.contracts.messages import Envelope, ExposureRejected, parse
from shared.errors import PublishFailed
from support.handlers import announcement


def ids(broker: MemoryBroker) -> list[str]:
    """Take and ack everything on ingest's queue."""
    consumer = broker.consume("ingest")
    results = []
    while (delivery := consumer.poll(0.0)) is not None:
        results.append(parse(delivery.body).content.exposure_id)
        consumer.ack(delivery)
    consumer.close()
    return results


def test_a_lost_publish_and_a_lost_confirm_look_alike_to_the_publisher() -> None:
    broker = MemoryBroker(Faults(lose_publishes=1, lose_confirms=1))
    for exposure in ("lost", "accepted"):
        with pytest.raises(PublishFailed) as caught:
            broker.publish(announcement(exposure))
        assert caught.value.keyword == "exposure.announced"
    broker.publish(announcement("well"))
    assert ids(broker) == ["accepted", "well"]


def test_chances_are_drawn_from_the_seed() -> None:
    def outcome(seed: int) -> list[str]:
        broker = MemoryBroker(Faults(lose_publish_chance=0.3, lose_confirm_chance=0.3, seed=seed))
        failed = 0
        for n in range(200):
            try:
                broker.publish(announcement(f"e{n}"))
            except PublishFailed:
                failed += 1
        arrived = ids(broker)
        # Lost before: 0.3; of the rest, 0.3 have their confirm lost.
        assert 60 < failed < 145
        assert 110 < len(arrived) < 165
        return arrived

    assert outcome(1) == outcome(1)
    assert outcome(1) != outcome(2)


def test_duplicates_and_reordering() -> None:
    broker = MemoryBroker(Faults(duplicate_chance=1.0, reorder=True, seed=3))
    for n in range(10):
        broker.publish(announcement(f"e{n}"))
    received = ids(broker)
    assert sorted(received) == sorted([f"e{n}" for n in range(10)] * 2)
    assert received != sorted(received)


def test_a_dropped_consumer_gets_its_message_again() -> None:
    broker = MemoryBroker(Faults(drop_chance=1.0))
    broker.publish(announcement("e"))
    consumer = broker.consume("ingest")
    first, again = consumer.poll(1.0), consumer.poll(1.0)
    assert first is not None
    assert again is not None
    assert (first.delivery_count, again.delivery_count) == (0, 1)


def test_a_poll_wakes_when_a_message_comes_and_when_its_delay_ends() -> None:
    broker = MemoryBroker()
    consumer = broker.consume("ingest")
    threading.Timer(0.1, broker.publish, (announcement("now"),)).start()
    started = time.monotonic()
    assert consumer.poll(30.0) is not None
    assert time.monotonic() - started < 10
    other = broker.consume("ingest")
    broker.publish(announcement("later"), delay=0.2)
    assert other.poll(30.0) is not None
    assert time.monotonic() - started < 20


def test_idle_means_nothing_ready_delayed_or_held() -> None:
    broker = MemoryBroker()
    assert broker.idle()
    broker.publish(announcement("e"), delay=0.1)
    assert not broker.idle()
    consumer = broker.consume("ingest")
    delivery = consumer.poll(5.0)
    assert delivery is not None
    assert not broker.idle()
    consumer.retry(delivery, "again", 0.05)
    assert not broker.idle()
    delivery = consumer.poll(5.0)
    assert delivery is not None
    consumer.dead_letter(delivery, "no use")
    assert broker.idle()


@pytest.mark.parametrize(
    ("pattern", "heard"),
    [
        ("#", {"exposure.announced", "exposure.rejected"}),
        ("exposure.*", {"exposure.announced", "exposure.rejected"}),
        ("*.rejected", {"exposure.rejected"}),
        ("exposure", set()),
        ("set.*", set()),
    ],
)
def test_a_listener_hears_what_fits_its_pattern(pattern: str, heard: set[str]) -> None:
    broker = MemoryBroker()
    names: set[str] = set()
    broker.listen(pattern, lambda message: names.add(message.schema_name))
    broker.publish(announcement("e"))
    rejected = ExposureRejected(exposure_id="e", uri="u", check="shape", reason="3-D")
    broker.publish(Envelope.of(rejected, identity="e"))
    assert names == heard


def test_many_threads_lose_and_double_nothing() -> None:
    # Given 4 publishers of 100 and 4 consumers that sometimes fail
    broker = MemoryBroker(Faults(reorder=True, seed=5), delivery_limit=1000)
    taken: list[str] = []
    lock = threading.Lock()

    def publish(name: str) -> None:
        for n in range(100):
            broker.publish(announcement(f"{name}-{n}"))

    def consume(which: int) -> None:
        consumer = broker.consume("ingest", prefetch=2)
        turn = 0
        while (delivery := consumer.poll(0.3)) is not None:
            turn += 1
            if turn % 5 == which:
                consumer.retry(delivery, "again", 0.001)
            elif turn % 7 == which:
                consumer.requeue(delivery)
            else:
                with lock:
                    taken.append(parse(delivery.body).content.exposure_id)
                consumer.ack(delivery)
        consumer.close()

    threads = [threading.Thread(target=publish, args=(f"p{n}",)) for n in range(4)]
    threads += [threading.Thread(target=consume, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    # Then each was acked once
    assert sorted(taken) == sorted(f"p{p}-{n}" for p in range(4) for n in range(100))
    assert broker.idle()
