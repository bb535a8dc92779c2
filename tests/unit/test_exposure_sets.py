"""When a set is complete, and that nobody's point of view matters."""

import hashlib
import itertools
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.exposure_sets import ReadySet, complete_sets, epochs, set_id, unique_members, waiting_for
from shared.messages import ObjectRef, SetMember

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


def ready(members: Sequence[SetMember], **said: object) -> list[ReadySet]:
    defaults = {
        "rejected": 0,
        "expected": None,
        "settled": False,
        "final": False,
        "min_integrations": 2,
        "epoch_gap_days": GAP,
    }
    arguments = {**defaults, **said}
    # Whoever asks why, is answered exactly when there is something to wait for.
    waits = waiting_for(members, **arguments)
    found = complete_sets(members, **arguments)
    everything = len(found) == len(epochs(members, GAP)) and bool(found)
    assert (waits is None) == everything
    assert waits is None or "\n" not in waits
    return found


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
    split = epochs(members, GAP)
    for epoch in split:
        for earlier, later in itertools.pairwise(epoch):
            assert later.start_mjd - max(m.end_mjd for m in epoch if m.start_mjd <= earlier.start_mjd) <= GAP
    for before, after in itertools.pairwise(split):
        assert after[0].start_mjd - max(m.end_mjd for m in before) > GAP


def test_a_long_exposure_bridges_a_gap() -> None:
    # Given an exposure that ends after a later, shorter one
    long = member("a", 60000.0).model_copy(update={"end_mjd": 60008.0})
    assert len(epochs([long, member("b", 60001.0), member("c", 60017.0)], GAP)) == 1
    assert len(epochs([long, member("b", 60001.0), member("c", 60018.5)], GAP)) == 2


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
    assert complete_sets([], 3, 3, True, True, 1, GAP) == []


@pytest.mark.parametrize(
    ("members", "said", "words"),
    [
        ([], (0, None, False, False, 2, GAP), "no exposure was ingested"),
        ([], (2, 2, False, True, 2, GAP), "no exposure was ingested, 2 rejected"),
        (
            [member("a")],
            (1, 5, False, False, 2, GAP),
            "1 of 5 announced exposures ingested, 1 rejected",
        ),
        ([member("a")], (0, None, True, False, 2, GAP), "1 integrations from MJD 60000.00 (at least 2)"),
    ],
)
def test_what_a_configuration_waits_for_is_said(
    members: list[SetMember], said: tuple[int, int | None, bool, bool, int, float], words: str
) -> None:
    answer = waiting_for(members, *said)
    assert answer is not None
    assert words in answer
