"""When a set is complete, and that nobody's point of view matters."""

import hashlib
import itertools
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.catalog.exposure_sets import (
    BuiltSet,
    Epoch,
    ReadySet,
    RejectedExposure,
    complete_sets,
    form_epochs,
    set_id,
    split_members,
    superseded_by,
    unique_members,
    waiting_for,
)
from shared.contracts.messages import ObjectRef, SetMember

GAP = 10.0


def member(name: str, start: float = 60000.0, integrations: int = 1, product: str = "") -> SetMember:
    digest = product or hashlib.sha256(name.encode()).hexdigest()
    return SetMember(
        exposure_id=name,
        manifest=f"m/{name}/{digest}/manifest.json",
        ramp=ObjectRef(key=f"k/{name}", size=1, sha256="00" * 32),
        integrations=integrations,
        start_mjd=start,
        end_mjd=start + 0.01 * integrations,
    )


def formed(members: Sequence[SetMember], rejected: int = 0, expected: int | None = None) -> list[Epoch]:
    counts = {} if expected is None else {each.exposure_id: expected for each in members}
    return form_epochs(members, [RejectedExposure(f"r{n}") for n in range(rejected)], counts, GAP)


def ready(members: Sequence[SetMember], **said: object) -> list[ReadySet]:
    """Form the sets of which each member announced `expected`, and `rejected` others were refused."""
    received = formed(members, said.pop("rejected", 0), said.pop("expected", None))
    arguments = {"settled": False, "final": False, "min_integrations": 2, **said}
    # Whoever asks why, is answered exactly when there is something to wait for.
    waits = waiting_for(received, **arguments)
    result = complete_sets(received, **arguments)
    everything = len(result) == len(split_members(members, GAP)) and bool(result)
    assert (waits is None) == everything
    assert waits is None or "\n" not in waits
    return result


members_drawn = st.lists(
    st.builds(
        lambda n, start, integrations, digest: member(f"e{n}", 60000 + start, integrations, digest),
        st.integers(0, 8),
        st.floats(0, 60, allow_nan=False).map(lambda day: round(day, 3)),
        st.integers(1, 5),
        st.sampled_from(["", "aa" * 32, "bb" * 32]),
    ),
    max_size=12,
)


@given(members=members_drawn, seed=st.integers(0, 99))
def test_order_of_arrival_and_doubles_do_not_matter(members: list[SetMember], seed: int) -> None:
    shuffled = members * 2
    random.Random(seed).shuffle(shuffled)
    assert ready(shuffled, final=True) == ready(members, final=True)
    assert ready(shuffled, settled=True) == ready(members, settled=True)


@given(members=members_drawn)
def test_every_exposure_is_in_exactly_one_set(members: list[SetMember]) -> None:
    sets = ready(members, final=True)
    placed = [m.exposure_id for s in sets for m in s.members]
    assert sorted(placed) == sorted({m.exposure_id for m in members})
    for each in sets:
        assert each.set_id == set_id(each.members)
        assert each.integrations == sum(m.integrations for m in each.members)
        assert list(each.members) == sorted(each.members, key=lambda m: (m.start_mjd, m.exposure_id))


@given(members=members_drawn)
def test_sets_are_split_at_every_long_gap_and_nowhere_else(members: list[SetMember]) -> None:
    split = split_members(members, GAP)
    for epoch in split:
        for earlier, later in itertools.pairwise(epoch):
            assert later.start_mjd - max(m.end_mjd for m in epoch if m.start_mjd <= earlier.start_mjd) <= GAP
    for before, after in itertools.pairwise(split):
        assert after[0].start_mjd - max(m.end_mjd for m in before) > GAP


def test_a_long_exposure_bridges_a_gap() -> None:
    # Given an exposure that ends after a later, shorter one
    long = member("a", 60000.0).model_copy(update={"end_mjd": 60008.0})
    assert len(split_members([long, member("b", 60001.0), member("c", 60017.0)], GAP)) == 1
    assert len(split_members([long, member("b", 60001.0), member("c", 60018.5)], GAP)) == 2


def test_the_id_is_of_the_members_and_what_they_were_made_from_only() -> None:
    a, b = member("a"), member("b")
    assert set_id([a, b]) == set_id([b, a])
    # The sha256 of "name product-key" lines, written out here once more.
    lines = sorted(f"{m.exposure_id} {m.product}" for m in (a, b))
    assert set_id([a, b]) == hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    assert set_id([a]) != set_id([a, b])
    assert set_id([a, member("b", product="cc" * 32)]) != set_id([a, b])
    assert set_id(
        [a, b.model_copy(update={"start_mjd": 1.0, "ramp": ObjectRef(key="k", size=2, sha256="11" * 32)})]
    ) == set_id([a, b])


def test_of_two_ramps_of_one_exposure_the_first_digest_counts() -> None:
    one, two = member("a", product="11" * 32), member("a", product="22" * 32)
    assert unique_members([two, one]) == unique_members([one, two]) == [one]


@pytest.mark.parametrize(
    ("said", "complete"),
    [
        ({}, False),
        ({"expected": 3}, True),
        ({"expected": 4}, False),
        ({"expected": 4, "rejected": 1}, True),
        ({"expected": 2}, True),
        ({"rejected": 5}, False),
        ({"final": True}, True),
        ({"final": True, "expected": 9, "min_integrations": 99}, True),
        ({"settled": True}, True),
        ({"settled": True, "min_integrations": 4}, False),
        ({"settled": True, "expected": 9}, True),
    ],
)
def test_when_three_exposures_are_a_complete_set(said: dict[str, object], complete: bool) -> None:
    members = [member(f"e{n}", 60000 + n) for n in range(3)]
    assert bool(ready(members, **said)) == complete


