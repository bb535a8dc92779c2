"""jwst's dark_current step with a reference file of ours."""

import subprocess
import sys

import numpy as np
import pytest

from services.darkref.reference_file import writer as reference_file
from support.configurations import configuration
from support.darkref_files import build_dark, write_dark
from support.darkref_sets import dark, write_ramp

_STEP = """
import os, sys
ramp, dark, cache = sys.argv[1:]
os.environ.update(CRDS_PATH=cache, CRDS_CONTEXT="jwst_0000.pmap", STPIPE_DISABLE_CRDS_STEPPARS="true",
                  CRDS_SERVER_URL="https://crds-serverless-mode.stsci.edu")
import numpy as np
from jwst.dark_current import DarkCurrentStep
from stdatamodels.jwst.datamodels import RampModel
before = RampModel(ramp)
raw = before.data.copy()
after = DarkCurrentStep.call(before, override_dark=dark, configure_log=False)
from astropy.io import fits
sci, quality = fits.getdata(dark, "SCI"), fits.getdata(dark, "DQ")
assert after.meta.cal_step.dark_sub == "COMPLETE", after.meta.cal_step.dark_sub
np.testing.assert_allclose(after.data, raw - sci[None], rtol=1e-5, atol=1e-4)
with fits.open(dark) as hdus:
    has_map = "AVDRKCUR" in hdus
if has_map:
    # jwst 3.0.0 applies neither map nor keyword; once it does apply the map, references should have it.
    assert after.average_dark_current is None
else:
    np.testing.assert_allclose(after.average_dark_current, fits.getval(dark, "AVDRKCUR"), atol=1e-6)
np.testing.assert_array_equal(after.pixeldq, quality)
print("subtracted")
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build_dark(tmp_path_factory.mktemp("built") / "run", configuration())


@pytest.mark.parametrize("made", ["notebook mode", "flight mode", "flight mode, map of rates"])
def test_jwsts_dark_current_step_runs_with_it(built, tmp_path, made):
    # Given an exposure that was left out, and a CRDS cache without a server
    key = configuration()
    left_out = write_ramp(
        tmp_path / "jw9_jump.fits", key, *dark(np.random.default_rng(99), key, 2), EFFEXPTM=1.0
    )
    if made != "notebook mode":
        about = reference_file.DarkDescription("SIMULATION", "2022-04-11T06:00:00", "x", "y", 0.1, ["z"])
        built, _ = write_dark(tmp_path / "flight" / "dark.fits", key, about, True, 100, made != "flight mode")
    settings = tmp_path / "crds" / "config" / "jwst"
    settings.mkdir(parents=True)
    output = dict.fromkeys(("operational_context", "edit_context", "latest_context"), "jwst_0000.pmap")
    output |= dict.fromkeys(("reference_url", "mapping_url", "checksum_url"), "none")
    output |= {
        "observatory": "jwst",
        "bad_files": "",
        "bad_files_set": [],
        "bad_files_list": [],
        "crds_version": {"str": "14.0.3"},
        "server_version": "14.0.3",
        "effective_mode": "local",
        "force_remote_mode": False,
        "last_synced": "never",
        "status": "s3",
        "connected": False,
    }
    (settings / "server_config").write_text(repr(output))
    # When
    done = subprocess.run(
        [sys.executable, "-c", _STEP, left_out, built, tmp_path / "crds"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    # Then
    assert done.returncode == 0, done.stderr
    assert "subtracted" in done.stdout
