"""What `simulate` writes: files, truth and references, as the pipeline sees them."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from astropy.time import Time
from scipy.stats import chi2
from stdatamodels.jwst import datamodels

from nircam_darks.simulation.files import read_real_maps
from nircam_darks.simulation.headers import exposure_headers
from nircam_darks.simulation.simulate import (
    SimulationPlan,
    environment,
    holds_simulation,
    simulate,
    simulated_pixels,
)
from nircam_darks.simulation.truth import Truth
from shared.errors import BadInput
from shared.nircam.configuration import ConfigurationKey
from shared.nircam.detectors import detectors
from support.paths import SHARED_DATA

REAL = SHARED_DATA / "crds_refs"
#: On LW detectors SUB160 lies off the reference pixels, SUB64P of NRCB1 has two edges of them.
OPEN = SimulationPlan("NRCALONG", "SUB160", ngroups=12, exposures=5, nints=1, cosmic_ray_rate=60.0)
EDGED = SimulationPlan("NRCB1", "SUB64P", ngroups=5, exposures=2, nints=2, cosmic_ray_rate=200.0, snowballs=1)

STEPS = """
import json, logging, sys
import numpy as np
from jwst.dark_current import DarkCurrentStep
from jwst.dq_init import DQInitStep
from jwst.jump import JumpStep
from jwst.linearity import LinearityStep
from jwst.persistence import PersistenceStep
from jwst.refpix import RefPixStep
from jwst.saturation import SaturationStep
from jwst.superbias import SuperBiasStep
from stdatamodels.jwst import datamodels
logging.disable(logging.CRITICAL)
found = []
for path in sys.argv[2:]:
    ramp = path
    for step in (DQInitStep, SaturationStep, SuperBiasStep, RefPixStep, LinearityStep, JumpStep):
        ramp = step.call(ramp, configure_log=False)
    ramp = PersistenceStep.call(ramp, configure_log=False, skip=False, persistence_time=1000)
    reference = (ramp.pixeldq & 2147483648) != 0
    quality = ramp.groupdq.copy()
    np.savez(path + ".npz", data=ramp.data, groupdq=quality, science=~reference, dead=ramp.pixeldq & 1)
    dark = datamodels.DarkModel(data=ramp.data[0].copy(), dq=np.zeros(reference.shape, np.uint32))
    dark.update(ramp)
    dark.meta.exposure.nframes = ramp.meta.exposure.nframes
    corrected = DarkCurrentStep.call(ramp, configure_log=False, override_dark=dark)
    ramp.save(path + ".ramp.fits")
    found.append({
        "steps": {k: v for k, v in corrected.meta.cal_step.instance.items()},
        "references": [str(v["name"]) for k, v in ramp.meta.ref_file.instance.items() if k != "crds"],
    })
