"""Stated errors against known truth: the coverage test of docs/science-validation.md, in small."""

import numpy as np
import pytest
from scipy import stats

from nircam_darks.simulation.exposure import clocking_of
from nircam_darks.simulation.noise import one_over_f_noise
from support.science_coverage.measure import measure_set
from support.science_coverage.sets import plan_of
from support.science_coverage.tables import pulls, tables, within
from support.science_coverage.truth import robust_sigma, variance_within_a_frame


def test_a_robust_sigma_of_one_gaussian_is_its_sigma():
    # Given one mean and sigma, and a mixture of two that is symmetric
    alone = robust_sigma(np.array([3.0]), np.array([2.0]))
    mixed = robust_sigma(np.array([0.0, 0.0]), np.array([1.0, 3.0]))
    # Then
    assert alone == pytest.approx(2.0, rel=1e-9)
    width = mixed * stats.norm.ppf(0.75)
    inside = np.mean([stats.norm.cdf(width / sigma) - stats.norm.cdf(-width / sigma) for sigma in (1, 3)])
    assert inside == pytest.approx(0.5, abs=1e-9)


@pytest.mark.parametrize("layout", ["SUB160", "SUBGRISM64"])
def test_variance_within_a_frame_is_that_of_drawn_frames(layout):
    # Given 1/f noise at the times at which an output's pixels are read
    clocking = clocking_of(plan_of("NRCA1", layout, 5, 1))
    width = clocking.columns // clocking.noutputs
    rng = np.random.default_rng(1)
    # When
    drawn = []
    for _ in range(300):
        stream = one_over_f_noise(clocking.samples, 1.0, rng)[: clocking.rows * clocking.line]
        drawn.append(stream.reshape(clocking.rows, clocking.line)[:, :width].var())
    # Then
    error = np.std(drawn) / np.sqrt(len(drawn))
    assert variance_within_a_frame(clocking) == pytest.approx(np.mean(drawn), abs=4 * error)


def test_pulls_and_fractions_are_counted_and_shown():
    # Given three sets, one of which states no error for a figure
    hot = {"evident": 2, "found": 2, "innocent": 9, "false": 0}
    named = {"detector": "NRCA1", "layout": "SUB160", "ramps": 5, "hot": hot}
    results = [
        named | {"figures": {"dark current": [3.0, 1.0, 2.5], "kTC noise": [40.0, 0.5, 39.0]}},
        named | {"figures": {"dark current": [1.0, 0.5, 3.0], "kTC noise": [40.0, 1.0, 40.1]}},
        named | {"figures": {"dark current": [2.0, 1.0, 2.5]}},
    ]
    # When
    result = pulls(results, "dark current")
    # Then
    np.testing.assert_allclose(result, [0.5, -4.0, -0.5])
    assert within(result, 1)[0] == pytest.approx(2 / 3)
    assert within(result, 3)[0] == pytest.approx(2 / 3)
    assert "| kTC noise | 2 | 50.0%" in tables(results)


@pytest.mark.slow
def test_stated_errors_hold(tmp_path):
    # Given sets of 5 and 10 ramps of either channel, with one output and with four
    kinds = [("SUB160", 10), ("SUB160 slow", 10), ("SUBGRISM64", 5)]
    results = []
    for seed in range(5):
        for layout, ramps in kinds:
            for number, detector in enumerate(("NRCA1", "NRCALONG")):
                draw = 70_000 + 100 * seed + 10 * kinds.index((layout, ramps)) + number
                match = measure_set(detector, layout, ramps, draw, tmp_path)
                results.append({"detector": detector, "layout": layout, "ramps": ramps} | match)
    # Then as many are within 1 and 3 of their errors as so few sets can tell
    figures = {name for result in results for name in result["figures"]}
    assert {"dark current", "CDS noise", "kTC noise", "correlated 1/f noise", "hit rate"} <= figures
    for figure in figures:
        match = pulls(results, figure)
        for sigmas, aim in ((1, 0.68), (3, 0.99)):
            inside = np.sum(np.abs(match) <= sigmas)
            assert stats.binom.cdf(inside, len(match), aim) > 1e-3, (figure, match.round(1))
    # And evidently hot pixels are found, with none made up
    total = {name: sum(each["hot"][name] for each in results) for name in results[0]["hot"]}
    assert total["evident"] > 100
    assert total["found"] >= 0.99 * total["evident"]
    assert total["false"] <= 1e-5 * total["innocent"]
