"""shared/ramps/hdus.py: bounds, and headers that can be read without surprise."""

import io

import numpy as np
import pytest
from astropy.io import fits

from shared.errors import BadInput
from shared.ramps.hdus import LONGEST_HEADERS, HduExtent, walk_hdus
from shared.ramps.ramp import Ramp


class Bytes(io.BytesIO):
    """An ObjectReader of bytes in memory."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.data, self.size = data, len(data)

    def read(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]

    def read_into(self, offset: int, buffer: memoryview) -> None:
        buffer[:] = self.read(offset, len(buffer))


def written(*hdus: fits.ImageHDU | fits.BinTableHDU) -> bytes:
    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(file)
    return file.getvalue()


def with_card(card: bytes, instead_of: bytes) -> bytes:
    """Return a file with an image, one of whose cards is replaced."""
    data = written(fits.ImageHDU(np.arange(6, dtype="i2").reshape(2, 3), name="SCI"))
    at = data.index(instead_of, data.index(b"XTENSION"))
    return data[:at] + card.ljust(80) + data[at + 80 :]


def walked(data: bytes) -> list[HduExtent]:
    return list(walk_hdus(Bytes(data), "x.fits"))


@pytest.mark.parametrize(
    ("card", "instead_of"),
    [
        (b"NAXIS   =                 1000", b"NAXIS   ="),
        (b"NAXIS   =                  2.0", b"NAXIS   ="),
        (b"NAXIS   =                    T", b"NAXIS   ="),
        (b"NAXIS1  =                   -1", b"NAXIS1  ="),
        (b"NAXIS1  =                  1.5", b"NAXIS1  ="),
        (b"NAXIS1  =        2000000000000", b"NAXIS1  ="),
        (b"BITPIX  =                   24", b"BITPIX  ="),
        (b"PCOUNT  =                   -4", b"PCOUNT  ="),
        (b"GCOUNT  = 'many'", b"GCOUNT  ="),
        (b"TFIELDS =                 1000", b"EXTNAME ="),
        (b"BSCALE  =                    0", b"EXTNAME ="),
        (b"BZERO   =                1E999", b"EXTNAME ="),
    ],
)
def test_a_number_that_no_file_has_is_refused_before_it_is_used(card: bytes, instead_of: bytes) -> None:
    with pytest.raises(BadInput) as caught:
        walked(with_card(card, instead_of))
    assert caught.value.check == "FITS"


def test_a_card_that_cannot_be_parsed_is_left_out_and_named() -> None:
    # Given a card with an open quotation mark, When the headers are read
    [_, sci] = walked(with_card(b"EXTVER  = 'open", b"PCOUNT  ="))
    # Then whoever looks through the header meets no error
    assert sci.unreadable == ("EXTVER",)
    assert [str(card) for card in sci.header.cards]
    assert "EXTVER" not in sci.header
    assert sci.header["NAXIS1"] == 3


def test_all_headers_together_are_bounded() -> None:
    empty = written(*[fits.ImageHDU() for _ in range(LONGEST_HEADERS // 2880 + 1)])
    with pytest.raises(BadInput) as caught:
        walked(empty)
    assert caught.value.check == "FITS"


def test_an_hdu_that_is_cut_short_is_still_described() -> None:
    data = written(fits.ImageHDU(np.zeros((40, 50), "f4"), name="SCI"))
    hdus = walk_hdus(Bytes(data[:-2880]), "x.fits")
    assert [next(hdus).name, next(hdus).name] == ["PRIMARY", "SCI"]
    with pytest.raises(BadInput) as caught:
        next(hdus)
    assert caught.value.check == "truncated"


def test_of_hdus_of_one_name_the_first_counts_whatever_it_is() -> None:
    # Given a table and an image of the same name
    column = fits.Column("a", "J", array=[1, 2])
    table = fits.BinTableHDU.from_columns([column], name="SCI")
    data = written(table, fits.ImageHDU(np.zeros((1, 2, 3, 4), "f4"), name="SCI"))
    # Then SCI is the table alone, not the header of one and the pixels of the other
    ramp = Ramp(Bytes(data), "x.fits")
    assert not ramp.has("SCI")
    assert ramp.headers["SCI"]["XTENSION"] == "BINTABLE"


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "u4", "f4", "f8"])
def test_the_type_of_an_extension_is_that_of_its_values(dtype: str) -> None:
    ramp = Ramp(Bytes(written(fits.ImageHDU(np.zeros((1, 1, 2, 3), dtype), name="SCI"))), "x.fits")
    assert ramp.dtype("SCI") == np.dtype(dtype)
    np.testing.assert_array_equal(ramp.read_whole("SCI"), np.zeros((1, 1, 2, 3)))
