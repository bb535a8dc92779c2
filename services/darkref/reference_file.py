"""Write a dark reference file that jwst opens and CRDS would take.

The rules are CRDS's for a NIRCam dark (``all_all``, ``all_dark``, ``nircam_all``, ``nircam_dark``.tpn).
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from stdatamodels.jwst.datamodels import DarkModel

from services.darkref.cubes import Cube
from shared.configuration import ConfigurationKey
from shared.detectors import detectors

#: Characters that CRDS allows in DESCRIP.
DESCRIP_LIMIT = 65
#: Characters of a HISTORY card.
_CARD_TEXT = 72
_MJD_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)
_DQ_DEF = np.dtype([("BIT", "<i4"), ("VALUE", "<u4"), ("NAME", "S40"), ("DESCRIPTION", "S80")])
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


def write_dark(path: Path, key: ConfigurationKey, about: DarkDescription, sci: Cube, err: Cube) -> None:
    """Write SCI and ERR (groups, y, x; DN), with DQ of zeros, as a standard `DarkModel` file.

    The cubes are never in memory: the model is saved with zeros that take none, and the cubes' bytes are
    then put where these lie.
    """
    model = DarkModel(
        data=_nothing(sci.shape),
        err=_nothing(err.shape),
        dq=np.zeros((key.subsize2, key.subsize1), np.uint32),
        dq_def=np.array([(bit, 1 << bit, name, text) for bit, name, text in _FLAGS], _DQ_DEF),
    )
    _describe(model, key, about)
    for entry in about.history:
        for line in textwrap.wrap(entry, _CARD_TEXT):
            model.add_history_entry(line)
    model.extra_fits = {
        "PRIMARY": {"header": _keywords_without_schema(key)},
        "SCI": {"header": [["BUNIT", "DN", "mean"]]},
        "ERR": {"header": [["BUNIT", "DN", "population standard deviation"]]},
    }
    model.save(str(path), overwrite=True)
    model.close()
    with fits.open(path, memmap=True) as hdus:
        offsets = {name: hdus[name].fileinfo()["datLoc"] for name in ("SCI", "ERR")}
    sci.copy_into(path, offsets["SCI"])
    err.copy_into(path, offsets["ERR"])


def write_contributions(path: Path, nmeas: Cube) -> None:
    """Write how many measurements each (group, pixel) has, as uint16 image NMEAS (groups, y, x)."""
    header = fits.ImageHDU(name="NMEAS").header
    header["BITPIX"] = 16
    header["NAXIS"] = 3
    for axis, size in enumerate(reversed(nmeas.shape), start=1):
        header.set(f"NAXIS{axis}", size, after=f"NAXIS{axis - 1}" if axis > 1 else "NAXIS")
    header["BZERO"] = (1 << 15, "unsigned 16-bit integers")
    header["BSCALE"] = 1
    header["BUNIT"] = ("count", "measurements used, before the sigma clip")
    primary = fits.PrimaryHDU().header.tostring().encode("ascii")
    head = primary + header.tostring().encode("ascii")
    end = len(head) + nmeas.nbytes
    with path.open("wb") as file:
        file.write(head)
        for group in range(nmeas.shape[0]):
            # FITS has no unsigned 16-bit integer: stored less 2^15, which flips the highest bit.
            stored = (nmeas.plane(group) ^ np.uint16(1 << 15)).astype(">u2")
            file.write(stored.tobytes())
        file.write(b"\0" * (-end % 2880))


def write_dark_current_map(path: Path, image: NDArray[np.float32], key: ConfigurationKey) -> None:
    """Write the dark current of every pixel, e- per 1000 s, as float32 image DARKCURR (y, x)."""
    hdu = fits.ImageHDU(image, name="DARKCURR")
    hdu.header["BUNIT"] = ("electron/(1000 s)", "slope of the mean ramp times the gain")
    hdu.header["DETECTOR"] = key.detector
    hdu.header["SUBARRAY"] = key.subarray
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path, overwrite=True)


def _nothing(shape: tuple[int, int, int]) -> NDArray[Any]:
    # Pages of zeros that are never written to are not memory; big-endian, so that astropy has no byte
    # to swap and makes no copy.
    return np.zeros(shape, ">f4")


def _describe(model: DarkModel, key: ConfigurationKey, about: DarkDescription) -> None:
    detector = detectors()[key.detector]
    meta = model.meta
    meta.telescope = "JWST"
    meta.reftype = "DARK"
    meta.pedigree = about.pedigree
    meta.useafter = about.useafter
    meta.author = about.author
    meta.description = about.descrip
    meta.instrument.name = "NIRCAM"
    meta.instrument.detector = key.detector
    exposure = meta.exposure
    exposure.type = key.exp_type
    exposure.readpatt = key.readpatt
    exposure.p_readpatt = f"{key.readpatt}|"
    exposure.noutputs = key.noutputs
    exposure.nframes = key.nframes
    exposure.ngroups = key.ngroups
    exposure.groupgap = key.groupgap
    # A noisy detector's rate may come out below zero; the pipeline takes a Poisson variance from it.
    exposure.average_dark_current = max(about.dark_current, 0.0)
    subarray = meta.subarray
    subarray.name = key.subarray
    subarray.p_subarray = f"{key.subarray}|"
    subarray.xstart = key.substrt1
    subarray.ystart = key.substrt2
    subarray.xsize = key.subsize1
    subarray.ysize = key.subsize2
    subarray.fastaxis = detector.fastaxis
    subarray.slowaxis = detector.slowaxis


def _keywords_without_schema(key: ConfigurationKey) -> list[list[Any]]:
    detector = detectors()[key.detector]
    return [
        ["CHANNEL", "LONG" if detector.channel == "LW" else "SHORT", "wavelength channel"],
        ["MODULE", detector.module, "NIRCam module"],
        ["CORONMSK", key.coronmsk, "coronagraphic mask"],
        ["TFRAME", key.tframe, "[s] time from frame to frame"],
        ["TGROUP", key.group_time, "[s] time from group to group"],
    ]
