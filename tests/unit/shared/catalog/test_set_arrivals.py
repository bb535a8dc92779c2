"""Sets as exposures arrive: in any order, more than once, at the same time, and late."""

import threading
import time
from datetime import UTC, datetime, timedelta
from importlib import metadata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.sets import note_expected, sets_at_check
from shared.catalog.arrival_index import ArrivalIndex
from shared.catalog.exposure_sets import (
    BuiltSet,
    RejectedExposure,
    complete_sets,
    form_epochs,
    split_at_gaps,
    superseded_by,
)
from shared.contracts.messages import Envelope, SetCheck, SetReady
from shared.products.announced_counts import announced_counts, note_key
from shared.runtime.handler import Outgoing
from shared.settings.stage import StageSettings
from support.arrivals import SLUG, START_MJD, DictStore, Exposure, Ingest, names

GAP = 10.0


def ingest(store: DictStore | None = None, **settings: object) -> Ingest:
    return Ingest(store or DictStore(), StageSettings(store="s3://test", epoch_gap_days=GAP, **settings))


def current(said: list[SetReady]) -> set[frozenset[str]]:
    """The sets that are in force once everything that was said was built, in this order."""
    began = datetime(2026, 1, 1, tzinfo=UTC)
    built = [
        BuiltSet(f"{n}", SLUG, names(ready), began + timedelta(seconds=n)) for n, ready in enumerate(said)
    ]
    stands_in = superseded_by(built)
    return {each.exposures for each in built if stands_in[each.name] is None}


@st.composite
def archives(draw: st.DrawFn) -> tuple[list[Exposure], list[Exposure]]:
    """The exposures of epochs, which are counted or not, and how they arrive."""
    days = draw(st.lists(st.sampled_from([0.0, 4.0, 8.0, 15.0, 100.0, 109.0]), min_size=1, max_size=7))
    spans = {f"e{n}": START_MJD + day + n / 100 for n, day in enumerate(days)}
    exposures = []
    for names_in in split_at_gaps(spans, lambda name: (spans[name], spans[name] + 0.01), GAP):
        many = len(names_in)
        knows = draw(st.none() | st.sampled_from(names_in))
        exposures += [
            Exposure(
                name,
                day=spans[name] - START_MJD,
                integrations=draw(st.integers(1, 3)),
                rejected=draw(st.booleans()),
                count=many if name == knows else draw(st.none() | st.integers(1, many)) if knows else None,
            )
            for name in names_in
        ]
    twice = exposures + draw(st.lists(st.sampled_from(exposures), max_size=6))
    return exposures, draw(st.permutations(twice))


@given(archive=archives())
def test_any_order_and_any_number_of_times_the_same_sets_are_current(
    archive: tuple[list[Exposure], list[Exposure]],
) -> None:
    # Given the sets of all exposures, as nobody's order of arrival has a part in them
    exposures, arrivals = archive
    received = ingest()
    members = [received._member(each) for each in exposures if not each.rejected]
    rejected = [RejectedExposure(entry.name, START_MJD + entry.day) for entry in exposures if entry.rejected]
    counts = {one.name: one.count for one in exposures if one.count is not None}
    formed = form_epochs(members, rejected, counts, GAP)
    assert all(one.is_complete for one in formed if one.expected is not None)
    final = complete_sets(formed, False, False, 2)
    # When they arrive
    bench = ingest()
    for exposure in arrivals:
        bench.arrive(exposure)
    # Then those sets are current, each under one id, and whatever was said before is superseded
    assert current(bench.said) == {frozenset(m.exposure_id for m in one.members) for one in final}
    assert {one.set_id for one in final} <= {one.set_id for one in bench.said}
    of_ids = {one.set_id: names(one) for one in bench.said}
    assert len(of_ids) == len(set(of_ids.values()))


def test_an_exposure_announced_without_a_count_completes_a_set() -> None:
    # Given that the first announcement, and only that, says that there are three
    bench = ingest()
    assert bench.arrive(Exposure("a", count=3)) == []
    assert bench.arrive(Exposure("b")) == []
    # When the last comes by an S3 event
    [ready] = bench.arrive(Exposure("c"))
    # Then the set is complete
    assert names(ready) == {"a", "b", "c"}


