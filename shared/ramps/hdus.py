"""The HDUs of a FITS file: where they lie and what they hold, from their headers, within bounds.

Whoever may announce an exposure can put anything into a file. What FITS allows, or does not forbid, is more
than the programs behind can carry: astropy counts through 2^63 - 1 axes, headers take eight times their size
in memory, and a card that cannot be parsed raises wherever it is first looked at. `walk_hdus` is therefore
the only reader that meets a file as it was delivered; it bounds every number before it is used, and what it
gives can be read without surprise.
"""

import contextlib
import math
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from shared.errors import BadInput, DarksError

BLOCK = 2880
#: Bytes of one header and of all headers of a file. Those of the archive have 30 kB and 100 kB.
LONGEST_HEADER, LONGEST_HEADERS = 1024**2, 4 * 1024**2
#: Most axes and most columns, of the FITS standard.
MOST_AXES, MOST_COLUMNS = 999, 999
#: Values along an axis, and bytes of a table's heap. No disk holds more, and offsets stay within 64 bits.
LONGEST_AXIS = 2**40
_BITPIX = frozenset({8, 16, 32, 64, -32, -64})
_CARD = 80
_END = b"END     "
#: What astropy raises, besides its own error, for cards that no standard allows.
_ODD_CARD = (fits.VerifyError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError)


class HeaderSource(Protocol):
    """Where headers are read from: an `shared.store.base.ObjectReader`, or part of a file in memory."""

    @property
    def size(self) -> int:
        """Size in bytes."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset`."""
        ...


@dataclass(frozen=True)
class ImageArray:
    """The array of an image HDU as it is stored: its first byte, shape (slowest axis first) and scaling.

    `name` is that of its HDU.
    """

    name: str
    offset: int
    shape: tuple[int, ...]
    bitpix: int
    bscale: float
    bzero: float


@dataclass(frozen=True)
class HduExtent:
    """Where an HDU lies in its file: bytes `start` to `end`, its data from `data_at` on, padding included.

    Attributes
    ----------
    name : str
        EXTNAME in capitals; ``PRIMARY``, or ``HDU`` and a number, without it.
    header : astropy.io.fits.Header
        Without the cards that cannot be parsed.
    size : int
        Bytes of the data without padding.
    array : ImageArray or None
        None for a table.
    header_crc : int
        CRC-32 of the header as it is stored.
    unreadable : tuple of str
        Keywords of the cards that cannot be parsed.
    """

    name: str
    header: fits.Header
    start: int
    data_at: int
    end: int
    size: int
    array: ImageArray | None
    header_crc: int
    unreadable: tuple[str, ...] = ()


def walk_hdus(reader: HeaderSource, where: str) -> Iterator[HduExtent]:
    """Yield the HDUs of a FITS file in order; reads their headers only.

    Parameters
    ----------
    reader : HeaderSource
    where : str
        Name of the file, for errors.

    Raises
    ------
    BadInput
        If the bytes are not FITS, exceed a bound, or are cut short (check ``"FITS"`` or ``"truncated"``). An
        HDU whose data are cut short is yielded before that.
    """
    offset, number, headers = 0, 0, 0
    while (raw := _read_header(reader, offset, where)) is not None:
        headers += len(raw)
        if headers > LONGEST_HEADERS:
            raise _unreadable(where, offset, f"the headers have more than {LONGEST_HEADERS} bytes so far")
        try:
            extent = _described(raw, offset, number)
        except DarksError:
            raise
        except Exception as error:  # astropy raises whatever a strange card leads to
            raise _unreadable(where, offset, error) from error
        yield extent
        if extent.end > reader.size:
            raise BadInput(
                "truncated",
                f"{where}: truncated: HDU {extent.name} should end at byte {extent.end}, "
                f"but the file has {reader.size}; fetch it again",
            )
        offset, number = extent.end, number + 1


