"""The index of ramps and rejections: it says what the manifests say, at a constant cost."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ingest.sets import note_expected, sets_at_arrival
from shared.catalog.arrival_index import ArrivalIndex, arrival_of
from shared.catalog.arrival_keys import Arrival, is_usable
from shared.catalog.exposure_sets import split_at_gaps
from shared.contracts.messages import Envelope, ExposureAnnounced
from shared.products.announced_counts import announced_counts, notes_prefix
from shared.products.ramp import configuration_prefix
from shared.settings.stage import StageSettings
from shared.store.manifest import MANIFEST, find_all
from support.arrivals import SLUG, START_MJD, DictStore, Exposure, Ingest

GAP = 10.0


def ingest(**changed: object) -> Ingest:
    return Ingest(DictStore(), StageSettings(store="s3://test", epoch_gap_days=GAP, **changed))


def from_manifests(store: DictStore) -> set[tuple]:
    """What the index should say, from the manifests and notes alone."""
    counts = announced_counts(store.list(notes_prefix(SLUG))).get(SLUG, {})
    arrivals = set()
    for manifest in find_all(store, configuration_prefix(SLUG)):
        arrival = arrival_of(manifest, counts.get(manifest.results["exposure_id"], 0))
        assert arrival is not None
        arrivals.add(identity(arrival))
    return arrivals


def identity(arrival: Arrival) -> tuple:
    """All that an arrival says; of a revision the half that the index keeps."""
    ramp = arrival.ramp
    rest = None
    if ramp is not None:
        delivery = ramp.delivery
        revision = delivery.revision if "/" in delivery.revision else delivery.revision[:32]
        rest = (
            *(ramp.member.model_dump_json(), ramp.made, ramp.gain, ramp.simulated),
            *(revision, delivery.steps_done, delivery.file_date, delivery.created),
        )
    return arrival.exposure_id, arrival.path, arrival.created, arrival.span, arrival.count, rest


class Died(Exception):
    """The worker was killed."""


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[Exposure, int | None]]:
    """Exposures as they arrive, some again with another count or start, and where the worker dies."""
    days = st.sampled_from([-1.0, 0.0, 4.0, 9.99, 15.0, 100.0, 109.0, 2000.0, 39999.0, 50000.0])
    exposures = st.builds(
        Exposure,
        name=st.sampled_from("abcdef"),
        day=days,
        integrations=st.integers(1, 3),
        rejected=st.booleans(),
        count=st.none() | st.integers(1, 4),
        dated=st.booleans(),
        context=st.none() | st.just("jwst_0001.pmap"),
    )
    return draw(st.lists(st.tuples(exposures, st.none() | st.integers(0, 12)), min_size=1, max_size=10))


@settings(max_examples=40)
@given(history=histories())
def test_in_any_order_and_with_workers_that_die_the_index_says_what_the_manifests_say(
    history: list[tuple[Exposure, int | None]],
) -> None:
    # Given exposures that arrive while workers die between any two requests, and come again after that
    bench, store = ingest(), DictStore()
    bench.store = store
    for exposure, dies_at in history:
        left = -1 if dies_at is None else dies_at

        def step(operation: str, key: str) -> None:
            nonlocal left
            left -= 1
            if left == -1:
                raise Died

        store.before = step if dies_at is not None else (lambda operation, key: None)
        try:
            bench.arrive(exposure)
        except Died:
            store.before = lambda operation, key: None
            bench.arrive(exposure)
        store.before = lambda operation, key: None
    # Then the index has exactly what the manifests have
    index = ArrivalIndex(store, SLUG)
    assert {identity(each) for each in index.everything().arrivals} == from_manifests(store)
    # And making it again changes nothing that is read
    index.remake()
    assert {identity(each) for each in index.everything().arrivals} == from_manifests(store)
    assert index.remake() == (0, 0)


@settings(max_examples=50)
@given(
    days=st.lists(st.sampled_from([0.0, 3.0, 9.0, 12.0, 31.0, 95.0, 104.9, 400.0, 1111.0]), max_size=25),
    steps=st.lists(st.floats(0.5, 25.0), max_size=40),
)
def test_a_neighbourhood_has_whole_epochs(days: list[float], steps: list[float]) -> None:
    # Given exposures with gaps below and above that of an epoch
    total = 0.0
    for step in steps:
        days.append(total := total + step)
    bench = ingest()
    for n, day in enumerate(days):
        bench.ramp(Exposure(f"e{n}", day=day))
    index = ArrivalIndex(bench.store, SLUG)
    index.remake()
    every = [each.span for each in index.everything().arrivals if each.span]
    epochs = split_at_gaps(every, lambda span: span, GAP)
    # When the surroundings of each are asked for, Then its whole epoch is among them
    for epoch in epochs:
        around = index.around([epoch[len(epoch) // 2]], GAP)
        assert not around.too_large
        assert {each.span for each in around.arrivals} >= set(epoch)


def test_an_exposure_that_is_taken_for_two_times_is_seen_whole_from_both() -> None:
    # Given an exposure that was rejected, and came again with a mended start two years later
    bench = ingest()
    bench.arrive(Exposure("a", rejected=True, count=7))
    bench.arrive(Exposure("a", day=700.0))
    # Then whoever looks around either time sees both
    for day in (0.0, 700.0):
        span = (START_MJD + day, START_MJD + day)
        found = ArrivalIndex(bench.store, SLUG).around([span], GAP).arrivals
        assert sorted(each.ramp is None for each in found) == [False, True]
        assert {each.count for each in found} == {7}


@pytest.mark.parametrize("span", [(-1.0, 5.0), (float("nan"), 6e4), (1e5, 1e5 + 1)])
def test_an_exposure_with_an_impossible_time_is_listed_with_every_epoch(span: tuple[float, float]) -> None:
    assert not is_usable(span)
    bench = ingest()
    manifest = bench.ramp(Exposure("odd"))
    spoilt = manifest.model_copy(
        update={"results": {**manifest.results, "start_mjd": span[0], "end_mjd": span[1]}}
    )
    index = ArrivalIndex(bench.store, SLUG)
    index.remake()
    index.record(spoilt)
    found = index.around([(50000.0, 50000.1)], GAP).arrivals
    assert [each.exposure_id for each in found] == ["odd"]


def test_a_store_of_an_earlier_version_gets_its_index_when_it_is_first_asked() -> None:
    # Given a store in which four of five exposures were ingested by a version without an index
    bench = ingest()
    for name in "abcd":
        bench.arrive(Exposure(name, count=5))
    for key in [key for key in bench.store.objects if key.startswith("index/")]:
        del bench.store.objects[key]
    # When the last arrives, Then the set has all five
    [ready] = bench.arrive(Exposure("e", count=5))
    assert {member.exposure_id for member in ready.members} == set("abcde")


def test_what_was_removed_by_hand_leaves_the_index_when_it_is_made_again() -> None:
    bench = ingest()
    bench.arrive(Exposure("a"))
    bench.arrive(Exposure("b"))
    path = next(
        each.path for each in ArrivalIndex(bench.store, SLUG).everything().arrivals if each.exposure_id == "a"
    )
    del bench.store.objects[f"{path}/{MANIFEST}"]
    index = ArrivalIndex(bench.store, SLUG)
    assert index.remake() == (0, 1)
    assert [each.exposure_id for each in index.everything().arrivals] == ["b"]


def test_an_entry_that_no_key_can_hold_is_read_from_the_manifest() -> None:
    # Given a ramp with a revision that is no sha256, and a date of 300 characters
    bench = ingest()
    manifest = bench.ramp(Exposure("a"))
    results = {**manifest.results, "revision": "other", "file_date": "x" * 300}
    longer = manifest.model_copy(update={"results": results})
    bench.store.put(f"{manifest.path}/{MANIFEST}", longer.model_dump_json(by_alias=True).encode())
    index = ArrivalIndex(bench.store, SLUG)
    index.remake()
    [arrival] = index.everything().arrivals
    assert arrival == arrival_of(longer)


def test_a_key_that_is_none_is_passed_over() -> None:
    bench = ingest()
    bench.arrive(Exposure("a"))
    for name in ("60/00/x", "60/00/1~2/3", "60/00/a~b~c~d~e/f", "60/00/1.0~a~u~0~p/0"):
        bench.store.put(f"index/arrivals-1/{SLUG}/{name}", b"")
    assert [each.exposure_id for each in ArrivalIndex(bench.store, SLUG).everything().arrivals] == ["a"]


def many(bench: Ingest, count: int, days: float) -> None:
    """Write the entries of exposures in campaigns of ten, each `days` after the last, from one manifest."""
    template = bench.ramp(Exposure("template"))
    index = ArrivalIndex(bench.store, SLUG)
    for n in range(count):
        start = START_MJD - 5000 + days * (n // 10) + n % 10 / 1000
        name = f"e{n:06d}"
        results = {**template.results, "exposure_id": name, "start_mjd": start, "end_mjd": start + 5e-4}
        made = template.model_copy(
            update={
                "results": results,
                "path": f"{configuration_prefix(SLUG)}{name}/{n:032x}",
                "created": template.created + timedelta(seconds=n),
            }
        )
        for key in index.keys_of([arrival_of(made, 10)]):
            bench.store.objects[key] = b""
    bench.store.put(f"index/arrivals-1/{SLUG}/any/whole", b"")


@pytest.mark.parametrize("count", [0, 300, 3000])
def test_a_message_costs_the_same_however_many_exposures_there_are(count: int) -> None:
    # Given a store of campaigns three weeks apart, and nine exposures of a further one
    bench = ingest(settle_seconds=1e10)
    if count:
        many(bench, count, 21.0)
    far = 20000.0
    for n in range(9):
        bench.arrive(Exposure(f"new{n}", day=far + n / 100, count=10))
    # When the tenth arrives
    requests: list[str] = []
    bench.store.before = lambda operation, key: requests.append(f"{operation} {key}")
    last = Exposure("new9", day=far + 0.09, count=10)
    manifest = bench.ramp(last)
    note_expected(SLUG, 10, "new9", bench.store)
    requests.clear()
    ready = bench._ready(sets_at_arrival(SLUG, manifest, _announcement(), bench.context))
    # Then the set is complete, at no more than ten requests
    assert [len(each.members) for each in ready] == [10]
    assert len(requests) <= 10, requests


def test_an_epoch_that_is_too_large_is_told_and_forms_no_set(monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    # Given that an epoch may have four exposures
    monkeypatch.setattr("shared.catalog.arrival_index.LARGEST_EPOCH", 4)
    monkeypatch.setattr("shared.catalog.exposure_sets.LARGEST_EPOCH", 4)
    bench = ingest()
    assert [bench.arrive(Exposure(f"e{n}", day=n, count=4)) for n in range(3)] == [[], [], []]
    assert len(bench.arrive(Exposure("e3", day=3, count=4))) == 1
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    # When a fifth comes, Then no smaller set is announced, and the log says so
    assert bench.arrive(Exposure("e4", day=4, count=4)) == []
    assert [record.levelname for record in caplog.records if record.levelname == "ERROR"] == ["ERROR"]


def _announcement() -> Envelope:
    return Envelope.of(ExposureAnnounced(exposure_id="x", uri="s3://a/b"), identity="x")
