"""Pieces of a FITS file as stdatamodels writes them, in bytes: headers, the table of flags, their padding."""

import struct
from collections.abc import Sequence

from astropy.io import fits

#: FITS files are whole blocks of so many bytes.
BLOCK = 2880
_CARD = 80
_END = b"END".ljust(_CARD)


def padded(size: int) -> int:
    """Return how many bytes `size` bytes take in a file of whole blocks."""
    return -(-size // BLOCK) * BLOCK


def header_bytes(header: fits.Header, size: int = 0) -> bytes:
    """Return a header as it is stored.

    Parameters
    ----------
    header : Header
    size : int, optional
        Bytes to fill if it takes fewer, with blank cards ahead of END, as the FITS standard has it for room
        that was kept.
    """
    stored = str(header.tostring()).encode("ascii")
    if len(stored) >= size:
        return stored
    cards = str(header.tostring(endcard=False, padding=False)).encode("ascii")
    return cards.ljust(size - _CARD) + _END


def header_size(stored: bytes) -> int:
    """Return how many bytes the header takes that `stored` begins with.

    Raises
    ------
    ValueError
        If it does not end.
    """
    for at in range(0, len(stored), _CARD):
        if stored[at : at + _CARD] == _END:
            return padded(at + _CARD)
    raise ValueError(f"no END card in the first {len(stored)} bytes: this is no FITS header, or is cut off")


def image_header(name: str, bitpix: int, shape: tuple[int, ...]) -> fits.Header:
    """Return the header of image extension `name`, of an array of `shape`."""
    header = fits.Header()
    header["XTENSION"] = ("IMAGE", "Image extension")
    header["BITPIX"] = (bitpix, "array data type")
    header["NAXIS"] = (len(shape), "number of array dimensions")
    for axis, size in enumerate(reversed(shape), start=1):
        header[f"NAXIS{axis}"] = size
    header["PCOUNT"] = (0, "number of parameters")
    header["GCOUNT"] = (1, "number of groups")
    header["EXTNAME"] = (name, "extension name")
    header["EXTVER"] = (1, "extension value")
    return header


def flag_table(flags: Sequence[tuple[int, str, str]]) -> tuple[fits.Header, bytes]:
    """Return header and rows of DQ_DEF; astropy's tables take as long to load as a combine does.

    Parameters
    ----------
    flags : sequence of (int, str, str)
        Bit, name and description of each.
    """
    rows = [
        struct.pack(">iI40s80s", bit, (1 << bit) ^ (1 << 31), name.encode(), text.encode())
        for bit, name, text in flags
    ]
    header = fits.Header()
    header["XTENSION"] = ("BINTABLE", "binary table extension")
    header["BITPIX"] = (8, "array data type")
    header["NAXIS"] = (2, "number of array dimensions")
    header["NAXIS1"] = (len(rows[0]), "length of dimension 1")
    header["NAXIS2"] = (len(rows), "length of dimension 2")
    header["PCOUNT"] = (0, "number of group parameters")
    header["GCOUNT"] = (1, "number of groups")
    header["TFIELDS"] = (4, "number of table fields")
    for column, (name, form) in enumerate(
        (("BIT", "J"), ("VALUE", "J"), ("NAME", "40A"), ("DESCRIPTION", "80A")), start=1
    ):
        header[f"TTYPE{column}"] = name
        header[f"TFORM{column}"] = form
        if name == "VALUE":
            # FITS has no unsigned integers: stored less 2^31.
            header[f"TZERO{column}"] = 1 << 31
    header["EXTNAME"] = ("DQ_DEF", "extension name")
    header["EXTVER"] = (1, "extension value")
    return header, b"".join(rows)
