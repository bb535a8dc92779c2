"""The worker under every fault: each exposure has its effect exactly once, or says why it has none."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shared.broker.memory import Faults, MemoryBroker
from shared.contracts.messages import LARGEST_BODY, Envelope, parse
from shared.contracts.routing import DELIVERY_LIMIT
from shared.runtime.events import WorkerEvent
from shared.runtime.jobs import JobProcesses
from shared.runtime.worker import Worker, WorkerPolicy
from shared.settings.stage import StageSettings
from shared.store.local import LocalStore
from shared.store.manifest import find_all
from support.handlers import HANDLERS, KEY, announcement, attempts, computations, released

LONG = 60.0
QUICK = (0.01, 0.02)


_numbers = itertools.count()


class Bench:
    """Workers of ingest on a broker, with what they told and what they made.

    The exposures of each bench have names of their own, so benches may share a store and processes.
    """

    def __init__(self, broker: Any, folder: Path, jobs: JobProcesses) -> None:
        self.broker = broker
        self.jobs = jobs
        self.events: list[WorkerEvent] = []
        self.stop = threading.Event()
        self.threads: list[threading.Thread] = []
        self._folder = folder
        self._store = LocalStore(folder / "store")
        self._prefix = f"bench{next(_numbers)}-"

    def announce(self, name: str, does: str = "work") -> Envelope:
        message = announcement(self._prefix + name, does)
        self.broker.publish(message)
        return message

    def release(self, name: str) -> None:
        released(self._folder, self._prefix + name).touch()

    def attempts(self, name: str) -> int:
        return attempts(self._folder, self._prefix + name)

    def computations(self, name: str) -> int:
        return computations(self._folder, self._prefix + name)

    def name(self, body: bytes) -> str:
        return parse(body).content.exposure_id.removeprefix(self._prefix)

    @contextmanager
    def working(
        self, workers: int = 1, observer: Callable[[WorkerEvent], None] | None = None, **options: Any
    ) -> Iterator[None]:
        policy = WorkerPolicy(**{"retry_delays": QUICK, "pauses": (0.05,), **options})
        for _ in range(workers):
            worker = Worker("ingest", self.broker, self.jobs, observer or self.events.append, policy)
            thread = threading.Thread(target=worker.run, args=(self.stop,))
            thread.start()
            self.threads.append(thread)
        try:
            yield
        finally:
            self.end()

    def end(self) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join(LONG)
            assert not thread.is_alive()

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LONG
        while not condition():
            assert time.monotonic() < deadline, [(e.kind, e.reason) for e in self.events]
            assert all(thread.is_alive() for thread in self.threads), "a worker's thread died"
            time.sleep(0.01)

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events if event.kind != "progress"]

    def products(self) -> list[str]:
        manifests = find_all(self._store, f"ingest/{KEY.slug}/{self._prefix}")
        return sorted(m.results["exposure_id"].removeprefix(self._prefix) for m in manifests)

    def announced(self) -> list[tuple[str, str]]:
        """Take what was published for noise: (exposure, message id)."""
        consumer = self.broker.consume("noise")
        results = []
        while (delivery := consumer.poll(0.2)) is not None:
            message = parse(delivery.body)
            results.append((message.content.member.exposure_id.removeprefix(self._prefix), str(message.id)))
            consumer.ack(delivery)
        consumer.close()
        return results


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("worker")


@pytest.fixture(scope="module")
def jobs(folder: Path) -> Iterator[JobProcesses]:
    with JobProcesses(2, HANDLERS, StageSettings(store=folder / "store")) as jobs:
        yield jobs


@pytest.fixture
def bench(under_test: Any, folder: Path, jobs: JobProcesses) -> Bench:
    return Bench(under_test.broker, folder, jobs)


def test_a_message_is_worked_published_and_acked(bench: Bench, under_test: Any) -> None:
    message = bench.announce("e")
    with bench.working():
        bench.until(lambda: "finished" in bench.kinds())
    assert bench.kinds() == ["received", "finished"]
    assert bench.products() == ["e"]
    finished = bench.events[-1]
    assert finished.envelope == message
    assert [o.message.schema_name for o in finished.outgoing] == ["exposure.ingested"]
    assert [(e.done, e.total, e.what) for e in bench.events if e.kind == "progress"] == [
        (1, 2, "groups"),
        (2, 2, "groups"),
    ]
    [(exposure, _)] = bench.announced()
    assert exposure == "e"
    assert bench.broker.consume("ingest").poll(0.2) is None
    # The follow-up belongs to the same announcement.
    assert finished.outgoing[0].message.correlation_id == message.correlation_id


@pytest.mark.parametrize("does", ["die-before-commit", "die-after-commit"])
def test_a_job_killed_around_its_commit_has_its_effect_once(bench: Bench, does: str) -> None:
    # Given a job whose process is killed in its first attempt, When the message is delivered again
    bench.announce("e", does)
    with bench.working():
        bench.until(lambda: "finished" in bench.kinds())
    # Then one product stands, announced once; and once committed it was not computed again
    assert bench.kinds() == ["received", "retried", "received", "finished"]
    assert "SIGKILL" in next(e.reason for e in bench.events if e.kind == "retried")
    assert bench.products() == ["e"]
    assert len(bench.announced()) == 1
    assert bench.attempts("e") == 2
    assert bench.computations("e") == (2 if does == "die-before-commit" else 1)


def test_a_hanging_job_is_ended_and_tried_again(under_test: Any, tmp_path: Path) -> None:
    with JobProcesses(1, HANDLERS, StageSettings(store=tmp_path / "store"), time_limit=3.0) as jobs:
        bench = Bench(under_test.broker, tmp_path, jobs)
        bench.announce("e", "hang-once")
        with bench.working():
            bench.until(lambda: "finished" in bench.kinds())
    assert bench.kinds() == ["received", "retried", "received", "finished"]
    assert "time limit" in next(e.reason for e in bench.events if e.kind == "retried")
    assert bench.products() == ["e"]


def test_a_transient_failure_is_retried_until_it_passes(bench: Bench) -> None:
    bench.announce("e", "transient-until=4")
    with bench.working():
        bench.until(lambda: "finished" in bench.kinds())
    assert bench.kinds() == ["received", "retried"] * 3 + ["received", "finished"]
    assert bench.products() == ["e"]


def test_a_transient_failure_that_stays_is_a_dead_letter_at_the_limit(bench: Bench, under_test: Any) -> None:
    bench.announce("e", "transient-until=99")
    with bench.working():
        bench.until(lambda: "dead-lettered" in bench.kinds())
    [(body, reason)] = under_test.dead_letters("ingest")
    assert bench.name(body) == "e"
    assert f"given up after {DELIVERY_LIMIT} attempts" in reason
    assert "CRDS did not answer at attempt 5" in reason
    assert bench.attempts("e") == DELIVERY_LIMIT


def test_a_job_that_always_crashes_is_a_dead_letter_with_the_evidence_of_its_last_attempt(
    bench: Bench, under_test: Any
) -> None:
    bench.announce("bad", "ill=abort")
    bench.announce("good")
    with bench.working():
        bench.until(lambda: "finished" in bench.kinds() and "dead-lettered" in bench.kinds())
    [letter] = under_test.broker.dead_letters("ingest")
    assert letter.attempts == DELIVERY_LIMIT
    assert "signal 6 (SIGABRT)" in letter.reason
    assert letter.evidence.startswith(f"attempt: {DELIVERY_LIMIT} of {DELIVERY_LIMIT}\nwhat happened: ")
    assert "Fatal Python error: Aborted" in letter.evidence
    # Each attempt before told of its own
    retried = [event.evidence for event in bench.events if event.kind == "retried"]
    assert [text.splitlines()[0] for text in retried] == [f"attempt: {n} of 5" for n in range(1, 5)]
    assert bench.products() == ["good"]


@pytest.mark.parametrize(
    ("does", "words"), [("reject", "3-D data"), ("bug", "KeyError"), ("exit", "CRDS_PATH")]
)
def test_a_permanent_failure_is_a_dead_letter_at_once(
    bench: Bench, under_test: Any, does: str, words: str
) -> None:
    bench.announce("bad", does)
    bench.announce("good")
    with bench.working():
        bench.until(lambda: "finished" in bench.kinds())
    [(_, reason)] = under_test.dead_letters("ingest")
    assert words in reason
    assert bench.attempts("bad") == 1
    assert bench.products() == ["good"]


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\x00",
        b"[1]",
        b'{"schema":"exposure.announced","version":"9.0","id":"x"}',
        b"[" * 100_000,
        b" " * LARGEST_BODY + b"1",
    ],
    ids=["not text", "a list", "another major", "too deep", "too large"],
)
def test_a_body_that_cannot_be_read_is_a_dead_letter(bench: Bench, under_test: Any, body: bytes) -> None:
    under_test.send_raw("exposure.announced", body)
    bench.announce("good")
    with bench.working():
        bench.until(lambda: "finished" in bench.kinds())
    assert [b for b, _ in under_test.dead_letters("ingest")] == [body]
    dead = next(e for e in bench.events if e.kind == "dead-lettered")
    assert dead.envelope is None
    assert dead.reason
    assert bench.products() == ["good"]


def test_told_to_stop_it_finishes_the_job_at_hand_and_takes_no_other(bench: Bench) -> None:
    bench.announce("at hand", "sleep=1")
    bench.announce("next")
    with bench.working(grace=LONG):
        bench.until(lambda: bench.attempts("at hand") == 1)
        bench.end()
    assert bench.kinds() == ["received", "finished"]
    assert bench.products() == ["at hand"]
    left = bench.broker.consume("ingest").poll(1.0)
    assert left is not None
    assert bench.name(left.body) == "next"


def test_past_its_grace_the_job_is_requeue_uncounted(bench: Bench) -> None:
    bench.announce("e", "sleep=600")
    with bench.working(grace=0.3):
        bench.until(lambda: bench.attempts("e") == 1)
        bench.end()
    assert bench.kinds() == ["received", "requeued"]
    left = bench.broker.consume("ingest").poll(1.0)
    assert left is not None
    assert (left.delivery_count, left.redelivered) == (0, True)


def test_while_the_store_is_away_the_worker_rests_and_burns_no_attempt(bench: Bench) -> None:
    # Given a store that is away for more attempts than a message has
    bench.announce("e", f"store-down-until={DELIVERY_LIMIT + 5}")
    with bench.working():
        bench.until(lambda: "finished" in bench.kinds())
    # Then the worker paused, and the message was not given up
    kinds = bench.kinds()
    assert kinds.count("paused") == DELIVERY_LIMIT + 2
    assert "dead-lettered" not in kinds
    paused = next(e for e in bench.events if e.kind == "paused")
    assert "the store did not answer" in paused.reason
    assert paused.seconds == 0.05
    assert bench.products() == ["e"]


def test_with_bounded_patience_a_store_that_stays_away_ends_the_message(
    bench: Bench, under_test: Any
) -> None:
    bench.announce("e", "store-down-until=99")
    with bench.working(max_pauses=2):
        bench.until(lambda: "dead-lettered" in bench.kinds())
    assert bench.kinds().count("paused") == 2
    [(_, reason)] = under_test.dead_letters("ingest")
    assert "the store did not answer" in reason


def test_a_worker_for_one_message_ends_after_it(bench: Bench, under_test: Any) -> None:
    # Given two messages, and a worker that takes one
    bench.announce("first")
    bench.announce("second")
    with bench.working(messages=1):
        bench.threads[0].join(LONG)
        assert not bench.threads[0].is_alive()
    # Then it ended by itself after the first, and the other is still there, uncounted
    assert bench.kinds() == ["received", "finished"]
    left = bench.broker.consume("ingest").poll(1.0)
    assert left is not None
    assert (bench.name(left.body), left.delivery_count) == ("second", 0)


def test_a_worker_for_whom_nothing_is_left_ends(bench: Bench) -> None:
    # Given an empty queue, as where another took the message that a pod was started for
    with bench.working(messages=1, idle=0.3):
        bench.threads[0].join(LONG)
        assert not bench.threads[0].is_alive()
    assert bench.kinds() == []


def test_an_observer_that_fails_harms_nothing(bench: Bench) -> None:
    def fail(event: WorkerEvent) -> None:
        bench.events.append(event)
        raise RuntimeError("the bar is broken")

    bench.announce("e")
    with bench.working(observer=fail):
        bench.until(lambda: "finished" in bench.kinds())
    assert bench.products() == ["e"]


def test_a_connection_lost_during_a_job_costs_no_second_computation(bench: Bench, under_test: Any) -> None:
    # Given a job at work, When the connection is lost and its message comes again
    bench.announce("e", "wait")
    with bench.working():
        bench.until(lambda: bench.attempts("e") == 1)
        under_test.cut()
        bench.release("e")
        bench.until(lambda: bench.kinds().count("finished") == 2)
    # Then the second found what the first committed, and both said the same
    assert bench.products() == ["e"]
    assert bench.computations("e") == 1
    assert len(set(bench.announced())) == 1
    assert bench.broker.consume("ingest").poll(0.2) is None


def test_heartbeats_go_on_while_many_follow_ups_are_published(folder: Path, jobs: JobProcesses) -> None:
    # Given a body that stands for many messages, and a broker that takes its time over each
    broker = MemoryBroker()
    bench = Bench(broker, folder, jobs)
    many = [announcement(f"many{n}") for n in range(30)]
    broker.publish_body("exposure.announced", b"many")
    broker.faults.confirm_seconds = 0.1
    worker = Worker(
        "ingest", broker, jobs, bench.events.append, translate=lambda body: many if body == b"many" else None
    )
    thread = threading.Thread(target=worker.run, args=(bench.stop,))
    silences = []
    thread.start()
    bench.threads.append(thread)
    # When they are published one after the other
    while "finished" not in bench.kinds():
        silences.append(time.monotonic() - worker.last_tick)
        time.sleep(0.02)
    bench.end()
    # Then the worker turned to its connection meanwhile
    assert max(silences) < 2.0


@pytest.mark.parametrize(
    "faults",
    [
        Faults(lose_publish_chance=0.3, seed=1),
        Faults(lose_confirm_chance=0.3, seed=2),
        Faults(duplicate_chance=0.5, seed=3),
        Faults(drop_chance=0.1, seed=4),
        Faults(reorder=True, confirm_seconds=0.02, seed=5),
        Faults(
            lose_publish_chance=0.1,
            lose_confirm_chance=0.1,
            duplicate_chance=0.2,
            drop_chance=0.05,
            reorder=True,
            seed=6,
        ),
    ],
    ids=["publish lost", "confirm lost", "duplicates", "dropped", "reordered and slow", "all at once"],
)
def test_a_misbehaving_broker_changes_no_product(faults: Faults, folder: Path, jobs: JobProcesses) -> None:
    # Given eight exposures, some of whose jobs crash, and two workers on a broker that misbehaves
    broker = MemoryBroker(delivery_limit=1000)
    bench = Bench(broker, folder, jobs)
    names = [f"e{n}" for n in range(8)]
    for n, name in enumerate(names):
        bench.announce(
            name, {1: "transient-until=2", 3: "die-before-commit", 5: "die-after-commit"}.get(n, "work")
        )
    broker.faults = faults
    # When they work until nothing is left
    with bench.working(workers=2):
        bench.until(lambda: broker.idle("ingest"))
    broker.faults = Faults()
    # Then every exposure has one product, announced under one id, or is a dead letter
    given_up = {bench.name(letter.body) for letter in broker.dead_letters("ingest")}
    announced = set(bench.announced())
    assert len(given_up) <= 2
    assert {name for name, _ in announced} | given_up >= set(names)
    assert len(announced) == len({name for name, _ in announced})
    assert set(bench.products()) >= set(names) - given_up
    assert len(bench.products()) == len(set(bench.products()))


def test_an_error_that_nobody_foresaw_is_a_dead_letter_and_the_worker_goes_on(
    tmp_path: Path, jobs: JobProcesses
) -> None:
    # Given a worker whose reader of foreign bodies fails as nobody foresaw, with text that is no Unicode
    broker = MemoryBroker()
    bench = Bench(broker, tmp_path, jobs)

    def translate(body: bytes) -> None:
        if b"odd" in body:
            raise KeyError("\ud800")

    worker = Worker("ingest", broker, jobs, bench.events.append, WorkerPolicy(), translate)
    bench.announce("odd")
    bench.announce("good")
    thread = threading.Thread(target=worker.run, args=(bench.stop,))
    thread.start()
    bench.threads.append(thread)
    # When it has served what follows
    bench.until(lambda: "finished" in [event.kind for event in bench.events])
    bench.end()
    # Then the odd message is kept, with a reason that any header can carry
    [letter] = broker.dead_letters("ingest")
    assert bench.name(letter.body) == "odd"
    assert letter.reason.encode()
