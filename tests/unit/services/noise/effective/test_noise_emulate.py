"""Other readout patterns made of RAPID ramps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from services.noise.effective.emulate import (
    EmulatedNoise,
    Emulator,
    emulated_groups,
    emulated_key,
    emulation_refusal,
)
from services.noise.planes import Plane, exposure_pixels
from shared.nircam.detectors import READ_PATTERNS
from support.configurations import configuration


def emulated(ramp, alive, key):
    emulator = Emulator(key)
    made = []
    for group, signal in enumerate(ramp):
        for plane in emulator.planes(
            Plane(0, group, signal, np.uint8(~alive[group]), ~alive[group], alive[group])
        ):
            made.append((plane.group, plane.signal.copy(), plane.alive.copy()))
    return made


@pytest.mark.parametrize("pattern", sorted(READ_PATTERNS))
def test_groups_are_means_of_their_frames(pattern):
    # Given 60 RAPID groups of four pixels, two of them hit on the way
    rng = np.random.default_rng(1)
    ramp = rng.normal(1000, 10, (60, 2, 2)).astype(np.float32)
    alive = np.ones(ramp.shape, bool)
    alive[7:, 0, 1] = alive[33:, 1, 1] = False
    key = emulated_key(configuration(2, 2, 60), pattern)
    nframes, groupgap = READ_PATTERNS[pattern]
    assert (key.readpatt, key.nframes, key.groupgap) == (pattern, nframes, groupgap)
    # When another pattern is made of them
    made = emulated(ramp, alive, key)
    # Then it has its whole groups, in order, each the mean of its frames
    assert [group for group, _, _ in made] == list(range(key.ngroups))
    for group, signal, living in made:
        start = group * (nframes + groupgap)
        np.testing.assert_allclose(signal, ramp[start : start + nframes].mean(axis=0, dtype=float), rtol=1e-6)
        np.testing.assert_array_equal(living, alive[: start + nframes].all(axis=0))
    assert key.group_time == pytest.approx((nframes + groupgap) * key.tframe)


@given(frames=st.integers(1, 300), nframes=st.integers(1, 8), groupgap=st.integers(0, 20))
def test_number_of_groups_is_that_of_whole_ones(frames, nframes, groupgap):
    starts = range(0, frames, nframes + groupgap)
    assert emulated_groups(frames, nframes, groupgap) == sum(s + nframes <= frames for s in starts)


@pytest.mark.parametrize(
    ("pattern", "changes"),
    [
        ("SLOW", {}),
        ("DEEP8", {"ngroups": 27}),
        ("DEEP2", {"readpatt": "SHALLOW4", "nframes": 4, "groupgap": 1}),
    ],
    ids=["unknown pattern", "one group too few", "not RAPID"],
)
def test_what_cannot_be_emulated_is_refused_with_the_pattern_named(pattern, changes):
    key = configuration(8, 8, 28).model_copy(update=changes)
    assert pattern in emulation_refusal(key, pattern)
    with pytest.raises(ValueError):
        emulated_key(key, pattern)


def test_a_pattern_of_two_groups_can_be_emulated():
    assert emulation_refusal(configuration(8, 8, 28), "DEEP8") is None
    assert emulated_key(configuration(8, 8, 28), "DEEP8").ngroups == 2


def test_noise_of_a_pattern_is_that_of_slopes_of_its_means():
    # Given three RAPID ramps of white noise of 5 DN
    rapid = configuration(40, 40, 30)
    ramps = np.random.default_rng(4).normal(0, 5, (3, 30, 40, 40)).astype(np.float32)
    pixels = exposure_pixels(rapid, np.zeros((40, 40), np.uint32), "x")
    alive = np.ones((40, 40), bool)
    noise = EmulatedNoise(emulated_key(rapid, "SHALLOW4"))
    for integration, ramp in enumerate(ramps):
        for group, signal in enumerate(ramp):
            noise.add(Plane(integration, group, signal, np.uint8(~alive), ~alive, alive), pixels)
    # When SHALLOW4 is made of them: six groups of four frames, one frame between
    means = ramps.reshape(3, 6, 5, 40, 40)[:, :, :4].mean(axis=2, dtype=float)
    wanted = []
    for n in range(2, 7):
        slopes = [np.polyfit(np.arange(n), mean[:n].reshape(n, -1), 1)[0] for mean in means]
        wanted.append(
            1.8 * (n - 1) * np.median([stats.median_abs_deviation(s, scale="normal") for s in slopes])
        )
    # Then its curve is polyfit's, and near the closed form of white noise averaged four times
    np.testing.assert_allclose(noise.curve(1.8), wanted, rtol=1e-4)
    closed = 1.8 * 5 / 2 * np.sqrt(12 * 5 / (6 * 7))
    assert noise.curve(1.8)[-1] == pytest.approx(closed, rel=0.06)
