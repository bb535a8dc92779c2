"""`nircam-darks dead-letters` against a real broker: nothing is lost, and a cured message is worked."""

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from nircam_darks.operations.dead_letters import export, letters, replay, replay_files
from shared.broker.base import Delivery
from shared.broker.rabbitmq import BrokerSettings, RabbitBroker
from shared.broker.rabbitmq.dead_letters import DeadLetterQueues, StoredLetter
from shared.broker.rabbitmq.management import queue_states
from shared.broker.rabbitmq.wire import Publication, dead, properties_of
from shared.contracts.routing import DELIVERY_LIMIT
from shared.errors import BadInput, EnvironmentFault, PublishFailed, TransientError
from shared.runtime.jobs import JobProcesses
from shared.runtime.worker import Worker, WorkerPolicy
from shared.settings.stage import StageSettings
from shared.store.local import LocalStore
from shared.store.manifest import find_all
from support.handlers import HANDLERS, KEY, announcement
from support.rabbitmq_node import RabbitNode

SOON = 20.0
BINARY = bytes(range(256))


def bury(
    broker: RabbitBroker, body: bytes, queue: str = "ingest", key: str = "set.check", reason: str = "no use"
) -> None:
    """Leave a dead letter, as a worker of `queue` does."""
    properties = properties_of(announcement("e"))
    properties.message_id = None
    broker._publisher.publish(dead(queue, key, body, properties, 3, reason, "Traceback\n  line 1"))


def take(broker: RabbitBroker, queue: str = "ingest") -> list[Delivery]:
    """Take all that waits in a queue."""
    results = []
    with contextlib.closing(broker.consume(queue)) as consumer:
        while (delivery := consumer.poll(0.5)) is not None:
            results.append(delivery)
            consumer.ack(delivery)
    return results


def bodies(settings: BrokerSettings, queue: str = "ingest") -> list[bytes]:
    return [stored.letter.body for stored in letters(settings, [queue])]


def test_list_says_what_lies_where_and_why(broker: RabbitBroker, command: Callable[..., Result]) -> None:
    # Given letters of a worker with and without an id, one that says something to a terminal,
    # and one that the broker gave up
    message = announcement("e")
    bury(broker, message.encode(), key="exposure.announced", reason="KeyError:\nno such keyword")
    bury(broker, b"\xff\x00", queue="noise", reason="\x1b[2Jnot JSON")
    broker.publish_body("set.ready", b"crashes")
    for _ in range(DELIVERY_LIMIT):
        with contextlib.closing(broker.consume("darkref")) as consumer:
            assert consumer.poll(SOON)
    deadline = time.monotonic() + SOON
    while not broker.dead_letters("darkref") and time.monotonic() < deadline:
        time.sleep(0.05)
    # When they are listed
    document = json.loads(command("dead-letters", "list", "--json").stdout)
    # Then each has an id, a time, and its reason in one line
    assert document["queues"] == {"ingest.dead": 1, "darkref.dead": 1, "noise.dead": 1}
    ingest, darkref, noise = document["letters"]
    assert ingest["id"] == str(message.id)
    assert (ingest["queue"], ingest["routing_key"], ingest["attempts"]) == (
        "ingest.dead",
        "exposure.announced",
        3,
    )
    assert ingest["reason"] == "KeyError: no such keyword"
    assert noise["id"] == hashlib.sha256(b"\xff\x00").hexdigest()[:16]
    assert (darkref["routing_key"], darkref["attempts"]) == ("set.ready", DELIVERY_LIMIT)
    assert "its consumer was lost at each delivery" in darkref["reason"]
    assert all(letter["died"].startswith("20") for letter in document["letters"])
    # And a second look finds the same, also in words, where nothing is obeyed by a terminal
    assert json.loads(command("dead-letters", "list", "--json").stdout) == document
    text = command("dead-letters", "list", "noise.dead").stdout
    assert "\x1b" not in text
    assert "\\x1b[2Jnot JSON" in text
    assert text.endswith("noise.dead: 1\n")
    with pytest.raises(BadInput) as caught:
        command("dead-letters", "list", "nonsense")
    assert (caught.value.check, caught.value.where) == ("queue", "nonsense")


