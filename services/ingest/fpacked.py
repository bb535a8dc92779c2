"""Exposures packed by fpack (``.fits.fz``): images in tiles, unpacked plane by plane into a plain FITS file.

Only what comes out as it went in is taken: integers, and floats that were not rounded. fpack rounds floats by
default, to a fraction of their noise, which is what a dark is to measure.
"""

import math
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning

from shared.errors import BadInput
from shared.ramps.hdus import BLOCK, walk_hdus
from shared.store.sources import FileReader

#: Bytes of a tile, which is in memory as a whole; fpack's own are rows.
_LARGEST_TILE = 64 * 1024**2
#: Sums of the packed HDU.
_SUMS = ("CHECKSUM", "DATASUM")
#: What astropy raises where tiles or their table are damaged.
_DAMAGE = (OSError, ValueError, TypeError, LookupError, RuntimeError, fits.VerifyError)


def unpack(path: Path, target: Path, largest: int) -> None:
    """Write the plain FITS file of a packed one.

    Parameters
    ----------
    path, target : Path
    largest : int
        Bytes that the plain file may have.

    Raises
    ------
    BadInput
        If the file is damaged, was rounded, or becomes too large (check ``"FITS"`` or ``"truncated"``).
    """
    # astropy counts through whatever a header claims: it only meets what our own reader has seen to its end.
    with FileReader(path) as reader:
        end = [extent.end for extent in walk_hdus(reader, path.name)][-1]
        if reader.size - end >= BLOCK:
            raise _fault(path.name, f"{reader.size - end} bytes follow its last HDU")
    try:
        with (
            warnings.catch_warnings(action="ignore", category=AstropyUserWarning),
            path.open("rb") as packed,
            target.open("wb") as plain,
            fits.open(path, do_not_scale_image_data=True, memmap=True) as hdus,
        ):
            ends = [info["datLoc"] + info["datSpan"] for info in map(fits.PrimaryHDU.fileinfo, hdus)]
            # Of an HDU whose header was cut, astropy says nothing.
            if not 0 <= path.stat().st_size - max(ends) < BLOCK:
                raise _fault(path.name, f"truncated: its last HDU ends at byte {max(ends)}")
            for hdu in hdus:
                if isinstance(hdu, fits.CompImageHDU):
                    _require_exact(hdu, path.name)
                    if plain.tell() + _bytes_of(hdu) > largest:
                        raise _fault(path.name, f"unpacks to more than {largest} bytes, which no dark has")
                    _write_image(hdu, plain)
                else:
                    _copy(hdu, packed, plain)
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            # Of this machine, such as a full disk.
            raise
        raise _fault(path.name, f"cannot be unpacked ({' '.join(str(error).split())})") from error


def _require_exact(hdu: Any, name: str) -> None:
    table = hdu._bintable.header
    tile = math.prod(table.get(f"ZTILE{axis}", 1) for axis in range(1, table["ZNAXIS"] + 1))
    if tile * abs(table["ZBITPIX"]) // 8 > _LARGEST_TILE:
        raise _fault(name, f"has tiles of more than {_LARGEST_TILE} bytes")
    columns = {table.get(f"TTYPE{number}") for number in range(1, table.get("TFIELDS", 0) + 1)}
    if "ZSCALE" in columns or "ZSCALE" in table or table.get("ZCMPTYPE") == "HCOMPRESS_1":
        raise _fault(name, f"fpack rounded the values of {hdu.name}, so its noise is not the detector's")


def _bytes_of(hdu: Any) -> int:
    size: int = abs(int(hdu.header["BITPIX"])) // 8 * math.prod(hdu.shape)
    return size


def _write_image(hdu: Any, plain: BinaryIO) -> None:
    header = hdu.header.copy()
    for keyword in _SUMS:
        header.remove(keyword, ignore_missing=True)
    plain.write(header.tostring(padding=True).encode("ascii"))
    for index in np.ndindex(*hdu.shape[:-2]):
        plane = np.asarray(hdu.section[index])
        plain.write(plane.astype(plane.dtype.newbyteorder(">")).tobytes())
    plain.write(bytes(-_bytes_of(hdu) % BLOCK))


def _copy(hdu: Any, packed: BinaryIO, plain: BinaryIO) -> None:
    place = hdu.fileinfo()
    packed.seek(place["hdrLoc"])
    left = place["datLoc"] + place["datSpan"] - place["hdrLoc"]
    while left > 0:
        piece = packed.read(min(left, _LARGEST_TILE))
        if not piece:
            raise OSError("it ends too early")
        plain.write(piece)
        left -= len(piece)


def _fault(name: str, why: str) -> BadInput:
    return BadInput("FITS", f"{name}: {why}; announce the file that was packed, or what funpack makes of it")
