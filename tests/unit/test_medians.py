"""Middles against numpy, whatever the values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.medians import Room, middle_deviations, middles


def _kinds(rng, size, dtype):
    yield rng.normal(size=size).astype(dtype)
    yield np.round(rng.normal(size=size)).astype(dtype)
    yield np.full(size, 3.25, dtype)
    yield np.sort(rng.normal(size=size)).astype(dtype)
    # Structure that beats with the stride of a sample.
    yield np.tile(np.arange(29.0), size // 29 + 1)[:size].astype(dtype)
    # A value far out, and two populations.
    yield np.r_[rng.normal(size=size - 1), 1e30].astype(dtype)
    yield np.where(rng.random(size) < 0.5, 0.0, 1e4).astype(dtype)


@given(
    size=st.integers(1, 100_000) | st.integers(32_000, 34_000),
    dtype=st.sampled_from(["f4", "f8"]),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=40)
def test_middles_and_middle_deviations_are_exact(size, dtype, seed):
    rng = np.random.default_rng(seed)
    room = Room()
    for values in _kinds(rng, size, dtype):
        before = values.copy()
        ordered = np.sort(values)
        wanted = ordered[(size - 1) // 2], ordered[size // 2]
        assert middles(values, room) == wanted == middles(values)
        centre = wanted[0]
        off = np.sort(np.abs(values - centre))
        assert middle_deviations(values, centre, room) == (off[(size - 1) // 2], off[size // 2])
        np.testing.assert_array_equal(values, before)


@pytest.mark.parametrize("dtype", ["f4", "f8", "u1"])
def test_room_is_used_again_and_grows(dtype):
    room = Room()
    first = room.array("a", 10, dtype)
    assert first.shape == (10,)
    assert first.dtype == dtype
    assert np.shares_memory(first, room.array("a", 5, dtype))
    assert not np.shares_memory(first, room.array("b", 10, dtype))
    assert room.array("a", 1000, dtype).shape == (1000,)
