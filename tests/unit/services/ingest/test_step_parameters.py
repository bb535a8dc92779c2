"""Parameters of steps: jwst's own specification decides what may be given, and what type it has."""

import math

import pytest

from services.ingest.memory_plan import require_memory
from services.ingest.plan import plan_for
from services.ingest.step_parameters import DEFAULTS, check_step_parameters, own_parameters
from shared.errors import EnvironmentFault
from shared.settings.stage import StageSettings
from support.ingest_exposures import bench_on


def test_values_have_the_types_of_jwst():
    given = {"jump.expand_large_events": "true", "jump.rejection_threshold": "5", "jump.edge_size": "30"}
    checked = check_step_parameters(given)
    assert checked == {"jump": {"expand_large_events": True, "rejection_threshold": 5.0, "edge_size": 30}}
    assert isinstance(checked["jump"]["rejection_threshold"], float)
    assert check_step_parameters({}) == {}


@pytest.mark.parametrize(
    ("name", "value", "near"),
    [
        ("jumps.expand_large_events", "true", "jump"),
        ("jump.expand_large_event", "true", "expand_large_events"),
        ("jump.rejection_threshold", "high", "float"),
        ("jump.rejection_threshold", "-1", "min=0"),
        ("jump.skip", "true", "rejection_threshold"),
        ("jump.override_gain", "gain.fits", "rejection_threshold"),
        ("jump.maximum_cores", "half", "--jobs"),
        ("persistence.persistence_time", "5", "--persistence-time"),
    ],
)
def test_what_jwst_does_not_have_is_refused_with_the_nearest(name, value, near):
    with pytest.raises(EnvironmentFault) as refused:
        check_step_parameters({name: value})
    assert (refused.value.where, refused.value.setting) == (name, "--step")
    assert near in str(refused.value)


def test_the_parameters_of_a_step_are_those_it_computes_with():
    names = own_parameters("jump")
    assert {"rejection_threshold", "expand_large_events", "find_showers"} <= set(names)
    assert not {"skip", "save_results", "override_gain", "maximum_cores"} & set(names)


@pytest.mark.parametrize("asked", ["true", "false"])
def test_a_given_parameter_makes_another_product_of_the_steps_that_have_it(tmp_path, monkeypatch, asked):
    # Given the environment variable with which CRDS's parameter references are switched off, or not
    bench = bench_on(tmp_path, {}, monkeypatch)
    monkeypatch.setenv("STPIPE_DISABLE_CRDS_STEPPARS", asked)
    given = StageSettings(store=tmp_path, steps={"jump.expand_large_events": "true"})
    # When an exposure is planned with and without a parameter of jump
    plain, changed = (
        plan_for(["jump"], settings, persistence_done=True) for settings in (bench.settings, given)
    )
    done = plan_for(["linearity"], given, persistence_done=True)
    # Then it says so where jump runs, and nothing depends on that variable
    assert plain.parameters["step_parameters"] == DEFAULTS
    assert changed.parameters["step_parameters"] == {"jump": {"expand_large_events": True}}
    assert changed.step_parameters == {"jump": {"expand_large_events": True}}
    assert done.parameters["step_parameters"] == DEFAULTS


@pytest.mark.parametrize(
    ("shape", "max_memory", "fits"),
    [
        ((1, 108, 2048, 2048), 2 * 1024**3, False),
        ((1, 108, 2048, 2048), 64 * 1024**3, True),
        ((10, 20, 160, 160), 2 * 1024**3, True),
        ((1000, 10, 64, 2048), 2 * 1024**3, False),
    ],
)
def test_a_step_that_holds_the_whole_exposure_is_refused_where_that_does_not_fit(shape, max_memory, fits):
    showers = {"jump": {"find_showers": True}}
    require_memory(shape, {"jump": {"find_showers": False}}, max_memory, "dark.fits")
    require_memory(shape, {}, max_memory, "dark.fits")
    if fits:
        require_memory(shape, showers, max_memory, "dark.fits")
    else:
        with pytest.raises(EnvironmentFault) as refused:
            require_memory(shape, showers, max_memory, "dark.fits")
        assert (refused.value.setting, refused.value.where) == ("--step", "dark.fits")
        needed = [int(word) for word in str(refused.value).split() if word.isdigit() and int(word) > 2048]
        # SCI alone, in single precision, is less than what is needed
        assert max(needed) * 1024**2 > 4 * math.prod(shape)
