"""Pixels side by side in registers: the sorting networks, and arithmetic, against numpy."""

import itertools

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from services.darkref.kernels.blocks import BLOCK, STEP, byteswapped, sort_rows
from services.darkref.kernels.simd import (
    LANES,
    MOST_IN_REGISTERS,
    comparators,
    fabs,
    halved,
    le,
    load,
    lt,
    movemask,
    sort_lanes,
    sqrt,
    store,
    to_f32,
    to_f64,
    where,
)


@numba.njit
def _sorted(rows, n):
    sort_lanes(rows, 0, LANES, n)


@numba.njit
def _sorted_block(rows, n, pairs):
    for at in range(0, BLOCK, LANES):
        sort_rows(rows, n, at, pairs)


@numba.njit
def _compared(a, b, smaller, distances, masks):
    one, other = load(a, 0), load(b, 0)
    store(smaller, 0, where(lt(one, other), one, other))
    apart = to_f64(one) - to_f64(other)
    store(distances, 0, fabs(to_f32(sqrt(apart * apart))))
    masks[0] = movemask(lt(one, other))
    masks[1] = movemask(le(one, other))


@numba.njit
def _halves(numbers):
    store(numbers, 0, halved(load(numbers, 0)))


@pytest.mark.parametrize("n", range(1, 14))
def test_up_to_16_rows_are_sorted_in_registers(n):
    # Given all zeros and ones (Knuth's 0-1 principle), sixteen columns at a time, and a row beyond
    columns = np.array(list(itertools.product((0, 1), repeat=n)), np.float32).T
    for start in range(0, columns.shape[1], LANES):
        some = columns[:, start : start + LANES]
        rows = np.full((n + 1, LANES), -1, np.float32)
        rows[:n, : some.shape[1]] = some
        # When
        _sorted(rows.reshape(-1), n)
        # Then
        assert (np.diff(rows[:n], axis=0) >= 0).all()
        np.testing.assert_array_equal(rows[:n, : some.shape[1]].sum(axis=0), some.sum(axis=0))
        assert (rows[n] == -1).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3 * MOST_IN_REGISTERS), st.integers(0, 2**32 - 1))
def test_a_block_of_any_number_of_rows_is_sorted(n, seed):
    # Given few and many values, ties, and some that are infinite
    rng = np.random.default_rng(seed)
    rows = rng.choice([1.5, -2.0, 7.0, np.inf, *rng.normal(0, 5, 40)], (n, STEP)).astype(np.float32)
    wanted = np.sort(rows, axis=0)
    # When
    _sorted_block(rows.reshape(-1), n, comparators(n))
    # Then
    np.testing.assert_array_equal(rows[:, :BLOCK], wanted[:, :BLOCK])


_floats = hnp.arrays(
    np.float32,
    LANES,
    elements=st.one_of(
        st.floats(-(2.0**40), 2.0**40, width=32, allow_subnormal=False), st.sampled_from([0.0, -0.0])
    ),
)


@settings(max_examples=60, deadline=None)
@given(_floats, _floats, st.lists(st.integers(0, LANES - 1)))
def test_every_lane_is_compared_and_reckoned_with_by_itself(a, b, without):
    # Given
    a[without] = np.nan
    smaller, distances, masks = (
        np.empty(LANES, np.float32),
        np.empty(LANES, np.float32),
        np.zeros(2, np.int64),
    )
    # When
    _compared(a, b, smaller, distances, masks)
    # Then what is not a number is neither below nor at most another
    np.testing.assert_array_equal(smaller, np.where(a < b, a, b))
    expected = np.abs(a.astype(np.float64) - b.astype(np.float64)).astype(np.float32)
    np.testing.assert_array_equal(distances, expected)
    powers = 1 << np.arange(LANES)
    assert masks.tolist() == [int(powers[a < b].sum()), int(powers[a <= b].sum())]


def test_half_of_a_negative_number_is_rounded_down():
    numbers = np.arange(-1, LANES - 1, dtype=np.int32)
    expected = numbers // 2
    _halves(numbers)
    np.testing.assert_array_equal(numbers, expected)


@given(st.integers(0, 2**32 - 1))
def test_bytes_are_swapped(number):
    assert int(byteswapped(np.uint32(number))) == int.from_bytes(number.to_bytes(4, "big"), "little")