def test_the_largest_count_counts_and_one_that_was_rejected_will_not_come() -> None:
    bench = ingest()
    assert bench.arrive(Exposure("a", count=3)) == []
    assert bench.arrive(Exposure("b", count=2)) == []
    [ready] = bench.arrive(Exposure("c", rejected=True))
    assert names(ready) == {"a", "b"}
    # Also if the second is told of again, with another count
    assert names(bench.arrive(Exposure("b", count=1))[0]) == {"a", "b"}
    assert bench.arrive(Exposure("b", count=4)) == []
    assert announced_counts(bench.store.objects) == {SLUG: {"a": 3, "b": 4}}


def test_notes_that_are_none_are_passed_over() -> None:
    keys = [
        note_key("c", "e", 12),
        note_key("c", "e", 9),
        note_key("c", "f", 3),
        "expected/c/e/many.json",
        "expected/c/3.json",
        "expected/3.json",
        "expected/c/e/.json",
    ]
    assert announced_counts(keys) == {"c": {"e": 12, "f": 3}}


def test_without_a_count_nothing_is_complete_by_arriving() -> None:
    bench = ingest()
    assert [bench.arrive(Exposure(name)) for name in "abc"] == [[], [], []]


@pytest.mark.parametrize("counts", [(2, 2), (2, None), (None, 2)])
def test_two_that_finish_at_once_name_one_set_whoever_is_when_where(
    counts: tuple[int | None, int | None],
) -> None:
    one, other = Exposure("a", count=counts[0]), Exposure("b", day=0.1, count=counts[1])
    # Given the set that they form one after the other
    steady = ingest()
    steady.arrive(one)
    [whole] = steady.arrive(other)
    # When the other's whole arrival falls between any two steps of the one's
    steps: list[str] = []
    counted = ingest()
    counted.store.before = lambda operation, key: steps.append(operation)
    counted.arrive(one)
    for at in range(len(steps) + 1):
        bench, store = ingest(), DictStore()
        bench.store = store
        left = at

        def step(operation: str, key: str) -> None:
            nonlocal left
            left -= 1
            if left == -1:
                bench.arrive(other)  # noqa: B023

        store.before = step
        bench.arrive(one)
        store.before = lambda operation, key: None
        if left >= 0:
            bench.arrive(other)
        # Then at least one of them sees it, and nobody names another
        assert {ready.set_id for ready in bench.said} == {whole.set_id}, at
        assert all(names(ready) == {"a", "b"} for ready in bench.said)
    assert len(steps) >= 3


def test_two_that_have_both_committed_before_either_looks_both_see_the_set() -> None:
    # Given two workers of which none looks before the other has written
    bench = ingest()
    both_wrote = threading.Barrier(2)
    waited = threading.local()

    def before(operation: str, key: str) -> None:
        if operation == "list" and key.startswith("index/") and not getattr(waited, "done", False):
            waited.done = True
            both_wrote.wait(30)

    bench.store.before = before
    threads = [
        threading.Thread(target=bench.arrive, args=(Exposure(name, count=count),))
        for name, count in (("a", 2), ("b", None))
    ]
    # When both finish
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    # Then both say the same
    assert len(bench.said) == 2
    assert len({ready.set_id for ready in bench.said}) == 1


def test_a_late_exposure_makes_a_set_that_supersedes_the_first() -> None:
    bench = ingest()
    bench.arrive(Exposure("a", count=2))
    [first] = bench.arrive(Exposure("b"))
    # When a third comes that nobody counted on
    [second] = bench.arrive(Exposure("late", day=0.5))
    # Then it makes a set with the others, and only that one is current
    assert names(second) == names(first) | {"late"}
    assert first.set_id != second.set_id
    assert current([second, first]) == {names(second)}


