"""Hot, warm, dead, RC and unreliable pixels: planted ones are found, ordinary ones are left alone."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdatamodels.jwst.datamodels import dqflags

from services.darkref.measure.bad_pixels import PixelScatter, Thresholds, average_rates, flag_pixels
from services.darkref.measure.planes import MeanRamp
from shared.nircam.dq import PixelFlag

GAIN, GROUP_TIME, READ_NOISE, BULK = 1.84, 10.73677, 10.0, 0.027
KINDS = ("ordinary", "hot", "warm", "dead", "rc", "fast rc", "noisy", "saturating")


def _maps(ramps, stop, science=None):
    """Combine ramps (integrations, groups, y, x; DN) as flight mode does, up to group `stop` of each."""
    count, groups = ramps.shape[:2]
    used = np.arange(groups)[None, :, None, None] < stop[:, None]
    risen = np.where(used, ramps - ramps[:, :1], np.nan)
    n_valid = used.sum(0).astype(np.uint16)
    sci = np.nansum(risen, 0) / np.maximum(n_valid, 1)
    scatter = np.nansum((risen - sci) ** 2, 0) / np.maximum(n_valid - 1.0, 1)
    err = np.where(n_valid > 1, np.sqrt(scatter / np.maximum(n_valid, 1)), 0)
    time = np.arange(groups) - (groups - 1) / 2
    slopes = np.tensordot(time, risen, (0, 1)) / np.sum(time**2)
    measured = n_valid > 0
    n = measured.sum(0)
    g = np.where(measured, time[:, None, None], 0)
    y = np.where(measured, sci, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = (n * (g * y).sum(0) - g.sum(0) * y.sum(0)) / (n * (g**2).sum(0) - g.sum(0) ** 2)
    planes = [np.asarray(cube, np.float32) for cube in (slopes, sci, err)]
    return MeanRamp(
        slope=slope.astype(np.float32),
        integration_slope=planes[0].__getitem__,
        integrations=count,
        sci=planes[1].__getitem__,
        err=planes[2].__getitem__,
        n_valid=n_valid.__getitem__,
        groups=groups,
        science=np.ones(n_valid.shape[1:], bool) if science is None else science,
        amplifiers=[slice(0, n_valid.shape[2])],
        gain=GAIN,
        group_time=GROUP_TIME,
    )


def _flag(maps, thresholds=None):
    """Flag pixels by their plain variance relative to the median pixel's and their own Poisson noise."""
    poisson = np.maximum(np.nan_to_num(maps.slope), 0) / GAIN
    total, freedom = np.zeros((2, *maps.science.shape), np.float32)
    for group in range(1, maps.groups):
        count = maps.n_valid(group).astype(np.float32)
        variance = maps.err(group) ** 2 * count
        here = maps.science & (count >= 2)
        if not here.any() or np.median(variance[here]) <= 0:
            continue
        weight = np.where(here, count - 1, 0)
        total += weight * variance / (np.median(variance[here]) + group * poisson)
        freedom += weight
    ratio = np.divide(total, freedom, out=np.full_like(total, np.nan), where=freedom > 0)
    scatter = PixelScatter(ratio, freedom, np.zeros(maps.science.shape, bool))
    return flag_pixels(maps, scatter, thresholds or Thresholds())


def _planted(seed, count, groups=20, shape=(360, 360)):
    """Return maps and what each pixel is, as an index into `KINDS`."""
    rng = np.random.default_rng(seed)
    kind = np.where(rng.random(shape) < 0.04, rng.integers(1, len(KINDS), shape), 0)
    rate = BULK * (1 + 0.2 * rng.normal(size=shape))
    rate = np.where(kind == 1, np.exp(rng.uniform(np.log(0.6), np.log(50), shape)), rate)
    rate = np.where(kind == 2, rng.uniform(0.3, 0.42, shape), rate)
    rate = np.where(kind == 7, 400.0, rate)
    noise = np.where(kind == 6, 10 * READ_NOISE, READ_NOISE)
    time = GROUP_TIME * np.arange(1, groups + 1)
    electrons = np.cumsum(
        rng.poisson(np.maximum(rate, 0) * GROUP_TIME, (count, groups, *shape)), axis=1
    ).astype(np.float64)
    settled = np.exp(-time / (1.5 * GROUP_TIME))[:, None, None]
    electrons -= np.where(kind == 4, rng.uniform(250, 3000, shape), 0) * settled
    electrons += 37 * rng.normal(size=(count, 1, *shape)) + noise * rng.normal(size=electrons.shape)
    electrons[..., kind == 3] = 25.0
    stop = np.where(rng.random((count, *shape)) < 0.03, rng.integers(1, groups, (count, *shape)), groups)
    stop[:, kind == 3] = groups
    stop[:, kind == 5] = 1
    stop[:, kind == 7] = 12
    return _maps(electrons / GAIN, stop), kind


