"""Quick medians are those of numpy and jwst, to the last bit."""

import warnings

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jwst.refpix.reference_pixels import NIRDataset

from services.ingest.quick_medians import QuickMedians, running_median

#: Ties, both zeros, values beyond single precision, infinities and NaN.
VALUES = st.sampled_from([0.0, -0.0, 1.0, 1.0, 2.5, -3.25, 1 / 3, 1e300, np.inf, -np.inf, np.nan])
SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 5))


def arrays(dtype):
    return SHAPES.flatmap(lambda shape: hnp.arrays(dtype, shape, elements=VALUES.map(lambda v: dtype(v))))


@settings(deadline=None, max_examples=200)
@given(st.one_of(arrays(np.float64), arrays(np.float32)))
@pytest.mark.filterwarnings("ignore")
def test_medians_over_integrations_and_groups_are_those_of_numpy(values):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = np.nanmedian(values, axis=(0, 1))
        out = np.empty(values.shape[2:], values.dtype)
        medians = np.nanmedian(values.view(QuickMedians), axis=(0, 1), out=out)
    assert medians is out
    assert medians.dtype == expected.dtype
    np.testing.assert_array_equal(medians, expected)


@pytest.mark.parametrize("keywords", [{"axis": 0}, {"axis": None}, {"axis": (0, 1), "keepdims": True}])
def test_other_medians_are_left_to_numpy(keywords):
    values = np.random.default_rng(1).normal(size=(2, 5, 3))
    expected = np.nanmedian(values, **keywords)
    np.testing.assert_array_equal(np.nanmedian(values.view(QuickMedians), **keywords), expected)


@settings(deadline=None, max_examples=200)
@given(
    data=st.integers(2, 30).flatmap(
        lambda ny: hnp.arrays(np.float32, (ny, 4), elements=st.floats(-100, 100, width=32))
    ),
    flags=st.integers(0, 2**32 - 1),
    share=st.sampled_from([0.0, 0.1, 0.9, 1.0]),
    length=st.integers(1, 13),
    double=st.booleans(),
    odd=st.sampled_from([None, np.nan, np.inf]),
)
@example(np.ones((5, 4), np.float32), 0, 1.0, 3, True, None)
def test_the_running_median_is_that_of_jwst(data, flags, share, length, double, odd):
    # Given reference pixels of a side, of which some are flagged, and perhaps one that is not finite
    random = np.random.default_rng(flags)
    dq = (random.random(data.shape) < share).astype(np.uint32) | np.uint32(1 << 31)
    data = data.astype(np.float64 if double else np.float32)
    if odd is not None:
        data[len(data) // 2, 1] = odd
    dataset = NIRDataset.__new__(NIRDataset)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = dataset.median_filter(data, dq, length)
    except ValueError:
        # jwst needs more rows than half the box.
        with pytest.raises(ValueError):
            running_median(dataset.median_filter, data, dq, length)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_array_equal(running_median(dataset.median_filter, data, dq, length), expected)


@pytest.mark.parametrize("function", [np.nanmedian, np.nanmax, np.nanmin])
def test_numpy_warns_in_the_words_that_stcal_passes_over(function):
    # Given a pixel without any measurement
    values = np.random.default_rng(1).normal(size=(2, 5, 3))
    values[:, :, 1] = np.nan
    said = []
    for array in (values, values.view(QuickMedians)):
        # When stcal asks for its extremes or its median
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            function(array, axis=(0, 1))
        said.append([(each.category, str(each.message)) for each in caught])
    # Then the warnings are those of a plain array, which stcal filters by their words
    assert said[0] == said[1] != []
