"""A new dark against the one it replaces: what was planted is what is said."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.darkref.measure.difference import Dark, compare_darks, describe_difference, mean_slope
from shared.nircam.dq import PixelFlag

GAIN, GROUP_TIME = 1.84, 10.73677
AMPLIFIERS = [slice(0, 32), slice(32, 64), slice(64, 96), slice(96, 128)]
MEAN = "standard error of the mean"


def _dark(seed, groups=12, rate=0.03, hot=(), noise=2.0, name="new.fits", flagged=True, errors=MEAN, **more):
    """Return a dark of `rate` e-/s whose pixels `hot` have 5 e-/s."""
    rng = np.random.default_rng(seed)
    rates = np.full((128, 128), rate)
    quality = np.zeros(rates.shape, np.uint32)
    for pixel in hot:
        rates[pixel] = 5.0
        if flagged:
            quality[pixel] = PixelFlag.HOT.mask
    time = np.arange(groups) * GROUP_TIME / GAIN
    sci = rng.normal(0, noise, (groups, 128, 128)) + rates * time[:, None, None]
    sci = (sci - sci[0]).astype(np.float32)
    err = np.full(sci.shape, noise, np.float32) * rng.uniform(0.9, 1.1, sci.shape).astype(np.float32)
    dark = Dark(name, sci.__getitem__, err.__getitem__, groups, quality, errors)
    return dataclasses.replace(dark, **more)


def _compare(new, earlier, science=None):
    science = np.ones((128, 128), bool) if science is None else science
    return compare_darks(new, earlier, science, AMPLIFIERS, GAIN, GROUP_TIME)


@pytest.mark.parametrize("flagged", [True, False])
def test_hot_pixels_that_came_and_went(flagged):
    # Given three pixels hot now, two before, one of them in both
    new = _dark(1, hot=[(3, 3), (9, 100), (70, 70)])
    earlier = _dark(2, hot=[(3, 3), (50, 5)], name="old.fits", flagged=flagged)
    # When
    result = _compare(new, earlier)
    # Then
    assert (result.newly_hot, result.no_longer_hot, result.hot_in_both) == (2, 1, 1)
    assert result.hot_by_flag == flagged


def test_rate_change_comes_back_within_its_error():
    # Given darks that differ by 5 e- per 1000 s, many times over
    pulls = []
    for seed in range(30):
        new = _dark(2 * seed, rate=0.032, hot=[(1, 1)])
        result = _compare(new, _dark(2 * seed + 1, rate=0.027))
        pulls.append((result.rate_change_e_per_ks - 5) / result.rate_change_error_e_per_ks)
    # Then
    assert abs(np.mean(pulls)) < 3 * np.std(pulls) / np.sqrt(30)
    assert np.mean(np.abs(pulls) < 1) >= 0.6
    assert np.max(np.abs(pulls)) < 4


def test_rates_before_and_after_have_errors_and_a_map_shows_where_they_differ():
    # Given darks of 30 and 27 e- per 1000 s, and one pixel that became hot
    new, earlier = _dark(5, rate=0.030, hot=[(9, 100)]), _dark(6, rate=0.027)
    science = np.ones((128, 128), bool)
    science[:, :4] = False
    # When
    result = _compare(new, earlier, science)
    rate = next(row for row in result.changes if row.figure == "dark current")
    hot = next(row for row in result.changes if row.figure == "HOT")
    # Then
    assert rate.after == pytest.approx(30, abs=4 * rate.after_error)
    assert rate.before == pytest.approx(27, abs=4 * rate.before_error)
    assert rate.change == pytest.approx(3, abs=4 * rate.change_error)
    assert rate.change_error < 1
    assert (hot.before, hot.after, hot.newly, hot.no_longer) == (0, 1, 1, 0)
    # The map is that of numpy's own straight line, reference pixels out
    cubes = [np.stack([dark.sci(group) for group in range(12)]).reshape(12, -1) for dark in (new, earlier)]
    # DN against ks, times e-/DN
    slopes = [np.polyfit(np.arange(12) * GROUP_TIME / 1000, cube, 1)[0] * GAIN for cube in cubes]
    expected = (slopes[0] - slopes[1]).reshape(128, 128)
    assert result.image.dtype == np.float32
    assert np.isnan(result.image[:, :4]).all()
    np.testing.assert_allclose(result.image[:, 4:], expected[:, 4:], rtol=1e-3, atol=0.01)


def test_an_err_of_another_kind_is_no_change_of_noise():
    result = _compare(_dark(1), _dark(2, errors="population standard deviation"))
    noise = [row for row in result.changes if row.figure.startswith("ERR")]
    assert len(noise) == 4
    assert all(row.before_error and row.change is None for row in noise)


def test_noise_is_given_for_each_amplifier_over_common_groups():
    # Given an earlier dark with fewer groups and an amplifier of twice the noise
    new, earlier = _dark(1), _dark(2, groups=8, name="old.fits")
    err = np.stack([earlier.err(group) for group in range(8)])
    err[:, :, 32:64] *= 2
    earlier = dataclasses.replace(earlier, err=err.__getitem__)
    # When
    result = _compare(new, earlier)
    # Then
    assert result.groups == 8
    np.testing.assert_allclose(result.noise_earlier_dn, [2, 4, 2, 2], rtol=0.02)
    np.testing.assert_allclose(result.noise_new_dn, [2, 2, 2, 2], rtol=0.02)
    assert result.noise_new_dn[0] == pytest.approx(float(np.median(new.err(7)[:, :32])))


def test_pixels_never_measured_and_reference_pixels_do_not_count():
    # Given an earlier dark in which a quarter of the pixels has no measurement
    new, earlier = _dark(1, hot=[(0, 0)]), _dark(2)
    sci = np.stack([earlier.sci(group) for group in range(12)])
    err = np.stack([earlier.err(group) for group in range(12)])
    sci[6:, 64:, :64] = 0
    err[6:, 64:, :64] = 0
    science = np.ones((128, 128), bool)
    science[:4] = False
    # When
    cut = dataclasses.replace(earlier, sci=sci.__getitem__, err=err.__getitem__)
    result = _compare(new, cut, science)
    # Then
    assert result.newly_hot == 0
    assert abs(result.rate_change_e_per_ks) < 4 * result.rate_change_error_e_per_ks
    assert min(result.noise_earlier_dn) > 1.9


def test_history_says_it_in_words():
    new = _dark(1, hot=[(3, 3)])
    earlier = _dark(2, name="nrcalong_full_dark.fits", errors="population standard deviation")
    output = describe_difference(_compare(new, earlier))
    assert all(entry.startswith("DIFFERENCES: ") for entry in output)
    together = " ".join(output)
    for part in (
        "replaces nrcalong_full_dark.fits; compared over the first 12 groups",
        "1 pixels newly hot, 0 no longer hot",
        "its mean ramp was judged",
        "e- per 1000 s",
        "The earlier ERR is population standard deviation, the new one standard error of the mean",
    ):
        assert part in together, together


def test_none_replaces_no_earlier_file():
    assert describe_difference(None) == ["DIFFERENCES: replaces no earlier file."]


def test_other_pixels_or_one_group_are_refused():
    with pytest.raises(ValueError):
        _compare(_dark(1), _dark(2, quality=np.zeros((64, 64), np.uint32)))
    with pytest.raises(ValueError):
        _compare(_dark(1), _dark(2, groups=1))


@given(st.integers(2, 40), st.floats(-50, 50), st.floats(-1e3, 1e3))
def test_mean_slope_is_that_of_a_polynomial_fit(groups, slope, start):
    rng = np.random.default_rng(groups)
    ramp = start + slope * np.arange(groups)[:, None, None] + rng.normal(0, 1, (groups, 2, 3))
    expected = np.polyfit(np.arange(groups), ramp.reshape(groups, -1), 1)[0].reshape(2, 3)
    np.testing.assert_allclose(mean_slope(ramp.__getitem__, groups), expected, atol=1e-8)
