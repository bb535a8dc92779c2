"""Which exposures and integrations stand apart from a set, by what their own noise products hold."""

import math

import numpy as np
import pytest

from services.noise.stability.outlying import outlying_integrations
from shared.products.noise import ExposureNoiseResults

GAIN, GROUP_TIME = 2.0, 10.0


def exposure(name, rates, noise=15.0, level=100.0, jumps=3.0, lost=(), seed=0):
    """The results of an exposure whose integrations rise by such rates, e-/ks."""
    rng = np.random.default_rng(seed)
    slopes = np.array(rates)[:, None] / 1000 * GROUP_TIME / GAIN
    levels = level + slopes * np.arange(8) + rng.normal(0, 0.02, (len(rates), 8))
    return ExposureNoiseResults.model_construct(
        exposure_id=name,
        median_dn=levels.tolist(),
        cds_noise_e=(noise + rng.normal(0, 0.05, len(rates))).tolist(),
        science_jump_pixel_percent=jumps,
        lost_integrations=list(lost),
    )


def alike(count=8, nints=1):
    rng = np.random.default_rng(1)
    return [exposure(f"jw{n}", 30 + rng.normal(0, 6, nints), seed=n) for n in range(count)]


def names(entries):
    return [(entry.exposure, entry.integration, entry.quantity) for entry in entries]


@pytest.mark.parametrize(
    ("changes", "quantity"),
    [
        ({"rates": [9933.0]}, "dark rate"),
        ({"rates": [30.0], "noise": 30.0}, "noise"),
        ({"rates": [30.0], "level": 900.0}, "level"),
        ({"rates": [30.0], "jumps": 40.0}, "jump rate"),
    ],
)
def test_an_exposure_that_differs_is_named_with_what_says_so(changes, quantity):
    exposures = alike()
    exposures[3] = exposure("jw3", **changes)
    entries = outlying_integrations(exposures, GAIN, GROUP_TIME)
    assert names(entries) == [("jw3", None, quantity)]
    assert entries[0].left_out
    assert entries[0].sigma > 5


def test_sets_that_are_alike_lose_nothing():
    found = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        exposures = [
            exposure(f"jw{n}", 30 + rng.normal(0, 6, 1), level=100 + rng.normal(0, 15), seed=50 * seed + n)
            for n in range(8)
        ]
        found += bool(outlying_integrations(exposures, GAIN, GROUP_TIME))
    assert found <= 5


def test_an_integration_is_named_by_its_own_number_where_others_were_never_read():
    # Given four exposures of three integrations, of which the first lost its first
    exposures = alike(4, 3)
    exposures[0] = exposure("jw0", [30.0, 9000.0], lost=[0])
    [entry] = outlying_integrations(exposures, GAIN, GROUP_TIME)
    assert names([entry]) == [("jw0", 2, "dark rate")]


def test_more_than_a_fifth_is_named_and_kept():
    exposures = alike()
    for n in (1, 2):
        exposures[n] = exposure(f"jw{n}", [9000.0 + 300 * n])
    entries = outlying_integrations(exposures, GAIN, GROUP_TIME)
    assert {entry.exposure for entry in entries} == {"jw1", "jw2"}
    assert not any(entry.left_out for entry in entries)


def test_few_exposures_and_single_groups_are_not_compared():
    few = alike(4)
    few[0] = exposure("jw0", [9000.0])
    assert outlying_integrations(few, GAIN, GROUP_TIME) == []
    single = [
        ExposureNoiseResults.model_construct(
            exposure_id=f"jw{n}",
            median_dn=[[100.0 + n]],
            cds_noise_e=[math.nan],
            science_jump_pixel_percent=0.0,
            lost_integrations=[],
        )
        for n in range(6)
    ]
    assert outlying_integrations(single, GAIN, GROUP_TIME) == []
