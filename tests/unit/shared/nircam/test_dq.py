"""The data-quality bits are those of the JWST pipeline, and masks keep a plane's type."""

from enum import IntFlag

import numpy as np
import pytest
from stdatamodels.jwst.datamodels import dqflags

from shared.nircam.dq import BAD_GROUP_FLAGS, GroupFlag, PixelFlag, flag_unused_pixels


@pytest.mark.parametrize(("flags", "pipeline"), [(GroupFlag, dqflags.group), (PixelFlag, dqflags.pixel)])
def test_every_bit_is_the_pipelines(flags: type[IntFlag], pipeline: dict[str, int]) -> None:
    assert {flag.name: int(flag) for flag in flags} == {
        name: bit for name, bit in pipeline.items() if name != "GOOD"
    }


def test_masks_keep_the_type_of_their_plane() -> None:
    groupdq, pixeldq = np.full(2, 255, np.uint8), np.full(2, 2**32 - 1, np.uint32)
    assert (groupdq & BAD_GROUP_FLAGS.mask).dtype == np.uint8
    marked = pixeldq & PixelFlag.REFERENCE_PIXEL.mask
    assert marked.dtype == np.uint32
    assert list(marked) == [1 << PixelFlag.REFERENCE_PIXEL.bit] * 2


def test_a_pixel_that_is_not_to_be_used_is_not_used_in_any_group() -> None:
    # Given one DO_NOT_USE pixel, one that is only HOT, and a jump in each
    pixeldq = np.array([[PixelFlag.DO_NOT_USE, PixelFlag.HOT, 0]], np.uint32)
    groupdq = np.zeros((2, 3, 1, 3), np.uint8)
    groupdq[1, 2] = GroupFlag.JUMP_DET
    expected = groupdq.copy()
    expected[:, :, 0, 0] += 1
    # When
    flag_unused_pixels(groupdq, pixeldq)
    # Then
    np.testing.assert_array_equal(groupdq, expected)
    assert groupdq.dtype == np.uint8
