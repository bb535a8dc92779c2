"""ERR pooled over groups, and the pixels that a clip would hide, on ramps whose truth is known."""

import numpy as np
import pytest

from services.darkref.combine.bad_groups import integrations_that_agree
from services.darkref.combine.telegraph import falling_pixels, has_two_levels
from services.darkref.combine.unclipped import ClippedPlaces, ClippedValues
from services.darkref.kernels.group_flags import first_bad_groups, scan_group_flags
from shared.nircam.dq import GroupFlag
from support.darkref_in_memory import GAIN, GROUP_TIME, combined_in_flight_mode, planes_of

READ_NOISE, BULK = 10.0, 0.027
JUMP_DET = int(GroupFlag.JUMP_DET)


def _ramps(rng, count, groups, side, hits=0.003):
    """Return ramps in e-, (integrations, groups, y, x), and GROUPDQ; hits are flagged."""
    shape = (count, groups, side, side)
    noise = READ_NOISE * np.exp(0.1 * rng.normal(size=shape[2:]))
    electrons = np.cumsum(rng.poisson(BULK * GROUP_TIME, shape), axis=1).astype(np.float32)
    electrons += (noise * rng.standard_normal(shape, np.float32)).astype(np.float32)
    electrons += 37 * rng.standard_normal((count, 1, side, side), np.float32)
    struck = rng.random(shape) < hits
    struck[:, 0] = False
    electrons += np.cumsum(struck * rng.exponential(800, shape), axis=1)
    return electrons, (struck * JUMP_DET).astype(np.uint8)


def _true_ramp(rate, groups):
    return np.asarray(rate) * GROUP_TIME * np.arange(groups)[:, None, None] / GAIN


@pytest.mark.parametrize("count", [3, 5, 10])
def test_errors_hold_at_five_sigma_however_few_integrations_there_are(tmp_path, count):
    # Given plain pixels, some of them hit
    electrons, flags = _ramps(np.random.default_rng(count), count, 20, 240)
    # When
    with combined_in_flight_mode(tmp_path, electrons / GAIN, flags) as combined:
        sci, err, n_valid = (planes_of(cube)[1:] for cube in (combined.sci, combined.err, combined.n_valid))
        unstable = combined.noisy | combined.telegraph
    # Then fewer than 0.05 % are off by 5 of their errors, none has an error near 0, and errors are right
    measured = n_valid > 0
    off = np.abs(sci - _true_ramp(BULK, 20)[1:])[measured]
    err = err[measured]
    assert np.mean(off > 5 * err) < 5e-4
    assert err.min() > 0.3 * np.median(err)
    assert np.sqrt(np.mean(off**2) / np.mean(err.astype(np.float64) ** 2)) == pytest.approx(1, abs=0.02)
    assert np.mean(unstable) < 1e-4


def test_errors_follow_the_noise_that_groups_really_have(tmp_path):
    # Given a detector whose noise doubles half-way through the ramp
    rng = np.random.default_rng(21)
    electrons = rng.normal(0, READ_NOISE, (6, 12, 120, 120))
    electrons[:, 6:] *= 2
    # When
    with combined_in_flight_mode(tmp_path, electrons / GAIN) as combined:
        sci, err = planes_of(combined.sci), planes_of(combined.err)
        growth = combined.growth
    # Then the variance of y[g] - y[0] goes from 2 to 5 times that of a read
    read = (READ_NOISE / GAIN) ** 2
    assert growth[3] == pytest.approx(2 * read, rel=0.06)
    assert growth[9] == pytest.approx(5 * read, rel=0.06)
    for group in (3, 9):
        assert np.sqrt(np.mean(err[group].astype(float) ** 2)) == pytest.approx(np.std(sci[group]), rel=0.02)


