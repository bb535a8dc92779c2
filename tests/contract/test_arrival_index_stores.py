"""The index of ramps and rejections on every kind of store: the same answers, at ten requests a message."""

import time

import pytest

from services.ingest.sets import note_expected
from shared.catalog.arrival_index import ArrivalIndex
from shared.catalog.waiting import what_waits
from shared.settings.stage import StageSettings
from shared.store.base import Store
from shared.store.counting import CountingStore
from support.arrivals import SLUG, Exposure, Ingest, names


@pytest.fixture
def bench(store: Store) -> Ingest:
    return Ingest(CountingStore(store), StageSettings(store="s3://test", settle_seconds=1e10))


def test_a_message_takes_at_most_ten_requests(bench: Ingest) -> None:
    # Given an earlier campaign, and all but one exposure of a second
    for n in range(5):
        assert bench.arrive(Exposure(f"old{n}", day=-300.0 + n / 10)) == []
    for n in range(4):
        assert bench.arrive(Exposure(f"new{n}", day=n / 10, count=5)) == []
    last = Exposure("new4", day=0.4, count=5)
    bench.ramp(last)
    note_expected(SLUG, 5, last.name, bench.store)
    committed = bench.store.requests
    bench.ramp(last)
    note_expected(SLUG, 5, last.name, bench.store)
    again = bench.store.requests - committed
    # When the last arrives, and its ramp and count are there
    before, began = bench.store.requests, time.monotonic()
    [ready] = bench.arrive(last)
    # Then the set is announced at the price of ten requests, in no time
    assert names(ready) == {f"new{n}" for n in range(5)}
    assert bench.store.requests - before - again <= 10
    assert time.monotonic() - began < 20.0


def test_what_is_listed_is_what_the_manifests_say(bench: Ingest) -> None:
    # Given ramps and rejections, with and without a time
    bench.arrive(Exposure("a", day=-100.0, integrations=3))
    bench.arrive(Exposure("b", count=2))
    bench.arrive(Exposure("c", rejected=True))
    bench.arrive(Exposure("d", rejected=True, dated=False))
    index = ArrivalIndex(bench.store, SLUG)
    # Then making the index again finds nothing to do
    assert index.is_whole()
    assert index.remake() == (0, 0)
    assert sorted(each.exposure_id for each in index.everything().arrivals) == ["a", "b", "c", "d"]
    # And the survey has the integrations of both ramps
    assert what_waits(bench.store, SLUG).integrations == 4


def test_a_store_without_an_index_gets_it_from_the_manifests(bench: Ingest) -> None:
    # Given ramps that an earlier version committed
    for name in "ab":
        bench.ramp(Exposure(name))
        note_expected(SLUG, 3, name, bench.store)
    assert not ArrivalIndex(bench.store, SLUG).is_whole()
    # When the third arrives, Then the set has all three
    [ready] = bench.arrive(Exposure("c"))
    assert names(ready) == {"a", "b", "c"}