def test_show_gives_all_of_it_bounded_and_escaped(
    broker: RabbitBroker, command: Callable[..., Result]
) -> None:
    message = announcement("e")
    bury(broker, message.encode())
    bury(broker, BINARY * 100)
    binary = hashlib.sha256(BINARY * 100).hexdigest()
    text = command("dead-letters", "show", str(message.id)).stdout
    assert '"exposure_id": "e"' in text
    assert "Traceback\n  line 1" in text
    [document] = json.loads(command("dead-letters", "show", str(message.id), "--json").stdout)
    assert document["body"]["data"]["exposure_id"] == "e"
    assert (document["reason"], document["body_is"]) == ("no use", "json")
    assert document["headers"]["x-darks-routing-key"] == "set.check"
    [document] = json.loads(command("dead-letters", "show", binary[:16], "--json").stdout)
    assert (document["sha256"], document["size"], document["body_is"]) == (binary, 25600, "beginning")
    text = command("dead-letters", "show", binary[:16]).stdout
    assert text.replace("\n", "").isprintable()
    assert len(text) < 12_000
    with pytest.raises(BadInput) as caught:
        command("dead-letters", "show", "unknown")
    assert (caught.value.check, caught.value.where) == ("id", "unknown")


def test_looking_neither_loses_reorders_nor_uses_up_letters(
    settings: BrokerSettings, broker: RabbitBroker
) -> None:
    # Given more letters than a broker gives back in order by itself, which come while somebody looks
    for n in range(150):
        bury(broker, f"{n}".encode())
    results = []
    for stored in letters(settings, ["ingest"]):
        results.append(int(stored.letter.body))
        if len(results) == 100:
            bury(broker, b"150")
    assert results == list(range(150))
    # Then however often one looks, all are there, in their order
    for _ in range(3):
        assert bodies(settings) == [f"{n}".encode() for n in range(151)]
    # And all are there where reading is cut short
    with DeadLetterQueues(settings) as queues:
        assert next(queues.letters("ingest")).letter.body == b"0"
    assert sorted(map(int, bodies(settings))) == list(range(151))
    assert {letter.attempts for letter in broker.dead_letters("ingest")} == {3}


def test_only_one_command_reads_at_a_time_and_the_next_may_at_once(
    settings: BrokerSettings, broker: RabbitBroker
) -> None:
    bury(broker, b"x")
    with DeadLetterQueues(settings), pytest.raises(TransientError):
        bodies(settings)
    assert all(bodies(settings) == [b"x"] for _ in range(5))


def test_replay_puts_back_the_original_body_with_attempts_anew(
    settings: BrokerSettings, broker: RabbitBroker, command: Callable[..., Result]
) -> None:
    # Given a message of 10 MB, a binary one, one that stays, and one in two queues
    large = b"x" * (10 << 20)
    for body, queue in ((large, "ingest"), (BINARY, "ingest"), (b"both", "ingest"), (b"both", "noise")):
        bury(broker, body, queue)
    bury(broker, b"stays")
    ids = [stored.id for stored in letters(settings, ["ingest"])]
    # When three are named
    done = command("dead-letters", "replay", *ids[:3], "--json").stdout.splitlines()
    # Then each letter of these ids is in its service's queue, as if nobody had tried it
    assert [json.loads(line)["queue"] for line in done] == ["ingest.dead"] * 3 + ["noise.dead"]
    received = take(broker)
    assert [delivery.body for delivery in received] == [large, BINARY, b"both"]
    assert [delivery.body for delivery in take(broker, "noise")] == [b"both"]
    for delivery in received:
        assert (delivery.routing_key, delivery.delivery_count, delivery.redelivered) == (
            "set.check",
            0,
            False,
        )
        assert not {"x-darks-reason", "x-darks-evidence", "x-darks-died", "x-death"} & set(delivery.headers)
    assert bodies(settings) == [b"stays"]
    # And an id that is not there is named, after the others went
    with pytest.raises(BadInput) as caught:
        command("dead-letters", "replay", ids[0], "gone", ids[3], "--queue", "ingest")
    assert caught.value.where == f"{ids[0]}, gone"
    assert bodies(settings) == []
    assert "0 dead letters" in command("dead-letters", "replay", "--all").stdout
    command("dead-letters", "replay", code=2)


