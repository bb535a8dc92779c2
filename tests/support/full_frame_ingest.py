"""ingest's work on a full frame of any length, for tests that measure its memory in a process of its own."""

from pathlib import Path

import numpy as np
from astropy.io import fits

from support.ingest_exposures import edit, write_exposure

NY = 2048
#: Makes a ramp; arguments: the folder with `references`, the exposure, threads, and a folder for the ramp.
INGEST_JOB = """
import sys
from pathlib import Path
from astropy.io import fits
from services.ingest.exposure import ValidExposure
from services.ingest.plan import plan_for
from services.ingest.ramp_file import make_ramp_file
from services.ingest.steps import STEPS
from shared.nircam.configuration import ConfigurationKey
from shared.settings.stage import StageSettings
root, raw, scratch = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[4])
overrides = {path.stem.split("_")[1]: path for path in (root / "references").iterdir()}
settings = StageSettings(store=scratch, overrides=overrides, persistence_time=1000)
header = fits.getheader(raw)
exposure = ValidExposure(
    exposure_id="jw", path=raw, uri=str(raw), key=ConfigurationKey.from_header(header, "raw"), header=header
)
plan = plan_for(list(STEPS), settings, persistence_done=False)
made = make_ramp_file(exposure, plan, lambda: None, scratch, lambda *_: None, int(sys.argv[3]))
made.path.unlink()
"""


def full_frame(folder: Path, nints: int, ngroups: int) -> Path:
    """A raw full frame of noise: memory does not depend on what the pixels say."""
    path = write_exposure(folder / "jw_nrca3_uncal.fits", nints=nints, ngroups=ngroups)
    edit(path, SUBARRAY="FULL", SUBSIZE1=NY, SUBSIZE2=NY, NOUTPUTS=4)
    header = fits.getheader(path)
    frames = np.random.default_rng(1).integers(9900, 10100, (4, NY, NY)).astype("u2")
    with path.open("wb") as file:
        file.write(header.tostring().encode())
        sci = fits.ImageHDU(np.zeros((1, 1, 1, 1), "u2"), name="SCI").header
        sci["NAXIS1"] = sci["NAXIS2"] = NY
        sci["NAXIS3"], sci["NAXIS4"], sci["BZERO"], sci["BSCALE"] = ngroups, nints, 32768, 1
        file.write(sci.tostring().encode())
        for frame in range(nints * ngroups):
            file.write((frames[frame % 4] ^ 0x8000).astype(">u2").tobytes())
        file.write(bytes(-file.tell() % 2880))
    return path
