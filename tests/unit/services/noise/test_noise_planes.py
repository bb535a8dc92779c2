"""Pixels of an exposure by kind, and the planes of a ramp with what is flagged in them."""

import numpy as np
import pytest

from services.noise.planes import exposure_pixels, planes
from shared.errors import PermanentError
from shared.ramps.members import open_member
from shared.store.local import LocalStore
from support.configurations import configuration
from support.noise_sets import put_ramp


def test_pixels_are_sorted_by_mask_and_border():
    # Given a full-width stripe at the detector's lower edge, one science and one reference pixel masked
    key = configuration(8, 2048, substrt1=1, substrt2=1, noutputs=4)
    pixeldq = np.zeros((8, 2048), np.uint32)
    pixeldq[0, 0] = pixeldq[5, 100] = 1
    pixels = exposure_pixels(key, pixeldq, "x")
    assert pixels.sky.sum() == 4 * 2040
    assert pixels.active.sum() == 4 * 2040 - 1
    assert pixels.reference.sum() == 8 * 2048 - 4 * 2040 - 1
    assert len(pixels.amplifiers) == 4


def test_an_exposure_without_a_usable_pixel_is_refused_in_one_line():
    with pytest.raises(PermanentError) as refused:
        exposure_pixels(configuration(8, 8), np.ones((8, 8), np.uint32), "exposure.fits")
    assert "\n" not in str(refused.value)


def test_planes_say_what_was_flagged_in_a_group_and_in_all_before_it(tmp_path):
    # Given a ramp of two integrations with flags of all kinds and a value that is not finite
    key = configuration(16, 16, 5)
    rng = np.random.default_rng(1)
    sci = rng.normal(0, 5, (2, 5, 16, 16)).astype(np.float32)
    sci[1, 2, 3, 4] = np.nan
    groupdq = rng.choice([0, 1, 2, 4, 16, 32], sci.shape, p=[0.9, 0.02, 0.02, 0.02, 0.02, 0.02]).astype(
        np.uint8
    )
    store = LocalStore(tmp_path / "store")
    member = put_ramp(store, tmp_path, key, sci, groupdq)
    # When it is read plane by plane
    with open_member(store, member, key) as ramp:
        for number, plane in enumerate(planes(ramp)):
            # Then each plane is that of its group, and what ends a ramp ends it until the next integration
            place = plane.integration, plane.group
            assert place == divmod(number, 5)
            np.testing.assert_array_equal(plane.signal, sci[place])
            np.testing.assert_array_equal(plane.quality, groupdq[place])
            np.testing.assert_array_equal(plane.jumps, groupdq[place] & 4 > 0)
            so_far = np.s_[plane.integration, : plane.group + 1]
            ended = ((groupdq[so_far] & (1 | 2 | 4 | 32) > 0) | ~np.isfinite(sci[so_far])).any(axis=0)
            np.testing.assert_array_equal(plane.alive, ~ended)
    store.close()
    assert number == 9