def test_the_error_of_a_hot_pixel_has_its_own_poisson_noise(tmp_path):
    # Given pixels of 5 e-/s, 1000 e- at the end, among quiet ones
    rng = np.random.default_rng(22)
    electrons, _ = _ramps(rng, 6, 20, 100, hits=0)
    hot = np.zeros((100, 100), bool)
    hot[::10] = True
    electrons += hot * np.cumsum(rng.poisson(5.0 * GROUP_TIME, electrons.shape), axis=1)
    # When
    with combined_in_flight_mode(tmp_path, electrons / GAIN) as combined:
        off = (planes_of(combined.sci) - _true_ramp(BULK + 5.0 * hot, 20))[:, hot]
        err = planes_of(combined.err)[:, hot]
        assert not combined.noisy[hot].any()
    # Then
    for group in (1, 10, 19):
        assert np.std(off[group] / err[group]) == pytest.approx(1, abs=0.12)


def test_a_single_measurement_has_the_error_of_its_pixel_and_group(tmp_path):
    # Given pixels that all but one integration lost half-way
    rng = np.random.default_rng(23)
    electrons, flags = _ramps(rng, 4, 10, 100, hits=0)
    flags[1:, 5, :30] = GroupFlag.PERSISTENCE.mask
    # When
    with combined_in_flight_mode(tmp_path, electrons / GAIN, flags) as combined:
        sci, err, n_valid = (planes_of(cube) for cube in (combined.sci, combined.err, combined.n_valid))
    # Then
    assert (n_valid[7, :30] == 1).all()
    off = sci[7, :30] - _true_ramp(BULK, 10)[7]
    assert np.sqrt(np.mean(err[7, :30].astype(float) ** 2)) == pytest.approx(np.std(off), rel=0.03)
    assert np.mean(np.abs(off) > 5 * err[7, :30]) < 5e-4


@pytest.mark.parametrize(("hot_in", "count"), [(3, 10), (4, 10), (3, 5), (2, 5)])
@pytest.mark.parametrize("groups", [20, 60])
def test_pixels_hot_in_some_integrations_are_flagged_with_the_mean_of_all(tmp_path, hot_in, count, groups):
    # Given one pixel in ten, hot (0.6 to 10 e-/s) in some of the integrations
    rng = np.random.default_rng(100 * count + hot_in)
    side = 64
    electrons, _ = _ramps(rng, count, groups, side, hits=0)
    planted = rng.random((side, side)) < 0.1
    rate = np.where(planted, np.exp(rng.uniform(np.log(0.6), np.log(10), (side, side))), 0)
    on = np.argsort(rng.random((count, side, side)), axis=0) < hot_in
    electrons += np.cumsum(rng.poisson((on * rate)[:, None] * GROUP_TIME, electrons.shape), axis=1)
    truth = _true_ramp(rate * hot_in / count + BULK, groups)
    # When
    with combined_in_flight_mode(tmp_path, electrons / GAIN) as combined:
        unstable = combined.noisy | combined.telegraph
        sci, err, slope = planes_of(combined.sci), planes_of(combined.err), combined.slope
    # Then they are found, and no other
    flagged = planted & unstable
    assert np.count_nonzero(flagged) >= 0.99 * np.count_nonzero(planted)
    assert np.count_nonzero(unstable & ~planted) <= 2
    # SCI and the slope are those of all integrations, and ERR covers that
    off = (sci - truth)[:, flagged]
    assert np.mean(np.abs(off[-1])) < 0.05 * np.mean(truth[-1][flagged])
    assert np.mean(np.abs(off[1:]) < 3 * err[1:, flagged]) > 0.99
    expected = np.polyfit(np.arange(groups), sci[:, flagged], 1)[0]
    np.testing.assert_allclose(slope[flagged], expected, rtol=1e-3, atol=1e-4)
    # and is as large as the difference between a draw of hot integrations and another
    spread = rate[flagged] * GROUP_TIME * (groups - 1) / GAIN
    chance = spread * np.sqrt(hot_in * (count - hot_in) / count**2 / count)
    assert np.mean(err[-1, flagged] > 0.9 * chance) > 0.98


