"""Events, their charge and their rate: against labelled cubes, and against what was planted."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage, stats

from nircam_darks.simulation.cosmic_rays import draw_deposit, snowball
from services.noise.jumps.events import FlagCollector, cluster, count_meetings
from services.noise.jumps.rates import (
    FLIGHT_HITS,
    LARGE_PIXELS,
    count_hits,
    event_statistics,
    median_charge,
    poisson_interval,
    set_hits,
)
from shared.nircam.detectors import PIXEL_PITCH_UM
from support.configurations import configuration

SATURATED, JUMP_DET, DO_NOT_USE = 2, 4, 1
GAIN = 2.0
CROSS = {(0, 0): 0.84, (-1, 0): 0.04, (1, 0): 0.04, (0, -1): 0.04, (0, 1): 0.04}


def find(sci, groupdq, active=None):
    """Events of (integrations, groups, y, x) arrays, as the noise stage goes through them."""
    collector = FlagCollector(np.ones(sci.shape[2:], bool) if active is None else active, sci.shape[1])
    quality = np.empty(sci.shape[2:], np.uint8)
    for signals, flags in zip(sci.astype(np.float32), groupdq, strict=True):
        for group, signal in enumerate(signals):
            quality[:] = flags[group]
            collector.add(group, signal, quality)
    return collector.finish()


def white(shape, sigma, seed, rate=0.3):
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, sigma, shape) + rng.normal(0, 20, (shape[0], 1, *shape[2:]))
    return noise + rate * np.arange(shape[1])[:, None, None]


def plant(sci, groupdq, group, y, x, charge, shares=CROSS):
    """Put a hit of `charge` DN into the first integration and flag what it falls on."""
    for (dy, dx), share in shares.items():
        if 0 <= y + dy < sci.shape[2] and 0 <= x + dx < sci.shape[3]:
            sci[0, group:, y + dy, x + dx] += charge * share
            groupdq[0, group, y + dy, x + dx] |= JUMP_DET


def two_point(sci, sigma):
    """Flags of a two-point cut at 4 sigma, with the four neighbours beyond 10, as jwst sets them."""
    steps = np.diff(sci, axis=1)
    ratio = np.abs(steps - np.median(steps, axis=(0, 1))) / (sigma * math.sqrt(2))
    plus = np.zeros((1, 1, 3, 3), bool)
    plus[0, 0] = ndimage.generate_binary_structure(2, 1)
    beside = ndimage.binary_dilation((ratio > 10) & (ratio < 1000), plus)
    groupdq = np.zeros(sci.shape, np.uint8)
    groupdq[:, 1:][(ratio > 4) | beside] = JUMP_DET
    return groupdq


#: Eight neighbours in a group, the same pixel from one group to the next.
TOUCHING = np.zeros((3, 3, 3), bool)
TOUCHING[1] = True
TOUCHING[:, 1, 1] = True

flag_cubes = hnp.arrays(bool, st.tuples(st.integers(1, 4), st.integers(1, 7), st.integers(1, 6)))


@settings(deadline=None)
@given(flag_cubes)
def test_clusters_are_the_labels_of_scipy(flags):
    # Given flags of an integration, up to the edges
    group, y, x = np.nonzero(flags)
    clusters = cluster(group, y, x, flags.shape[1:])
    # Then events are those of the labelled cube, islands those of each labelled group
    labels, number = ndimage.label(flags, TOUCHING)
    assert clusters.event.max(initial=-1) + 1 == number
    assert len(set(zip(clusters.event, labels[flags], strict=True))) == number
    in_a_group = TOUCHING.copy()
    in_a_group[[0, 2]] = False
    labels, number = ndimage.label(flags, in_a_group)
    assert clusters.island.max(initial=-1) + 1 == number
    assert len(set(zip(clusters.island, labels[flags], strict=True))) == number
    # And they are numbered in the order in which they begin
    for numbers in (clusters.event, clusters.island):
        assert np.all(np.diff(np.unique(numbers, return_index=True)[1]) > 0)


@settings(deadline=None)
@given(flag_cubes)
def test_meetings_are_those_of_a_cube_that_was_rolled(flags):
    # Given labelled events, and the same shifted by half of the rows and columns
    labels, _ = ndimage.label(flags, TOUCHING)
    shifted = np.roll(labels, (-(flags.shape[1] // 2), -(flags.shape[2] // 2)), axis=(1, 2))
    # When every flag is held against all that touch it in the other cube
    pairs = set()
    for later, dy, dx in np.argwhere(TOUCHING) - 1:
        other = np.roll(shifted, (-dy, -dx), axis=(1, 2))
        mine = labels[max(-later, 0) : labels.shape[0] - max(later, 0)]
        other = other[max(later, 0) : labels.shape[0] - max(-later, 0)]
        both = (mine > 0) & (other > 0) & (mine != other)
        pairs |= set(zip(mine[both].tolist(), other[both].tolist(), strict=True))
    # Then as many pairs of different events meet
    group, y, x = np.nonzero(flags)
    event = cluster(group, y, x, flags.shape[1:]).event
    assert count_meetings(group, y, x, event, flags.shape[1:]) == len(pairs)


@settings(deadline=None)
@given(
    hnp.arrays(np.uint8, (2, 5, 6, 7), elements=st.sampled_from([0, 0, 0, 0, 4, 12]), fill=st.just(0)),
    st.integers(0, 2**32 - 1),
)
def test_events_are_those_of_a_labelled_cube_and_their_charge_its_steps(groupdq, seed):
    # Given any flags (but not in group 0, which has no difference), and one pixel that is not usable
    groupdq[:, 0] = 0
    active = np.ones((6, 7), bool)
    active[2, 3] = False
    sci = white(groupdq.shape, 5.0, seed).astype(np.float32)
    # When each integration's flags are labelled at once: 8 neighbours in a group, the same pixel in time
    pixels, areas, charges = [], [], []
    for signals, flags in zip(sci.astype(float), (groupdq & JUMP_DET > 0) & active, strict=True):
        steps = np.diff(signals, axis=0, prepend=np.nan)
        quiet = np.where(flags, np.nan, steps)
        known = np.isfinite(quiet).sum(axis=0)
        mean = np.nansum(quiet, axis=0) / np.maximum(known, 1)
        labels, number = ndimage.label(flags, TOUCHING)
        for event in range(1, number + 1):
            mine = labels == event
            pixels.append(int(mine.any(axis=0).sum()))
            areas.append(max(ndimage_sizes(plane) for plane in mine))
            charges.append(float((steps - mean)[mine].sum()))
    # Then the collector has the same events, pixels and charges
    events, _ = find(sci, groupdq, active)
    assert sorted(events.pixels.tolist()) == sorted(pixels)
    assert sorted(events.area.tolist()) == sorted(areas)
    assert np.sort(events.charge) == pytest.approx(np.sort(charges), abs=1e-3)


def ndimage_sizes(plane):
    labels, number = ndimage.label(plane, np.ones((3, 3)))
    return int(np.bincount(labels.ravel())[1:].max()) if number else 0


def test_planted_charge_and_rate_come_back_within_their_stated_errors():
    # Given 60 exposures with crosses of 2000 e- at a known rate, in white noise
    ngroups, side, sigma, charge_e = 12, 96, 5.0, 2000.0
    key = configuration(side, side, ngroups)
    pulls, rates = [], []
    for seed in range(60):
        rng = np.random.default_rng(1000 + seed)
        sci = white((1, ngroups, side, side), sigma, seed)
        groupdq = np.zeros(sci.shape, np.uint8)
        for _ in range(rng.poisson(40)):
            at = rng.integers(1, ngroups), rng.integers(side), rng.integers(side)
            plant(sci, groupdq, *at, charge_e / GAIN)
        events, search = find(sci, groupdq)
        whole = events.counted & (events.pixels == 5)
        pulls.extend((events.charge[whole] * GAIN - charge_e) / (events.error[whole] * GAIN))
        results = event_statistics(events, search, key, GAIN, (59680.0, 59680.1))
        asked = 40 / ((ngroups - 1) * key.group_time) / (side**2 * (PIXEL_PITCH_UM * 1e-4) ** 2)
        rates.append((results.hits_per_cm2_s - asked) / results.hits_per_cm2_s_error)
        assert results.large_events == results.core_events == results.unmeasured_events == 0
    # Then charges and rates scatter as their errors say, about what was planted
    for found in (np.array(pulls), np.array(rates)):
        assert abs(found.mean()) < 3.5 / math.sqrt(len(found))
        assert np.std(found) == pytest.approx(1, abs=3.5 / math.sqrt(2 * len(found)))
        assert np.mean(np.abs(found) < 1) > 0.68 - 3.5 * math.sqrt(0.22 / len(found))
        assert np.mean(np.abs(found) < 3) >= 0.98


def test_error_of_a_charge_knows_of_noise_that_neighbours_share():
    # Given noise of which half moves eight by eight pixels together, and crosses in it
    pulls = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        shape = (1, 10, 72, 72)
        shared = rng.normal(0, 4, (1, 10, 72 // 8, 72 // 8)).repeat(8, axis=2).repeat(8, axis=3)
        sci = rng.normal(0, 4, shape) + shared
        groupdq = np.zeros(shape, np.uint8)
        for y in range(4, 72, 8):
            for x in range(4, 72, 8):
                plant(sci, groupdq, rng.integers(1, 10), y, x, 1000.0)
        events, search = find(sci, groupdq)
        assert search.correlation == pytest.approx(0.5 * 7 / 8, abs=0.06)
        pulls.extend((events.charge - 1000) / events.error)
    assert np.std(pulls) == pytest.approx(1, abs=0.12)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 8), st.integers(1, 3), st.floats(100, 5e4), st.integers(0, 1000))
def test_a_hit_in_the_middle_of_averaged_frames_is_one_event_with_all_its_charge(group, more, charge, seed):
    # Given a hit whose step is spread over several groups, all flagged
    sci, groupdq = white((1, 14, 20, 20), 1.0, seed), np.zeros((1, 14, 20, 20), np.uint8)
    for part in range(more + 1):
        plant(sci, groupdq, group + part, 10, 9, charge / (more + 1))
    # When the events are found, then there is one, where and when it was put, with the whole charge
    events, _ = find(sci, groupdq)
    assert events.pixels.tolist() == [5]
    assert events.area.tolist() == [5]
    assert (events.group[0], events.y[0], events.x[0]) == (group, 10, 9)
    assert abs(events.charge[0] - charge) < 5 * events.error[0]


def test_noise_has_no_sign_so_its_events_are_taken_away_whatever_their_number():
    # Given exposures in which noise alone is flagged, at a threshold far below 4 sigma, and 25 hits each
    key = configuration(64, 64, 8)
    pulls, negatives = [], 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        sci = white((1, 8, 64, 64), 5.0, seed, rate=0.0)
        groupdq = np.zeros(sci.shape, np.uint8)
        steps = np.diff(sci, axis=1)
        groupdq[:, 1:][np.abs(steps) > 2.9 * 5 * math.sqrt(2)] = JUMP_DET
        for _ in range(rng.poisson(25)):
            plant(sci, groupdq, *rng.integers(1, 8, 1), *rng.integers(0, 64, 2), 1000.0)
        results = event_statistics(*find(sci, groupdq), key, GAIN, (0.0, 1.0))
        negatives += results.negative_events
        expected = 25 * (62 / 64) ** 2
        pulls.append((results.hits - expected) / ((results.hits_high - results.hits_low) / 2))
    # Then the hits come back, with an error that knows of the noise
    assert negatives > 60 * 25
    assert abs(np.mean(pulls)) < 3.5 / math.sqrt(60)
    assert np.std(pulls) == pytest.approx(1, abs=0.35)


def test_hits_that_met_by_chance_are_counted_one_by_one():
    # Given so many hits that one in ten touches another
    result, planted = 0.0, 0
    apart = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        sci, groupdq = np.zeros((1, 6, 100, 100)), np.zeros((1, 6, 100, 100), np.uint8)
        for _ in range(rng.poisson(200)):
            plant(sci, groupdq, rng.integers(1, 6), *rng.integers(0, 100, 2), 1000.0)
            planted += 1
        events, search = find(sci, groupdq)
        apart += len(events.charge)
        result += len(events.charge) + search.merged
    # Then what came together by chance is added again, to a tenth of it
    assert apart < 0.91 * planted
    assert result == pytest.approx(planted, rel=0.01)


def test_chance_meetings_of_hits_that_last_two_groups_are_not_counted_twice():
    # Given hits in the middle of averaged frames, each of which flags two groups
    result, planted = 0.0, 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        sci, groupdq = np.zeros((1, 8, 100, 100)), np.zeros((1, 8, 100, 100), np.uint8)
        for _ in range(rng.poisson(150)):
            group, y, x = rng.integers(1, 7), *rng.integers(0, 100, 2)
            for later in (0, 1):
                plant(sci, groupdq, group + later, y, x, 1000.0)
            planted += 1
        events, search = find(sci, groupdq)
        result += len(events.charge) + search.merged
    assert result == pytest.approx(planted, rel=0.015)


def test_live_time_of_averaged_frames_begins_after_the_first_of_them():
    # Given groups of 8 frames and 2 more in between
    key = configuration(32, 32, 5, readpatt="MEDIUM8", nframes=8, groupgap=2)
    sci = white((1, 5, 32, 32), 5.0, 1)
    results = event_statistics(*find(sci, np.zeros(sci.shape, np.uint8)), key, GAIN, (0.0, 1.0))
    # Then 47 of the 48 frame times from the first frame on are live
    assert results.live_seconds == pytest.approx(47 * key.tframe)


def test_a_hit_that_saturates_is_an_event_and_a_hot_pixel_that_fills_up_is_none():
    # Given a hit that saturates a pixel, whose neighbours the saturation step flags too
    shape = (1, 10, 24, 24)
    sci, groupdq = white(shape, 5.0, 3), np.zeros(shape, np.uint8)
    sci[0, 4:, 8, 8] += 55000
    groupdq[0, 4:, 7:10, 7:10] = SATURATED
    # And a hot pixel that is full after six groups
    sci[0, :, 16, 16] = np.minimum(9000.0 * np.arange(1, 11), 56000)
    groupdq[0, 6:, 15:18, 15:18] = SATURATED
    # When events are looked for
    events, search = find(sci, groupdq)
    # Then the hit is one, its charge a lower limit, and the hot pixel none
    assert (events.y.tolist(), events.x.tolist(), events.group.tolist()) == ([8], [8], [4])
    assert events.saturated.all()
    assert events.area.tolist() == [9]
    assert events.charge[0] == pytest.approx(55000, rel=0.01)
    # And what was saturated is not searched: 9 pixels for 6 and for 4 differences
    assert search.possible - search.searched == 9 * 6 + 9 * 4


def test_what_only_reaches_in_is_not_counted_and_unusable_pixels_take_no_part():
    sci, groupdq = white((1, 6, 20, 20), 2.0, 5), np.zeros((1, 6, 20, 20), np.uint8)
    active = np.ones((20, 20), bool)
    active[:4] = False
    active[12, 12] = False
    # Given hits on the reference pixels' edge, on the array's border, inside, and beside a dead pixel
    plant(sci, groupdq, 2, 3, 10, 1000.0)
    plant(sci, groupdq, 2, 10, 0, 1000.0)
    plant(sci, groupdq, 3, 8, 10, 1000.0)
    plant(sci, groupdq, 4, 12, 13, 1000.0)
    events, search = find(sci, groupdq, active)
    # Then those whose middle is off the border count; a dead pixel inside makes no border
    assert sorted(zip(events.y[events.counted].tolist(), events.x[events.counted].tolist(), strict=True)) == [
        (8, 10),
        (12, 13),
    ]
    assert search.pixels == 14 * 18 - 1
    assert events.pixels[events.counted].tolist() == [5, 4]


def test_snowballs_are_large_and_ordinary_hits_are_not():
    # Given a snowball as the simulator draws it, and crosses
    rng = np.random.default_rng(2)
    collecting = np.ones((128, 128), bool)
    sci, groupdq = white((1, 8, 128, 128), 5.0, 2), np.zeros((1, 8, 128, 128), np.uint8)
    ball = snowball(collecting, rng)
    flat = sci.reshape(1, 8, -1)
    flat[0, 5:, ball.pixels] += np.minimum(ball.charge, 110000)[:, None] / GAIN
    groupdq.reshape(1, 8, -1)[0, 5, ball.pixels[ball.charge > 60]] = JUMP_DET
    core = ball.pixels[ball.charge > 1e5]
    groupdq.reshape(1, 8, -1)[0, 5:, core] = SATURATED
    for y in (5, 15, 120):
        plant(sci, groupdq, 3, y, 100, 1000.0)
    results = event_statistics(*find(sci, groupdq), configuration(128, 128, 8), GAIN, (0.0, 1.0))
    # Then one event is large, with its Poisson limits
    assert (results.events, results.large_events, results.core_events) == (4, 1, 1)
    assert (
        results.large_events_per_cm2_s_low
        < results.large_events_per_cm2_s
        < results.large_events_per_cm2_s_high
    )
    assert results.expected_large_events == pytest.approx(results.live_seconds / 20 * (126 / 2048) ** 2)
    assert LARGE_PIXELS > 36


def test_rate_of_simulated_cosmic_rays_comes_back():
    # Given the simulator's own cosmic rays, flagged by a two-point difference
    ngroups, side, sigma = 12, 80, 5.0
    key = configuration(side, side, ngroups)
    collecting = np.ones((side, side), bool)
    pulls, sizes = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        sci = white((1, ngroups, side, side), sigma, seed)
        seconds = key.group_time
        hits = 0
        for group in range(1, ngroups):
            deposit = draw_deposit(collecting, 400.0 / seconds, seconds, "SUNMIN", rng)
            sci.reshape(1, ngroups, -1)[0, group:, deposit.pixels] += deposit.charge[:, None] / GAIN
            hits += deposit.hits
        results = event_statistics(*find(sci, two_point(sci, sigma)), key, GAIN, (0.0, 1.0))
        asked = 400.0 / seconds
        pulls.append((results.hits_per_cm2_s - asked) / results.hits_per_cm2_s_error)
        sizes.append(results.median_charge_e)
    # Then the rate comes back; 2 % of the hits are too faint to be seen
    assert np.mean(pulls) == pytest.approx(0, abs=3.5 / math.sqrt(60))
    assert np.std(pulls) == pytest.approx(1, abs=0.35)
    assert np.median(sizes) == pytest.approx(3650, rel=0.1)


@given(st.integers(0, 10000))
def test_poisson_interval_is_garwoods(count):
    low, high = poisson_interval(count)
    beyond = stats.norm.sf(1)
    assert low == pytest.approx(stats.chi2.ppf(beyond, 2 * count) / 2 if count else 0.0)
    assert high == pytest.approx(stats.chi2.isf(beyond, 2 * count + 2) / 2)


@given(st.integers(0, 1000), st.integers(0, 1000), st.floats(0, 50), st.floats(0, 7))
def test_limits_of_hits_hold_them(positive, negative, merged, error):
    result = count_hits(positive, negative, merged, error)
    assert result.hits == pytest.approx(positive - negative + merged)
    assert result.low <= result.hits < result.high
    assert result.high - result.low >= 1.9 * math.sqrt(positive + negative + error**2)


@given(st.lists(st.floats(1, 1e6), min_size=10, max_size=200))
def test_median_charge_of_hits_alone_is_their_median(charges):
    value, error = median_charge(np.array(charges))
    ordered = np.sort(charges)
    assert value in (ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2])
    assert error >= 0


def test_median_charge_is_not_moved_by_noise_and_its_error_holds():
    pulls = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        hits = rng.lognormal(math.log(3000), 1.2, 300)
        false = rng.choice([-1, 1], 400) * rng.uniform(60, 80, 400)
        value, error = median_charge(np.concatenate([hits, false]))
        pulls.append((value - 3000) / error)
    assert abs(np.mean(pulls)) < 0.25
    assert np.std(pulls) == pytest.approx(1, abs=0.2)
    assert median_charge(np.array([100.0] * 9)) is None
    assert median_charge(np.array([])) is None


def test_facts_of_an_exposure_that_nothing_hit():
    sci = white((2, 5, 32, 32), 5.0, 1)
    results = event_statistics(
        *find(sci, np.zeros(sci.shape, np.uint8)), configuration(32, 32, 5), GAIN, (10.0, 11.0)
    )
    assert results.events == results.hits == results.hits_low == 0
    assert results.hits_high == pytest.approx(1.841, abs=0.001)
    assert results.mid_mjd == 10.5
    assert results.lost_percent == 0
    assert results.live_seconds == pytest.approx(2 * 4 * configuration(32, 32, 5).group_time)
    assert results.median_charge_e is None
    assert results.pixels_per_event is None
    assert results.expected_hits_per_cm2_s == FLIGHT_HITS
    assert results.threshold_e == pytest.approx(4 * 5 * math.sqrt(2) * GAIN, rel=0.1)
    assert results.verdict.startswith("not enough data")
    assert sum(results.charge.events) == 0
    # And it goes through JSON and back
    assert type(results).model_validate_json(results.model_dump_json()) == results


def test_a_rate_that_comes_out_negative_is_an_upper_limit_and_counts_as_it_is_in_a_sum():
    # Given an exposure in which noise makes six events down and two up
    key = configuration(64, 64, 5)
    sci = white((1, 5, 64, 64), 5.0, 1)
    groupdq = np.zeros(sci.shape, np.uint8)
    for n in range(8):
        plant(sci, groupdq, 2, 5 + 7 * n, 30, 80.0 if n < 2 else -80.0, {(0, 0): 1.0})
    down = event_statistics(*find(sci, groupdq), key, GAIN, (10.0, 11.0))
    assert (down.events, down.negative_events) == (2, 6)
    assert down.hits_per_cm2_s < 0
    # Then what is shown is 0 with a limit that holds 95 % of an estimate as uncertain
    assert down.hits_shown_per_cm2_s.value == 0
    wanted = 1.645 * (down.hits_per_cm2_s_high - down.hits_per_cm2_s)
    assert down.comparison.upper_limit == pytest.approx(wanted)
    assert down.hits_limit_per_cm2_s == pytest.approx(wanted)
    assert down.comparison.compared.value == 0
    assert type(down).model_validate_json(down.model_dump_json()) == down
    # And so is that of a set of such exposures
    several = set_hits([down, down])
    assert several.value == 0
    assert several.comparison.upper_limit == pytest.approx(1.645 * several.error)
    # While with an exposure of eight hits the sum is 4 of twice the area and time
    groupdq[:], sci = 0, white((1, 5, 64, 64), 5.0, 1)
    for n in range(8):
        plant(sci, groupdq, 2, 5 + 7 * n, 30, 80.0, {(0, 0): 1.0})
    up = event_statistics(*find(sci, groupdq), key, GAIN, (10.0, 11.0))
    both = set_hits([down, up])
    assert up.comparison.upper_limit is None
    assert both.value == pytest.approx(up.hits_per_cm2_s / 4, rel=0.01)
    assert both.comparison.upper_limit is None


def test_nothing_is_said_where_the_jump_step_could_not_run():
    sci = white((1, 2, 16, 16), 5.0, 1)
    assert (
        event_statistics(
            *find(sci, np.zeros(sci.shape, np.uint8)), configuration(16, 16, 2), GAIN, (0.0, 1.0)
        )
        is None
    )
    sci = white((1, 4, 16, 16), 5.0, 1)
    unusable = np.full(sci.shape, DO_NOT_USE, np.uint8)
    assert event_statistics(*find(sci, unusable), configuration(16, 16, 4), GAIN, (0.0, 1.0)) is None


def test_result_does_not_depend_on_what_the_buffers_hold_afterwards():
    # Given a reader that uses three planes again and again, as the noise stage's does
    sci, groupdq = white((2, 6, 24, 24), 5.0, 9).astype(np.float32), np.zeros((2, 6, 24, 24), np.uint8)
    for group, y, x in ((1, 5, 5), (5, 12, 20), (3, 18, 3)):
        plant(sci, groupdq, group, y, x, 900.0)
    events, search = find(sci, groupdq)
    collector, planes = FlagCollector(np.ones((24, 24), bool), 6), np.empty((3, 24, 24), np.float32)
    for number, (integration, group) in enumerate(np.ndindex(2, 6)):
        planes[number % 3] = sci[integration, group]
        collector.add(group, planes[number % 3], groupdq[integration, group])
    again, search_again = collector.finish()
    # Then it is the same to the last bit
    assert search == search_again
    for name in vars(events):
        np.testing.assert_array_equal(getattr(events, name), getattr(again, name))
