"""Reference pixels and amplifiers, against a full frame painted by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.nircam.configuration import ConfigurationKey
from shared.nircam.geometry import amplifiers, science_pixels


def key(x: int = 1, y: int = 1, nx: int = 2048, ny: int = 2048, outputs: int = 4) -> ConfigurationKey:
    return ConfigurationKey(
        detector="NRCA1",
        subarray="FULL",
        substrt1=x,
        substrt2=y,
        subsize1=nx,
        subsize2=ny,
        noutputs=outputs,
        readpatt="RAPID",
        nframes=1,
        groupgap=0,
        tframe=10.73677,
        ngroups=10,
        exp_type="NRC_DARK",
    )


# The detector as it is: 2048 x 2048 with a border of 4 reference pixels.
DETECTOR = np.ones((2048, 2048), dtype=bool)
DETECTOR[:4] = DETECTOR[-4:] = DETECTOR[:, :4] = DETECTOR[:, -4:] = False


def test_a_full_frame_has_2040_squared_science_pixels() -> None:
    np.testing.assert_array_equal(science_pixels(key()), DETECTOR)
    assert science_pixels(key()).sum() == 2040**2


@given(data=st.data(), nx=st.integers(1, 64), ny=st.integers(1, 64))
def test_a_subarray_sees_its_part_of_the_detector(data: st.DataObject, nx: int, ny: int) -> None:
    x = data.draw(st.integers(1, 2049 - nx) | st.sampled_from([1, 2049 - nx]))
    y = data.draw(st.integers(1, 2049 - ny) | st.sampled_from([1, 2049 - ny]))
    expected = DETECTOR[y - 1 : y - 1 + ny, x - 1 : x - 1 + nx]
    np.testing.assert_array_equal(science_pixels(key(x, y, nx, ny, 1)), expected)


@pytest.mark.parametrize(("nx", "outputs", "width"), [(2048, 4, 512), (640, 1, 640), (2048, 1, 2048)])
def test_outputs_are_stripes_of_columns(nx: int, outputs: int, width: int) -> None:
    stripes = amplifiers(key(nx=nx, outputs=outputs))
    assert [(s.start, s.stop) for s in stripes] == [(n * width, (n + 1) * width) for n in range(outputs)]


@given(nx=st.integers(4, 2048), outputs=st.integers(1, 4))
def test_every_column_belongs_to_one_output(nx: int, outputs: int) -> None:
    stripes = amplifiers(key(nx=nx, outputs=outputs))
    assert len(stripes) == outputs
    assert [c for s in stripes for c in range(nx)[s]] == list(range(nx))
