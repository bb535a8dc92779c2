"""Windows that keep the noise of a set within a memory bound."""

import re

import pytest

from services.noise.memory_plan import plan_noise, resident_memory
from shared.errors import EnvironmentFault
from shared.ramps.window_plan import WindowPlan
from support.configurations import configuration

MIB = 1024**2


@pytest.mark.parametrize("ramps", [10, 40, 100, 200])
def test_plan_keeps_the_bound_whatever_the_number_of_ramps(ramps):
    full = configuration(2048, 2048, 108)
    for bound in (4096, 1024):
        windows = plan_noise(full, ramps, bound * MIB, 200 * MIB)
        window = windows.rows * 2048 * (17 * ramps + windows.groups * (10 * ramps + 8))
        assert 200 * MIB + 165 * 2048**2 + window < bound * MIB
        assert 1 <= windows.groups <= 108
    # and what is read at once is worth a request
    assert plan_noise(full, 10, 2048 * MIB, 200 * MIB).rows * 2048 * 4 >= MIB


def test_plan_of_a_small_subarray_is_one_window():
    assert plan_noise(configuration(64, 64, 6), 10, 64 * MIB, 300 * MIB) == WindowPlan(6, 64, 6, 64)
    assert resident_memory() > 10 * MIB


def test_plan_says_how_much_memory_it_needs():
    with pytest.raises(EnvironmentFault) as refused:
        plan_noise(configuration(2048, 2048, 20), 10, 500 * MIB, 200 * MIB)
    assert refused.value.setting == "--max-memory"
    needed, allowed = (int(number) for number in re.findall(r"(\d+) MiB", str(refused.value))[:2])
    assert 900 <= needed < 1000
    assert allowed == 500
