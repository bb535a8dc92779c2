"""ingest's peak memory on full frames of any length, in a process of its own."""

import os
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from support.ingest_exposures import (
    crds_environment,
    edit,
    write_exposure,
    write_references,
    write_server_config,
)
from support.peak_memory import needs_proc, peak_of

_NY = 2048
_JOB = """
import sys
from pathlib import Path
from astropy.io import fits
from services.ingest.exposure import ValidExposure
from services.ingest.plan import plan_for
from services.ingest.ramp_file import make_ramp_file
from services.ingest.steps import STEPS
from shared.nircam.configuration import ConfigurationKey
from shared.settings.stage import StageSettings
root, raw = Path(sys.argv[1]), Path(sys.argv[2])
overrides = {path.stem.split("_")[1]: path for path in (root / "references").iterdir()}
settings = StageSettings(store=root, overrides=overrides, persistence_time=1000)
header = fits.getheader(raw)
exposure = ValidExposure(
    exposure_id="jw", path=raw, uri=str(raw), key=ConfigurationKey.from_header(header, "raw"), header=header
)
plan = plan_for(list(STEPS), settings, persistence_done=False)
made = make_ramp_file(exposure, plan, lambda: None, root, lambda *_: None, int(sys.argv[3]))
made.path.unlink()
"""


def full_frame(folder: Path, nints: int, ngroups: int) -> Path:
    """A raw full frame of noise: memory does not depend on what the pixels say."""
    path = write_exposure(folder / "jw_nrca3_uncal.fits", nints=nints, ngroups=ngroups)
    edit(path, SUBARRAY="FULL", SUBSIZE1=_NY, SUBSIZE2=_NY, NOUTPUTS=4)
    header = fits.getheader(path)
    frames = np.random.default_rng(1).integers(9900, 10100, (4, _NY, _NY)).astype("u2")
    with path.open("wb") as file:
        file.write(header.tostring().encode())
        sci = fits.ImageHDU(np.zeros((1, 1, 1, 1), "u2"), name="SCI").header
        sci["NAXIS1"] = sci["NAXIS2"] = _NY
        sci["NAXIS3"], sci["NAXIS4"], sci["BZERO"], sci["BSCALE"] = ngroups, nints, 32768, 1
        file.write(sci.tostring().encode())
        for frame in range(nints * ngroups):
            file.write((frames[frame % 4] ^ 0x8000).astype(">u2").tobytes())
        file.write(bytes(-file.tell() % 2880))
    return path


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize(("nints", "ngroups", "threads"), [(1, 30, 2), (2, 150, 1)])
def test_a_full_frame_of_any_length_needs_two_gib(tmp_path, nints, ngroups, threads):
    # Given a full-frame dark
    raw = full_frame(tmp_path, nints, ngroups)
    for path in write_references(tmp_path / "references", size=_NY).values():
        edit(path, SUBARRAY="FULL")
    write_server_config(tmp_path / "crds")
    # When its ramp is made
    peak, _ = peak_of(
        _JOB, tmp_path, raw, threads, environment=os.environ | crds_environment(tmp_path / "crds")
    )
    # Then memory, that of mapped files included, stays below 2 GiB
    assert peak < 2 * 1024**3
