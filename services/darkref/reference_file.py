"""Write a dark reference file that jwst opens and CRDS would take.

The rules are CRDS's for a NIRCam dark (``all_all``, ``all_dark``, ``nircam_all``, ``nircam_dark``.tpn).
The file is, byte for byte but for its date, what ``DarkModel.save`` of stdatamodels writes; a test holds
it to that. Written here, its cubes never are in memory, and are on disk as soon as they are combined.
"""

import math
import os
import struct
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import DTypeLike, NDArray

from shared.configuration import ConfigurationKey
from shared.cubes import Cube
from shared.detectors import detectors

#: Characters that CRDS allows in DESCRIP.
DESCRIP_LIMIT = 65
#: Characters of a HISTORY card.
_CARD_TEXT = 72
_MJD_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)
#: Flags that darks may carry; reference mode sets none, so that all zeros is a statement and not a gap.
_FLAGS = (
    (0, "DO_NOT_USE", "Bad pixel. Do not use."),
    (11, "HOT", "Hot pixel"),
    (12, "WARM", "Warm pixel"),
    (14, "RC", "RC pixel"),
    (23, "UNRELIABLE_DARK", "Dark variance large"),
)


@dataclass(frozen=True)
class DarkDescription:
    """What the header of a dark says, besides its configuration.

    Attributes
    ----------
    pedigree : str
        ``"SIMULATION"``, or ``"INFLIGHT yyyy-mm-dd yyyy-mm-dd"``.
    useafter : str
        ``yyyy-mm-ddThh:mm:ss``, UTC.
    descrip : str
        At most `DESCRIP_LIMIT` characters.
    dark_current : float
        e-/s, for AVDRKCUR.
    history : sequence of str
    """

    pedigree: str
    useafter: str
    descrip: str
    author: str
    dark_current: float
    history: Sequence[str]


def file_name(key: ConfigurationKey) -> str:
    """Return the name of a dark: ``nrcalong_sub640_dark.fits``."""
    return f"{key.detector}_{key.subarray}_dark.fits".lower()


def utc(mjd: float) -> datetime:
    """Return the UTC time of a modified Julian date, to the second below."""
    return (_MJD_EPOCH + timedelta(days=mjd)).replace(microsecond=0)


def pedigree(simulated: bool, start_mjd: float, end_mjd: float) -> str:
    """Return PEDIGREE from the data's own dates (MJD UTC)."""
    if simulated:
        return "SIMULATION"
    return f"INFLIGHT {utc(start_mjd):%Y-%m-%d} {utc(end_mjd):%Y-%m-%d}"


def descrip(key: ConfigurationKey, integrations: int, simulated: bool, given: str | None) -> str:
    """Return DESCRIP: what was `given`, or detector, subarray, pattern and integrations.

    Of simulated data it always says so, in front, where a cut at the limit cannot take it away.
    """
    said = given or f"NIRCam {key.detector} {key.subarray} {key.readpatt} dark, {integrations} integrations"
    if simulated and "simulat" not in said.lower():
        said = f"Simulated: {said}"
    return said[:DESCRIP_LIMIT].rstrip()


def history(key: ConfigurationKey, exposures: Sequence[str], integrations: int, sigma: float) -> list[str]:
    """Return HISTORY of a reference-mode dark: rule, software, data."""
    software = ", ".join(f"{name} {metadata.version(name)}" for name in ("nircam-darks", "jwst", "numpy"))
    return [
        f"DESCRIPTION: {key.detector} {key.subarray} {key.readpatt} mean dark ramp of {integrations} "
        f"integrations of {key.ngroups} groups.",
        "METHOD: reference mode. Groups from the first JUMP_DET of an integration on are not used. Over "
        f"all integrations, per group and pixel: sigma clip ({sigma:g} standard deviations about the "
        "median, at most 5 rounds); SCI is the mean of what is left, in DN. No per-integration pedestal "
        "was removed.",
        "ERR is the population standard deviation about that mean, in DN; it is not the error of the "
        "mean. Where no measurement was left, SCI and ERR are 0. DQ flags nothing.",
        f"SOFTWARE: {software}.",
        "DIFFERENCES: replaces no earlier file.",
        *(f"DATA USED: {exposure}" for exposure in exposures),
    ]


@dataclass(frozen=True)
class Place:
    """Where in a file an array lies: at byte `offset`."""

    offset: int
    shape: tuple[int, int, int]

    def cube(self, path: Path, dtype: DTypeLike) -> Cube:
        """Open the array in the file at `path`."""
        return Cube(path, self.shape, dtype, self.offset)


def lay_out_dark(path: Path, key: ConfigurationKey, about: DarkDescription) -> dict[str, Place]:
    """Write all of a dark but SCI and ERR (groups, y, x; float32 DN), as a standard `DarkModel` file.

    Returns
    -------
    dict of str to Place
        Where SCI and ERR belong; they are zeros, and take no room on disk yet.
    """
    shape = (key.ngroups, key.subsize2, key.subsize1)
    cards = {"mean": _image("SCI", -32, shape), "population standard deviation": _image("ERR", -32, shape)}
    for said, header in cards.items():
        header["BUNIT"] = ("DN", said)
    sci, err = cards.values()
    quality = _image("DQ", 32, shape[1:])
    quality.insert("EXTNAME", ("BSCALE", 1))
    quality.insert("EXTNAME", ("BZERO", 1 << 31))
    places = {}
    with path.open("wb") as file:
        file.write(_bytes(_primary(path.name, key, about)))
        for name, header in (("SCI", sci), ("DQ", quality), ("ERR", err)):
            file.write(_bytes(header))
            if name != "DQ":
                places[name] = Place(file.tell(), shape)
                file.seek(_padded(4 * math.prod(shape)), os.SEEK_CUR)
            else:
                stored = np.full(shape[1:], 1 << 31, ">u4").tobytes()
                file.write(stored.ljust(_padded(len(stored)), b"\0"))
        table, rows = _flag_table()
        file.write(_bytes(table) + rows.ljust(_padded(len(rows)), b"\0"))
    return places


