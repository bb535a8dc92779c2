"""The least squares over segments against numpy's, pixel by pixel, and against closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.darkref.kernels.segments import PLANES
from support.darkref_segments import JUMP, UNUSABLE, dense, fit

SATURATED, PERSISTENCE = 2, 32


def _drawn(seed, n, groups, pixels, hits, unused):
    rng = np.random.default_rng(seed)
    samples = rng.normal(0, 5, (n, groups, pixels)) + 2.0 * np.arange(groups)[:, None]
    quality = (rng.random(samples.shape) < hits).astype(np.uint8) * JUMP
    quality[rng.random(samples.shape) < unused] = SATURATED
    samples += np.cumsum((quality & JUMP > 0) * rng.exponential(300, samples.shape), axis=1)
    return samples.astype(np.float32), quality


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(2, 6),
    groups=st.integers(2, 12),
    hits=st.sampled_from([0.0, 0.05, 0.3]),
    unused=st.sampled_from([0.0, 0.1]),
)
def test_it_is_numpys_least_squares(seed, n, groups, hits, unused):
    # Given hits that leave some pixels in pieces
    samples, quality = _drawn(seed, n, groups, 12, hits, unused)
    # When, without a limit for steps that nobody flagged, and without the Poisson noise of the charge
    ours = fit(samples, quality, gain=np.inf, step_limit=np.inf)
    # Then
    for pixel in range(samples.shape[2]):
        theirs = dense(samples[:, :, pixel], quality[:, :, pixel])
        np.testing.assert_array_equal(ours.n_valid[:, pixel], theirs.n_valid)
        np.testing.assert_allclose(ours.mean[:, pixel], theirs.mean, rtol=1e-5, atol=2e-3)
        if theirs.reached > 1 and theirs.freedom > 0:
            expected = np.sqrt(theirs.scatter / theirs.freedom * theirs.variance)
            np.testing.assert_allclose(ours.error[:, pixel], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("settles", [False, True])
def test_rate_and_share_are_the_fit_to_the_values_themselves(settles):
    samples, quality = _drawn(7, 4, 9, 60, 0.08, 0.03)
    curve = np.expm1(-np.arange(9) / 2.0) * 10 if settles else None
    ours = fit(samples, quality, curve, step_limit=np.inf)
    checked = 0
    for pixel in range(60):
        theirs = dense(samples[:, :, pixel], quality[:, :, pixel], curve)
        if theirs.reached < 9:
            assert np.isnan(ours.plane("MISFIT")[pixel])
            continue
        checked += 1
        assert ours.plane("RATE")[pixel] == pytest.approx(theirs.model[0], rel=1e-3, abs=1e-3)
        assert ours.plane("RATE_RATE")[pixel] == pytest.approx(theirs.model_variance[0, 0], rel=1e-3)
        if settles:
            assert ours.plane("SHARE")[pixel] == pytest.approx(theirs.model[1], rel=1e-3, abs=1e-3)
            assert ours.plane("SHARE_SHARE")[pixel] == pytest.approx(theirs.model_variance[1, 1], rel=1e-3)
            assert ours.plane("RATE_SHARE")[pixel] == pytest.approx(
                theirs.model_variance[0, 1], rel=1e-3, abs=1e-6
            )
    assert checked > 30


def test_without_hits_it_is_the_plain_mean_and_its_standard_error():
    # Given 5 integrations of white noise of 5 DN
    samples = np.random.default_rng(1).normal(0, 5, (5, 40, 2000)).astype(np.float32)
    # When
    ours = fit(samples, step_limit=np.inf)
    # Then
    expected = (samples - samples[:, :1]).mean(axis=0)
    np.testing.assert_allclose(ours.mean, expected, atol=1e-4)
    assert not ours.error[0].any()
    assert np.mean(ours.error[1:] ** 2) == pytest.approx(25 * 2 / 5, rel=0.01)
    assert ours.plane("SLOPE") == pytest.approx(np.polyfit(np.arange(40), expected, 1)[0], abs=1e-4)
    # The misfit of straight ramps is that of Gaussian noise, also in the worst of 40 groups
    assert np.median(ours.plane("MISFIT")) < 1.5
    assert np.mean(ours.plane("MISFIT") > 2) == pytest.approx(0.04, abs=0.03)
    assert np.mean(ours.plane("MISFIT") > 4) < 0.002


def test_poisson_noise_grows_along_the_ramp():
    # Given 10 ramps of a warm pixel, 20 e- a group at 2 e-/DN, and read noise of 3 DN
    rng = np.random.default_rng(2)
    charge = np.cumsum(rng.poisson(20, (10, 30, 1000)), axis=1) / 2
    samples = (charge + rng.normal(0, 3, charge.shape)).astype(np.float32)
    # When
    ours = fit(samples, gain=2.0)
    # Then ERR is the scatter of the mean about the truth
    for group in (1, 5, 10, 20, 29):
        off = ours.mean[group] - 10 * group
        assert np.std(off) == pytest.approx(np.sqrt(np.mean(ours.error[group] ** 2)), rel=0.08)


def test_a_step_that_nobody_flagged_begins_a_segment():
    # Given a hit of 1000 DN in one of five integrations
    samples = np.random.default_rng(3).normal(0, 5, (5, 30, 400)).astype(np.float32)
    flagged = np.zeros(samples.shape, np.uint8)
    flagged[2, 11] = JUMP
    struck = samples.copy()
    struck[2, 11:] += 1000
    # When
    found, told = fit(struck), fit(struck, flagged)
    # Then it is as if it had been flagged, but for pixels in which the noise makes a step of its own
    assert np.mean((found.mean == told.mean).all(axis=0)) > 0.98
    assert 400 <= found.counts[1] < 410
    assert (found.n_valid[11] <= 4).all()


def test_of_two_integrations_neither_is_called_the_odd_one():
    samples = np.random.default_rng(4).normal(0, 5, (2, 10, 50)).astype(np.float32)
    samples[0, 4:] += 1000
    ours = fit(samples)
    assert ours.counts[1] == 0
    np.testing.assert_allclose(ours.mean[9], (samples[:, 9] - samples[:, 0]).mean(axis=0), rtol=1e-5)


def test_a_pixel_that_falls_twice_keeps_what_it_had():
    # Given telegraph noise of 200 DN in one integration
    samples = np.random.default_rng(5).normal(0, 5, (6, 30, 20)).astype(np.float32)
    samples[3, 5:9] += 200
    samples[3, 15:20] += 200
    ours = fit(samples)
    assert ours.counts[3] == 20
    assert (ours.mean == 7).all()
    assert np.isnan(ours.planes).all()
    assert ours.planes.shape == (PLANES, 20)


def test_flags_of_all_integrations_in_one_group_are_no_hits():
    # Given a fast RC pixel, which jwst flags in the second group of every integration
    samples = np.random.default_rng(6).normal(0, 5, (5, 20, 30)).astype(np.float32)
    samples[:, 1:] += 500
    quality = np.zeros(samples.shape, np.uint8)
    quality[:, 1] = JUMP
    ours = fit(samples, quality, shared=4)
    assert (ours.n_valid[1] == 5).all()
    np.testing.assert_allclose(ours.mean[1], (samples[:, 1] - samples[:, 0]).mean(axis=0), rtol=1e-5)


def test_what_no_integration_links_to_group_0_is_not_measured():
    samples = np.random.default_rng(7).normal(0, 5, (3, 8, 4)).astype(np.float32)
    quality = np.zeros(samples.shape, np.uint8)
    quality[:, 5, 1] = JUMP
    quality[:, 0, 2] = PERSISTENCE
    quality[:, :, 3] = UNUSABLE
    samples[0, 3, 0] = np.nan
    ours = fit(samples, quality)
    assert ours.n_valid[:, 1].tolist() == [3, 3, 3, 3, 3, 0, 0, 0]
    assert not ours.mean[5:, 1].any()
    assert not ours.error[5:, 1].any()
    assert not ours.n_valid[:, 2:].any()
    assert ours.n_valid[:, 0].tolist() == [3, 3, 3, 2, 2, 3, 3, 3]


def test_pixels_that_are_left_alone_and_those_of_too_many_segments_keep_what_they_had():
    samples, quality = _drawn(8, 4, 30, 6, 0.0, 0.0)
    quality[:, ::3, 4] = JUMP
    quality[1:, 1::3, 4] = JUMP
    ours = fit(samples, quality, most=8, skip=np.arange(6) == 2)
    assert (ours.mean[1] == 7).tolist() == [False, False, True, False, True, False]
    assert ours.counts[3] == 2