@pytest.mark.parametrize("refused", [None, 0.5, 5.0])
@pytest.mark.parametrize("counted", [True, False])
def test_a_campaign_months_later_has_a_count_of_its_own(counted: bool, refused: float | None) -> None:
    # Given a epoch of three that is complete, one of them refused or not
    bench = ingest()
    bench.arrive(Exposure("a", count=3))
    bench.arrive(Exposure("b", day=1.0, count=3))
    third = Exposure("c", day=2.0 if refused is None else refused, rejected=refused is not None, count=3)
    [first] = bench.arrive(third)
    assert names(first) == ({"a", "b", "c"} if refused is None else {"a", "b"})
    # When another one of three begins 100 days later
    later = [Exposure(name, day=100.0 + n, count=3 if counted else None) for n, name in enumerate("xyz")]
    # Then nothing of it is ready before its last exposure, and without a count nothing at all
    assert bench.arrive(later[0]) == []
    assert bench.arrive(later[1]) == []
    assert [names(each) for each in bench.arrive(later[2])] == ([{"x", "y", "z"}] if counted else [])
    # And one that is late for the first is nothing to the second
    [again] = bench.arrive(Exposure("late", day=3.0))
    assert names(again) == names(first) | {"late"}


def test_a_refused_exposure_completes_the_campaign_it_lay_in_by_its_own_count_too() -> None:
    bench = ingest()
    for each in (Exposure("a", count=2), Exposure("x", day=100.0), Exposure("y", day=101.0)):
        assert bench.arrive(each) == []
    [ready] = bench.arrive(Exposure("z", day=102.0, rejected=True, count=3))
    assert names(ready) == {"x", "y"}
    # One of which nobody knows when it lay will not come to any epoch that still waits
    bench.arrive(Exposure("far", day=200.0, count=9))
    output = bench.arrive(Exposure("b", rejected=True, dated=False))
    assert [names(each) for each in output] == [{"a"}, {"x", "y"}]


def test_a_set_settles_when_nothing_came_and_it_holds_enough() -> None:
    # Given an exposure of one integration, which alone is too little
    bench = ingest(settle_seconds=7.0)
    [check] = bench.outgoing(Exposure("a"))
    assert (check.message.schema_name, check.delay) == ("set.check", 7.0)
    # When others come before its check, Then they have none of their own
    assert bench.outgoing(Exposure("b", day=0.1)) == []
    assert bench.outgoing(Exposure("far", day=50.0)) == []
    # And the check finds that it was too early, and comes again a settling time later
    [again] = bench.outgoing_of(check.message)
    assert (again.message.schema_name, again.delay) == ("set.check", 7.0)
    # And when nothing came since, the set that has enough is announced
    ready, last = bench.outgoing_of(again.message)
    assert names(ready.message.content) == {"a", "b"}
    # And once no exposure waits any more, no check is under way, and the next exposure sends one
    assert bench.outgoing_of(last.message) == []
    assert [each.message.schema_name for each in bench.outgoing(Exposure("new", day=90.0))] == ["set.check"]


def test_what_comes_while_a_check_ends_is_not_forgotten() -> None:
    # Given a set that was announced, whose check comes once more
    bench = ingest(settle_seconds=7.0)
    [check] = bench.outgoing(Exposure("a", integrations=2))
    _, last = bench.outgoing_of(check.message)
    # When an exposure comes between any two steps of that check, and sees that one is under way
    steps: list[str] = []
    bench.store.before = lambda operation, key: steps.append(operation)
    saved = dict(bench.store.objects)
    bench.outgoing_of(last.message)
    for at in range(len(steps) + 1):
        bench.store.objects = dict(saved)
        left, sent = at, []

        def step(operation: str, key: str) -> None:
            nonlocal left
            left -= 1
            if left == -1:
                sent.extend(bench.outgoing(Exposure("b", day=50.0, integrations=2)))  # noqa: B023

        bench.store.before = step
        sent += bench.outgoing_of(last.message)
        bench.store.before = lambda operation, key: None
        if left >= 0:
            sent += bench.outgoing(Exposure("b", day=50.0, integrations=2))
        # Then a check is under way that finds it in the end
        assert {"b"} in [names(each) for each in all_announced(bench, sent)], at


def test_a_worker_that_dies_before_it_sends_its_check_sends_it_when_the_message_comes_again() -> None:
    # Given that the first of two exposures waits, and its check was not sent
    bench = ingest(settle_seconds=7.0)
    first = Exposure("a", integrations=2)
    bench.outgoing(first)
    assert bench.outgoing(Exposure("b", day=0.1)) == []
    # When its announcement is delivered again, Then it sends one
    assert [each.message.schema_name for each in bench.outgoing(first)] == ["set.check"]


