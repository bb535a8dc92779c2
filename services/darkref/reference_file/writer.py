"""Write a dark reference file that jwst opens and CRDS would take.

The rules are CRDS's for a NIRCam dark (``all_all``, ``all_dark``, ``nircam_all``, ``nircam_dark``.tpn).
The file is, byte for byte but for its date, what ``DarkModel.save`` of stdatamodels writes; a test holds
it to that. Written here, its cubes never are in memory, and are on disk as soon as they are combined.
"""

import math
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import DTypeLike, NDArray

from services.darkref.fits_pieces import flag_table, header_bytes, header_size, image_header, padded
from services.darkref.reference_header import DarkDescription as DarkDescription
from services.darkref.reference_header import primary_header
from shared.configuration import ConfigurationKey
from shared.cubes import Cube

#: Characters that CRDS allows in DESCRIP.
DESCRIP_LIMIT = 65
#: Bytes that a primary header may have: each of 10 000 exposures has its line in HISTORY.
_LONGEST_HEADER = 1 << 20
INFLIGHT = "INFLIGHT"
_MEASURED = (INFLIGHT, "GROUND")
_MJD_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)
#: Flags that darks may carry; reference mode sets none, so that all zeros is a statement and not a gap.
_FLAGS = (
    (0, "DO_NOT_USE", "Bad pixel. Do not use."),
    (11, "HOT", "Hot pixel"),
    (12, "WARM", "Warm pixel"),
    (14, "RC", "RC pixel"),
    (23, "UNRELIABLE_DARK", "Dark variance large"),
)
_FLIGHT_FLAGS = tuple(sorted((*_FLAGS, (10, "DEAD", "Dead pixel"))))


def file_name(key: ConfigurationKey) -> str:
    """Return the name of a dark: ``nrcalong_sub640_dark.fits``."""
    return f"{key.detector}_{key.subarray}_dark.fits".lower()


def utc(mjd: float) -> datetime:
    """Return the UTC time of a modified Julian date, to the second below."""
    return (_MJD_EPOCH + timedelta(days=mjd)).replace(microsecond=0)


def pedigree(simulated: bool, start_mjd: float, end_mjd: float, given: str | None = None) -> str:
    """Return PEDIGREE: what was `given`, else what the data are; the dates are always theirs (MJD UTC).

    Raises
    ------
    ValueError
        If simulated data are given as INFLIGHT or GROUND, which are words for what a detector measured.
    """
    if simulated and given in _MEASURED:
        raise ValueError(f"PEDIGREE of a dark of simulated exposures cannot be {given}")
    said = given or ("SIMULATION" if simulated else INFLIGHT)
    if said != INFLIGHT:
        return said
    return f"{INFLIGHT} {utc(start_mjd):%Y-%m-%d} {utc(end_mjd):%Y-%m-%d}"


def descrip(key: ConfigurationKey, integrations: int, simulated: bool, given: str | None) -> str:
    """Return DESCRIP: what was `given`, or detector, subarray, pattern and integrations.

    Of simulated data it always says so, in front, where a cut at the limit cannot take it away.
    """
    said = given or f"NIRCam {key.detector} {key.subarray} {key.readpatt} dark, {integrations} integrations"
    if simulated and "simulat" not in said.lower():
        said = f"Simulated: {said}"
    return said[:DESCRIP_LIMIT].rstrip()


@dataclass(frozen=True)
class Place:
    """Where in a file an array lies: at byte `offset`."""

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
) -> dict[str, Place]:
    """Write all of a dark but its arrays, as a standard `DarkModel` file.

    Parameters
    ----------
    path : Path
    key : ConfigurationKey
    about : DarkDescription
        What is known already; see `describe`.
    flight : bool
        With all of flight mode's flags in DQ_DEF.
    spare_history : int
        Lines of HISTORY to keep room for, beyond those that `about` has.
    rate_map : bool
        With image AVDRKCUR (y, x; float32, e-/s). jwst 3.0.0 takes neither the map nor the keyword from a
        file that has both (its dark_current step compares the map's shape with that of a map that the
        exposure does not have yet), and so leaves the dark's Poisson noise out of every exposure.

    Returns
    -------
    dict of str to Place
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
            places[name] = Place(file.tell(), (math.prod(shape) // math.prod(plane), *plane))
            if name == "DQ":
                stored = np.full(shape, 1 << 31, ">u4").tobytes()
                file.write(stored.ljust(padded(len(stored)), b"\0"))
            else:
                file.seek(padded(4 * math.prod(shape)), os.SEEK_CUR)
        table, rows = flag_table(_FLIGHT_FLAGS if flight else _FLAGS)
        file.write(header_bytes(table) + rows.ljust(padded(len(rows)), b"\0"))
    return places


def describe(path: Path, key: ConfigurationKey, about: DarkDescription) -> None:
    """Say in the header of a dark what is known once it was measured: AVDRKCUR, HISTORY; the rest as it was.

    Raises
    ------
    ValueError
        If HISTORY has grown beyond the room that was kept; nothing is written then.
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


def lay_out_contributions(path: Path, key: ConfigurationKey) -> Place:
    """Write all but the data of uint16 image NMEAS: how many measurements each (group, pixel) has."""
    shape = (key.ngroups, key.subsize2, key.subsize1)
    header = fits.ImageHDU(name="NMEAS").header
    header["BITPIX"] = 16
    header["NAXIS"] = 3
    for axis, size in enumerate(reversed(shape), start=1):
        header.set(f"NAXIS{axis}", size, after=f"NAXIS{axis - 1}" if axis > 1 else "NAXIS")
    header["BZERO"] = (1 << 15, "unsigned 16-bit integers")
    header["BSCALE"] = 1
    header["BUNIT"] = ("count", "measurements used, before the sigma clip")
    with path.open("wb") as file:
        file.write(header_bytes(fits.PrimaryHDU().header) + header_bytes(header))
        place = Place(file.tell(), shape)
        file.truncate(place.offset + padded(2 * math.prod(shape)))
    return place


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
        Image AVDRKCUR, e-/s, as a `DarkModel` may have it: see `services.darkref.pixel_flags.average_rates`.
    """
    images = [fits.ImageHDU(image, name="DARKCURR")]
    images[0].header["BUNIT"] = ("electron/(1000 s)", "slope of the mean ramp times the gain")
    if rates is not None:
        images.append(fits.ImageHDU(rates, name="AVDRKCUR"))
        images[1].header["BUNIT"] = ("electron/s", "average dark current")
    for hdu in images:
        hdu.header["DETECTOR"] = key.detector
        hdu.header["SUBARRAY"] = key.subarray
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(path, overwrite=True)