def _read_header(reader: HeaderSource, offset: int, where: str) -> bytes | None:
    """Return the bytes of the header at `offset`; None behind the last HDU."""
    start = reader.read(offset, min(8, reader.size - offset))
    if offset == 0 and start[:6] != b"SIMPLE":
        hint = "it is gzip-compressed: gunzip it" if start[:2] == b"\x1f\x8b" else "fetch it again"
        raise BadInput("FITS", f"{where}: not a FITS file: it does not begin with SIMPLE; {hint}")
    if offset > 0 and not (start and b"XTENSION".startswith(start)):
        # The FITS standard allows other records after the last extension.
        return None
    blocks: list[bytes] = []
    end: int | None = None
    while end is None:
        at = offset + len(blocks) * BLOCK
        if at + BLOCK > reader.size:
            raise BadInput(
                "truncated",
                f"{where}: truncated: the header at byte {offset} has no END before byte {at} of "
                f"{reader.size}; fetch it again",
            )
        if (len(blocks) + 1) * BLOCK > LONGEST_HEADER:
            raise _unreadable(where, offset, f"no END within {LONGEST_HEADER} bytes")
        blocks.append(reader.read(at, BLOCK))
        end = _end_in(blocks[-1])
    if blocks[-1][end + len(_END) :].strip(b" \0"):
        # A card that was damaged so that it reads END would hide those behind it: steps that were done, sums.
        raise _unreadable(where, offset, "its END is followed by more than blanks, which FITS does not allow")
    return b"".join(blocks)


def _end_in(block: bytes) -> int | None:
    """Return where the first END card begins in a block."""
    return next((card for card in range(0, BLOCK, _CARD) if block.startswith(_END, card)), None)


def _parsed(raw: bytes) -> tuple[fits.Header, tuple[str, ...]]:
    """Return a header without the cards that cannot be parsed, and the keywords of these."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        header = fits.Header.fromstring(raw)
        good, unreadable = [], []
        for card in header.cards:
            try:
                # Each of them parses another part, and raises on its own.
                _ = (card.keyword, card.value, card.comment, card.image)
                good.append(card)
            except _ODD_CARD:
                unreadable.append(_keyword(card))
        return (fits.Header(good) if unreadable else header), tuple(unreadable)


def _keyword(card: Any) -> str:
    image = ""
    with contextlib.suppress(Exception):
        image = str(card._image or "")
    return image[:8].strip().upper()


def _described(raw: bytes, offset: int, number: int) -> HduExtent:
    """Return an HDU by its header; raises `ValueError` or whatever astropy raises if a number is none."""
    header, unreadable = _parsed(raw)
    data_at = offset + len(raw)
    naxis = _count(header, "NAXIS", MOST_AXES)
    shape = tuple(_count(header, f"NAXIS{axis}", LONGEST_AXIS) for axis in range(naxis, 0, -1))
    bitpix = header["BITPIX"]
    if type(bitpix) is not int or bitpix not in _BITPIX:
        raise ValueError(f"BITPIX = {_shown(bitpix)}")
    heap, groups = _count(header, "PCOUNT", LONGEST_AXIS, 0), _count(header, "GCOUNT", LONGEST_AXIS, 1)
    # Of a packed image, ZNAXIS.
    _count(header, "TFIELDS", MOST_COLUMNS, 0)
    _count(header, "ZNAXIS", MOST_AXES, 0)
    size = abs(bitpix) // 8 * groups * (heap + math.prod(shape)) if shape else 0
    scale = float(header.get("BSCALE", 1)), float(header.get("BZERO", 0))
    if not (all(map(math.isfinite, scale)) and scale[0] != 0):
        raise ValueError(f"BSCALE = {scale[0]}, BZERO = {scale[1]}")
    name = str(header.get("EXTNAME", f"HDU{number}" if offset else "PRIMARY")).strip().upper()[:_CARD]
    is_image = str(header.get("XTENSION", "IMAGE")).strip() == "IMAGE"
    end = data_at + -(-size // BLOCK) * BLOCK
    array = ImageArray(name, data_at, shape, bitpix, *scale) if is_image else None
    return HduExtent(name, header, offset, data_at, end, size, array, zlib.crc32(raw), unreadable)


def _count(header: fits.Header, keyword: str, largest: int, default: int | None = None) -> int:
    value = header.get(keyword, default)
    if type(value) is not int or not 0 <= value <= largest:
        raise ValueError(f"{keyword} = {_shown(value)}")
    return value


def _shown(value: object) -> str:
    text = "missing" if value is None else repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _unreadable(where: str, offset: int, why: object) -> BadInput:
    reason = " ".join(str(why).split())[:300]
    return BadInput("FITS", f"{where}: unreadable header at byte {offset}: {reason}; fetch it again")
