"""Writes level-1b files group by group, and reads maps of real reference files."""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import asdf
import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from shared.errors import BadInput


def write_uncal(
    path: Path, primary: fits.Header, science: fits.Header, groups: Iterable[NDArray[np.uint16]]
) -> None:
    """Write a level-1b exposure, whole or not at all.

    Parameters
    ----------
    primary, science : astropy.io.fits.Header
        `science` holds the shape.
    groups : iterable of ndarray of uint16, 2D (rows, columns)
        In the order of the file: integration by integration.
    """
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    fits.PrimaryHDU(header=primary).writeto(part)
    stream = fits.StreamingHDU(str(part), science)  # recognises an existing file only by a str
    for group in groups:
        # FITS stores unsigned integers as signed ones minus 2^15 (BZERO): the highest bit flips.
        stream.write((group ^ np.uint16(1 << 15)).view(np.int16).astype(">i2"))
    stream.close()
    with fits.open(part, mode="append") as hdus:
        hdus.append(_asdf_extension())
    part.replace(path)


def _asdf_extension() -> fits.BinTableHDU:
    # Steps that are given a file name require the extension; it repeats nothing from the headers.
    buffer = io.BytesIO()
    asdf.AsdfFile({"meta": {"model_type": "Level1bModel", "telescope": "JWST"}}).write_to(buffer)
    tree = np.frombuffer(buffer.getvalue(), np.uint8)
    column = fits.Column(name="ASDF_METADATA", format=f"{tree.size}B", array=tree[None])
    return fits.BinTableHDU.from_columns([column], name="ASDF")


@dataclass(frozen=True)
class RealMaps:
    """Maps of a full-frame detector from real reference files; None where there is no file.

    Attributes
    ----------
    dead : ndarray of bool, 2D (2048, 2048), or None
    read_noise : ndarray of float32, 2D (2048, 2048), or None
    """

    dead: NDArray[np.bool_] | None = None
    read_noise: NDArray[np.float32] | None = None


def read_real_maps(folder: Path | None, detector: str) -> RealMaps:
    """Read the dead pixels and the read noise of `detector` from the CRDS references in a folder.

    Every DO_NOT_USE pixel of a mask counts as dead. Files (``*.fits``, ``*.fits.gz``) of other detectors and
    types are ignored.

    Raises
    ------
    BadInput
        If there is no such folder.
    """
    if folder is None:
        return RealMaps()
    if not folder.is_dir():
        raise BadInput("real_references", f"{folder}: no such folder; give one with CRDS reference files")
    dead = noise = None
    for path in sorted([*folder.glob("*.fits"), *folder.glob("*.fits.gz")]):
        with fits.open(path) as hdus:
            header = hdus[0].header
            if header.get("DETECTOR") != detector:
                continue
            if header.get("REFTYPE") == "MASK":
                names = {row["NAME"].strip(): int(row["VALUE"]) for row in hdus["DQ_DEF"].data}
                dead = hdus["DQ"].data & names["DO_NOT_USE"] != 0
            elif header.get("REFTYPE") == "READNOISE":
                noise = hdus["SCI"].data.astype(np.float32)
    return RealMaps(dead, noise)
