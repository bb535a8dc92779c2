"""`nircam-darks drain` against a real broker: what is there is finished, what comes is held, none is lost."""

import contextlib
import functools
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pika
import pytest
from typer.testing import Result

from nircam_darks.operations.drain import drain, resume
from shared.broker.rabbitmq import BrokerSettings, RabbitBroker
from shared.broker.rabbitmq.connection import Session
from shared.broker.rabbitmq.management import Management, queue_states
from shared.broker.rabbitmq.publisher import Publisher
from shared.broker.rabbitmq.topology import Hold, apply
from shared.contracts.messages import Envelope, SetCheck, parse
from shared.contracts.routing import EXCHANGE, HELD_FROM, HELD_KEY, HELD_QUEUE
from shared.errors import EnvironmentFault, PublishFailed, TransientError
from shared.runtime.jobs import JobProcesses
from shared.runtime.worker import Worker, WorkerPolicy
from shared.settings.stage import StageSettings
from shared.store.local import LocalStore
from shared.store.manifest import find_all
from support.handlers import HANDLERS, KEY, announcement, computations, released
from support.rabbitmq_node import RabbitNode

SOON = 20.0


@pytest.fixture
def command(command: Callable[..., Result]) -> Callable[..., Result]:
    """Run ``nircam-darks drain`` with these words, against this broker."""
    return functools.partial(command, "drain")


def ready(settings: BrokerSettings) -> dict[str, int]:
    """How much waits in each queue that is not empty."""
    return {state.name: state.ready for state in queue_states(settings) if state.ready}


def bound(settings: BrokerSettings) -> set[str]:
    """Where announcements go."""
    api = Management(settings)
    return {
        each["destination"]
        for each in api.get("bindings", settings.vhost)
        if (each["source"], each["routing_key"]) == (EXCHANGE, HELD_KEY)
    }


def take(broker: RabbitBroker) -> list[str]:
    """Take all that waits for ingest: the exposures' names."""
    results = []
    with contextlib.closing(broker.consume("ingest")) as consumer:
        while (delivery := consumer.poll(0.5)) is not None:
            assert (delivery.routing_key, delivery.delivery_count, delivery.redelivered) == (
                HELD_KEY,
                0,
                False,
            )
            results.append(parse(delivery.body).content.exposure_id)
            consumer.ack(delivery)
    return results


def test_what_comes_is_held_and_resumed_in_its_order(
    settings: BrokerSettings, broker: RabbitBroker, command: Callable[..., Result]
) -> None:
    # Given a drained broker, at which announcements, and the check of a set, come
    outcome = json.loads(command("--idle", "0.2", "--json").stdout)
    assert (outcome["drained"], outcome["held"], outcome["left"]) == (True, 0, [])
    for n in range(3):
        broker.publish(announcement(f"e{n}"))
    broker.publish_body(HELD_KEY, b"\xff" * (10 << 20))
    assert ready(settings) == {HELD_QUEUE: 4}
    assert bound(settings) == {HELD_QUEUE}
    # When it is drained again, Then that changes nothing
    assert json.loads(command("--idle", "0.2", "--json").stdout)["held"] == 4
    # When it is resumed, Then they are in ingest as if they had just come; twice does no harm
    assert json.loads(command("--resume", "--json").stdout) == {"resumed": True, "moved": 4}
    assert json.loads(command("--resume", "--json").stdout) == {"resumed": True, "moved": 0}
    assert bound(settings) == {HELD_FROM}
    broker.publish(announcement("after"))
    with contextlib.closing(broker.consume("ingest", prefetch=9)) as consumer:
        bodies = [consumer.poll(SOON).body for _ in range(5)]
    assert [len(body) for body in bodies].count(10 << 20) == 1
    assert parse(bodies[0]).content.exposure_id == "e0"
    assert parse(bodies[4]).content.exposure_id == "after"


