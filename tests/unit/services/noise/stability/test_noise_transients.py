"""The reset's transients, against planted ones and an independent line."""

import numpy as np
import pytest

from services.noise.stability.transients import SIGNIFICANT, first_group_transients, reset_transients
from shared.products.noise import Transient


def test_planted_first_group_is_found_with_its_significance():
    # Given ten integrations with pedestals and dark signal, whose first group lies 3.2 DN high
    rng = np.random.default_rng(1)
    medians = 100 + rng.normal(0, 30, (10, 1)) + 0.4 * np.arange(12) + rng.normal(0, 0.5, (10, 12))
    medians[:, 0] += 3.2
    first, second = first_group_transients(medians)
    # Then it is numpy's line through the groups after the second, mean over integrations
    lines = [np.polyfit(np.arange(2, 12), median[2:], 1) for median in medians]
    off = [one[0] - np.polyval(line, 0) for one, line in zip(medians, lines, strict=True)]
    assert first.value == pytest.approx(np.mean(off), rel=1e-9)
    assert first.error == pytest.approx(np.std(off, ddof=1) / np.sqrt(10), rel=1e-9)
    assert abs(first.value - 3.2) < 3 * first.error
    assert first.sigmas == pytest.approx(abs(first.value) / first.error)
    assert first.sigmas > SIGNIFICANT > second.sigmas


def test_single_integration_has_the_error_of_its_line():
    rng = np.random.default_rng(2)
    off = []
    for _ in range(300):
        first = first_group_transients(rng.normal(0, 1, (1, 10)))[0]
        off.append(first.value / first.error)
    assert 0.9 < np.std(off) < 1.35


def test_first_integrations_are_held_against_the_others_of_their_exposure():
    # Given four exposures of five integrations, each with a level of its own and a low first rate
    rng = np.random.default_rng(3)
    exposures = [f"e{n}" for n in range(4) for _ in range(5)]
    rates = 30 + rng.normal(0, 0.3, 20)
    rates[::5] -= 6
    levels = np.repeat(rng.normal(0, 50, 4), 5) + rng.normal(0, 0.2, 20)
    medians = levels[:, None] + np.arange(6) * 0.1
    results = {
        transient.what: transient
        for transient in reset_transients(medians, rates, exposures, np.full(20, 0.3))
    }
    rate, level = results["first integration, dark rate"], results["first integration, level"]
    wanted = np.mean([rates[5 * n] - rates[5 * n + 1 : 5 * n + 5].mean() for n in range(4)])
    assert rate.value == pytest.approx(wanted)
    assert rate.sigmas > 3
    assert rate.value < 0
    assert level.sigmas < 4
    assert results["first group"].value == pytest.approx(0, abs=1e-9)


def test_what_cannot_be_known_has_a_reason_and_reads_back():
    # Given two exposures of one integration of three groups
    result = reset_transients([[1.0, 2.0, 3.0]] * 2, [1.0, 2.0], ["a", "b"], [0.1, 0.1])
    assert [each.value for each in result] == [None] * 3
    assert all(transient.said for transient in result)
    # and one exposure of two integrations, whose rates' own errors are all there is
    level, rate = reset_transients([[1.0] * 4, [2.0] * 4], [1.0, 3.0], ["a", "a"], [0.3, 0.4])[-2:]
    assert level.value is None
    assert rate.error == pytest.approx(0.5)
    assert Transient.model_validate_json(rate.model_dump_json()) == rate
    # and levels that are missing
    assert reset_transients([[np.nan] * 6], [np.nan], ["a"], [0.1])[0].value is None


def test_exact_line_has_no_error_to_hold_it_against():
    [first, _] = first_group_transients(np.array([[5.0, 1, 2, 3, 4, 5]] * 3))
    assert first.value == pytest.approx(5.0)
    assert first.error is None or first.error < 1e-9
