"""The dark current of simulated sets against what was put in: no bias, and errors that can be believed.

Read noise without its 1/f part, so that a set of twelve ramps is good to some tenths of an e- per 1000 s:
what 1/f noise would hide (hits too faint to be flagged, pedestals of the reset, the converter's steps,
the slope's estimator itself) is then seen.
"""

import numpy as np
import pytest
from astropy.time import Time
from scipy import ndimage

from nircam_darks.simulation.exposure import expose
from nircam_darks.simulation.headers import exposure_headers
from nircam_darks.simulation.noise import ONE_OVER_F, OneOverFNoise
from nircam_darks.simulation.simulate import SimulationPlan, simulate, simulated_pixels
from services.darkref.handler import handle
from shared.nircam.configuration import ConfigurationKey
from shared.runtime.handler import StageContext
from shared.settings.stage import StageSettings
from shared.store.local import LocalStore
from shared.store.manifest import find_all
from support.darkref_sets import JUMP_DET, commit_set, write_ramp
from support.running import run_darks

START = Time("2022-04-18T00:00:00", scale="utc", format="isot", precision=3)


@pytest.fixture
def without_one_over_f_noise(monkeypatch):
    for channel in ONE_OVER_F:
        monkeypatch.setitem(ONE_OVER_F, channel, OneOverFNoise(0.0, 0.0))


def calibrated(plan, pixels, rng):
    """A ramp with its superbias taken off, and flags as the jump step's rule gives them.

    JUMP_DET wherever a hit left more than four sigma, and beside those of ten and more.
    """
    data, groupdq = [], []
    sigma = np.sqrt(2) * pixels.white_noise
    cross = ndimage.generate_binary_structure(2, 1)
    for group in expose(plan, pixels, rng):
        data.append(group.data - pixels.superbias)
        left = np.zeros(plan.shape, np.float32)
        left.ravel()[group.deposit.pixels] = group.deposit.charge
        flagged = (left > 4 * sigma) | ndimage.binary_dilation(left > 10 * sigma, cross)
        groupdq.append((flagged & (group.group > 0)) * np.uint8(JUMP_DET))
    shape = (plan.nints, plan.ngroups, *plan.shape)
    return np.array(data, np.float32).reshape(shape), np.array(groupdq).reshape(shape)


@pytest.mark.parametrize(
    ("detector", "rate", "frame_time", "largest_error"),
    [
        # Hits at ten times the flight's rate
        ("NRCALONG", 50.0, None, 3.0),
        ("NRCA1", 50.0, None, 3.0),
        # A full frame's cadence on a cutout: ramps of 526 s at the flight's rate
        ("NRCALONG", None, 10.73677, 0.5),
        ("NRCA1", None, 10.73677, 0.3),
    ],
)
def test_hits_pedestals_and_rounding_leave_no_bias(
    tmp_path, monkeypatch, without_one_over_f_noise, detector, rate, frame_time, largest_error
):
    # Given twelve ramps of 50 groups
    if frame_time:
        monkeypatch.setattr(SimulationPlan, "tframe", property(lambda _: frame_time))
    plan = SimulationPlan(detector, "SUB160", ngroups=50, exposures=12, cosmic_ray_rate=rate, seed=3)
    pixels = simulated_pixels(plan)
    primary, _ = exposure_headers(plan, 1, 1, START)
    key = ConfigurationKey.from_header(primary, "simulated")
    files = []
    for n in range(plan.exposures):
        data, groupdq = calibrated(plan, pixels, np.random.default_rng([3, n]))
        files.append(write_ramp(tmp_path / f"jw{n}_jump.fits", key, data, groupdq))
    store = LocalStore(tmp_path / "store")
    ready = commit_set(store, files, [key] * 12, [1] * 12, gain=pixels.gain, simulated=True)
    # When
    handle(ready, StageContext(store, StageSettings(store=tmp_path / "store")))
    # Then the error is small, and holds
    [manifest] = find_all(store, "darkref/")
    results = manifest.results
    error = results["dark_current_error_e_per_ks"]
    assert error < largest_error
    assert abs(results["dark_current_e_per_ks"] - 1000 * pixels.bulk_rate) < 3 * error
    assert all(abs(each - 1000 * pixels.bulk_rate) < 8 for each in results["dark_current_by_integration"])


@pytest.mark.slow
def test_the_whole_chain_leaves_no_bias(tmp_path, without_one_over_f_noise):
    # Given
    plan = SimulationPlan("NRCALONG", "SUB320", ngroups=30, exposures=12, seed=5)
    simulated = simulate([plan], tmp_path / "simulated")
    # When
    done = run_darks(simulated.files[0].parent, out=tmp_path / "results")
    # Then
    [reference] = done.summary["references"]
    [truth] = simulated.truth.configurations
    error = reference["dark_current_error_e_per_ks"]
    assert error < 1
    assert abs(reference["dark_current_e_per_ks"] - truth.dark_current_e_per_ks) < 3 * error
