"""What every broker promises (shared/broker/base.py, shared/contracts/routing.py)."""

import time
from datetime import UTC, datetime
from typing import Any

import pytest

from shared.broker.base import Consumer, Delivery
from shared.contracts.messages import Envelope, ExposureRejected, SetCheck, parse
from shared.contracts.routing import BINDINGS, DELIVERY_LIMIT
from shared.errors import PublishFailed
from support.handlers import announcement

SOON = 5.0


def take(consumer: Consumer) -> Delivery:
    """Return the next delivery, which must come soon."""
    deadline = time.monotonic() + SOON
    while time.monotonic() < deadline:
        delivery = consumer.poll(0.2)
        if delivery is not None:
            return delivery
    raise AssertionError("nothing came")


def test_a_message_comes_to_each_queue_bound_to_it(under_test: Any) -> None:
    consumers = {queue: under_test.broker.consume(queue) for queue in BINDINGS}
    for routing_key in sorted({key for keys in BINDINGS.values() for key in keys}):
        under_test.send_raw(routing_key, routing_key.encode())
        for queue, consumer in consumers.items():
            if routing_key in BINDINGS[queue]:
                delivery = take(consumer)
                assert (delivery.body, delivery.routing_key) == (routing_key.encode(), routing_key)
                assert (delivery.queue, delivery.delivery_count, delivery.redelivered) == (queue, 0, False)
                consumer.ack(delivery)
            else:
                assert consumer.poll(0.0) is None


def test_an_envelope_arrives_as_it_was_sent_and_in_order(under_test: Any) -> None:
    sent = [announcement(f"e{n}") for n in range(5)]
    for message in sent:
        under_test.broker.publish(message)
    consumer = under_test.broker.consume("ingest")
    received = []
    for _ in sent:
        delivery = take(consumer)
        received.append(parse(delivery.body))
        consumer.ack(delivery)
    assert received == sent


def test_no_more_than_the_prefetch_is_held(under_test: Any) -> None:
    for n in range(4):
        under_test.broker.publish(announcement(f"e{n}"))
    one, two = under_test.broker.consume("ingest"), under_test.broker.consume("ingest", prefetch=2)
    first = take(one)
    assert one.poll(0.1) is None
    take(two)
    take(two)
    assert two.poll(0.1) is None
    one.ack(first)
    assert parse(take(one).body).content.exposure_id == "e3"


def test_an_acked_message_is_gone(under_test: Any) -> None:
    under_test.broker.publish(announcement("e"))
    consumer = under_test.broker.consume("ingest")
    consumer.ack(take(consumer))
    consumer.close()
    assert under_test.broker.consume("ingest").poll(0.2) is None


def test_a_retry_comes_back_counted_and_not_before_its_delay(under_test: Any) -> None:
    under_test.broker.publish(announcement("e"))
    consumer = under_test.broker.consume("ingest")
    consumer.retry(take(consumer), "CRDS did not answer", delay=0.4)
    assert consumer.poll(0.15) is None
    again = take(consumer)
    assert again.delivery_count == 1
    assert again.redelivered


def test_at_the_limit_a_retry_is_a_dead_letter_with_its_reason(under_test: Any) -> None:
    message = announcement("e")
    under_test.broker.publish(message)
    consumer = under_test.broker.consume("ingest")
    counts = []
    for attempt in range(DELIVERY_LIMIT):
        delivery = take(consumer)
        counts.append(delivery.delivery_count)
        consumer.retry(delivery, f"failed at attempt {attempt}", delay=0.0)
    assert counts == list(range(DELIVERY_LIMIT))
    assert consumer.poll(0.2) is None
    [(body, reason)] = under_test.dead_letters("ingest")
    assert parse(body) == message
    assert reason == f"failed at attempt {DELIVERY_LIMIT - 1}"


