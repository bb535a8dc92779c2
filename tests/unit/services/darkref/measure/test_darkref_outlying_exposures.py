"""Which exposures and integrations of a set stand apart."""

import numpy as np
import pytest

from services.darkref.measure.outlying_exposures import (
    IntegrationFigures,
    find_outlying,
    integration_figures,
)

#: The rates of `lamp1` of an archive: a lamp in one exposure of eight, e- per 1000 s.
LAMP = [21.0, -24.0, 35.0, 9933.0, 68.0, 12.0, 44.0, 3.0]


def integration(exposure, index=0, rate=30.0, noise=100.0, level=0.0, jumps=1.0, usable=1.0):
    return IntegrationFigures(exposure, index, rate, 1.0, noise, level, jumps, usable)


def exposures(rates, **other):
    return [integration(f"jw{n}", rate=rate, **other) for n, rate in enumerate(rates)]


def test_a_lamp_in_one_exposure_of_eight_is_named_and_left_out():
    outlying = find_outlying(exposures(LAMP))
    [entry] = outlying.entries
    assert (entry.exposure, entry.integration, entry.quantity) == ("jw3", None, "dark rate")
    assert entry.left_out
    assert entry.value == 9933
    rest = np.delete(LAMP, 3)
    assert entry.expected == pytest.approx(rest.mean())
    assert entry.scatter == pytest.approx(np.hypot(rest.std(ddof=1), 1.0))


@pytest.mark.parametrize(
    ("figure", "good", "bad"),
    [("noise", 100.0, 160.0), ("level", 12.0, 600.0), ("jumps", 1.0, 60.0), ("rate", 30.0, 900.0)],
)
def test_every_figure_can_say_so_in_a_set_of_five(figure, good, bad):
    scatter = np.random.default_rng(0).normal(0, 0.01 * good, 5)
    figures = [integration(f"jw{n}", **{figure: good + off}) for n, off in enumerate(scatter)]
    assert find_outlying(figures).entries == []
    figures[2] = integration("jw2", **{figure: bad})
    [entry] = find_outlying(figures).entries
    assert (entry.exposure, entry.value, entry.left_out) == ("jw2", bad, True)


def test_more_than_a_fifth_is_named_but_not_left_out():
    # Given lamps in two exposures of eight: a fifth of eight is one
    rates = [*LAMP]
    rates[6] = 8000.0
    found = find_outlying(exposures(rates)).entries
    assert {entry.exposure for entry in found} == {"jw3", "jw6"}
    assert not any(entry.left_out for entry in found)
    # Two of ten are a fifth
    found = find_outlying(exposures([*rates, 25.0, 31.0])).entries
    assert {entry.exposure for entry in found if entry.left_out} == {"jw3", "jw6"}


def test_of_four_nothing_can_be_told():
    outlying = find_outlying(exposures(LAMP[:4]))
    assert outlying.too_few
    assert outlying.entries == []


def test_single_integrations_are_left_out_alone():
    random = np.random.default_rng(1)
    figures = [
        integration(f"jw{n}", index, rate=30 + random.normal(0, 5)) for n in range(2) for index in range(5)
    ]
    figures[7] = integration("jw1", 2, rate=700.0)
    [entry] = find_outlying(figures).entries
    assert (entry.exposure, entry.integration) == ("jw1", 2)


def test_an_exposure_of_many_integrations_is_left_out_whole():
    random = np.random.default_rng(2)
    figures = [
        integration(f"jw{n}", index, rate=30 + 300 * (n == 4) + random.normal(0, 5))
        for n in range(6)
        for index in range(3)
    ]
    [entry] = find_outlying(figures).entries
    assert (entry.exposure, entry.integration, entry.left_out) == ("jw4", None, True)


def test_first_integrations_that_all_settle_stand_not_apart():
    random = np.random.default_rng(3)
    figures = [
        integration(f"jw{n}", index, rate=30 + 200 * (index == 0) + random.normal(0, 5))
        for n in range(6)
        for index in range(5)
    ]
    assert find_outlying(figures).entries == []


def test_an_integration_without_a_usable_pixel_is_out_of_use_whatever_the_number():
    figures = exposures(LAMP[:3])
    figures[1] = integration("jw1", rate=np.nan, usable=0.0)
    [entry] = find_outlying(figures).entries
    assert (entry.exposure, entry.quantity, entry.left_out) == ("jw1", "usable pixels", True)


def test_the_figures_of_an_integration():
    # Given slopes of 3 DN a group with a gradient, noise of 2, hot pixels, and a snowball
    random, shape = np.random.default_rng(6), (64, 64)
    slopes = 3 + np.linspace(-5, 5, 64)[None, :] + random.normal(0, 2, shape)
    slopes[5, ::7] = 4000
    struck = random.random(shape) < 0.03
    struck[22:42, 22:42] = True
    slopes[struck] = np.nan
    level = random.normal(50, 20, shape)
    science = np.ones(shape, bool)
    figures = integration_figures(
        ("jw1", 2), slopes.astype(np.float32), (level, np.ones(shape, bool)), science, scale=10.0
    )
    assert figures.rate == pytest.approx(30, abs=2)
    assert figures.noise == pytest.approx(20, rel=0.05)
    assert figures.level == pytest.approx(50, abs=2)
    # The snowball covers a tenth of the pixels, and few of the blocks
    assert figures.jump_rate == pytest.approx(3, abs=1)
    assert figures.usable == 1