def test_it_says_what_is_left_where_until_the_time_is_over(
    settings: BrokerSettings, broker: RabbitBroker, command: Callable[..., Result]
) -> None:
    # Given an announcement that nobody takes, one that waits for its next attempt, and a set's check
    broker.publish(announcement("waits"))
    broker.publish(announcement("again"), delay=100.0)
    check = Envelope.of(SetCheck(configuration="c", scheduled_at="2026-01-01T00:00:00Z"), identity="c")
    broker.publish(check, delay=3000.0)
    # When it is drained for a second, Then it says so, holds all the same, and ends with 3
    done = command("--timeout", "1", "--idle", "0.5", code=3)
    for words in ("ingest 1 waiting, 0 in progress", "1 message delayed", "1 set check"):
        assert words in done.stdout
    assert len(done.stderr.splitlines()) == 1
    assert bound(settings) == {HELD_QUEUE}
    document = json.loads(command("--timeout", "1", "--idle", "0.5", "--json", code=3).stdout)
    assert (document["drained"], document["checks"], [each["name"] for each in document["left"]]) == (
        False,
        1,
        ["ingest", "darks.delay.125"],
    )
    command("--timeout", "5", code=2)
    command("--timeout", "5", "--resume", code=2)


@pytest.mark.parametrize("at", ["bind", "unbind", "publish", "remove", "last look"])
def test_a_resume_that_dies_anywhere_loses_nothing(
    settings: BrokerSettings, broker: RabbitBroker, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    # Given three announcements that are held, and a resume that dies
    drain(settings, lambda line: None, idle=0.0)
    for n in range(3):
        broker.publish(announcement(f"e{n}"))
    with monkeypatch.context() as patched:
        _die(patched, at)
        with pytest.raises(PublishFailed):
            resume(settings)
    # When announcements go on, and it is run again
    broker.publish(announcement("after"))
    before = ready(settings)
    assert before.get("ingest", 0) + before.get(HELD_QUEUE, 0) >= 4
    resume(settings)
    # Then all are in ingest, what was under way perhaps twice
    delivery = take(broker)
    assert set(delivery) == {"e0", "e1", "e2", "after"}
    assert len(delivery) <= 5
    assert ready(settings) == {}
    assert bound(settings) == {HELD_FROM}


def _die(patched: pytest.MonkeyPatch, at: str) -> None:
    ask = Session.ask

    def dying_ask(self: Session, method: str, *arguments: Any, **options: Any) -> Any:
        if method == {"bind": "queue_bind", "unbind": "queue_unbind", "remove": "basic_ack"}.get(at):
            raise PublishFailed("killed")
        return ask(self, method, *arguments, **options)

    def die(*_: Any) -> None:
        raise PublishFailed("killed")

    patched.setattr(Session, "ask", dying_ask)
    if at == "publish":
        patched.setattr(Publisher, "publish", die)
    elif at == "last look":
        patched.setattr(Session, "rest", die)


def test_a_drain_that_dies_between_its_bindings_loses_nothing(
    settings: BrokerSettings, broker: RabbitBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        _die(patched, "unbind")
        with pytest.raises(PublishFailed), Hold(settings) as hold:
            hold.hold()
    # It goes both ways, which `topology apply` leaves to whoever drains
    assert bound(settings) == {HELD_FROM, HELD_QUEUE}
    assert [each.action for each in apply(settings)] == ["leave"]
    assert bound(settings) == {HELD_FROM, HELD_QUEUE}
    broker.publish(announcement("e"))
    drain(settings, lambda line: None, timeout=0.0)
    assert bound(settings) == {HELD_QUEUE}
    assert set(take(broker)) == {"e"}
    assert resume(settings) == 1


def test_an_announcement_that_expires_while_it_is_held_is_a_dead_letter(
    settings: BrokerSettings, broker: RabbitBroker
) -> None:
    drain(settings, lambda line: None, idle=0.0)

    with Session(settings, "a trigger") as trigger:
        trigger.ask("confirm_delivery")
        properties = pika.BasicProperties(expiration="100", delivery_mode=2)
        trigger.ask("basic_publish", EXCHANGE, HELD_KEY, b"x", properties, mandatory=True)
    deadline = time.monotonic() + SOON
    while not broker.dead_letters("ingest") and time.monotonic() < deadline:
        time.sleep(0.1)
    [letter] = broker.dead_letters("ingest")
    assert (letter.body, letter.routing_key) == (b"x", HELD_KEY)
    assert letter.reason == "dead-lettered by the broker (expired)"


@pytest.mark.slow
def test_under_a_steady_stream_everything_is_worked_once_or_held(
    settings: BrokerSettings, broker: RabbitBroker, tmp_path: Path
) -> None:
    # Given a trigger that announces all the time, and a worker; one job fails first, one takes its time
    published: list[str] = []
    stop_trigger, stop_worker = threading.Event(), threading.Event()
    lines: list[str] = []
    kinds: list[str] = []

    def announce() -> None:
        while not stop_trigger.is_set():
            name = f"e{len(published)}"
            does = {3: "transient-until=2", 5: "wait"}.get(len(published), "work")
            broker.publish(announcement(name, does))
            published.append(name)
            time.sleep(0.05)

    def products() -> list[str]:
        manifests = find_all(LocalStore(tmp_path / "store"), f"ingest/{KEY.slug}/")
        return sorted(manifest.results["exposure_id"] for manifest in manifests)

    with JobProcesses(1, HANDLERS, StageSettings(store=tmp_path / "store")) as jobs:
        worker = Worker(
            "ingest", broker, jobs, lambda event: kinds.append(event.kind), WorkerPolicy(retry_delays=(2.0,))
        )
        threads = [
            threading.Thread(target=worker.run, args=(stop_worker,)),
            threading.Thread(target=announce),
        ]
        for thread in threads:
            thread.start()
        try:
            deadline = time.monotonic() + SOON
            while len(published) < 10 and time.monotonic() < deadline:
                time.sleep(0.01)

            def look(line: str) -> None:
                lines.append(line)
                # The job ends only after the drain has seen it at work.
                if "1 in progress" in line:
                    released(tmp_path, "e5").touch()

            # When it is drained, while they go on, and noise's queue is emptied
            noise = threading.Thread(target=_empty, args=(broker, "noise", stop_worker))
            threads.append(noise)
            noise.start()
            outcome = drain(settings, look, timeout=60.0)
            # Then no work is left, and what was worked and what is held are all there is
            assert outcome.drained, (outcome, lines)
            done = products()
            assert kinds[-1] == "finished"
            stop_trigger.set()
            threads[1].join(SOON)
            assert products() == done
            assert outcome.left == []
            held = ready(settings)[HELD_QUEUE]
            assert len(done) + held in (len(published), len(published) + 1)
            assert {"e3", "e5"} <= set(done)
            # And once resumed, all is worked, each once
            assert resume(settings) == held
            deadline = time.monotonic() + 60
            while len(products()) < len(published) and time.monotonic() < deadline:
                time.sleep(0.1)
        finally:
            stop_trigger.set()
            stop_worker.set()
            for thread in threads:
                thread.join(SOON)
    assert products() == sorted(published)
    assert {computations(tmp_path, name) for name in published} == {1}
    assert broker.dead_letters("ingest") == []


def _empty(broker: RabbitBroker, queue: str, stop: threading.Event) -> None:
    with contextlib.closing(broker.consume(queue)) as consumer:
        while not stop.is_set():
            if (delivery := consumer.poll(0.1)) is not None:
                consumer.ack(delivery)


@pytest.mark.slow
def test_what_somebody_works_on_is_seen_before_it_is_called_drained(
    settings: BrokerSettings, broker: RabbitBroker
) -> None:
    # Given a delivery that was taken a moment ago, which the broker's statistics do not show yet
    broker.publish(announcement("e"))
    with contextlib.closing(broker.consume("ingest")) as consumer:
        delivery = consumer.poll(SOON)
        started = time.monotonic()
        seen: list[float] = []

        def look(line: str) -> None:
            if "1 in progress" in line:
                seen.append(time.monotonic() - started)
                consumer.ack(delivery)

        # When it is drained, Then not before that was seen and done
        outcome = drain(settings, look, timeout=60.0)
        assert outcome.drained
        assert seen
        assert outcome.seconds > seen[0]


def test_without_the_broker_or_its_queues_it_says_so_in_one_line(
    rabbit_node: RabbitNode,
    settings: BrokerSettings,
    command: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with rabbit_node.new_vhost() as empty:
        for url, kind in (
            ("amqp://guest:guest@127.0.0.1:9/", TransientError),
            (rabbit_node.settings(empty).url.get_secret_value(), EnvironmentFault),
        ):
            monkeypatch.setenv("DARKS_BROKER_URL", url)
            for words in (("--json",), ("--resume",)):
                with pytest.raises(kind) as raised:
                    command(*words)
                assert raised.value.where == BrokerSettings(url=url).where
                assert "\n" not in str(raised.value)
    monkeypatch.setenv("DARKS_BROKER_URL", settings.url.get_secret_value())
    monkeypatch.setenv("DARKS_BROKER_MANAGEMENT_URL", "http://127.0.0.1:9")
    with pytest.raises(TransientError) as away:
        command()
    assert away.value.setting == "DARKS_BROKER_MANAGEMENT_URL"