def describe(path: Path, key: ConfigurationKey, about: DarkDescription) -> None:
    """Say in the header of a dark what is known once it was measured: AVDRKCUR; the rest as it was."""
    with path.open("r+b") as file:
        file.write(_bytes(_primary(path.name, key, about)))


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
        file.write(_bytes(fits.PrimaryHDU().header) + _bytes(header))
        place = Place(file.tell(), shape)
        file.truncate(place.offset + _padded(2 * math.prod(shape)))
    return place


def write_dark_current_map(path: Path, image: NDArray[np.float32], key: ConfigurationKey) -> None:
    """Write the dark current of every pixel, e- per 1000 s, as float32 image DARKCURR (y, x)."""
    hdu = fits.ImageHDU(image, name="DARKCURR")
    hdu.header["BUNIT"] = ("electron/(1000 s)", "slope of the mean ramp times the gain")
    hdu.header["DETECTOR"] = key.detector
    hdu.header["SUBARRAY"] = key.subarray
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path, overwrite=True)


def _padded(size: int) -> int:
    return -(-size // 2880) * 2880


def _bytes(header: fits.Header) -> bytes:
    return str(header.tostring()).encode("ascii")


def _image(name: str, bitpix: int, shape: tuple[int, ...]) -> fits.Header:
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


def _fitting(value: object, comment: str | None) -> str | None:
    # A card has 80 characters; astropy would warn where it cuts a comment.
    return comment[: max(65 - len(value), 0)] if comment and isinstance(value, str) else comment


def _flag_table() -> tuple[fits.Header, bytes]:
    """Return header and rows of DQ_DEF; astropy's tables take as long to load as a combine does."""
    rows = [
        struct.pack(">iI40s80s", bit, (1 << bit) ^ (1 << 31), name.encode(), text.encode())
        for bit, name, text in _FLAGS
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


def _primary(name: str, key: ConfigurationKey, about: DarkDescription) -> fits.Header:
    """Return the primary header, in the order and with the words of stdatamodels' schema of a dark."""
    detector = detectors()[key.detector]
    # A noisy detector's rate may come out below zero; the pipeline takes a Poisson variance from it.
    dark_current = max(about.dark_current, 0.0)
    written = datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
    header = fits.PrimaryHDU().header
    for title, cards in (
        (
            "Dark current data model",
            [
                (
                    "DATE",
                    written,
                    "Date this file was created (UTC)",
                ),
                ("FILENAME", name, "Name of the file"),
                ("DATAMODL", "DarkModel", "Type of data model"),
                ("TELESCOP", "JWST", "Telescope used to acquire the data"),
                ("REFTYPE", "DARK", "Reference file type"),
                ("PEDIGREE", about.pedigree, "The pedigree of the reference file"),
                ("DESCRIP", about.descrip, "Description of the reference file"),
                ("AUTHOR", about.author, "Author of the reference file"),
                ("USEAFTER", about.useafter, "Use after date of the reference file"),
            ],
        ),
        (
            "Instrument configuration information",
            [
                ("INSTRUME", "NIRCAM", "Instrument used to acquire the data"),
                ("DETECTOR", key.detector, "Name of detector used to acquire the data"),
                ("EXP_TYPE", key.exp_type, "Type of data in the exposure"),
                ("READPATT", key.readpatt, "Readout pattern"),
                ("P_READPA", f"{key.readpatt}|", "Readout pattern"),
                ("NOUTPUTS", key.noutputs, "Number of detector outputs used"),
                ("NFRAMES", key.nframes, "Number of frames per group"),
                ("NGROUPS", key.ngroups, "Number of groups in integration"),
                ("GROUPGAP", key.groupgap, "Number of frames dropped between groups"),
                ("AVDRKCUR", dark_current, "Average dark current"),
                ("P_SUBARR", f"{key.subarray}|", None),
                ("SUBARRAY", key.subarray, "Subarray used"),
                ("SUBSTRT1", key.substrt1, "Starting pixel in axis 1 direction"),
                ("SUBSTRT2", key.substrt2, "Starting pixel in axis 2 direction"),
                ("SUBSIZE1", key.subsize1, "Number of pixels in axis 1 direction"),
                ("SUBSIZE2", key.subsize2, "Number of pixels in axis 2 direction"),
                ("FASTAXIS", detector.fastaxis, "Fast readout axis direction"),
                ("SLOWAXIS", detector.slowaxis, "Slow readout axis direction"),
            ],
        ),
    ):
        for line in ("", title, ""):
            header.append(("", line), end=True)
        for keyword, value, comment in cards:
            header.append((keyword, value, _fitting(value, comment)), end=True)
    for card in _keywords_without_schema(key):
        header.append(tuple(card), end=True)
    for entry in about.history:
        for line in textwrap.wrap(entry, _CARD_TEXT):
            header.add_history(line)
    return header


def _keywords_without_schema(key: ConfigurationKey) -> list[list[Any]]:
    detector = detectors()[key.detector]
    return [
        ["CHANNEL", "LONG" if detector.channel == "LW" else "SHORT", "wavelength channel"],
        ["MODULE", detector.module, "NIRCam module"],
        ["CORONMSK", key.coronmsk, "coronagraphic mask"],
        ["TFRAME", key.tframe, "[s] time from frame to frame"],
        ["TGROUP", key.group_time, "[s] time from group to group"],
    ]
