"""Middles against numpy, whatever the values."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shared.statistics.medians
from shared.statistics.medians import Workspace, middle_deviations, middles


def _kinds(rng, size, dtype):
    yield rng.normal(size=size).astype(dtype)
    yield np.round(rng.normal(size=size)).astype(dtype)
    yield np.full(size, 3.25, dtype)
    yield np.sort(rng.normal(size=size)).astype(dtype)
    yield np.sort(rng.normal(size=size)).astype(dtype)[::-1].copy()
    # Structure that beats with the stride of a sample.
    yield np.tile(np.arange(29.0), size // 29 + 1)[:size].astype(dtype)
    # A value far out, and two populations.
    yield np.r_[rng.normal(size=size - 1), 1e30].astype(dtype)
    yield np.where(rng.random(size) < 0.5, 0.0, 1e4).astype(dtype)
    # Half of all the same, which the middle lies in or at the edge of.
    yield np.where(rng.random(size) < 0.5, 0.0, rng.normal(size=size)).astype(dtype)
    yield np.where(rng.random(size) < 0.5, 0.0, np.abs(rng.normal(size=size))).astype(dtype)


#: Around what is partitioned as a whole, around the blocks that are compared at once, and planes.
_SIZES = st.integers(1, 100_000) | st.integers(4_000, 4_200) | st.integers(0, 20).map(lambda n: 8_190 + n)


def _in_the_middle(values):
    ordered = np.sort(values)
    return ordered[(values.size - 1) // 2], ordered[values.size // 2]


@given(size=_SIZES, dtype=st.sampled_from(["f4", "f8"]), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_middles_and_middle_deviations_are_exact(size, dtype, seed):
    rng = np.random.default_rng(seed)
    room = Workspace()
    for values in _kinds(rng, size, dtype):
        before = values.copy()
        wanted = _in_the_middle(values)
        assert middles(values, room) == wanted == middles(values)
        centre = wanted[0]
        assert middle_deviations(values, centre, room) == _in_the_middle(np.abs(values - centre))
        np.testing.assert_array_equal(values, before)


@given(
    size=_SIZES,
    dtype=st.sampled_from(["f4", "f8"]),
    without=st.sampled_from([0.001, 0.05, 0.5, 0.99]),
    infinite=st.sampled_from([0.0, 0.01, 0.3]),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=40)
def test_nan_takes_no_part_and_infinities_have_their_place(size, dtype, without, infinite, seed):
    # Given values of any kind of which some are unknown, some infinite
    rng = np.random.default_rng(seed)
    for values in _kinds(rng, size, dtype):
        values[rng.random(size) < infinite / 2] = np.inf
        values[rng.random(size) < infinite / 2] = -np.inf
        values[rng.random(size) < without] = np.nan
        known = values[~np.isnan(values)]
        if not known.size or not np.isfinite(_in_the_middle(known)).all():
            continue
        # When, Then the unknown ones are as if they were not there
        wanted = _in_the_middle(known)
        assert middles(values) == wanted
        assert middle_deviations(values, wanted[0]) == _in_the_middle(np.abs(known - wanted[0]))


def test_where_a_sample_misleads_the_middles_are_exact_all_the_same():
    # Given values of which the sample sees only the ones that are far from the median
    values = np.random.default_rng(2).normal(size=90_000)
    stride = int(math.sqrt(values.size)) // shared.statistics.medians._SAMPLE_SIZE
    values[::stride] += 1e6
    # Then
    assert middles(values) == _in_the_middle(values)
    assert middle_deviations(values, 0.25) == _in_the_middle(np.abs(values - 0.25))
    values[:] = np.nan
    values[1::stride] = np.arange(values[1::stride].size)
    assert middles(values) == _in_the_middle(values[1::stride])


@pytest.mark.parametrize("dtype", ["f4", "f8", "u1"])
def test_workspace_is_used_again_and_grows(dtype):
    workspace = Workspace()
    first = workspace.array("a", 10, dtype)
    assert first.shape == (10,)
    assert first.dtype == dtype
    assert np.shares_memory(first, workspace.array("a", 5, dtype))
    assert not np.shares_memory(first, workspace.array("b", 10, dtype))
    assert workspace.array("a", 1000, dtype).shape == (1000,)
