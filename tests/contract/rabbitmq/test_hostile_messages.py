"""Messages that nobody honest would send, through a worker at RabbitMQ: each ends as one dead letter."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika
import pytest

from shared.broker.base import DeadLetter
from shared.broker.rabbitmq import BrokerSettings, RabbitBroker
from shared.broker.rabbitmq.wire import properties_of
from shared.contracts.routing import EXCHANGE
from shared.contracts.s3_events import announcements
from shared.runtime.events import WorkerEvent
from shared.runtime.jobs import JobProcesses
from shared.runtime.worker import Worker, WorkerPolicy
from shared.settings.stage import StageSettings
from support.handlers import HANDLERS, announcement

SOON = 30.0


class Bench:
    """A worker of ingest, and a stranger's channel beside it."""

    def __init__(self, broker: RabbitBroker, settings: BrokerSettings, jobs: JobProcesses) -> None:
        self.events: list[WorkerEvent] = []
        self.stop = threading.Event()
        self.broker = broker
        self._settings = settings
        self._worker = Worker(
            "ingest",
            broker,
            jobs,
            self.events.append,
            WorkerPolicy(retry_delays=(0.1,)),
            translate=lambda body: announcements(body, "*"),
        )
        self.thread = threading.Thread(target=self._worker.run, args=(self.stop,))

    def send(self, body: bytes, key: str = "exposure.announced", **properties: Any) -> None:
        url = pika.URLParameters(self._settings.url.get_secret_value())
        with contextlib.closing(pika.BlockingConnection(url)) as connection:
            channel = connection.channel()
            channel.basic_publish(EXCHANGE, key, body, pika.BasicProperties(**properties))

    def until(self, kinds: list[str]) -> None:
        deadline = time.monotonic() + SOON
        while [event.kind for event in self.events if event.kind in ("dead-lettered", "finished")] != kinds:
            assert time.monotonic() < deadline, [(e.kind, e.reason) for e in self.events]
            assert self.thread.is_alive(), "the worker's thread died"
            time.sleep(0.05)

    def dead(self) -> list[DeadLetter]:
        return self.broker.dead_letters("ingest")


@pytest.fixture
def bench(broker: RabbitBroker, settings: BrokerSettings, tmp_path: Path) -> Iterator[Bench]:
    stage = StageSettings(store=tmp_path / "store", scratch=tmp_path / "scratch")
    with JobProcesses(1, HANDLERS, stage) as jobs:
        bench = Bench(broker, settings, jobs)
        bench.thread.start()
        yield bench
        bench.stop.set()
        bench.thread.join(60)
        assert not bench.thread.is_alive()


def nested(depth: int) -> bytes:
    message = json.loads(announcement("deep").encode())
    message["data"]["extra"] = json.loads("[" * depth + "]" * depth)
    return json.dumps(message).encode()


def changed(**fields: Any) -> bytes:
    return json.dumps(json.loads(announcement("odd").encode()) | fields).encode()


def s3_event(**of_record: Any) -> bytes:
    record = {
        "eventName": "s3:ObjectCreated:Put",
        "s3": {"bucket": {"name": "raw-data"}, "object": {"key": "a_uncal.fits"}},
    }
    return json.dumps({"Records": [record | of_record]}).encode()


HOSTILE = {
    "surrogate": rb'{"schema":"x","id":"\ud800"}',
    "surrogate deep inside": changed(data={"exposure_id": "e", "uri": "file:///e", "note": "\ud800"}),
    "nested": nested(500),
    "year 1": changed(time="0001-01-01T00:00:00Z"),
    "year 1960": changed(time="1960-01-01T00:00:00Z"),
    "another order": changed(
        schema="set.check", data={"configuration": "c", "scheduled_at": "2026-01-01T00:00:00Z"}
    ),
    "S3 key of a surrogate": rb'{"Records":[{"eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"raw"},'
    rb'"object":{"key":"\ud800.fits"}}}]}',
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=list(HOSTILE))
def test_a_hostile_body_is_one_dead_letter_and_the_worker_goes_on(bench: Bench, body: bytes) -> None:
    # Given a body that no program of ours sends, and an honest announcement behind it
    bench.send(body)
    bench.until(["dead-lettered"])
    bench.broker.publish(announcement("honest"))
    # Then the first is kept as it came, with a reason, after one attempt; and the second is served
    bench.until(["dead-lettered", "finished"])
    [letter] = bench.dead()
    assert (letter.body, letter.attempts) == (body, 1)
    assert letter.reason
    assert letter.reason.encode()


def test_an_order_is_not_taken_from_a_header_either(bench: Bench) -> None:
    body = HOSTILE["another order"]
    bench.send(body, headers={"x-darks-routing-key": "set.check"})
    bench.until(["dead-lettered"])
    [letter] = bench.dead()
    assert letter.routing_key == "exposure.announced"


@pytest.mark.parametrize(
    "headers",
    [
        {"long": "x" * 60_000},
        {f"h{n}": n for n in range(2000)},
        {"x-darks-reason": "y" * 60_000},
        {"x-darks-attempts": 2**63 - 1, "x-delivery-count": 2**63 - 1},
    ],
    ids=["a long header", "many headers", "a reason from outside", "more attempts than AMQP can count"],
)
def test_headers_of_a_stranger_do_not_keep_a_message_from_its_end(
    bench: Bench, headers: dict[str, Any]
) -> None:
    bench.send(b"not json", headers=headers)
    bench.until(["dead-lettered"])
    [letter] = bench.dead()
    assert letter.body == b"not json"
    assert len(letter.reason) < 1000


@pytest.mark.parametrize("when", ["0001-01-01T00:00:00Z", "1960-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_an_s3_event_of_an_impossible_time_is_announced_now(bench: Bench, when: str) -> None:
    [message] = announcements(s3_event(eventTime=when), "*") or []
    assert properties_of(message).timestamp == pytest.approx(time.time(), abs=60)


def test_a_trace_context_that_is_none_is_dropped(bench: Bench) -> None:
    bench.send(changed(traceparent="0" * 140_000))
    bench.until(["finished"])
    assert bench.dead() == []


def test_a_header_that_cannot_be_decoded_ends_no_worker(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a header whose name is no UTF-8, which pika encodes from bytes that we change on their way
    url = pika.URLParameters(bench._settings.url.get_secret_value())
    with contextlib.closing(pika.BlockingConnection(url)) as connection:
        channel = connection.channel()
        marshal = pika.frame.Header.marshal
        with monkeypatch.context() as patched:
            patched.setattr(
                pika.frame.Header,
                "marshal",
                lambda frame: marshal(frame).replace(b"NAME", b"\xff\xfe\xfd\xfc"),
            )
            channel.basic_publish(
                EXCHANGE, "exposure.announced", b"body", pika.BasicProperties(headers={"NAME": 1})
            )
    # When honest work comes behind it
    bench.broker.publish(announcement("honest"))
    # Then that is done, and the other is a dead letter like any
    bench.until(["dead-lettered", "finished"])
    assert [letter.body for letter in bench.dead()] == [b"body"]
