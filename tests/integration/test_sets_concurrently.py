"""Two ingest workers with job processes of their own, on one store: one set comes of it, whoever is first."""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from ingest_exposures import Bench, announce, bench_on, edit, write_exposure, write_references

from services.ingest.claims import Claim, exposure_claim
from services.operations.stored import read_stored
from services.operations.stored_sets import stored_sets
from shared.broker.memory import MemoryBroker
from shared.jobs import JobProcesses
from shared.messages import ExposureIngested, SetReady, parse
from shared.store.local import LocalStore
from shared.worker import Worker, WorkerEvent

HANDLERS = {"ingest": "services.ingest.handler:handle"}
DEADLINE = 60.0


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    return write_references(tmp_path_factory.mktemp("references"))


@pytest.fixture
def bench(tmp_path: Path, references, monkeypatch) -> Bench:
    return bench_on(tmp_path, references, monkeypatch)


class Workers:
    """Two workers on a broker, and what they told."""

    def __init__(self, bench: Bench) -> None:
        self.broker = MemoryBroker()
        self.events: list[WorkerEvent] = []
        self._bench = bench

    @contextmanager
    def at_work(self) -> Iterator[None]:
        stop = threading.Event()
        with JobProcesses(2, HANDLERS, self._bench.settings) as jobs:
            workers = [
                Worker("ingest", self.broker, jobs, self.events.append, retry_delays=(0.05,))
                for _ in range(2)
            ]
            threads = [threading.Thread(target=worker.run, args=(stop,)) for worker in workers]
            for thread in threads:
                thread.start()
            try:
                yield
            finally:
                stop.set()
                for thread in threads:
                    thread.join()

    def until_idle(self) -> None:
        deadline = time.monotonic() + DEADLINE
        while not self.broker.idle("ingest"):
            assert time.monotonic() < deadline, [(event.kind, event.reason) for event in self.events]
            time.sleep(0.01)

    def said(self) -> list[SetReady]:
        consumer = self.broker.consume("darkref", prefetch=1000)
        found = []
        while delivery := consumer.poll(0.05):
            found.append(parse(delivery.body).content)
            consumer.ack(delivery)
        consumer.close()
        return found

    @property
    def at_once(self) -> int:
        """How many jobs ran at the same time at most."""
        running = most = 0
        for event in self.events:
            running += {"received": 1, "finished": -1}.get(event.kind, 0)
            most = max(most, running)
        return most


def test_the_last_two_at_once_twice_and_in_any_order_make_one_set(bench: Bench) -> None:
    # Given six exposures of which one is refused, only the first of them announced with their number
    paths = [write_exposure(bench.inbox / f"jw{n}_nrca3_uncal.fits", seed=n, finished=True) for n in range(6)]
    edit(paths[5], FASTAXIS=1)
    told = [announce(paths[0], expected_exposures=6), *(announce(path) for path in paths[1:])] * 2
    random.Random(7).shuffle(told)
    workers = Workers(bench)
    # When two workers take them, each announcement twice
    for message in told:
        workers.broker.publish(message)
    with workers.at_work():
        workers.until_idle()
    # Then they worked at the same time, and each exposure has one product
    assert workers.at_once == 2
    assert workers.broker.dead_letters("ingest") == []
    assert Counter(bench.products()) == {"ramp": 5, "rejection": 1}
    # And whoever saw the set complete named the same one
    said = workers.said()
    assert said
    assert len({one.set_id for one in said}) == 1
    assert {m.exposure_id for m in said[0].members} == {f"jw{n}_nrca3" for n in range(5)}
    assert {one.model_dump_json() for one in said} == {said[0].model_dump_json()}
    # As anybody finds who reads the store
    [configuration] = stored_sets(read_stored(bench.store), bench.settings, datetime.now(UTC))
    assert configuration.waits_for is None
    assert [one.set_id for one in configuration.sets] == [said[0].set_id]
    assert (configuration.expected, configuration.rejected) == (6, 1)


def test_one_announcement_twice_at_once_is_one_ramp_and_a_late_exposure_makes_a_larger_set(
    bench: Bench,
) -> None:
    first, second, late = (
        write_exposure(bench.inbox / f"jw{n}_nrca3_uncal.fits", seed=n, finished=True) for n in range(3)
    )
    workers = Workers(bench)
    with workers.at_work():
        # Given a set of two, both workers at the same exposure, again and again
        for path in (first, first, second, second):
            workers.broker.publish(announce(path, expected_exposures=2))
        workers.until_idle()
        before = workers.said()
        # When a third comes without a number
        workers.broker.publish(announce(late))
        workers.until_idle()
    # Then each exposure has one ramp, and the larger set stands in the smaller one's place
    assert Counter(bench.products()) == {"ramp": 3}
    ingested = [
        outgoing.message.content
        for event in workers.events
        if event.kind == "finished"
        for outgoing in event.outgoing
        if isinstance(outgoing.message.content, ExposureIngested)
    ]
    assert len({one.member.manifest for one in ingested}) == 3
    [after] = workers.said()
    assert len({one.set_id for one in before}) == 1
    assert {m.exposure_id for m in before[0].members} < {m.exposure_id for m in after.members}
    assert workers.broker.dead_letters("ingest") == []


def test_a_count_that_comes_with_the_last_exposure_completes_the_set(bench: Bench) -> None:
    first, last = (
        write_exposure(bench.inbox / f"jw{n}_nrca3_uncal.fits", seed=n, finished=True) for n in range(2)
    )
    assert {one.message.schema_name for one in bench.ingest(first)} == {"exposure.ingested"}
    said = [one.message.content for one in bench.ingest(last, expected_exposures=2)]
    assert [len(one.members) for one in said if isinstance(one, SetReady)] == [2]


class Releasing(LocalStore):
    """A store in which another worker gives a claim free just before it is read."""

    def get(self, key: str) -> bytes:
        if key == exposure_claim("jw1_nrca3"):
            self.delete(key)
            self.get = super().get  # type: ignore[method-assign]
        return super().get(key)


def test_a_claim_that_is_released_at_the_same_moment_is_taken(bench: Bench) -> None:
    # Given that another file of the exposure was claimed, and is found bad while this one comes
    path = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", finished=True)
    other = Claim(exposure_id="jw1_nrca3", uri="file:///other.fits", file="other.fits", sha256="00")
    bench.store.put(exposure_claim("jw1_nrca3"), other.model_dump_json().encode())
    began = datetime.now(UTC)
    bench.store = Releasing(bench.root / "store")
    # When it is ingested, then it has the exposure, and it is noted since when
    assert isinstance(bench.content(path), ExposureIngested)
    claim = Claim.model_validate_json(bench.store.get(exposure_claim("jw1_nrca3")))
    assert claim.uri == path.as_uri()
    assert claim.claimed is not None
    assert began <= claim.claimed <= datetime.now(UTC)