def test_a_check_that_was_lost_is_sent_by_a_later_exposure() -> None:
    # Given a check that an older version took for its own, and of which nothing was heard for long
    bench = ingest(settle_seconds=1e-3)
    bench.outgoing(Exposure("a", integrations=2))
    time.sleep(0.01)
    # When another exposure comes, Then it sends one, which finds both
    sent = bench.outgoing(Exposure("b", day=0.1))
    assert [names(each) for each in all_announced(bench, sent)] == [{"a", "b"}]


def all_announced(bench: Ingest, sent: list[Outgoing]) -> list[SetReady]:
    """The sets that follow from messages once every check is answered."""
    ready, answered = [], 0
    while sent:
        outgoing = sent.pop()
        if outgoing.message.schema_name == "set.check":
            sent += bench.outgoing_of(outgoing.message)
            answered += 1
        elif outgoing.message.schema_name == "set.ready":
            ready.append(outgoing.message.content)
    # One that has changed since, one that has not, and one that ends, for each check that was sent.
    assert answered <= 12
    return ready


@given(arrivals=st.permutations([Exposure(f"e{n}", day=n / 10 + 50 * (n % 3)) for n in range(8)]))
def test_however_many_come_the_checks_are_few_and_find_every_set(arrivals: list[Exposure]) -> None:
    # Given eight exposures of three epochs, of which some are delivered again
    bench = ingest(settle_seconds=1000.0)
    sent = [each for exposure in [*arrivals, *arrivals[:3]] for each in bench.outgoing(exposure)]
    # Then only the first delivery and its repetition sent a check, and the sets of all epochs are found
    assert len(sent) == 2
    ready = {names(each) for each in all_announced(bench, sent)}
    assert ready == {frozenset(f"e{n}" for n in range(8) if n % 3 == epoch) for epoch in range(3)}


def test_a_check_goes_by_the_count_too_but_not_where_it_names_the_exposures() -> None:
    bench = ingest(settle_seconds=3600.0)
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    for each in (Exposure("a", count=2), Exposure("b")):
        bench.outgoing(each)
    assert [names(each) for each in bench.check(scheduled_at=long_ago)] == [{"a", "b"}]
    assert bench.check(scheduled_at=long_ago, exposure_ids=["a", "b"]) == []
    assert [names(each) for each in bench.check(final=True, exposure_ids=["a"])] == [{"a"}]


def test_until_the_last_exposure_came_no_manifest_is_read() -> None:
    bench = ingest()
    read: list[str] = []
    for n in range(9):
        bench.arrive(Exposure(f"e{n}", count=10))
    bench.store.before = lambda operation, key: read.append(key) if operation == "get" else None
    bench.arrive(Exposure("e8", count=10))
    assert not [key for key in read if "/e8/" not in key]
    [ready] = bench.arrive(Exposure("e9", count=10))
    assert len(ready.members) == 10


EARLIER = (("CAL_VER", "1.4.6"), ("CRDS_CTX", "jwst_0870.pmap"), ("superbias", "crds://bias_0030.fits"))
LATER = (("CAL_VER", "1.18.0"), ("CRDS_CTX", "jwst_1303.pmap"), ("superbias", "crds://bias_0041.fits"))


def test_exposures_that_were_calibrated_in_different_ways_are_told_apart_into_sets() -> None:
    # Given four calibrated exposures, two of each context, of an epoch that has four
    bench = ingest()
    arrivals = [
        Exposure(name, day=day, count=4, before=before)
        for name, day, before in (("a", 0.0, EARLIER), ("b", 0.1, LATER), ("c", 0.2, EARLIER))
    ]
    # When they arrive, Then nothing is complete before the last
    assert [bench.arrive(each) for each in arrivals] == [[], [], []]
    ready = bench.arrive(Exposure("d", day=0.3, count=4, before=LATER))
    # Then each way is a set, and a check on the laptop forms the same
    assert [names(each) for each in ready] == [{"a", "c"}, {"b", "d"}]
    checked = bench.check(final=True, exposure_ids=["a", "b", "c", "d"])
    assert [each.set_id for each in checked] == [each.set_id for each in ready]


