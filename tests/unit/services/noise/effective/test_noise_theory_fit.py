"""The theory curve's terms fitted, against curves made with known ones and an independent fit."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize

from services.noise.effective.theory import fit_theory, theory_refusal, theory_variance
from services.noise.noise_budget import theory_terms
from shared.nircam.detectors import EXPECTED
from support.configurations import configuration

SW = EXPECTED["SW"]
GROUPS = np.arange(2, 21)


def curve(p0, p1, nframes=1, groups=GROUPS):
    made = replace(SW, theory_p0=p0, theory_p1=p1)
    return np.sqrt([theory_variance(int(n), nframes, (n - 1) * 10.7, 10.7, made) for n in groups])


@given(p0=st.floats(0.3, 4), p1=st.floats(-10, 20), nframes=st.sampled_from([1, 2, 4, 8]))
def test_terms_of_an_exact_curve_come_back(p0, p1, nframes):
    noise = np.stack([curve(p0, p1, nframes)] * 3)
    terms = fit_theory(GROUPS, nframes, 10.7, 10.7, noise, SW)
    assert terms.p0 == pytest.approx(p0, rel=1e-6)
    assert terms.p1 == pytest.approx(p1, abs=1e-6)
    assert terms.scatter < 1e-9
    np.testing.assert_allclose(np.sqrt(terms.variances), noise[0], rtol=1e-9)


def test_fit_is_scipys_and_its_errors_the_scatter_between_sets():
    rng = np.random.default_rng(1)
    results = []
    for _ in range(200):
        # Given ramps whose points go up and down together, as those of one ramp do
        noise = curve(1.5, 5) * (1 + 0.004 * rng.normal(size=(15, 1)) + 0.002 * rng.normal(size=(15, 19)))
        terms = fit_theory(GROUPS, 1, 10.7, 10.7, noise, SW)
        results.append((terms.p0, terms.p0_error, terms.p1, terms.p1_error))

    # Then the last of them is what scipy's curve_fit finds
    def model(groups, p0, p1):
        return curve(p0, p1, groups=groups) ** 2

    typical = np.median(noise, axis=0) ** 2
    best, _ = optimize.curve_fit(model, GROUPS, typical, p0=[1, 1], sigma=typical)
    assert terms.p0 == pytest.approx(best[0], rel=1e-4)
    assert terms.p1 == pytest.approx(best[1], rel=1e-4)
    # And the stated errors are how much they scatter
    p0, p0_error, p1, p1_error = np.transpose(results)
    assert 0.8 < np.mean(p0_error) / p0.std() < 1.25
    assert 0.8 < np.mean(p1_error) / p1.std() < 1.25
    assert np.mean(np.abs(p0 - 1.5) < 3 * p0_error) > 0.97


def test_noise_below_the_read_noise_that_is_held_has_no_p0():
    noise = np.stack([np.sqrt(curve(0, 0) ** 2 - 12 * (GROUPS - 1) / (GROUPS + 1) * 0.2)] * 2)
    terms = fit_theory(GROUPS, 1, 10.7, 10.7, noise, SW)
    assert terms.p0_squared == pytest.approx(-0.2, abs=1e-9)
    assert terms.p0 is None
    assert terms.p0_error is None


def test_single_ramp_has_the_error_of_its_points():
    rng = np.random.default_rng(2)
    noise = curve(1.5, 5) * (1 + 0.01 * rng.normal(size=(1, 19)))
    terms = fit_theory(GROUPS, 1, 10.7, 10.7, noise, SW)
    assert abs(terms.p0_squared - 2.25) < 3 * terms.p0_squared_error
    assert 0 < terms.p0_squared_error < 1


def test_points_that_a_ramp_lacks_are_left_out():
    noise = np.stack([curve(1.5, 5)] * 3)
    noise[1, 10:] = np.nan
    terms = fit_theory(GROUPS, 1, 10.7, 10.7, noise, SW)
    assert terms.p0 == pytest.approx(1.5, rel=1e-6)
    with pytest.raises(ValueError):
        fit_theory(GROUPS[:3], 1, 10.7, 10.7, noise[:, :3], SW)


def test_too_few_points_are_not_fitted():
    assert theory_refusal(4) is None
    key = configuration(16, 16, 4)
    fit = theory_terms(key, np.ones((5, 3, 1)), 1.8)
    assert fit.said == theory_refusal(3)
    assert fit.p0_squared is None
    assert fit.usual_p0 == 1.5
    # Ramps of which nothing is left are no reason to refuse the others
    sigmas = np.full((5, 9, 1), np.nan)
    sigmas[1:] = 1 / np.arange(1, 10)[:, None]
    assert theory_terms(configuration(16, 16, 10), sigmas, 1.8).p1 is not None
    assert "not fitted" in theory_terms(configuration(16, 16, 10), sigmas[:1], 1.8).said