@pytest.mark.parametrize("count", [5, 10])
def test_a_hit_that_was_not_flagged_is_still_clipped(tmp_path, count):
    # Given one integration in which a pixel in ten jumps by 300 to 3000 e-, unseen
    rng = np.random.default_rng(31)
    electrons, flags = _ramps(rng, count, 20, 80, hits=0)
    struck = rng.random((80, 80)) < 0.1
    at = rng.integers(1, 20, (80, 80))
    electrons[0] += struck * rng.uniform(300, 3000, (80, 80)) * (np.arange(20)[:, None, None] >= at)
    # When
    with combined_in_flight_mode(tmp_path, electrons / GAIN, flags) as combined:
        off = (planes_of(combined.sci) - _true_ramp(BULK, 20))[:, struck]
        err = planes_of(combined.err)[:, struck]
        unstable = combined.noisy | combined.telegraph
    # Then a thousandth of a hit of 900 DN on average is left, and no pixel is called unstable for one
    assert np.mean(unstable[struck]) < (0.03 if count == 5 else 1e-3)
    assert abs(np.mean(off[-1])) < 2
    assert np.mean(np.abs(off[1:]) > 5 * err[1:]) < 5e-3


@pytest.mark.parametrize(("count", "groups", "found"), [(10, 20, 0.83), (10, 60, 0.99), (5, 60, 0.95)])
def test_slow_telegraph_noise_is_found_by_its_falls(tmp_path, count, groups, found):
    # Given pixels that change between two levels, 100 to 200 e- apart, every 300 s, which jwst flags as jumps
    rng = np.random.default_rng(41)
    side = 80
    electrons, flags = _ramps(rng, count, groups, side)
    planted = rng.random((side, side)) < 0.1
    height = rng.uniform(100, 200, (side, side)) * planted
    state = rng.random((count, side, side)) < 0.5
    for group in range(groups):
        if group:
            change = rng.random(state.shape) < GROUP_TIME / 300
            state ^= change
            flags[:, group] |= (JUMP_DET * (change & planted)).astype(np.uint8)
        electrons[:, group] += state * height
    # When
    with combined_in_flight_mode(tmp_path, electrons / GAIN, flags) as combined:
        telegraph = combined.telegraph
    # Then
    assert np.mean(telegraph[planted]) >= found
    assert np.count_nonzero(telegraph & ~planted) <= 1


def test_quiet_pixels_do_not_fall(tmp_path):
    # Given 90 000 pixels, some of which read with twice the noise of others
    rng = np.random.default_rng(42)
    noise = READ_NOISE * np.exp(0.25 * rng.normal(size=(300, 300)))
    electrons = noise * rng.standard_normal((5, 20, 300, 300), np.float32)
    # When
    with combined_in_flight_mode(tmp_path, electrons / GAIN) as combined:
        telegraph = combined.telegraph
    # Then
    assert np.mean(telegraph) <= 4e-5


def test_a_fall_that_all_pixels_share_is_none_of_theirs():
    second = np.full((50, 50), -60.0, np.float32)
    second[3, 4] = -200.0
    result = falling_pixels(
        second, np.full((50, 50), -2.0, np.float32), np.full((50, 50), 25.0, np.float32), second < 0
    )
    assert np.argwhere(result).tolist() == [[3, 4]]


def test_two_levels_need_two_integrations_each():
    rates = np.array([[0.0, 0.0, np.nan], [0.1, 0.1, 0.0], [0.0, 2.0, 0.1], [9.0, 2.1, 2.0], [0.1, 2.0, 2.1]])
    assert has_two_levels(rates).tolist() == [False, True, True]
    assert has_two_levels(np.zeros((3, 2))).tolist() == [False, False]


def test_jumps_in_the_same_early_group_of_most_integrations_are_no_hits(tmp_path):
    # Given a pixel that settles by 2000 e- with the reset, flagged with its neighbours in group 1 of all
    # integrations, and one hit elsewhere
    electrons, flags = _ramps(np.random.default_rng(51), 4, 20, 40, hits=0)
    electrons[:, 1:, 20, 20] += 2000
    for y, x in ((20, 20), (19, 20), (21, 20), (20, 19), (20, 21)):
        flags[:, 1, y, x] = JUMP_DET
    flags[2, 1, 5, 5] = flags[3, 9, 20, 21] = JUMP_DET
    # When
    with combined_in_flight_mode(tmp_path, electrons / GAIN, flags) as combined:
        n_valid, sci = planes_of(combined.n_valid), planes_of(combined.sci)
    # Then the ramps of all five are whole, and the hits are taken out as ever
    assert (n_valid[19, 20, 20], n_valid[19, 19, 20], n_valid[8, 20, 21], n_valid[9, 20, 21]) == (4, 4, 4, 3)
    assert n_valid[:, 5, 5].tolist() == [4] + [3] * 19
    assert sci[19, 20, 20] == pytest.approx(2000 / GAIN, abs=40)
    assert sci[19, 19, 20] == pytest.approx(0, abs=40)


