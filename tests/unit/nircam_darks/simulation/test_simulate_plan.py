"""Plans: what the instrument can do, and the refusals of what it cannot."""

import pytest

from nircam_darks.simulation.plan import SimulationPlan, require_one_detector_each
from shared.errors import BadInput


@pytest.mark.parametrize(
    ("changes", "check", "value"),
    [
        ({"detector": "NRCC1"}, "detector", "NRCALONG"),
        ({"subarray": "SUB400P"}, "subarray", "SUB640"),
        ({"readpatt": "FAST"}, "readpatt", "MEDIUM8"),
        ({"readpatt": "BRIGHT2", "ngroups": 11}, "ngroups", "2..10"),
        ({"ngroups": 109}, "ngroups", "2..108"),
        ({"ngroups": 1}, "ngroups", "2..108"),
        ({"nints": 0}, "nints", "1"),
        ({"exposures": 0}, "exposures", "1"),
        ({"seed": -1}, "seed", "0"),
        ({"noutputs": 4}, "noutputs", "1"),
        ({"scene": "CALM"}, "scene", "SUNMIN, SUNMAX, FLARES"),
        ({"cosmic_ray_rate": float("nan")}, "cosmic_ray_rate", "nan"),
        ({"cosmic_ray_rate": -1.0}, "cosmic_ray_rate", "-1.0"),
        ({"program": "1062"}, "program", "01062"),
        ({"start": "yesterday"}, "start", "2022-04-18"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_that_says_what_can(changes, check, value):
    with pytest.raises(BadInput) as refusal:
        SimulationPlan(**({"detector": "NRCA1", "subarray": "SUB320"} | changes))
    assert refusal.value.check == check
    assert value in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_one_detector_has_one_seed():
    plans = [SimulationPlan("NRCA1", seed=1), SimulationPlan("NRCA1", "SUB640", seed=2)]
    with pytest.raises(BadInput) as seeds:
        require_one_detector_each(plans)
    with pytest.raises(BadInput) as nothing:
        require_one_detector_each([])
    assert [each.value.check for each in (seeds, nothing)] == ["seed", "plans"]