@pytest.mark.parametrize("count", [5, 10])
def test_planted_pixels_are_found_and_ordinary_ones_left_alone(count):
    # Given one pixel in 25 of some kind
    maps, kind = _planted(count, count)
    # When
    quality, counts = _flag(maps)
    # Then
    ordinary = kind == 0
    for name, flag in (
        ("hot", PixelFlag.HOT.mask),
        ("warm", PixelFlag.WARM.mask),
        ("dead", PixelFlag.DEAD.mask),
        ("rc", PixelFlag.RC.mask),
        ("fast rc", PixelFlag.RC.mask),
        ("noisy", PixelFlag.UNRELIABLE_DARK.mask),
        ("saturating", PixelFlag.HOT.mask),
    ):
        result = quality[kind == KINDS.index(name)] & flag != 0
        assert result.size > 500
        assert result.mean() >= 0.99, name
    for flag in (PixelFlag.HOT.mask, PixelFlag.WARM.mask, PixelFlag.DEAD.mask, PixelFlag.RC.mask):
        assert np.mean(quality[ordinary] & flag != 0) < 1e-4
    few = np.min([maps.n_valid(group) for group in range(maps.groups)], 0) < 3
    np.testing.assert_array_equal(quality[ordinary] & PixelFlag.UNRELIABLE_DARK.mask != 0, few[ordinary])
    # and each kind only as what it is
    assert np.mean(quality[kind == 1] & ~PixelFlag.HOT.mask == 0) >= 0.99
    assert np.mean(quality[kind == 2] & ~(PixelFlag.WARM.mask | PixelFlag.UNRELIABLE_DARK.mask) == 0) >= 0.99
    assert np.mean(quality[kind == 6] & ~PixelFlag.UNRELIABLE_DARK.mask == 0) >= 0.98
    assert not np.any((quality & PixelFlag.HOT.mask != 0) & (quality & PixelFlag.WARM.mask != 0))
    # and the counts count
    for number, flag in (
        (counts.hot, PixelFlag.HOT.mask),
        (counts.warm, PixelFlag.WARM.mask),
        (counts.dead, PixelFlag.DEAD.mask),
        (counts.rc, PixelFlag.RC.mask),
        (counts.unreliable, PixelFlag.UNRELIABLE_DARK.mask),
    ):
        assert number == np.count_nonzero(quality & flag)
    assert 0.1 < counts.hot_cut_e_per_s < 0.4
    assert counts.warm_cut_e_per_s < counts.hot_cut_e_per_s


def test_ordinary_pixels_alone_give_next_to_no_flag():
    # Given half a million ordinary pixels of three integrations, the fewest that min_measurements allows
    rng = np.random.default_rng(3)
    ramps = (READ_NOISE / GAIN) * rng.normal(size=(3, 12, 700, 700)) + 0.02 * GROUP_TIME * np.arange(12)[
        :, None, None
    ]
    # When
    quality, _ = _flag(_maps(ramps, np.full((3, 700, 700), 12)))
    # Then
    assert np.mean(quality != 0) < 1e-4


def test_a_quiet_detectors_tail_is_not_hot():
    # Given pixels of 0.05 e-/s, more than 5 sigma out of a long, quiet set, and one of 0.6
    rng = np.random.default_rng(4)
    rate = np.full((64, 64), 0.002)
    rate[:8] = 0.05
    rate[40, 40] = 0.6
    time = 1000.0 * np.arange(1, 21)[:, None, None]
    ramps = (rng.normal(size=(5, 20, 64, 64)) * READ_NOISE + rate * time) / GAIN
    maps = dataclasses.replace(_maps(ramps, np.full((5, 64, 64), 20)), group_time=1000.0)
    # When
    quality, counts = _flag(maps)
    # Then the 5 sigmas are there, but not the rate
    assert counts.hot_cut_e_per_s < 0.05
    assert np.argwhere(quality & (PixelFlag.HOT.mask | PixelFlag.WARM.mask)).tolist() == [[40, 40]]


def test_one_undetected_hit_makes_no_pixel_hot():
    # Given 5 integrations, one of which jumps by 5000 DN unseen
    rng = np.random.default_rng(5)
    ramps = rng.normal(0, 5, (5, 20, 32, 32))
    ramps[2, 7:, 10, 10] += 5000
    # When
    quality, _ = _flag(_maps(ramps, np.full((5, 32, 32), 20)))
    # Then
    assert not quality[10, 10] & (PixelFlag.HOT.mask | PixelFlag.WARM.mask)