@pytest.mark.parametrize("keyword", ["CAL_VER", "CRDS_CTX", "superbias"])
def test_a_single_value_tells_calibrated_exposures_apart(keyword: str) -> None:
    other = tuple((name, "other" if name == keyword else value) for name, value in LATER)
    bench = ingest()
    bench.arrive(Exposure("a", count=2, before=LATER))
    ready = bench.arrive(Exposure("b", day=0.1, before=other))
    assert [names(each) for each in ready] == [{"a"}, {"b"}]


@pytest.mark.parametrize(("version", "together"), [("installed", True), ("1.4.6", False), (None, False)])
def test_a_calibrated_exposure_joins_raw_ones_only_if_it_says_that_it_was_calibrated_like_them(
    version: str | None, together: bool
) -> None:
    # Given a raw exposure that is calibrated here, without CRDS
    bench = ingest()
    here = metadata.version("jwst") if version == "installed" else version
    before = (("CRDS_CTX", "none"), *((("CAL_VER", here),) if here else ()))
    bench.arrive(Exposure("raw", count=2))
    # When a calibrated one arrives
    ready = bench.arrive(Exposure("done", day=0.1, before=before))
    # Then they are a set if the versions agree
    assert [names(each) for each in ready] == ([{"raw", "done"}] if together else [{"raw"}, {"done"}])


# ---- an upgrade between two exposures of a set


def announced(outgoing: list[Outgoing]) -> list[str]:
    """The exposures that are announced again."""
    return [o.message.content.exposure_id for o in outgoing if o.message.schema_name == "exposure.announced"]


def passed_on(outgoing: list[Outgoing]) -> list[SetCheck]:
    return [o.message.content for o in outgoing if o.message.schema_name == "set.check"]


def half_upgraded(version: str = "1") -> tuple[Ingest, SetCheck]:
    """Four exposures, the first two ingested by another version, and the check once nothing came since."""
    bench = ingest(settle_seconds=7.0)
    for exposure in (Exposure("a", version=version), Exposure("b", day=0.1, version=version)):
        bench.ramp(exposure)
    [first] = bench.outgoing(Exposure("c", day=0.2))
    assert bench.outgoing(Exposure("d", day=0.3)) == []
    [check] = bench.outgoing_of(first.message)
    return bench, check.message.content


def follows(bench: Ingest, check: SetCheck) -> list[Outgoing]:
    return sets_at_check(check, Envelope.of(check, identity="check"), bench.context)


def test_an_upgrade_between_two_exposures_never_halves_their_set() -> None:
    # Given two exposures of an older version and two of this; when the configuration has settled
    bench, check = half_upgraded()
    outgoing = follows(bench, check)
    # Then no set is announced, but the older two, and the check is passed on
    assert [o.message.schema_name for o in outgoing] == ["exposure.announced"] * 2 + ["set.check"]
    assert announced(outgoing) == ["a", "b"]
    assert outgoing[-1].delay == 7.0
    assert passed_on(outgoing) == [check.model_copy(update={"held": 1})]
    # When they were made again, Then what was passed on is out of date, and the set is whole
    assert bench.outgoing(Exposure("a")) == bench.outgoing(Exposure("b", day=0.1)) == []
    [again] = passed_on(follows(bench, passed_on(outgoing)[0]))
    ready, _ = [o.message.content for o in follows(bench, again)]
    assert names(ready) == {"a", "b", "c", "d"}


def test_a_set_with_a_count_waits_for_what_an_upgrade_left_behind() -> None:
    # Given four exposures that were announced as four, and an upgrade in the middle
    bench = ingest()
    for name in "ab":
        note_expected(SLUG, 4, name, bench.store)
        bench.ramp(Exposure(name, version="1"))
    assert bench.outgoing(Exposure("c", count=4)) == []
    # When the last arrives, Then the older ones are announced again
    outgoing = bench.outgoing(Exposure("d", count=4))
    assert [o.message.schema_name for o in outgoing] == ["exposure.announced"] * 2
    assert announced(outgoing) == ["a", "b"]
    # And once only: what is made again announces nothing but the whole set
    assert bench.outgoing(Exposure("a")) == []
    [ready] = bench.arrive(Exposure("b"))
    assert names(ready) == {"a", "b", "c", "d"}


