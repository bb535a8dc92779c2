"""Digests of a ramp: they change nothing that is read, and no changed byte of a block gets through."""

import functools
import io
import tracemalloc

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from services.darkref.combine.segments import plan_segments
from shared.errors import DamagedObject
from shared.ramps.digests import RampDigester, RampDigests, digests_size, rows_per_block
from shared.ramps.ramp import Ramp
from shared.ramps.window_plan import WindowCost, plan_windows
from shared.store.ranged_file import RangedFile
from support.flipping_store import FlippingReader, byte_of_pixel
from support.ramp_products import digests_of

#: Four rows are a block, so that 11 rows are two of them and a part.
SHAPE = (2, 3, 11, 4096)


@pytest.fixture(scope="module")
def ramp_file(tmp_path_factory):
    random = np.random.default_rng(3)
    file = tmp_path_factory.mktemp("ramp") / "jump.fits"
    hdus = [
        fits.PrimaryHDU(),
        fits.ImageHDU(random.normal(size=SHAPE).astype("f4"), name="SCI"),
        fits.ImageHDU(random.integers(0, 2**32, SHAPE[2:], dtype="u4"), name="PIXELDQ"),
        fits.ImageHDU(random.integers(0, 256, SHAPE, dtype="u1"), name="GROUPDQ"),
        fits.ImageHDU(random.normal(size=(3, 5)), name="OTHER"),
    ]
    fits.HDUList(hdus).writeto(file)
    return file


def opened(file, places=None):
    return Ramp(FlippingReader(RangedFile(file), places or {}), file.name, digests_of(file))


windows = st.tuples(
    st.integers(0, SHAPE[0] - 1), *(st.tuples(st.integers(0, n), st.integers(0, n)) for n in SHAPE[1:3])
)


@given(window=windows, extension=st.sampled_from(["SCI", "GROUPDQ"]))
@settings(deadline=None, max_examples=20)
def test_a_checked_window_is_what_an_unchecked_one_is(ramp_file, window, extension):
    # Given any window, whether it is of whole blocks or not
    integration, groups, rows = window[0], slice(*window[1]), slice(*window[2])
    with opened(ramp_file) as checked, Ramp(RangedFile(ramp_file), "plain") as plain:
        # When it is read with its digests, Then it is the same, in every way of reading
        wanted = plain.read(extension, integration, groups, rows)
        np.testing.assert_array_equal(checked.read(extension, integration, groups, rows), wanted)
        into = np.empty(wanted.shape, wanted.dtype.newbyteorder(">"))
        checked.read_stored(extension, integration, groups, rows, into)
        np.testing.assert_array_equal(into, wanted)
        np.testing.assert_array_equal(checked.read_image("PIXELDQ", rows), plain.read_image("PIXELDQ", rows))


@given(
    extension=st.sampled_from(["SCI", "GROUPDQ"]),
    at=st.tuples(*(st.integers(0, n - 1) for n in SHAPE)),
)
@settings(deadline=None, max_examples=15)
def test_a_bit_that_stays_flipped_is_named_and_one_of_the_way_is_read_again(ramp_file, extension, at):
    place = byte_of_pixel(ramp_file, extension, *at)
    rows = slice(at[2], at[2] + 1)
    with Ramp(RangedFile(ramp_file), "plain") as plain:
        wanted = plain.read(extension, at[0], rows=rows)
    # Given a bit that is flipped each time, When its row is read, Then it says so, and what it is
    with opened(ramp_file, {place: 10**6}) as ramp:
        with pytest.raises(DamagedObject) as caught:
            ramp.read(extension, at[0], rows=rows)
        assert caught.value.keyword == extension
        assert caught.value.where == ramp_file.name
        # And blocks beside it are not concerned
        other = slice(8, 11) if at[2] < 8 else slice(0, 8)
        ramp.read(extension, at[0], rows=other)
    # Given that it is flipped once on its way, Then nobody notices
    with opened(ramp_file, {place: 1}) as ramp:
        np.testing.assert_array_equal(ramp.read(extension, at[0], rows=rows), wanted)


def test_pixeldq_and_headers_are_covered_too(ramp_file):
    with (
        opened(ramp_file, {byte_of_pixel(ramp_file, "PIXELDQ", 9, 17): 2}) as ramp,
        pytest.raises(DamagedObject) as caught,
    ):
        ramp.read_image("PIXELDQ")
    assert caught.value.keyword == "PIXELDQ"
    # A header whose change nobody else would notice
    data = ramp_file.read_bytes()
    with pytest.raises(DamagedObject) as caught:
        opened(ramp_file, {data.index(b"extension name"): 10**6})
    assert caught.value.keyword == "SCI"