open(sys.argv[1], "w").write(json.dumps(found))
"""


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """Two detectors in one call, through all steps by themselves: their cache is all they have."""
    out = tmp_path_factory.mktemp("simulated")
    result = simulate([OPEN, EDGED], out)
    report = out / "steps.json"
    subprocess.run(
        [sys.executable, "-c", STEPS, str(report), *map(str, result.files)],
        check=True,
        env=os.environ | environment(result.crds_path),
        timeout=300,
        capture_output=True,
    )
    return result, json.loads(report.read_text())


def calibrated(result, configuration):
    """(data in DN, jump flags, saturation, usable science pixels) of all ramps of a configuration."""
    darks = result.files[0].parent
    files = [np.load(f"{darks / exposure.file}.npz") for exposure in configuration.exposures]
    data = np.concatenate([file["data"] for file in files])
    groupdq = np.concatenate([file["groupdq"] for file in files])
    return data, groupdq & 4 != 0, groupdq & 3 != 0, files[0]["science"]


def test_every_step_finds_its_references_and_completes(simulated):
    result, report = simulated
    for step_records in report:
        assert set(step_records["steps"].values()) == {"COMPLETE"}
        assert {"jump", "persistence", "refpix", "dark_sub"} <= step_records["steps"].keys()
        assert len(step_records["references"]) >= 6
        assert all("sim_0001" in name or name == "N/A" for name in step_records["references"][:6])
    # Then what is simulated still says so after the steps
    for path in result.files:
        assert fits.getval(f"{path}.ramp.fits", "PEDIGREE") == "SIMULATION"


def test_jumps_agree_with_the_truth(simulated):
    result, _ = simulated
    for configuration in result.truth.configurations:
        _, jumps, _, science = calibrated(result, configuration)
        flags = (jumps & science).sum() / configuration.ramps
        output = configuration.jump_flags_per_ramp
        assert abs(flags - output.value) < 3.5 * output.sigma, configuration.configuration
        hit = 100 * (jumps & science).any(axis=1).sum() / (configuration.ramps * science.sum())
        output = configuration.jump_pixel_percent
        assert abs(hit - output.value) < 3.5 * output.sigma, configuration.configuration
        assert science.sum() == configuration.science_pixels


def test_saturation_agrees_with_the_truth(simulated):
    result, _ = simulated
    for configuration in result.truth.configurations:
        _, _, unusable, science = calibrated(result, configuration)
        darks = result.files[0].parent
        dead = np.load(f"{darks / configuration.exposures[0].file}.npz")["dead"] != 0
        flagged = (unusable[:, -1] & science & ~dead).sum()
        assert abs(flagged - sum(e.saturated_pixels for e in configuration.exposures)) <= dead.sum()


def test_noise_agrees_with_the_truth(simulated):
    result, _ = simulated
    configuration = result.truth.configurations[0]
    data, jumps, unusable, science = calibrated(result, configuration)
    electrons = np.where(np.cumsum(jumps | unusable, axis=1) > 0, np.nan, data * configuration.gain)
    differences = np.diff(electrons, axis=1)
    usable = science & (np.isfinite(differences).sum(axis=(0, 1)) > 40)
    scatter = np.nanvar(differences[:, :, usable], axis=(0, 1), ddof=1)
    output = configuration.cds_noise_e
    error = output.value / np.sqrt(2 * np.isfinite(differences[:, :, usable]).sum())
    # Charge below the threshold moves a mean, not the median, which lies below that of a variance of so
    # many differences; neighbouring ones share a group, so they count for two thirds
    degrees = np.isfinite(differences[:, :, usable]).sum(axis=(0, 1)).mean() / 1.5
    measured = np.sqrt(np.median(scatter) / (chi2.median(degrees) / degrees))
    assert measured == pytest.approx(
        output.value, abs=4 * np.hypot(output.sigma, error) + 0.002 * output.value
    )
    n = electrons.shape[1]
    at = np.arange(n) - (n - 1) / 2
    slopes = np.einsum("g,rgyx->ryx", at / np.sum(at**2) * (n - 1), electrons)
    spread = []
    for slope in slopes:
        values = slope[science & np.isfinite(slope)]
        spread.append(np.diff(np.quantile(values, [0.1587, 0.8413]))[0] / 2)
    output = configuration.spatial_effective_noise_e
    error = output.value / np.sqrt(science.sum() * len(spread))
    assert np.median(spread) == pytest.approx(output.value, abs=4 * np.hypot(output.sigma, error))


def test_reset_noise_and_hits_are_as_asked(simulated):
    result, _ = simulated
    for configuration in result.truth.configurations:
        data, _, _, science = calibrated(result, configuration)
        first = data[:, 0][:, science] * configuration.gain
        widths = np.quantile(first, 0.8413, axis=1) - np.quantile(first, 0.1587, axis=1)
        # Besides kTC noise, group 0 holds the read noise and the 1/f noise once
        expected = np.hypot(configuration.ktc_e, configuration.cds_noise_e.value / np.sqrt(2))
        assert np.median(widths) / 2 == pytest.approx(expected, rel=0.05)
        asked = configuration.hit_rate_asked
        deviation = asked / np.sqrt(max(configuration.hits, 1))
        assert configuration.hits_per_cm2_s == pytest.approx(asked, abs=4 * deviation)


def test_truth_file_reads_back(simulated):
    result, _ = simulated
    truth = Truth.model_validate_json(result.truth_path.read_text())
    assert truth == result.truth
    for path, exposure in zip(
        result.files, [e for c in truth.configurations for e in c.exposures], strict=True
    ):
        assert path.name == exposure.file
        key = ConfigurationKey.from_header(fits.getheader(path), path.name)
        assert key.slug in {c.configuration for c in truth.configurations}
    assert truth.configurations[0].dark_current_e_per_ks == pytest.approx(27, rel=0.02)
    assert truth.configurations[1].dark_current_e_per_ks == pytest.approx(1.9, rel=0.02)


def test_exposures_follow_one_another_and_open_as_level_1b(simulated):
    result, _ = simulated
    ends = 0.0
    for path in result.files:
        header = fits.getheader(path)
        assert header["EXPSTART"] > ends
        assert header["EXPSTART"] < header["EXPMID"] < header["EXPEND"]
        ends = header["EXPEND"]
        assert header["PEDIGREE"] == "SIMULATION"
        with datamodels.Level1bModel(path, strict_validation=True) as model:
            assert model.data.dtype == np.uint16
            assert model.data.shape == (
                header["NINTS"], header["NGROUPS"], header["SUBSIZE2"], header["SUBSIZE1"]
            )  # fmt: skip
            assert model.meta.exposure.type == "NRC_DARK"
            assert model.meta.filename == path.name
            model.validate()


def test_references_say_simulated_and_never_dummy(simulated):
    result, _ = simulated
    references = sorted(result.crds_path.rglob("*sim_0001.fits"))
    assert len(references) == 12
    for path in references:
        header = fits.getheader(path)
        assert header["PEDIGREE"] == "SIMULATION"
        assert header["DESCRIP"].startswith("SIMULATED")
        assert len(header["DESCRIP"]) <= 65
    masks = [fits.getdata(path, "DQ") for path in references if "mask" in path.name]
    # Two masks written in one process are both right: a border of reference pixels, and dead ones
    border = [int((mask & 2147483648 != 0).sum()) for mask in masks]
    assert border == [0, 64**2 - 60**2]


@pytest.mark.parametrize("name", list(detectors()))
def test_headers_are_right_for_every_detector(name):
    plan = SimulationPlan(name, "SUB160", "SHALLOW4", ngroups=7, nints=3)
    primary, science = exposure_headers(plan, 4, 2, Time("2022-04-18T00:00:00", precision=3))
    flipped = name in {"NRCA1", "NRCA3", "NRCALONG", "NRCB2", "NRCB4"}
    assert (primary["FASTAXIS"], primary["SLOWAXIS"]) == ((-1, 2) if flipped else (1, -2))
    assert primary["EXP_TYPE"] == "NRC_DARK"
    assert (primary["DETECTOR"], primary["MODULE"]) == (name, name[3])
    assert primary["CHANNEL"] == ("LONG" if name.endswith("LONG") else "SHORT")
    assert primary["SCA_NUM"] == 480 + [*detectors()].index(name) + 1
    assert (primary["NFRAMES"], primary["GROUPGAP"]) == (4, 1)
    assert primary["TGROUP"] == pytest.approx(5 * primary["TFRAME"])
    assert primary["EFFINTTM"] == pytest.approx((6 * 5 + 4) * primary["TFRAME"], abs=1e-5)
    assert primary["FILENAME"] == f"jw01062004001_02101_00002_{name.lower()}_uncal.fits"
    assert [science[f"NAXIS{n}"] for n in (1, 2, 3, 4)] == [160, 160, 7, 3]
    assert "GDSTARID" not in primary
    assert "CRVAL1" not in science


def test_an_exposure_depends_on_its_seed_and_on_no_other_exposure(tmp_path):
    plan = SimulationPlan("NRCALONG", "SUB160", ngroups=3, exposures=1, seed=7)
    one = simulate([plan], tmp_path / "one")
    two = simulate([replace(plan, exposures=2)], tmp_path / "two")
    other = simulate([replace(plan, seed=8)], tmp_path / "other")
    assert one.files[0].name == two.files[0].name
    first = fits.getdata(one.files[0], "SCI")
    np.testing.assert_array_equal(first, fits.getdata(two.files[0], "SCI"))
    assert not np.array_equal(first, fits.getdata(two.files[1], "SCI"))
    assert not np.array_equal(first, fits.getdata(other.files[0], "SCI"))


def test_a_folder_that_holds_a_simulation_is_left_alone(tmp_path):
    (tmp_path / "darks").mkdir()
    (tmp_path / "darks" / "mine.fits").write_bytes(b"")
    with pytest.raises(BadInput) as caught:
        simulate([OPEN], tmp_path)
    assert caught.value.check == "out"


@pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is absent: it comes with the shared data")
def test_a_folder_says_which_plans_it_holds(tmp_path):
    # Given a simulation
    plan = SimulationPlan("NRCALONG", "SUB64P", ngroups=2)
    (exposure,) = simulate([plan], tmp_path).files
    # Then it is that of its plans, and of no others
    assert holds_simulation([plan], tmp_path)
    assert not holds_simulation([replace(plan, nints=2)], tmp_path)
    # and not that of an earlier version, which did not record its plans
    truth = json.loads((tmp_path / "truth.json").read_text())
    (tmp_path / "truth.json").write_text(json.dumps({**truth, "version": "", "plans": []}))
    assert not holds_simulation([plan], tmp_path)
    # and not if an exposure is gone
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    exposure.unlink()
    assert not holds_simulation([plan], tmp_path)


def test_real_references_decide_where_there_are_some():
    # Given the real mask of NRCA1 and the real read noise of NRCBLONG
    dead = read_real_maps(REAL, "NRCA1").dead
    assert dead is not None
    assert 100 < dead.sum() < 50_000
    plan = SimulationPlan("NRCA1", "SUB640")
    pixels = simulated_pixels(plan, REAL)
    rows = slice(plan.geometry.substrt2 - 1, plan.geometry.substrt2 + 639)
    columns = slice(plan.geometry.substrt1 - 1, plan.geometry.substrt1 + 639)
    np.testing.assert_array_equal(pixels.dead, dead[rows, columns] & pixels.science)
    # Then read noise has the real pattern about the expected level
    plan = SimulationPlan("NRCBLONG", "SUB320")
    drawn, real = simulated_pixels(plan), simulated_pixels(plan, REAL)
    assert real.white_noise.std() > drawn.white_noise.std()
    assert np.median(real.white_noise) == pytest.approx(np.median(drawn.white_noise), rel=0.1)


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(BadInput) as caught:
        read_real_maps(tmp_path / "nowhere", "NRCA1")
    assert caught.value.check == "real_references"