def test_an_older_worker_leaves_a_set_to_the_version_that_is_rolled_out() -> None:
    # Given a check that an older worker takes while newer ones are at work
    bench, check = half_upgraded(version="99")
    for _ in range(2):
        # Then it makes nothing in the older way, and passes the check on
        outgoing = follows(bench, check)
        assert announced(outgoing) == []
        [check] = passed_on(outgoing)
    # And if only older ones are left after that, the roll-out was taken back
    assert announced(follows(bench, check)) == ["a", "b"]


def test_a_check_is_not_passed_on_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    # Given exposures that cannot be made again
    bench, check = half_upgraded()
    rounds = 0
    while not (passed := passed_on(follows(bench, check)))[0].announced:
        [check] = passed
        rounds += 1
    assert rounds == 5
    assert caplog.records[-1].levelname == "ERROR"
    # And one of which this version knows that it is bad does not hold the others up
    bench.reject(Exposure("a", rejected=True))
    bench.reject(Exposure("b", day=0.1, rejected=True))
    ArrivalIndex(bench.store, SLUG).remake()
    [ready] = bench.check()
    assert names(ready) == {"c", "d"}


def test_a_set_that_was_all_there_before_the_upgrade_is_as_good_as_ever() -> None:
    # Given a whole set of the version before, whose check comes after the upgrade
    bench = ingest(settle_seconds=7.0)
    for n, name in enumerate("ab"):
        bench.ramp(Exposure(name, day=n / 10, version="1"))
    # Then it is announced as it is
    [ready] = bench.check()
    assert names(ready) == {"a", "b"}
    # And no longer when there is something of it
    bench.build(ready)
    assert bench.check() == []
    # And of two versions before, it is made again
    bench.ramp(Exposure("c", day=0.2, version="0"))
    ArrivalIndex(bench.store, SLUG).remake()
    check = SetCheck(configuration=SLUG, scheduled_at=datetime.now(UTC))
    assert announced(follows(bench, check)) == ["a", "b", "c"]


def test_a_set_far_from_the_upgrade_is_left_alone() -> None:
    bench, _ = half_upgraded()
    for name in "xy":
        bench.ramp(Exposure(name, day=100.0, version="1"))
    ArrivalIndex(bench.store, SLUG).remake()
    bench.build(bench.check(exposure_ids=["x", "y"])[0])
    later = SetCheck(configuration=SLUG, scheduled_at=datetime.now(UTC))
    outgoing = follows(bench, later)
    assert announced(outgoing) == ["a", "b"]
    assert bench._ready(outgoing) == []


def test_who_names_the_exposures_and_says_that_no_more_come_gets_them() -> None:
    bench, _ = half_upgraded()
    assert [names(each) for each in bench.check(final=True, exposure_ids=["c", "d"])] == [{"c", "d"}]


def test_a_ramp_of_earlier_versions_that_never_ends_takes_in_no_later_campaign() -> None:
    # Given a ramp that an earlier version made of a header with EXPEND = 9999999
    bench = ingest()
    manifest = bench.ramp(Exposure("a"))
    manifest.results["end_mjd"] = 9999999.0
    bench.store.put(f"{manifest.path}/manifest.json", manifest.model_dump_json(by_alias=True).encode())
    # When a campaign a year later is counted, Then it is a set of its own
    bench.arrive(Exposure("x", day=365.0, count=2))
    assert [names(each) for each in bench.arrive(Exposure("y", day=365.1))] == [{"x", "y"}]


# ---- clocks that differ


@pytest.mark.parametrize("seconds_ago", [-3600.0, 3600.0])
def test_a_set_settles_whatever_the_clocks_of_other_workers_say(seconds_ago: float) -> None:
    # Given an exposure that a worker ingested whose clock is an hour off, and a later one
    bench = ingest(settle_seconds=7.0)
    bench.redate(bench.ramp(Exposure("a")).path, seconds_ago)
    [early] = [o.message.content for o in bench.outgoing(Exposure("a"))]
    bench.outgoing(Exposure("b", day=0.1))
    # Then the check of the first is out of date, and comes once more to find the set
    [late] = [o.message.content for o in follows(bench, early)]
    assert [names(o.message.content) for o in follows(bench, late)[:-1]] == [{"a", "b"}]
    # And what a check says of the hour has no part in it
    long_ago = late.model_copy(update={"scheduled_at": datetime(2020, 1, 1, tzinfo=UTC)})
    assert len(follows(bench, long_ago)) == 2