def test_settled_takes_the_epochs_that_hold_enough() -> None:
    first = [member("a", 60000.0, 3)]
    second = [member("b", 60050.0, 1)]
    [only] = ready(first + second, settled=True)
    assert only.members == tuple(first)
    assert len(ready(first + second, final=True)) == 2


def test_nothing_ingested_makes_no_set_even_at_the_end() -> None:
    for start in (None, 60000.0):
        received = form_epochs([], [RejectedExposure("r", start)], {"r": 1}, GAP)
        assert complete_sets(received, True, True, 1) == []
        assert waiting_for(received, True, True, 1) == "no exposure was ingested, 1 rejected"


def test_a_count_is_one_of_its_campaign_and_a_rejected_exposure_of_the_one_it_lay_in() -> None:
    # Given two epochs, of which only the first was counted: by an exposure that was refused
    first, second = [member("a"), member("b", 60008.0)], [member("c", 60100.0)]
    refused = [RejectedExposure("r", 60004.0)]
    received = form_epochs(first + second, refused, {"r": 3}, GAP)
    # Then the first is complete by it, and the second is not
    assert [(each.ingested, len(each.rejected), each.expected) for each in received] == [
        (2, 1, 3),
        (1, 0, None),
    ]
    assert [entry.members for entry in complete_sets(received, False, False, 2)] == [tuple(first)]
    assert waiting_for(received, False, False, 2) == (
        "from MJD 60100.00: 1 exposure ingested, 0 rejected; more may come"
    )
    assert [one.concerns("r") for one in received] == [True, False]


def test_rejected_exposures_bridge_a_gap_for_the_count_and_not_for_the_set() -> None:
    # Given three exposures, announced as three, of which the middle one and so the bridge was refused
    members = [member("a"), member("c", 60016.0)]
    [whole] = form_epochs(members, [RejectedExposure("b", 60008.0)], {"a": 3}, GAP)
    # Then all came, and what came is a set on either side
    assert [[m.exposure_id for m in each.members] for each in complete_sets([whole], False, False, 2)] == [
        ["a"],
        ["c"],
    ]


def test_a_rejected_exposure_without_a_start_is_missing_everywhere_and_its_count_is_nobodys() -> None:
    members = [member("a"), member("c", 60100.0)]
    received = form_epochs(members, [RejectedExposure("r")], {"a": 2, "c": 3, "r": 9}, GAP)
    assert [(each.is_complete, each.expected) for each in received] == [(True, 2), (False, 3)]
    # Of two files of one exposure the one that says when it began counts, and a ramp before either
    dated = [RejectedExposure("r"), RejectedExposure("r", 60101.0), RejectedExposure("a", 60101.0)]
    assert [len(epoch.rejected) for epoch in form_epochs(members, dated, {}, GAP)] == [0, 1]


@pytest.mark.parametrize(
    ("members", "said", "words"),
    [
        ([], (0, None, False), "no exposure was ingested"),
        ([], (2, 2, False), "no exposure was ingested, 2 rejected"),
        (
            [member("a")],
            (1, 5, False),
            "1 of 5 announced exposures ingested, 1 rejected",
        ),
        ([member("a")], (0, None, True), "1 integration from MJD 60000.00 (at least 2)"),
    ],
)
def test_what_a_configuration_waits_for_is_said(
    members: list[SetMember], said: tuple[int, int | None, bool], words: str
) -> None:
    rejected, expected, settled = said
    answer = waiting_for(formed(members, rejected, expected), settled, False, 2)
    assert answer is not None
    assert words in answer


def built(
    name: str, exposures: str, minutes: float = 0.0, configuration: str = "c", rejected: bool = False
) -> BuiltSet:
    created = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    return BuiltSet(name, configuration, frozenset(exposures), created, rejected)


def test_a_larger_set_supersedes_whatever_it_holds_and_of_the_same_the_newest_counts() -> None:
    products = [
        built("small", "ab", 9),
        built("first", "abc", 1),
        built("again", "abc", 2),
        built("overlaps", "cd", 0),
        built("elsewhere", "a", 0, "other"),
    ]
    assert superseded_by(products) == {
        "again": None,
        "first": "again",
        "small": "again",
        "overlaps": None,
        "elsewhere": None,
    }


def test_a_rejected_one_never_takes_the_place_of_one_that_was_not() -> None:
    products = [
        built("accepted", "ab", 1),
        built("newer", "ab", 2, rejected=True),
        built("larger", "abc", 3, rejected=True),
        built("other", "x", 1, rejected=True),
        built("larger other", "xy", 2),
    ]
    assert superseded_by(products) == {
        "accepted": None,
        "newer": "accepted",
        "larger": None,
        "other": "larger other",
        "larger other": None,
    }


@given(
    products=st.lists(
        st.tuples(st.sets(st.sampled_from("abcd"), min_size=1), st.integers(0, 3), st.sampled_from("xy")),
        max_size=10,
    ),
    seed=st.integers(0, 99),
)
def test_what_supersedes_is_current_and_nothing_current_is_within_another(
    products: list[tuple[set[str], int, str]], seed: int
) -> None:
    made = [built(str(n), "".join(e), at, c) for n, (e, at, c) in enumerate(products)]
    result = superseded_by(made)
    by_name = {each.name: each for each in made}
    for each in made:
        by = result[each.name]
        over = [
            o
            for o in made
            if o.configuration == each.configuration
            and (
                each.exposures < o.exposures
                or (each.exposures == o.exposures and (o.created, o.name) > (each.created, each.name))
            )
        ]
        assert (by is None) == (not over)
        if by is not None:
            assert by_name[by] in over
            assert result[by] is None
    shuffled = list(made)
    random.Random(seed).shuffle(shuffled)
    assert superseded_by(shuffled) == result
