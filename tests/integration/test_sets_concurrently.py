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

from shared.broker.memory import MemoryBroker
from shared.catalog.sets import stored_sets
from shared.catalog.store_contents import read_stored
from shared.contracts.messages import ExposureIngested, SetReady, parse
from shared.products.claim import Claim, bytes_claim, exposure_claim
from shared.runtime.events import WorkerEvent
from shared.runtime.jobs import JobProcesses
from shared.runtime.worker import Worker, WorkerPolicy
from shared.store.local import LocalStore
from shared.store.manifest import find_all
from shared.store.sources import sha256_of
from support.ingest_exposures import (
    ARCHIVE_ID,
    IDENTITY,
    START_MJD,
    Bench,
    announce,
    bench_on,
    edit,
    write_exposure,
    write_references,
    write_segments,
)

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
                Worker("ingest", self.broker, jobs, self.events.append, WorkerPolicy(retry_delays=(0.05,)))
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
        results = []
        while delivery := consumer.poll(0.05):
            results.append(parse(delivery.body).content)
            consumer.ack(delivery)
        consumer.close()
        return results

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
    report = [announce(paths[0], expected_exposures=6), *(announce(path) for path in paths[1:])] * 2
    random.Random(7).shuffle(report)
    workers = Workers(bench)
    # When two workers take them, each announcement twice
    for message in report:
        workers.broker.publish(message)
    with workers.at_work():
        workers.until_idle()
    # Then they worked at the same time, and each exposure has one product
    assert workers.at_once == 2
    assert workers.broker.dead_letters("ingest") == []
    assert Counter(bench.products()) == {"ramp": 5, "rejection": 1}
    # And whoever saw the set complete named the same one
    output = workers.said()
    assert output
    assert len({entry.set_id for entry in output}) == 1
    assert {m.exposure_id for m in output[0].members} == {f"jw{n}_nrca3" for n in range(5)}
    assert {each.model_dump_json() for each in output} == {output[0].model_dump_json()}
    # As anybody finds who reads the store
    [configuration] = stored_sets(read_stored(bench.store), bench.settings, datetime.now(UTC))
    assert configuration.waits_for is None
    assert [each_set.set_id for each_set in configuration.sets] == [output[0].set_id]
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
    assert len({each.member.manifest for each in ingested}) == 3
    [after] = workers.said()
    assert len({entry.set_id for entry in before}) == 1
    assert {m.exposure_id for m in before[0].members} < {m.exposure_id for m in after.members}
    assert workers.broker.dead_letters("ingest") == []


def test_a_count_that_comes_with_the_last_exposure_completes_the_set(bench: Bench) -> None:
    first, last = (
        write_exposure(bench.inbox / f"jw{n}_nrca3_uncal.fits", seed=n, finished=True) for n in range(2)
    )
    assert {entry.message.schema_name for entry in bench.ingest(first)} == {"exposure.ingested"}
    output = [each.message.content for each in bench.ingest(last, expected_exposures=2)]
    assert [len(one.members) for one in output if isinstance(one, SetReady)] == [2]


def test_segments_and_redeliveries_that_come_at_once_make_one_set_of_the_newest(bench: Bench) -> None:
    # Given two exposures: one in segments, one delivered twice with other pixels, all twice and in any order
    whole = edit(
        write_exposure(bench.inbox / "whole" / f"{ARCHIVE_ID}_uncal.fits", nints=5, finished=True), **IDENTITY
    )
    files = write_segments(whole, bench.inbox / "segments", (2, 1, 2))
    other = ARCHIVE_ID.replace("_00001_", "_00002_")
    for seed, date in enumerate(("2027-01-01T00:00:00.000", "2027-01-02T00:00:00.000")):
        path = bench.inbox / str(seed) / f"{other}_uncal.fits"
        write_exposure(path, seed=seed + 5, nints=5, start_mjd=START_MJD + 0.01, finished=True)
        files.append(edit(path, **{**IDENTITY, "EXPOSURE": "2", "DATE": date}))
    report = [announce(path, expected_exposures=2) for path in files] * 2
    random.Random(3).shuffle(report)
    workers = Workers(bench)
    # When two workers take them
    for message in report:
        workers.broker.publish(message)
    with workers.at_work():
        workers.until_idle()
    # Then nothing is refused, and the last set holds each exposure once, the second as it came last
    assert workers.broker.dead_letters("ingest") == []
    assert set(bench.products()) == {"ramp"}
    last = workers.said()[-1]
    assert [member.exposure_id for member in last.members] == [ARCHIVE_ID, other]
    ramps = {
        f"{manifest.path}/manifest.json": manifest.results for manifest in find_all(bench.store, "ingest/")
    }
    assert [ramps[member.manifest]["segments"] for member in last.members] == [3, 1]
    assert ramps[last.members[1].manifest]["file_date"] == "2027-01-02T00:00:00.000"
    [configuration] = stored_sets(read_stored(bench.store), bench.settings, datetime.now(UTC))
    assert [each.set_id for each in configuration.sets] == [last.set_id]


class Releasing(LocalStore):
    """A store in which another worker releases a claim just before it is read."""

    released: str

    def get(self, key: str) -> bytes:
        if key == self.released:
            self.delete(key)
            self.get = super().get  # type: ignore[method-assign]
        return super().get(key)


def test_a_claim_that_is_released_at_the_same_moment_is_taken(bench: Bench) -> None:
    # Given that the bytes were claimed for another exposure, which is found bad while this file comes
    path = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", finished=True)
    digest = sha256_of(path)
    other = Claim(exposure_id="jw9_nrca3", uri="file:///other.fits", file="other.fits", sha256=digest)
    bench.store.put(bytes_claim(digest), other.model_dump_json().encode())
    began = datetime.now(UTC)
    bench.store = Releasing(bench.root / "store")
    bench.store.released = bytes_claim(digest)
    # When it is ingested, then it has the bytes, and it is noted since when
    assert isinstance(bench.content(path), ExposureIngested)
    for key in (bytes_claim(digest), exposure_claim("jw1_nrca3", digest)):
        claim = Claim.model_validate_json(bench.store.get(key))
        assert claim.uri == path.as_uri()
        assert claim.claimed is not None
        assert began <= claim.claimed <= datetime.now(UTC)
