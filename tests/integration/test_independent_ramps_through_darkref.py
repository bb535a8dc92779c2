"""Flight mode on ramps of an independent generator: errors, unsteady pixels, dark current, verification.

In small; tests/benchmarks/independent_acceptance.py asks the same of many sets, docs/science-validation.md
has its answers. The limits are the aims stated there, widened by the scatter of few draws.
"""

import numpy as np
import pytest
from astropy.stats import sigma_clip

from support.independent_detector import DETECTORS, Scene
from support.independent_faults import FAULTS, good_scenes, lit_exposures, uniform
from support.independent_files import calibrated_ramp
from support.independent_measure import build_scene
from support.independent_questions import (
    ask_dark_current,
    ask_errors,
    ask_exposure,
    ask_fault,
    ask_slopes,
    ask_unsteady,
)
from support.independent_ramps import expose_set


@pytest.mark.parametrize("integrations", [3, 5, 10])
def test_errors_of_the_mean_cover_the_truth(tmp_path, integrations):
    answer = ask_errors(integrations, 2, tmp_path, seed=100 + integrations, rows=96, columns=96)
    assert answer.values > 200_000
    assert answer.beyond < 5e-4
    assert answer.spread == pytest.approx(1.0, abs=0.05)
    assert answer.covered == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(("hot_in", "integrations"), [(3, 10), (4, 10), (3, 5)])
def test_pixels_that_are_hot_in_some_integrations_are_flagged(tmp_path, hot_in, integrations):
    how = {"bistable_in": hot_in, "exposures": integrations}
    answer = ask_unsteady("bistable", 1, tmp_path, seed=200 + hot_in, **how)
    assert answer.planted == 164
    # 99 %, and room for two of 164 to be missed by chance
    assert answer.flagged >= 162 / 164
    assert answer.telegraph < 2e-4
    assert answer.unreliable < 2e-3


def test_telegraph_pixels_are_flagged(tmp_path):
    # Two steps down in 2150 s at a mean dwell of 300 s: 87 % of the pixels make them
    answer = ask_unsteady("telegraph", 1, tmp_path, seed=300, exposures=10)
    assert answer.flagged > 0.78
    assert answer.telegraph < 2e-4


@pytest.mark.parametrize("settling", [0.0, 20.0])
def test_the_dark_current_is_right_with_and_without_a_transient_after_the_reset(tmp_path, settling):
    pulls = ask_dark_current(settling, 8, tmp_path, seed=400)
    # Eight draws of a unit Gaussian: the mean scatters by 0.35, the rms by 0.25
    assert abs(pulls.mean()) < 1.1
    assert np.sqrt((pulls**2).mean()) < 1.9


@pytest.mark.parametrize(("hits", "most"), [(5.0, 0.8 * 5.11), (50.0, 0.5 * 13.65)])
def test_a_hit_costs_the_dark_no_more_than_the_step_that_it_hides(tmp_path, hits, most):
    # Given 5 x 60 groups. The mean of what precedes each first hit is off by 5.11 and 13.65 e-/ks
    built = ask_slopes("NRCA1", hits, tmp_path, seed=1)
    # Then the slope is a fifth and a half better than that, in nearly all ordinary pixels
    residuals = built.slope_residuals()
    assert residuals.std() < most
    assert residuals.size > 0.95 * built.slope_residuals(reliable=False).size
    if hits > 5:
        return
    # And exposures longer than the dark have its slope's error beside their own, and no more
    own = ask_exposure(built, 80)
    assert own.ours < 1.05 * np.hypot(own.perfect, residuals.std())


@pytest.mark.parametrize("name", list(good_scenes())[::13])
def test_a_good_set_is_accepted(tmp_path, name):
    built = build_scene(good_scenes()[name], tmp_path)
    assert built.outcome == "accepted", built.verdict


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_all_good_sets_are_accepted(tmp_path):
    outcomes = {name: build_scene(scene, tmp_path).outcome for name, scene in good_scenes().items()}
    assert len(outcomes) == 40
    assert {name: outcome for name, outcome in outcomes.items() if outcome != "accepted"} == {}


@pytest.mark.parametrize(("number", "kind"), list(enumerate(FAULTS))[::3])
def test_a_bad_set_is_not_accepted(tmp_path, number, kind):
    detector = ("NRCA1", "NRCBLONG", "NRCB4")[number % 3]
    assert ask_fault(kind, detector, 500 + number, tmp_path) != "accepted"


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_no_bad_set_is_accepted(tmp_path):
    # Given three sets of each of fifteen kinds, of all detectors
    drawn = [(kind, number, turn) for turn in range(3) for number, kind in enumerate(FAULTS)]
    outcomes = {}
    for kind, number, turn in drawn:
        detector = DETECTORS[(3 * number + 4 * turn) % len(DETECTORS)]
        outcomes[kind, detector] = ask_fault(kind, detector, 6000 + 100 * number + turn, tmp_path)
    assert len(outcomes) > 40
    assert {which: outcome for which, outcome in outcomes.items() if outcome == "accepted"} == {}


def test_a_lamp_in_one_exposure_does_not_shine_in_the_reference(tmp_path):
    scene = Scene("NRCALONG", rows=96, columns=96, ngroups=20, exposures=6, seed=600)
    exposures = lit_exposures(scene, uniform(10.0), only=(3,))
    built = build_scene(scene, tmp_path, exposures)
    assert built.outcome != "accepted" or abs(built.dark_current_pull()) < 5


def test_notebook_mode_equals_its_formula(tmp_path):
    # Given ramps with hits, settling and telegraph pixels
    scene = Scene(
        "NRCB2",
        rows=48,
        columns=48,
        ngroups=12,
        exposures=7,
        hits=60.0,
        settling=20.0,
        telegraph=0.01,
        seed=7,
    )
    exposures = expose_set(scene)
    ramps = [calibrated_ramp(exposure) for exposure in exposures]
    # When
    built = build_scene(scene, tmp_path, exposures, mode="notebook", verify=False)
    # Then mean and scatter are those of astropy's clip over what precedes the first hit
    data = np.concatenate([data for data, _ in ramps]).astype(np.float64)
    after = np.logical_or.accumulate(np.concatenate([flags for _, flags in ramps]) & 4 > 0, axis=1)
    clipped = sigma_clip(
        np.ma.array(data, mask=after), sigma=3, maxiters=5, cenfunc="median", stdfunc="std", axis=0
    )
    assert after.mean() > 0.01
    np.testing.assert_allclose(built.sci, clipped.mean(axis=0).filled(0), rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(built.err, clipped.std(axis=0).filled(0), rtol=1e-6, atol=1e-4)
