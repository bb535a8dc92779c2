"""Write a dark reference file that jwst opens and CRDS accepts.

The rules are those of CRDS for a NIRCam dark (``all_all``, ``all_dark``, ``nircam_all``,
``nircam_dark``.tpn). But for its date, the file is byte for byte what ``DarkModel.save`` of stdatamodels
writes; a test compares the two. Written here, piece by piece, its cubes are never in memory and are on disk
as soon as they are combined: `lay_out_dark` writes everything else and leaves room for them.
"""

import math
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import DTypeLike, NDArray

from services.darkref.reference_file.header import DarkDescription, primary_header
from shared.nircam.configuration import ConfigurationKey
from shared.nircam.dq import PixelFlag
from shared.nircam.pedigree import GROUND, INFLIGHT, pedigree_of_data
from shared.ramps.cube import Cube

#: FITS files consist of blocks of this many bytes.
BLOCK = 2880
_CARD = 80
_END = b"END".ljust(_CARD)


def padded(size: int) -> int:
    """Return `size` rounded up to whole blocks."""
    return -(-size // BLOCK) * BLOCK


def header_bytes(header: fits.Header, size: int = 0) -> bytes:
    """Return a header as it is stored.

    Parameters
    ----------
    header : Header
    size : int, optional
        Least length in bytes; filled with blank cards before END, as the FITS standard provides for spare
        room.
    """
    stored = str(header.tostring()).encode("ascii")
    if len(stored) >= size:
        return stored
    cards = str(header.tostring(endcard=False, padding=False)).encode("ascii")
    return cards.ljust(size - _CARD) + _END


def header_size(stored: bytes) -> int:
    """Return the size in bytes of the header that `stored` begins with.

    Raises
    ------
    ValueError
        If it has no END.
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


def flag_table(flags: Sequence[tuple[PixelFlag, str]]) -> tuple[fits.Header, bytes]:
    """Return header and rows of DQ_DEF; importing astropy's tables would take as long as a combine.

    Parameters
    ----------
    flags : sequence of (PixelFlag, str)
        Each flag and its description.
    """
    rows = [
        struct.pack(">iI40s80s", flag.bit, int(flag) ^ (1 << 31), str(flag.name).encode(), text.encode())
        for flag, text in flags
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
            # FITS has no unsigned integers: stored minus 2^31.
            header[f"TZERO{column}"] = 1 << 31
    header["EXTNAME"] = ("DQ_DEF", "extension name")
    header["EXTVER"] = (1, "extension value")
    return header, b"".join(rows)


#: Characters that CRDS allows in DESCRIP.
DESCRIP_LIMIT = 65
#: Largest primary header in bytes: 10 000 exposures have a line each in HISTORY.
_LONGEST_HEADER = 1 << 20
_MEASURED = (INFLIGHT, GROUND)
_MJD_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)
#: Flags that DQ may contain; listed in notebook mode too, which sets none, so that zeros are a statement.
_FLAGS = (
    (PixelFlag.DO_NOT_USE, "Bad pixel. Do not use."),
    (PixelFlag.HOT, "Hot pixel"),
    (PixelFlag.WARM, "Warm pixel"),
    (PixelFlag.RC, "RC pixel"),
    (PixelFlag.UNRELIABLE_DARK, "Dark variance large"),
)
_FLIGHT_FLAGS = tuple(
    sorted((*_FLAGS, (PixelFlag.DEAD, "Dead pixel"), (PixelFlag.TELEGRAPH, "Telegraph pixel")))
)


def dark_file_name(key: ConfigurationKey) -> str:
    """Return the file name of a dark, such as ``nrcalong_sub640_dark.fits``."""
    return f"{key.detector}_{key.subarray}_dark.fits".lower()


def utc(mjd: float) -> datetime:
    """Return the UTC time of a modified Julian date, rounded down to the second."""
    return (_MJD_EPOCH + timedelta(days=mjd)).replace(microsecond=0)


def pedigree(simulated: bool, start_mjd: float, end_mjd: float, given: str | None = None) -> str:
    """Return PEDIGREE: what was `given`, else what the data are; dates are always the data's (MJD UTC).

    Raises
    ------
    ValueError
        If simulated data are called INFLIGHT or GROUND, which are for what a detector measured.

    Examples
    --------
    >>> pedigree(False, 59680.25, 59681.5)
    'INFLIGHT 2022-04-11 2022-04-12'
    >>> pedigree(True, 59680.25, 59681.5)
    'SIMULATION'
    >>> pedigree(False, 58000.0, 58000.5)
    'GROUND'
    """
    if simulated and given in _MEASURED:
        raise ValueError(f"PEDIGREE of a dark of simulated exposures cannot be {given}")
    origin = given or pedigree_of_data(simulated, end_mjd)
    if origin != INFLIGHT:
        return origin
    return f"{INFLIGHT} {utc(start_mjd):%Y-%m-%d} {utc(end_mjd):%Y-%m-%d}"


def descrip(key: ConfigurationKey, integrations: int, simulated: bool, given: str | None) -> str:
    """Return DESCRIP: what was `given`, or detector, subarray, pattern and integrations.

    Simulated data are always called so, in front, where truncation cannot remove it.
    """
    text = given or f"NIRCam {key.detector} {key.subarray} {key.readpatt} dark, {integrations} integrations"
    if simulated and "simulat" not in text.lower():
        text = f"Simulated: {text}"
    return text[:DESCRIP_LIMIT].rstrip()


@dataclass(frozen=True)
class ArrayPlace:
    """Where an array lies in a file.

    Attributes
    ----------
    offset : int
        Byte of the file.
    shape : (int, int, int)
    """

    offset: int
    shape: tuple[int, int, int]

    def cube(self, path: Path, dtype: DTypeLike) -> Cube:
        """Open the array in the file at `path`."""
        return Cube(path, self.shape, dtype, self.offset)


def lay_out_dark(
    path: Path,
    key: ConfigurationKey,
    about: DarkDescription,
    flight: bool = False,
    spare_history: int = 0,
    rate_map: bool = False,
) -> dict[str, ArrayPlace]:
    """Write everything of a dark but its arrays, as a standard `DarkModel` file.

    Parameters
    ----------
    path : Path
    key : ConfigurationKey
    about : DarkDescription
        What is known so far; see `complete_header`.
    flight : bool
        Whether DQ_DEF lists all flags of flight mode.
    spare_history : int
        Lines of HISTORY to keep room for, beyond those of `about`.
    rate_map : bool
        Whether to have an image AVDRKCUR (y, x; float32, e-/s). From a file that has both the map and the
        keyword, jwst 3.0.0 takes neither (its dark_current step compares the map's shape with that of a map
        that the exposure does not have yet), and so omits the dark's Poisson noise from every exposure.

    Returns
    -------
    dict of str to ArrayPlace
        Where SCI and ERR (groups, y, x; float32, DN) belong, DQ (1, y, x; uint32), and AVDRKCUR
        (1, y, x) if it is there. They are zeros; SCI, ERR and AVDRKCUR take no room on disk yet.
    """
    cube, plane = (key.ngroups, key.subsize2, key.subsize1), (key.subsize2, key.subsize1)
    images: dict[str, tuple[int, ...]] = {"SCI": cube, "DQ": plane, "ERR": cube}
    units = {"SCI": ("DN", "mean"), "ERR": ("DN", about.errors)}
    if rate_map:
        images["AVDRKCUR"] = plane
        units["AVDRKCUR"] = ("electron/s", "average dark current")
    places = {}
    with path.open("wb") as file:
        primary = primary_header(path.name, key, about)
        kept = primary.copy()
        for _ in range(spare_history):
            kept.add_history("")
        file.write(header_bytes(primary, len(header_bytes(kept))))
        for name, shape in images.items():
            header = image_header(name, 32 if name == "DQ" else -32, shape)
            if name == "DQ":
                header.insert("EXTNAME", ("BSCALE", 1))
                header.insert("EXTNAME", ("BZERO", 1 << 31))
            else:
                header["BUNIT"] = units[name]
            file.write(header_bytes(header))
            places[name] = ArrayPlace(file.tell(), (math.prod(shape) // math.prod(plane), *plane))
            if name == "DQ":
                stored = np.full(shape, 1 << 31, ">u4").tobytes()
                file.write(stored.ljust(padded(len(stored)), b"\0"))
            else:
                file.seek(padded(4 * math.prod(shape)), os.SEEK_CUR)
        table, rows = flag_table(_FLIGHT_FLAGS if flight else _FLAGS)
        file.write(header_bytes(table) + rows.ljust(padded(len(rows)), b"\0"))
    return places


def complete_header(path: Path, key: ConfigurationKey, about: DarkDescription) -> None:
    """Rewrite the header of a dark with what is known once it was measured: AVDRKCUR and HISTORY.

    Raises
    ------
    ValueError
        If HISTORY has grown beyond the spare room; nothing is written then.
    """
    with path.open("r+b") as file:
        room = header_size(file.read(_LONGEST_HEADER))
        stored = header_bytes(primary_header(path.name, key, about), room)
        if len(stored) > room:
            raise ValueError(
                f"{path.name}: the primary header takes {len(stored)} bytes, but room was kept for {room}; "
                f"call lay_out_dark with {(len(stored) - room) // 80} lines more in spare_history"
            )
        file.seek(0)
        file.write(stored)


def lay_out_contributions(
    path: Path, key: ConfigurationKey, model_ramp: bool = False
) -> dict[str, ArrayPlace]:
    """Lay out the file of what stands behind each number of a dark, without its data.

    Parameters
    ----------
    path : Path
    key : ConfigurationKey
    model_ramp : bool
        Whether to have the image MODELRAMP.

    Returns
    -------
    dict of str to ArrayPlace
        Of NMEAS (groups, y, x; uint16), the number of measurements of each (group, pixel), and MODELRAMP
        (1, y, x; uint8), 1 where SCI is the model ramp of the pixel, else 0. They are zeros.
    """
    cube, plane = (key.ngroups, key.subsize2, key.subsize1), (key.subsize2, key.subsize1)
    header = fits.ImageHDU(name="NMEAS").header
    header["BITPIX"] = 16
    header["NAXIS"] = 3
    for axis, size in enumerate(reversed(cube), start=1):
        header.set(f"NAXIS{axis}", size, after=f"NAXIS{axis - 1}" if axis > 1 else "NAXIS")
    header["BZERO"] = (1 << 15, "unsigned 16-bit integers")
    header["BSCALE"] = 1
    about = "integrations that measure the step to it" if model_ramp else "measurements used, before the clip"
    header["BUNIT"] = ("count", about)
    with path.open("wb") as file:
        file.write(header_bytes(fits.PrimaryHDU().header) + header_bytes(header))
        places = {"NMEAS": ArrayPlace(file.tell(), cube)}
        end = file.tell() + padded(2 * math.prod(cube))
        if model_ramp:
            file.seek(end)
            file.write(header_bytes(image_header("MODELRAMP", 8, plane)))
            places["MODELRAMP"] = ArrayPlace(file.tell(), (1, *plane))
            end = file.tell() + padded(math.prod(plane))
        file.truncate(end)
    return places


def write_dark_current_map(
    path: Path,
    image: NDArray[np.float32],
    key: ConfigurationKey,
    rates: NDArray[np.float32] | None = None,
) -> None:
    """Write the dark current of every pixel, e- per 1000 s, as float32 image DARKCURR (y, x).

    Parameters
    ----------
    path : Path
    image : ndarray of float32, 2D (y, x)
    key : ConfigurationKey
    rates : ndarray of float32, 2D (y, x), optional
        Image AVDRKCUR, e-/s, as a `DarkModel` may have it: see `measure.bad_pixels.average_rates`.
    """
    images = [fits.ImageHDU(image, name="DARKCURR")]
    images[0].header["BUNIT"] = ("electron/(1000 s)", "slope of the mean ramp times the gain")
    if rates is not None:
        images.append(fits.ImageHDU(rates, name="AVDRKCUR"))
        images[1].header["BUNIT"] = ("electron/s", "average dark current")
    _write_images(path, images, key)


def write_difference_map(
    path: Path, image: NDArray[np.float32], key: ConfigurationKey, replaced: str
) -> None:
    """Write the change of the dark current of every pixel, e- per 1000 s, as float32 image DIFFRATE (y, x).

    Parameters
    ----------
    path : Path
    image : ndarray of float32, 2D (y, x)
        New minus earlier; NaN where either has no rate.
    key : ConfigurationKey
    replaced : str
        The reference that is replaced.
    """
    hdu = fits.ImageHDU(image, name="DIFFRATE")
    hdu.header["BUNIT"] = ("electron/(1000 s)", "new minus earlier rate")
    hdu.header["HISTORY"] = f"Compared with {replaced}"
    _write_images(path, [hdu], key)


def _write_images(path: Path, images: list[fits.ImageHDU], key: ConfigurationKey) -> None:
    for hdu in images:
        hdu.header["DETECTOR"] = key.detector
        hdu.header["SUBARRAY"] = key.subarray
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(path, overwrite=True)