def test_a_letter_that_fails_again_is_replayed_once(settings: BrokerSettings, broker: RabbitBroker) -> None:
    # Given a service that gives up at once whatever it gets
    for n in range(5):
        bury(broker, f"{n}".encode())
    stop = threading.Event()

    def give_up() -> None:
        consumer = broker.consume("ingest")
        while not stop.is_set():
            if (delivery := consumer.poll(0.1)) is not None:
                consumer.dead_letter(delivery, "never")
        consumer.close()

    service = threading.Thread(target=give_up)
    service.start()
    try:
        assert len(list(replay(settings, ["ingest"], None))) == 5
        deadline = time.monotonic() + SOON
        while sorted(bodies(settings)) != [b"%d" % n for n in range(5)] and time.monotonic() < deadline:
            time.sleep(0.1)
    finally:
        stop.set()
        service.join(SOON)
    assert [letter.reason for letter in broker.dead_letters("ingest")] == ["never"] * 5


@pytest.mark.parametrize("where", ["remove", "publish"])
def test_replay_that_dies_around_its_publish_loses_nothing(
    settings: BrokerSettings, broker: RabbitBroker, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    for n in range(3):
        bury(broker, b"%d" % n)

    def die(*_: Any) -> None:
        raise PublishFailed("killed")

    with monkeypatch.context() as patched:
        patched.setattr(DeadLetterQueues, where, die)
        with pytest.raises(PublishFailed):
            list(replay(settings, ["ingest"], None))
    # Then every letter is still there; if it was published, in both places
    assert sorted(bodies(settings)) == [b"0", b"1", b"2"]
    assert [delivery.body for delivery in take(broker)] == ([b"0"] if where == "remove" else [])
    list(replay(settings, ["ingest"], None))
    assert sorted(delivery.body for delivery in take(broker)) == [b"0", b"1", b"2"]


def test_export_is_whole_on_the_disk_before_a_letter_is_removed(
    settings: BrokerSettings,
    broker: RabbitBroker,
    command: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    # Given letters, two of them twins, and an export that dies before its second removal
    large = b"x" * (10 << 20)
    for body in (large, BINARY, b"twin", b"twin"):
        bury(broker, body)
    bury(broker, b"other", "noise")
    removals = []

    def remove(self: DeadLetterQueues, stored: StoredLetter) -> None:
        removals.append(stored)
        if len(removals) == 2:
            raise KeyboardInterrupt
        original(self, stored)

    original = DeadLetterQueues.remove
    with monkeypatch.context() as patched:
        patched.setattr(DeadLetterQueues, "remove", remove)
        with pytest.raises(KeyboardInterrupt):
            list(export(settings, ["ingest"], tmp_path, remove=True))
    assert sorted(bodies(settings)) == [BINARY, b"twin", b"twin"]
    assert len(list(tmp_path.rglob("*.json"))) == 2
    # When it is run again
    command("dead-letters", "export", "--out", str(tmp_path), "--remove", "ingest")
    # Then each letter has one pair of files with all that was known of it, and the queue is empty
    assert bodies(settings) == []
    assert bodies(settings, "noise") == [b"other"]
    written = [path.read_bytes() for path in tmp_path.glob("ingest.dead/*.body")]
    assert sorted(written) == sorted([large, BINARY, b"twin", b"twin"])
    assert not list(tmp_path.rglob(".*"))
    records = [json.loads(path.read_text()) for path in tmp_path.rglob("*.json")]
    assert {(r["queue"], r["routing_key"], r["attempts"], r["reason"], r["evidence"]) for r in records} == {
        ("ingest.dead", "set.check", 3, "no use", "Traceback\n  line 1")
    }
    # And they can be replayed from there, each once
    assert "4 dead letters" in command("dead-letters", "replay", "--from", str(tmp_path)).stdout
    received = take(broker)
    assert sorted(delivery.body for delivery in received) == sorted(written)
    assert {(d.routing_key, d.delivery_count, d.redelivered) for d in received} == {("set.check", 0, False)}
    with pytest.raises(BadInput) as caught:
        command("dead-letters", "replay", "--from", str(tmp_path))
    assert (caught.value.check, caught.value.where) == ("folder", str(tmp_path))


def test_replay_from_files_goes_on_where_it_stopped_and_refuses_changed_ones(
    settings: BrokerSettings, broker: RabbitBroker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for n in range(3):
        bury(broker, b"%d" % n)
    list(export(settings, ["ingest"], tmp_path, remove=False))
    assert len(bodies(settings)) == 3
    published: list[Publication] = []

    def publish(self: DeadLetterQueues, publication: Publication) -> None:
        published.append(publication)
        if len(published) == 2:
            raise PublishFailed("not confirmed")

    with monkeypatch.context() as patched:
        patched.setattr(DeadLetterQueues, "publish", publish)
        with pytest.raises(PublishFailed):
            list(replay_files(settings, tmp_path))
    # One is marked as replayed. When another one's body is not its own, nothing of it is published
    changed, whole = sorted(tmp_path.rglob("*.json"))
    changed.with_suffix(".body").write_bytes(b"another")
    with pytest.raises(BadInput) as caught:
        list(replay_files(settings, tmp_path))
    assert (caught.value.check, caught.value.where) == ("dead letter", str(changed))
    assert take(broker) == []
    changed.unlink()
    assert [file.path for file in replay_files(settings, tmp_path)] == [whole]
    assert [delivery.body for delivery in take(broker)] == [whole.with_suffix(".body").read_bytes()]


def test_a_disk_that_fails_leaves_the_letter(
    settings: BrokerSettings, broker: RabbitBroker, tmp_path: Path
) -> None:
    bury(broker, b"x")
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(EnvironmentFault) as caught:
        list(export(settings, ["ingest"], tmp_path / "out", remove=True))
    assert Path(caught.value.where) == tmp_path / "out" / "ingest.dead"
    assert bodies(settings) == [b"x"]


def test_after_the_cure_a_replayed_message_is_worked(
    settings: BrokerSettings, broker: RabbitBroker, command: Callable[..., Result], tmp_path: Path
) -> None:
    # Given a message that was given up after all its attempts
    done = threading.Event()
    kinds: list[str] = []

    def observe(event: Any) -> None:
        kinds.append(event.kind)
        if event.kind in ("dead-lettered", "finished"):
            done.set()

    broker.publish(announcement("e", f"transient-until={DELIVERY_LIMIT + 2}"))
    with JobProcesses(1, HANDLERS, StageSettings(store=tmp_path / "store")) as jobs:
        stop = threading.Event()
        worker = Worker("ingest", broker, jobs, observe, WorkerPolicy(retry_delays=(0.01,)))
        thread = threading.Thread(target=worker.run, args=(stop,))
        thread.start()
        try:
            assert done.wait(SOON)
            assert kinds[-1] == "dead-lettered"
            done.clear()
            # When it is replayed while the worker runs
            command("dead-letters", "replay", "--all", "--queue", "ingest")
            # Then its attempts begin anew, and the work is done
            assert done.wait(SOON)
        finally:
            stop.set()
            thread.join(SOON)
    assert [kind for kind in kinds if kind != "progress"][-3:] == ["retried", "received", "finished"]
    assert [
        m.results["exposure_id"] for m in find_all(LocalStore(tmp_path / "store"), f"ingest/{KEY.slug}/")
    ] == ["e"]
    assert broker.dead_letters("ingest") == []


def test_without_the_broker_or_its_queues_each_command_says_so_in_one_line(
    rabbit_node: RabbitNode, command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = (
        ("list", "--json"),
        ("show", "x"),
        ("export", "--out", str(tmp_path)),
        ("replay", "--all"),
    )
    with rabbit_node.new_vhost() as empty:
        for url, kind in (
            ("amqp://guest:guest@127.0.0.1:9/", TransientError),
            (rabbit_node.settings("none").url.get_secret_value(), EnvironmentFault),
            (rabbit_node.settings(empty).url.get_secret_value(), EnvironmentFault),
        ):
            monkeypatch.setenv("DARKS_BROKER_URL", url)
            for each in words:
                with pytest.raises(kind) as raised:
                    command("dead-letters", *each)
                assert raised.value.where == BrokerSettings(url=url).where
                assert "\n" not in str(raised.value)


def test_the_states_of_all_queues_are_exact_where_the_broker_knows_them(
    settings: BrokerSettings, broker: RabbitBroker
) -> None:
    bury(broker, b"x", "noise")
    broker.publish(announcement("now"))
    broker.publish(announcement("later"), delay=7000.0)
    with contextlib.closing(broker.consume("darkref")):
        states = {state.name: state for state in queue_states(settings)}
    assert (states["noise.dead"].ready, states["noise.dead"].kind) == (1, "dead")
    assert (states["ingest"].ready, states["ingest"].consumers, states["ingest"].kind) == (1, 0, "service")
    assert states["darkref"].consumers == 1
    assert (states["darks.delay.long"].ready, states["darks.delay.long"].kind) == (1, "delay")
    assert (states["ingest.held"].ready, states["ingest.held"].kind) == (0, "held")
    assert sum(state.ready for state in states.values()) == 3
