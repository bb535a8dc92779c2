"""Reference files that are not whole, and what a worker makes of them."""

import numpy as np
import pytest
from astropy.io import fits

from services.ingest.references import check_reference
from shared.errors import EnvironmentFault, TransientError
from support.configurations import configuration

KEY = configuration(64, 64, 10)


@pytest.fixture
def gain(tmp_path):
    path = tmp_path / "jwst_nircam_gain_0001.fits"
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(np.ones((64, 64), np.float32), name="SCI")]
    hdus[0].header["DETECTOR"] = KEY.detector
    fits.HDUList(hdus).writeto(path)
    return path


def test_a_whole_reference_passes(gain):
    check_reference("gain", gain, KEY, "an exposure")


@pytest.mark.parametrize("left", [0, 1000, 2880, 2880 + 1440, 2 * 2880, 2 * 2880 + 7000])
def test_half_a_reference_of_the_cache_is_tried_again_and_a_given_one_is_not(gain, left):
    # Given a file of which another worker has fetched this much so far
    gain.write_bytes(gain.read_bytes()[:left])
    # Then the exposure is to be tried again
    with pytest.raises(TransientError) as caught:
        check_reference("gain", gain, KEY, "an exposure")
    assert caught.value.where == str(gain)
    # But the file of an override does not mend itself
    with pytest.raises(EnvironmentFault):
        check_reference("gain", gain, KEY, "an exposure", overridden=True)


def test_a_reference_that_is_not_there_is_a_fault_of_the_environment(gain):
    gain.unlink()
    with pytest.raises(EnvironmentFault):
        check_reference("gain", gain, KEY, "an exposure")