def test_whole_blocks_are_read_once_and_a_row_takes_its_block(ramp_file):
    with opened(ramp_file) as ramp:
        reader = ramp._reader
        before = reader.bytes_read
        ramp.read("SCI", 0, slice(0, 2), slice(4, 11))
        assert reader.bytes_read - before == 2 * 7 * SHAPE[3] * 4
        before = reader.bytes_read
        ramp.read("SCI", 0, slice(0, 1), slice(5, 6))
        assert reader.bytes_read - before == 4 * SHAPE[3] * 4


def test_rows_of_many_groups_take_a_block_of_memory_not_one_of_each_group(tmp_path):
    # Given a ramp of 200 groups, and memory for a band of it that is not of whole blocks
    shape = (1, 200, 8, 2048)
    file = tmp_path / "jump.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.zeros(shape, "f4"), name="SCI")]).writeto(file)
    into = np.empty((shape[1], 3, shape[3]), ">f4")
    with opened(file) as ramp:
        # When the band is read and checked
        tracemalloc.start()
        ramp.read_stored("SCI", 0, slice(0, shape[1]), slice(2, 5), into)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    # Then it took some 64 KiB besides: eight threads read at once, for which nobody plans more
    assert peak < 1 << 18


def test_the_size_of_digests_is_that_of_their_arrays(ramp_file):
    blocks = digests_of(ramp_file).blocks
    assert digests_size(SHAPE[1:], SHAPE[0]) == blocks["SCI"].nbytes + blocks["GROUPDQ"].nbytes


def test_they_are_kept_to_the_bit_and_what_is_none_is_refused(ramp_file):
    digests = digests_of(ramp_file)
    again = RampDigests.decode(digests.encode())
    assert again.encode() == digests.encode()
    assert again.blocks["SCI"].shape == (6, 3)
    assert list(digests.damaged(again)) == []
    for data in (b"", b"PK\x03\x04", digests.encode()[:-30], digests.encode()[:40], b"x" * 1000):
        with pytest.raises(ValueError):
            RampDigests.decode(data)


@given(cuts=st.lists(st.integers(1, 1 << 18), min_size=1, max_size=5))
@settings(deadline=None, max_examples=10)
def test_they_do_not_depend_on_the_pieces_in_which_the_file_passes_by(ramp_file, cuts):
    data = _bytes_of(ramp_file)
    with Ramp(RangedFile(ramp_file), "ramp") as ramp:
        digester = RampDigester(ramp)
    file, number = io.BytesIO(data), 0
    while piece := file.read(cuts[number % len(cuts)]):
        digester.update(piece)
        number += 1
    assert digester.finish().encode() == digests_of(ramp_file).encode()


_bytes_of = functools.cache(lambda file: file.read_bytes())


def test_a_ramp_that_ends_early_has_no_digests(ramp_file):
    with Ramp(RangedFile(ramp_file), "ramp") as ramp:
        digester = RampDigester(ramp)
    digester.update(_bytes_of(ramp_file)[:-2880])
    with pytest.raises(ValueError):
        digester.finish()


@pytest.mark.parametrize("integrations", [5, 40, 100])
def test_bands_of_rows_are_whole_blocks(integrations):
    # Given so little memory that bands have odd numbers of rows
    cost = WindowCost(sample=12, result=32, per_integration=16)
    for available in range(20, 1200, 37):
        plan = plan_windows((108, 2048, 2048), integrations, available * 1024**2, cost)
        # Then they are of whole blocks as long as a block fits, or a block is of whole bands
        assert plan.rows % rows_per_block(2048) == 0 or rows_per_block(2048) % plan.rows == 0


@given(
    integrations=st.integers(1, 200),
    shape=st.tuples(st.integers(2, 300), st.sampled_from([64, 640, 2048]), st.sampled_from([64, 640, 2048])),
    mebibytes=st.integers(500, 8000),
)
def test_bands_of_the_segments_are_whole_blocks_too(integrations, shape, mebibytes):
    plan = plan_segments(integrations, shape, mebibytes * 1024**2)
    block = rows_per_block(shape[2])
    assert plan.rows == shape[1] or plan.rows % block == 0 or block % plan.rows == 0
