"""shared/ramps/ramp.py against astropy.io.fits."""

import functools
import io

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from shared.errors import BadInput
from shared.ramps.ramp import Ramp
from support.paths import SHARED_DATA


class Bytes:
    """An ObjectReader of bytes in memory, which counts what is read."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)
        self.bytes_read = 0

    def read(self, offset: int, length: int) -> bytes:
        assert offset >= 0
        assert offset + length <= self.size
        self.bytes_read += length
        return self.data[offset : offset + length]

    def read_into(self, offset: int, buffer: memoryview) -> None:
        buffer[:] = self.read(offset, len(buffer))

    def forget(self) -> None:
        pass

    def close(self) -> None:
        pass

    def __enter__(self) -> "Bytes":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def fits_bytes(*hdus: fits.ImageHDU | fits.BinTableHDU, **primary: object) -> bytes:
    file = io.BytesIO()
    first = fits.PrimaryHDU()
    first.header.update(primary)
    fits.HDUList([first, *hdus]).writeto(file)
    return file.getvalue()


DTYPES = ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]
arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=4, max_dims=4, min_side=1, max_side=5))
)
bound = st.none() | st.integers(-7, 7)


@given(array=arrays, integration=st.integers(0, 4), bounds=st.tuples(bound, bound, bound, bound))
@settings(deadline=None, max_examples=150)
def test_a_window_of_any_type_is_what_astropy_gives(
    array: NDArray[np.generic], integration: int, bounds: tuple[int | None, ...]
) -> None:
    # Given a file that astropy wrote
    data = fits_bytes(fits.ImageHDU(array, name="SCI"))
    integration %= array.shape[0]
    groups, rows = slice(*bounds[:2]), slice(*bounds[2:])
    # When a window is read, Then it is astropy's, in native byte order, and our own to write to
    with fits.open(io.BytesIO(data)) as oracle, Ramp(Bytes(data), "x.fits") as ramp:
        wanted = oracle["SCI"].data[integration, groups, rows]
        window = ramp.read("SCI", integration, groups, rows)
        assert ramp.shape() == array.shape
        assert window.dtype == wanted.dtype.newbyteorder("=")
        assert window.dtype.isnative
        assert window.flags.writeable
        np.testing.assert_array_equal(window, wanted)
        # And the same in the file's byte order, whatever the file's type
        into = np.empty(wanted.shape, np.dtype(wanted.dtype).newbyteorder(">"))
        ramp.read_stored("SCI", integration, groups, rows, into)
        np.testing.assert_array_equal(into, wanted)


@given(
    array=st.sampled_from(["u1", "i2", "i4"]).flatmap(lambda dtype: hnp.arrays(dtype, (1, 2, 3, 4)))
    | hnp.arrays("f4", (1, 2, 3, 4), elements=st.floats(-1e6, 1e6, width=32)),
    bscale=st.sampled_from([1.0, 0.5, -2.0]),
    bzero=st.sampled_from([0.0, 100.0, 32768.0, -128.0, 0.25]),
)
@settings(deadline=None)
def test_scaled_arrays_are_what_astropy_gives(
    array: NDArray[np.generic], bscale: float, bzero: float
) -> None:
    # FITS's signed bytes: astropy cannot read them without the keywords it writes itself.
    assume((array.dtype, bscale, bzero) != (np.uint8, 1.0, -128.0))
    hdu = fits.ImageHDU(array, name="SCI")
    hdu.header["BSCALE"], hdu.header["BZERO"] = bscale, bzero
    data = fits_bytes(hdu)
    with fits.open(io.BytesIO(data), do_not_scale_image_data=True) as raw:
        raw["SCI"].header["BSCALE"], raw["SCI"].header["BZERO"] = bscale, bzero
        file = io.BytesIO()
        raw.writeto(file)
    data = file.getvalue()
    with fits.open(io.BytesIO(data)) as oracle:
        wanted = oracle["SCI"].data[0]
    window = Ramp(Bytes(data), "x.fits").read("SCI", 0)
    assert window.dtype == wanted.dtype.newbyteorder("=")
    np.testing.assert_allclose(window, wanted, rtol=1e-6)


@given(array=hnp.arrays("u4", st.tuples(st.integers(1, 6), st.integers(1, 6))), low=bound, high=bound)
@settings(deadline=None)
def test_rows_of_an_image_are_what_astropy_gives(
    array: NDArray[np.uint32], low: int | None, high: int | None
) -> None:
    ramp = Ramp(Bytes(fits_bytes(fits.ImageHDU(array, name="PIXELDQ"))), "x.fits")
    image = ramp.read_image("PIXELDQ", slice(low, high))
    assert image.dtype == np.uint32
    np.testing.assert_array_equal(image, array[low:high])


@functools.cache
def ramp_file() -> tuple[bytes, NDArray[np.float32]]:
    science = np.arange(2 * 3 * 8 * 100, dtype=np.float32).reshape(2, 3, 8, 100)
    hdus = [
        fits.ImageHDU(science, name="SCI"),
        fits.ImageHDU(np.zeros((8, 100), np.uint32), name="PIXELDQ"),
        fits.ImageHDU(science.astype(np.uint8), name="GROUPDQ"),
        fits.BinTableHDU.from_columns([fits.Column("a", "J", array=[1, 2])], name="GROUP"),
        fits.ImageHDU(np.ones((2, 3, 8, 100), np.float32), name="SCI"),
    ]
    return fits_bytes(*hdus, DETECTOR="NRCA1"), science


def test_headers_and_extensions_are_found_behind_one_another() -> None:
    data, science = ramp_file()
    ramp = Ramp(Bytes(data), "x.fits")
    assert ramp.primary["DETECTOR"] == "NRCA1"
    assert list(ramp.headers) == ["PRIMARY", "SCI", "PIXELDQ", "GROUPDQ", "GROUP"]
    assert ramp.has("GROUPDQ")
    assert not ramp.has("ERR")
    # Of two SCI the first counts, as in astropy.
    np.testing.assert_array_equal(ramp.read("SCI", 1), science[1])


def test_only_the_window_s_bytes_are_read() -> None:
    data, science = ramp_file()
    reader = Bytes(data)
    ramp = Ramp(reader, "x.fits")
    headers = reader.bytes_read
    assert headers < 2880 * 10
    window = ramp.read("SCI", 1, slice(1, 3), slice(2, 4))
    np.testing.assert_array_equal(window, science[1, 1:3, 2:4])
    assert reader.bytes_read - headers == window.nbytes


def test_what_is_not_there_or_of_another_kind_is_said() -> None:
    ramp = Ramp(Bytes(ramp_file()[0]), "x.fits")
    with pytest.raises(BadInput) as caught:
        ramp.read("ERR", 0)
    assert caught.value.check == "ERR"
    with pytest.raises(BadInput) as caught:
        ramp.read("PIXELDQ", 0)
    assert caught.value.check == "shape"
    with pytest.raises(BadInput) as caught:
        ramp.read_image("SCI")
    assert caught.value.check == "shape"
    with pytest.raises(BadInput) as caught:
        ramp.shape("GROUP")
    assert caught.value.check == "GROUP"
    with pytest.raises(IndexError):
        ramp.read("SCI", 2)
    with pytest.raises(IndexError):
        ramp.read("SCI", -1)
    with pytest.raises(ValueError):
        ramp.read("SCI", 0, slice(None, None, 2))


@pytest.mark.parametrize(
    "data", [b"", b"x", b"hello " * 1000, b"\x89HDF\r\n" + b"\0" * 9000], ids=["empty", "1", "text", "hdf5"]
)
def test_what_is_not_fits_is_said(data: bytes) -> None:
    with pytest.raises(BadInput) as caught:
        Ramp(Bytes(data), "x.fits")
    assert caught.value.check == "FITS"


def test_a_gzipped_file_is_said_to_be_one() -> None:
    with pytest.raises(BadInput) as caught:
        Ramp(Bytes(b"\x1f\x8b\x08" + b"\0" * 5000), "x.fits")
    assert caught.value.check == "FITS"
    assert "gunzip" in str(caught.value)


@given(st.data())
@settings(deadline=None, max_examples=100)
def test_a_file_cut_anywhere_is_truncated_or_lacks_its_last_extensions(data: st.DataObject) -> None:
    whole, _ = ramp_file()
    cut = data.draw(st.integers(6, len(whole) - 1))
    fault, ramp = opened(whole[:cut])
    if ramp is not None:
        # Cut between two HDUs: whoever needs a later one is told that it is missing.
        with fits.open(io.BytesIO(whole)) as oracle:
            assert cut in {hdu._data_offset + hdu._data_size + (-hdu._data_size % 2880) for hdu in oracle}
    else:
        assert fault is not None
        assert fault.check == "truncated"
        assert str(fault).startswith("x.fits: truncated")
        assert "\n" not in str(fault)


def opened(data: bytes) -> tuple[BadInput | None, Ramp | None]:
    """Open a ramp and read some of it; give the fault or the ramp."""
    try:
        ramp = Ramp(Bytes(data), "x.fits")
        if ramp.has("SCI") and ramp.shape("SCI")[:1] > (0,):
            ramp.read("SCI", 0)
    except BadInput as error:
        return error, None
    return None, ramp


def test_an_endless_header_is_given_up_early() -> None:
    card = b"SIMPLE  =                    T".ljust(80)
    reader = Bytes(card + b"COMMENT x".ljust(80) * 400_000)
    with pytest.raises(BadInput) as caught:
        Ramp(reader, "x.fits")
    assert caught.value.check == "FITS"
    assert reader.bytes_read < 1_100_000


def test_records_after_the_last_extension_are_passed_over() -> None:
    data, _ = ramp_file()
    for tail in (b"\0" * 2880, b"\0" * 100, b"special record".ljust(2880)):
        assert "GROUPDQ" in Ramp(Bytes(data + tail), "x.fits").headers


@pytest.mark.filterwarnings("ignore::astropy.io.fits.verify.VerifyWarning")
@pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyUserWarning")
@given(st.data())
@settings(deadline=None, max_examples=150)
def test_damaged_headers_give_a_ramp_or_bad_input(data: st.DataObject) -> None:
    # Given a file with some bytes of its headers overwritten
    whole, _ = ramp_file()
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(6, 2880 + 80 * 14))
        damaged[at] = data.draw(st.integers(0, 255))
    # When it is opened and read, Then nothing but BadInput comes of it
    fault, _ = opened(bytes(damaged))
    if fault is not None:
        assert str(fault).startswith("x.fits: ")
        assert "\n" not in str(fault)


def test_the_real_fgs_ramp_is_what_astropy_gives() -> None:
    path = SHARED_DATA / "jw01019001001_gs-acq1_2022117003102_uncal.fits"
    if not path.is_file():
        pytest.skip(f"the real FGS ramp is not at {path}")
    ramp = Ramp(Bytes(path.read_bytes()), path.name)
    with fits.open(path) as oracle:
        for integration in range(6):
            window = ramp.read("SCI", integration)
            assert window.dtype == np.uint16
            np.testing.assert_array_equal(window, oracle["SCI"].data[integration])
    # Measured independently, ../shared/README: group-0 medians 14661-14737 DN.
    medians = [float(np.median(ramp.read("SCI", n, slice(0, 1)))) for n in range(6)]
    assert min(medians) == 14661
    assert max(medians) == 14737