def test_a_dead_letter_is_kept_with_its_bytes_and_reason(under_test: Any) -> None:
    under_test.send_raw("exposure.announced", b"\x00not json")
    consumer = under_test.broker.consume("ingest")
    consumer.dead_letter(take(consumer), "the message is not JSON")
    assert under_test.dead_letters("ingest") == [(b"\x00not json", "the message is not JSON")]
    assert under_test.dead_letters("noise") == []
    assert consumer.poll(0.1) is None


def test_what_is_requeue_comes_again_uncounted(under_test: Any) -> None:
    under_test.broker.publish(announcement("e"))
    consumer = under_test.broker.consume("ingest")
    for _ in range(DELIVERY_LIMIT + 2):
        delivery = take(consumer)
        assert delivery.delivery_count == 0
        consumer.requeue(delivery)
    assert take(consumer).redelivered


def test_a_cancelled_consumer_takes_nothing_more_and_may_settle_what_it_holds(under_test: Any) -> None:
    under_test.broker.publish(announcement("held"))
    under_test.broker.publish(announcement("waiting"))
    consumer = under_test.broker.consume("ingest")
    held = take(consumer)
    consumer.cancel()
    consumer.ack(held)
    assert consumer.poll(0.2) is None
    consumer.close()
    other = under_test.broker.consume("ingest")
    assert parse(take(other).body).content.exposure_id == "waiting"


def test_what_a_closed_consumer_held_goes_to_another(under_test: Any) -> None:
    under_test.broker.publish(announcement("e"))
    consumer = under_test.broker.consume("ingest")
    take(consumer)
    consumer.close()
    again = take(under_test.broker.consume("ingest"))
    assert again.redelivered


def test_after_a_lost_connection_the_old_tag_is_void(under_test: Any) -> None:
    # Given a delivery whose connection was lost, so that it came again
    under_test.broker.publish(announcement("e"))
    consumer = under_test.broker.consume("ingest")
    old = take(consumer)
    under_test.cut()
    again = take(consumer)
    assert again.redelivered
    # When the old one is settled, in any way, Then nothing happens
    for settle in (consumer.ack, consumer.requeue):
        settle(old)
    consumer.dead_letter(old, "too late")
    consumer.retry(old, "too late", 0.0)
    assert consumer.poll(0.1) is None
    assert under_test.dead_letters("ingest") == []
    # And the new one is still held, and can be
    consumer.close()
    other = under_test.broker.consume("ingest")
    other.ack(take(other))
    assert other.poll(0.1) is None


def test_what_costs_every_consumer_its_connection_ends_as_a_dead_letter(under_test: Any) -> None:
    under_test.broker.publish(announcement("e"))
    consumer = under_test.broker.consume("ingest")
    for _ in range(DELIVERY_LIMIT):
        take(consumer)
        under_test.cut()
    assert consumer.poll(0.2) is None
    assert len(under_test.dead_letters("ingest")) == 1


def test_a_delayed_message_waits_for_its_time(under_test: Any) -> None:
    check = SetCheck(configuration="c", scheduled_at=datetime.now(UTC))
    under_test.broker.publish(Envelope.of(check, identity="late"), delay=0.5)
    under_test.broker.publish(announcement("early"))
    consumer = under_test.broker.consume("ingest", prefetch=2)
    started = time.monotonic()
    assert parse(take(consumer).body).schema_name == "exposure.announced"
    assert parse(take(consumer).body).schema_name == "set.check"
    assert time.monotonic() - started >= 0.3


def test_an_informational_message_needs_no_queue_and_another_does(under_test: Any) -> None:
    rejected = ExposureRejected(exposure_id="e", uri="u", check="shape", reason="3-D")
    under_test.broker.publish(Envelope.of(rejected, identity="e"))
    with pytest.raises(PublishFailed) as caught:
        under_test.send_raw("set.unknown", b"{}")
    assert caught.value.keyword == "set.unknown"


def test_after_close_a_publish_fails(under_test: Any) -> None:
    under_test.broker.close()
    with pytest.raises(PublishFailed):
        under_test.broker.publish(announcement("e"))