def test_what_a_hit_and_its_persistence_leave_of_a_pixel_does_not_make_it_hot():
    # Given short ramps of quiet pixels, of which some saturate in the first integration, by a hit, and are
    # flagged for persistence in all later ones; and hot ones that saturate in every integration
    rng = np.random.default_rng(3)
    shape, groups, count = (200, 200), 20, 10
    electrons = READ_NOISE * rng.normal(size=(count, groups, *shape)) + 37 * rng.normal(
        size=(count, 1, *shape)
    )
    stop = np.full((count, *shape), groups)
    cut_short = rng.random(shape) < 0.1
    stop[0, cut_short] = rng.integers(2, groups, np.count_nonzero(cut_short))
    stop[1:, cut_short] = 0
    hot = ~cut_short & (rng.random(shape) < 0.01)
    electrons += np.where(hot, 2000.0, 0.0) * np.arange(groups)[:, None, None]
    stop[:, hot] = 6
    # When
    short = dataclasses.replace(_maps(electrons / GAIN, stop), group_time=1.07)
    quality, counts = _flag(short)
    # Then the hot ones are called so, and what was cut short is unreliable and nothing else
    assert np.all(quality[hot] & PixelFlag.HOT.mask)
    assert counts.hot == np.count_nonzero(hot)
    assert np.all(quality[cut_short] & PixelFlag.UNRELIABLE_DARK.mask)


def test_reference_pixels_are_never_flagged():
    maps, _ = _planted(6, 5, shape=(80, 80))
    science = np.zeros((80, 80), bool)
    science[4:-4, 4:-4] = True
    quality, counts = _flag(dataclasses.replace(maps, science=science))
    assert not quality[~science].any()
    assert counts.science == 72 * 72


@given(
    groups=st.integers(2, 6), count=st.integers(1, 4), stop=st.integers(0, 6), value=st.sampled_from([0, 7])
)
def test_short_constant_or_unmeasured_sets_are_judged_without_fault(groups, count, stop, value):
    ramps = np.full((count, groups, 3, 3), float(value))
    maps = _maps(ramps, np.full((count, 3, 3), min(stop, groups)))
    quality, counts = _flag(maps)
    assert quality.dtype == np.uint32
    assert (counts.rc is None) == (groups < 4)
    assert counts.few_measurements == (9 if count < 3 or stop < groups else 0)
    assert counts.hot == counts.warm == 0


def test_telegraph_pixels_are_unreliable_and_not_warm():
    # Given a warm pixel, and one that changes between levels
    rng = np.random.default_rng(7)
    ramps = rng.normal(0, READ_NOISE, (5, 20, 32, 32))
    ramps[:, :, 4, 4:6] += 0.3 * GROUP_TIME * np.arange(20)[None, :, None]
    maps = _maps(ramps / GAIN, np.full((5, 32, 32), 20))
    telegraph = np.zeros((32, 32), bool)
    telegraph[4, 5] = True
    scatter = PixelScatter(np.ones((32, 32), np.float32), np.full((32, 32), 76, np.float32), telegraph)
    # When
    quality, counts = flag_pixels(maps, scatter, Thresholds())
    # Then
    assert quality[4, 4] == PixelFlag.WARM
    assert quality[4, 5] == PixelFlag.TELEGRAPH | PixelFlag.UNRELIABLE_DARK
    assert (counts.telegraph, counts.noisy, counts.unreliable, counts.warm) == (1, 0, 1, 1)


def test_flags_are_jwsts_own():
    names = {
        "HOT": PixelFlag.HOT.mask,
        "WARM": PixelFlag.WARM.mask,
        "DEAD": PixelFlag.DEAD.mask,
        "RC": PixelFlag.RC.mask,
        "TELEGRAPH": PixelFlag.TELEGRAPH.mask,
        "UNRELIABLE_DARK": PixelFlag.UNRELIABLE_DARK.mask,
    }
    assert {name: dqflags.pixel[name] for name in names} == {name: int(flag) for name, flag in names.items()}


def test_average_rates_are_the_detectors_but_for_hot_and_warm_pixels():
    rate = np.array([[9.0, 0.01, -3.0], [0.3, np.nan, 7.0]], np.float32)
    quality = np.array([[PixelFlag.HOT.mask, 0, 0], [PixelFlag.WARM.mask, PixelFlag.HOT.mask, 0]], np.uint32)
    science = np.array([[True, True, True], [True, True, False]])
    rates = average_rates(rate, quality, science, 0.027)
    np.testing.assert_allclose(rates, [[9, 0.027, 0.027], [0.3, 0.027, 0]], rtol=1e-6)
    assert rates.dtype == np.float32
    assert not average_rates(rate, 0 * quality, science, -1.0).any()