def _bad_groups(flags):
    """First bad groups of GROUPDQ, (integrations, groups), of one pixel."""
    count = len(flags)
    first, ends = np.full((2, count, 1), 255, np.uint8)
    early = np.zeros((count, 1), np.uint8)
    for n, plane in enumerate(flags[:, :, None]):
        # In windows of two groups, as a job reads them.
        for start in range(0, len(plane), 2):
            part = np.ascontiguousarray(plane[start : start + 2])
            scan_group_flags(part, np.uint8(4), np.uint8(1 | 2 | 32), start, first[n], ends[n], early[n])
    first_bad_groups(first, ends, early, integrations_that_agree(count))
    return first[:, 0].tolist(), ends[:, 0].tolist()


def test_only_a_jump_that_comes_back_is_ignored_and_only_early():
    # Given jumps of all in group 2, of three in four in group 4, of half in group 6, and of all in group 12
    flags = np.zeros((4, 20), np.uint8)
    flags[:, 2] = flags[:3, 4] = flags[:2, 6] = flags[:, 12] = JUMP_DET
    flags[3, 17] = GroupFlag.PERSISTENCE
    # When, Then
    assert _bad_groups(flags) == ([6, 6, 12, 12], [255, 255, 255, 17])
    # and what ends a ramp ends it, with a jump or without
    flags[:, 2] |= GroupFlag.SATURATED.mask
    assert _bad_groups(flags) == ([2] * 4, [2] * 4)


def test_two_integrations_may_agree_by_chance():
    flags = np.zeros((2, 6), np.uint8)
    flags[:, 2] = JUMP_DET
    assert _bad_groups(flags)[0] == [2, 2]
    assert [integrations_that_agree(n) for n in (1, 2, 3, 4, 5, 10)] == [2, 3, 3, 3, 4, 8]


def test_clipped_places_come_back_by_group(tmp_path):
    # Given two windows of two groups, in any order of places
    rng = np.random.default_rng(61)
    values = rng.normal(size=(5, 3)).astype(np.float32)
    at = np.array([[1, 7, 2], [0, 3, 1], [1, 2, 4], [0, 9, 1], [1, 1, 1]], np.uint32)
    with ClippedPlaces(tmp_path / "clipped") as places:
        places.add(4, 100, ClippedValues(at, values))
        places.add(4, 200, ClippedValues(at[:1], values[:1]))
        places.add(6, 100, ClippedValues(at[:0], values[:0]))
        # When
        fourth, fifth, sixth = (places.of_group(group) for group in (4, 5, 6))
    # Then
    assert fourth.pixel.tolist() == [103, 109]
    assert fifth.pixel.tolist() == [107, 102, 101, 207]
    assert fifth.removed.tolist() == [2, 4, 1, 2]
    np.testing.assert_array_equal(fifth.variance, values[[0, 2, 4, 0], 1])
    assert sixth.pixel.size == 0
    assert not (tmp_path / "clipped").exists()


def test_one_integration_has_no_error(tmp_path):
    electrons, _ = _ramps(np.random.default_rng(71), 1, 6, 20, hits=0)
    with combined_in_flight_mode(tmp_path, electrons / GAIN) as combined:
        assert not planes_of(combined.err).any()
        assert not (combined.noisy | combined.telegraph).any()


def test_results_do_not_depend_on_the_processors(tmp_path, monkeypatch):
    electrons, flags = _ramps(np.random.default_rng(81), 5, 8, 48)
    results = []
    for number in (1, 3):
        monkeypatch.setattr("services.darkref.combine.combine_set.processors", lambda number=number: number)
        with combined_in_flight_mode(tmp_path / str(number), electrons / GAIN, flags) as combined:
            results.append([planes_of(combined.sci), planes_of(combined.err), combined.variance_ratio])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_array_equal(ours, theirs)
