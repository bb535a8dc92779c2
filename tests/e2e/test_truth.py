"""What a simulated set comes out as, against what was put in."""

import pytest
from running import run_darks

from services.simulate import SimulationPlan, simulate


@pytest.fixture(scope="module", params=["NRCALONG", "NRCA1"])
def measured(request, tmp_path_factory):
    """Twelve ramps of 20 groups: (reference, noise, truth)."""
    folder = tmp_path_factory.mktemp(request.param)
    simulated = simulate(
        [SimulationPlan(request.param, "SUB160", exposures=12, seed=7)], folder / "simulated"
    )
    done = run_darks(simulated.files[0].parent, out=folder / "results")
    assert done.code == 0, done.text
    [truth] = simulated.truth.configurations
    [reference], [noise] = done.summary["references"], done.summary["noise"]
    assert reference["configuration"] == noise["configuration"] == truth.configuration
    return reference, noise, truth


def off(entry: dict, name: str, truth: float) -> float:
    """Deviation of a figure of the summary, in its stated errors."""
    stem, unit = name
    error = entry[f"{stem}_error{unit}"]
    assert error > 0
    return abs(entry[f"{stem}{unit}"] - truth) / error


@pytest.mark.parametrize("stem", ["cds_noise", "spatial_effective_noise", "temporal_effective_noise"])
def test_noise_is_within_three_stated_errors(measured, stem):
    _, noise, truth = measured
    assert off(noise, (stem, "_e"), getattr(truth, f"{stem}_e").value) <= 3


def test_dark_current_is_within_three_stated_errors(measured):
    reference, _, truth = measured
    assert off(reference, ("dark_current", "_e_per_ks"), truth.dark_current_e_per_ks) <= 3


def test_jumps_are_within_three_stated_errors(measured):
    # SUB160 touches no edge of the detector, so that all its pixels are science pixels, as in the truth.
    _, noise, truth = measured
    assert off(noise, ("jump_flags", ""), truth.ramps * truth.jump_flags_per_ramp.value) <= 3
    assert off(noise, ("jump_pixel_percent", ""), truth.jump_pixel_percent.value) <= 3


def test_counts_are_those_that_were_simulated(measured):
    reference, noise, truth = measured
    assert (reference["exposures"], reference["integrations"], noise["ramps"]) == (12, 12, truth.ramps)
