"""Jump counts against the NRC-09 notebook's own expressions, their errors, and the pixels shown."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from services.noise.jumps.counts import (
    JumpCounter,
    expected_percent,
    false_positive_percent,
    false_positive_probability,
    live_seconds,
    threshold_sigma,
)
from services.noise.jumps.pixel_ramps import check_inside, choose_pixel, grid_start, pixel_ramp
from shared.errors import PermanentError

JUMP_DET = 4


def count(groupdq, science=None):
    ngroups, ny, nx = groupdq.shape[1:]
    counter = JumpCounter(np.ones((ny, nx), bool) if science is None else science, ngroups)
    for integration in groupdq:
        for group, plane in enumerate(integration):
            counter.add(group, plane & JUMP_DET != 0)
    return (*counter.counts(), counter)


groupdqs = hnp.arrays(
    np.uint8, (2, 4, 6, 7), elements=st.sampled_from([0, 0, 0, 0, 1, 2, 4, 5, 6]), fill=st.just(0)
)


@given(groupdqs)
def test_counts_are_those_of_the_notebook_over_all_pixels_and_over_science_pixels(groupdq):
    # Given any GROUPDQ, with other bits on as well
    science = np.zeros((6, 7), bool)
    science[1:5, 1:6] = True
    # When its flags are counted one group at a time
    jumps, on_sky, _ = count(groupdq, science)
    # Then they are what the notebook prints
    flags = groupdq & JUMP_DET > 0
    ysize, xsize = flags.shape[-2:]
    assert jumps.flags == np.sum(flags)
    hit = np.sum(np.sum(flags, axis=(0, 1)) > 0)
    assert jumps.pixels == hit
    assert jumps.percent == pytest.approx(hit / (ysize * xsize) * 100)
    assert jumps.per_group == np.sum(flags, axis=(0, 2, 3)).tolist()
    assert on_sky.flags == np.sum(flags[..., science])
    assert on_sky.pixels == np.sum(np.any(flags, axis=(0, 1)) & science)
    assert on_sky.percent == pytest.approx(on_sky.pixels / science.sum() * 100)


@given(groupdqs)
def test_error_is_that_of_events_joined_in_space_and_from_group_to_group(groupdq):
    # Given any GROUPDQ
    flags = groupdq & JUMP_DET > 0
    # When the whole cube of an integration is labelled at once: 8 neighbours in a group, the same
    # pixel in the groups beside it
    structure = np.zeros((3, 3, 3), bool)
    structure[1] = True
    structure[:, 1, 1] = True
    squares, events = 0, 0
    for cube in flags:
        labels, number = ndimage.label(cube, structure)
        squares += np.sum(np.bincount(labels.ravel())[1:] ** 2)
        events += number
    # Then the one-pass count has the same events and the same compound Poisson error
    jumps, _, counter = count(groupdq)
    assert jumps.flags_error == pytest.approx(np.sqrt(squares))
    assert counter.events == events


def test_pixels_hit_by_two_events_belong_to_the_first():
    groupdq = np.zeros((2, 3, 8, 8), np.uint8)
    groupdq[0, 1, 2, 2:5] = JUMP_DET
    groupdq[1, 2, 2, 3:7] = JUMP_DET
    jumps, _, _ = count(groupdq)
    assert jumps.pixels == 5
    assert jumps.percent_error == pytest.approx(100 * np.hypot(3, 2) / 64)


def test_stated_errors_are_the_scatter_of_realisations():
    # Given many exposures with events of 1, 2 or 5 pixels at a known rate
    rng = np.random.default_rng(8)
    seen = []
    for _ in range(150):
        groupdq = np.zeros((1, 6, 80, 80), np.uint8)
        for _ in range(rng.poisson(60)):
            group, y, x = rng.integers(1, 6), rng.integers(2, 78), rng.integers(2, 78)
            length = rng.choice([1, 2, 5])
            groupdq[0, group, y, max(x - length, 0) : x] = JUMP_DET
        jumps, _, _ = count(groupdq)
        seen.append((jumps.flags, jumps.flags_error, jumps.percent, jumps.percent_error))
    flags, flags_error, percent, percent_error = np.array(seen).T
    # Then their scatter is the error that each states
    assert flags.std() == pytest.approx(flags_error.mean(), rel=0.2)
    assert percent.std() == pytest.approx(percent_error.mean(), rel=0.2)


def test_false_positives_are_the_two_sided_tail_at_the_jump_steps_threshold():
    assert false_positive_probability(150) == pytest.approx(6.334e-5, rel=1e-3)
    assert false_positive_percent(150, 1) == pytest.approx(0.94, abs=0.005)
    assert false_positive_probability(4) == pytest.approx(5.733e-7, rel=1e-3)
    assert false_positive_probability(3) == pytest.approx(1.973e-9, rel=1e-3)
    assert false_positive_probability(2) == 0
    assert [threshold_sigma(ngroups) for ngroups in (3, 4, 5, 150)] == [6, 5, 4, 4]
    assert false_positive_percent(10, 5) == pytest.approx(100 * (1 - (1 - 6.334e-5) ** 45), rel=1e-3)


def test_expected_percentage_scales_with_time_and_never_passes_all():
    assert expected_percent(7.5, 1000) == pytest.approx(7.5)
    assert expected_percent(7.5, 2000) == pytest.approx(100 * (1 - 0.925**2))
    assert expected_percent(7.5, 1e7) <= 100
    assert live_seconds(50.0, 4) == 200


def first_jumps(shape, ngroups, *hits):
    first = np.full(shape, ngroups, np.int32)
    for group, y, x in hits:
        first[y, x] = group
    return first


def cross(group, y, x):
    return [(group, y, x), (group, y - 1, x), (group, y + 1, x), (group, y, x - 1), (group, y, x + 1)]


def test_pixel_chosen_is_the_most_central_middle_of_a_cross():
    everywhere = np.ones((20, 20), bool)
    # Given a lone flag in the centre, a cross nearby and one further away
    first = first_jumps((20, 20), 10, (5, 10, 10), *cross(4, 7, 8), *cross(4, 2, 2))
    # Then the middle of the nearer cross is chosen
    assert choose_pixel(first, 10, everywhere) == (8, 7)
    # And a disc, as a snowball leaves it, is none
    disc = [(4, y, x) for y in range(5, 8) for x in range(5, 8)]
    assert choose_pixel(first_jumps((20, 20), 10, *disc, *cross(4, 15, 3)), 10, everywhere) == (3, 15)
    # And one in the middle half of the ramp goes before a nearer one at its beginning
    early = first_jumps((20, 20), 20, *cross(3, 10, 10), *cross(9, 2, 2))
    assert choose_pixel(early, 20, everywhere) == (2, 2)
    # And with nothing but lone flags the most central one, and with none at all none
    assert choose_pixel(first_jumps((20, 20), 10, (5, 3, 4), (5, 1, 1)), 10, everywhere) == (4, 3)
    assert choose_pixel(first_jumps((20, 20), 10), 10, everywhere) is None


def test_pixel_chosen_has_a_ramp_on_both_sides_of_its_jump_and_all_its_neighbours_on_the_sky():
    science = np.zeros((20, 20), bool)
    science[4:16, 4:16] = True
    too_early, too_late, at_border = (1, 10, 10), (9, 9, 9), (5, 4, 8)
    assert choose_pixel(first_jumps((20, 20), 10, too_early, too_late, at_border), 10, science) is None


def test_grid_is_moved_inwards_at_an_edge():
    assert grid_start((5, 6), (20, 20)) == (4, 5)
    assert grid_start((0, 19), (20, 20)) == (0, 17)


@pytest.mark.parametrize("pixel", [(-1, 0), (20, 0), (0, 10), (0, -1)])
def test_pixel_outside_is_refused_in_one_line(pixel):
    with pytest.raises(PermanentError) as refused:
        check_inside(pixel, (10, 20), "exposure.fits")
    assert "\n" not in str(refused.value)


def test_ramp_of_a_pixel_has_the_line_over_the_groups_before_its_first_jump():
    signal = np.array([3, 5, 6, 9, 300, 302, 500, 501], np.float32)
    jumps = np.zeros(8, bool)
    jumps[[4, 6]] = True
    ramp = pixel_ramp((3, 2), 1, signal, jumps, np.arange(8) < 4)
    slope, intercept = np.polyfit(range(4), [3, 5, 6, 9], 1)
    assert (ramp.x, ramp.y, ramp.integration, ramp.jumps) == (3, 2, 1, [4, 6])
    assert ramp.slope == pytest.approx(slope)
    assert ramp.intercept == pytest.approx(intercept)
    assert ramp.signal_dn == signal.tolist()


def test_ramp_that_is_hit_at_once_has_no_line():
    jumps = np.array([False, True, False])
    ramp = pixel_ramp((0, 0), 0, np.ones(3, np.float32), jumps, np.array([True, False, False]))
    assert ramp.slope is None
    assert ramp.intercept is None
