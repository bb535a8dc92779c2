"""What a simulated set comes out as, against what was put in."""

import pytest

from nircam_darks.simulation.simulate import SimulationPlan, simulate
from support.running import run_darks

pytestmark = pytest.mark.xdist_group("campaign")

DETECTORS = ("NRCALONG", "NRCA1")


@pytest.fixture(scope="module")
def run_of_both(tmp_path_factory):
    """Twelve ramps of 20 groups of each detector, in one run: (summary, truth) by configuration."""
    folder = tmp_path_factory.mktemp("truth")
    plans = [SimulationPlan(detector, "SUB160", exposures=12, seed=7) for detector in DETECTORS]
    simulated = simulate(plans, folder / "simulated")
    done = run_darks(simulated.files[0].parent, out=folder / "results")
    assert done.code == 0, done.text
    return done.summary, simulated.truth


@pytest.fixture(params=DETECTORS)
def measured(request, run_of_both):
    """One detector's (reference, noise, truth)."""
    summary, truth = run_of_both

    def of_detector(entries):
        [entry] = [each for each in entries if each["configuration"].startswith(request.param.lower() + "_")]
        return entry

    [expected] = [
        each for each in truth.configurations if each.configuration.startswith(request.param.lower() + "_")
    ]
    reference, noise = of_detector(summary["references"]), of_detector(summary["noise"])
    assert reference["configuration"] == noise["configuration"] == expected.configuration
    return reference, noise, expected


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
