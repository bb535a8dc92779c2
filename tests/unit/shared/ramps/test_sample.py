"""A sample of a ramp's groups against the same groups of the whole."""

import numpy as np
import pytest
from astropy.io import fits

from shared.errors import BadInput
from shared.ramps.ramp import Ramp
from shared.ramps.sample import RampSample
from shared.store.sources import FileReader


@pytest.fixture
def cube(tmp_path):
    data = np.arange(20 * 30 * 2 * 3, dtype=np.float32).reshape(20, 30, 2, 3)
    flags = (data % 7).astype(np.uint8)
    path = tmp_path / "ramp.fits"
    image = np.arange(6, dtype=np.uint32).reshape(2, 3)
    fits.HDUList(
        [
            fits.PrimaryHDU(),
            fits.ImageHDU(data, name="SCI"),
            fits.ImageHDU(flags, name="GROUPDQ"),
            fits.ImageHDU(image, name="PIXELDQ"),
        ]
    ).writeto(path)
    return path, data, flags, image


@pytest.mark.parametrize("planes", [1, 10, 40, 100, 599])
def test_a_sample_holds_the_ends_of_the_file_and_reads_their_values(cube, planes):
    path, data, flags, image = cube
    with Ramp(FileReader(path), "ramp") as ramp:
        sample = RampSample(ramp, planes)
        integrations, groups = sample.integrations, sample.groups
        assert not sample.is_whole
        assert sample.planes == (len(integrations) * len(groups), 600)
        assert len(groups) <= max(3, planes // len(integrations))
        # Then the first two groups and the last are there, in order
        assert groups[:2] == [0, 1]
        assert groups[-1] == 29
        assert groups == sorted(set(groups))
        assert integrations[0] == 0
        assert integrations[-1] == 19 or planes == 1
        # And values are those of the file
        chosen = np.ix_(integrations, groups)
        assert sample.shape("SCI") == (len(integrations), len(groups), 2, 3)
        for name, whole in (("SCI", data), ("GROUPDQ", flags)):
            read = np.stack([sample.read(name, number) for number in range(len(integrations))])
            np.testing.assert_array_equal(read, whole[chosen])
            assert read.dtype == whole.dtype
        np.testing.assert_array_equal(sample.read("SCI", 0, slice(1, 2), slice(1, 2)), data[:1, 1, 1:2])
        stored = np.empty((1, 2, 3), ">f4")
        sample.read_stored("SCI", 0, slice(1, 2), slice(None), stored)
        np.testing.assert_array_equal(stored, data[:1, 1])
        np.testing.assert_array_equal(sample.read_image("PIXELDQ"), image)


def test_a_small_ramp_is_shown_whole(cube):
    path, data, _, _ = cube
    with Ramp(FileReader(path), "ramp") as ramp:
        sample = RampSample(ramp, 600)
        assert sample.is_whole
        assert sample.planes == (600, 600)
        np.testing.assert_array_equal(sample.read("SCI", 19), data[19])


def test_an_image_has_no_groups(tmp_path):
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.zeros((4, 4)), name="SCI")]).writeto(
        tmp_path / "x.fits"
    )
    with Ramp(FileReader(tmp_path / "x.fits"), "x") as ramp, pytest.raises(BadInput) as error:
        RampSample(ramp, 10)
    assert error.value.check == "shape"
