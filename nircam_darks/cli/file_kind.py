"""Says in one line what a file is, whatever it is: the first thing that `nircam-darks inspect` prints.

Only headers are read, so that the answer takes as long for 20 GB as for 20 kB. What cannot be known from them
is not guessed: a FITS file that no JWST instrument wrote is called that.
"""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nircam_darks.cli.asdf_origin import asdf_origin
from services.ingest import steps
from services.ingest.probe import readable_part
from services.ingest.segments import segment_of
from shared.errors import BadInput
from shared.ramps.hdus import LONGEST_HEADERS

_INSTRUMENTS = {"NIRCAM": "NIRCam", "NIRISS": "NIRISS", "NIRSPEC": "NIRSpec", "MIRI": "MIRI", "FGS": "FGS"}
#: First bytes of files that are not FITS.
_SIGNATURES = {
    b"#ASDF": "ASDF file",
    b"\x89HDF": "HDF5 file",
    b"\x89PNG": "PNG picture",
    b"\xff\xd8\xff": "JPEG picture",
    b"%PDF": "PDF document",
    b"PK\x03\x04": "ZIP archive",
    b"BZh": "file compressed by bzip2",
    b"\xfd7zXZ": "file compressed by xz",
    b"SIMPLE": "FITS file whose primary header cannot be read",
}
_GZIP = b"\x1f\x8b"
#: What zlib calls a gzip stream.
_GZIP_WINDOW = 31
#: Where a tar archive has its signature.
_TAR = slice(257, 262)


def kind_of_headers(header: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], where: str) -> str:
    """Return in one line what a FITS file is.

    Parameters
    ----------
    header : mapping of str to object
        Primary header.
    shapes : mapping of str to tuple of int
        Shape of every extension that is an image, slowest axis first.
    where : str
        Name of the file, for errors.

    Returns
    -------
    str
        Such as ``"level 1b NIRCam dark, NRCA1 SUB640 RAPID, 5 integrations x 108 groups"``.
    """
    instrument = _word(header, "INSTRUME")
    if _word(header, "TELESCOP") not in ("JWST", "") or instrument.upper() not in _INSTRUMENTS:
        origin = " ".join(filter(None, (_word(header, "TELESCOP"), instrument)))
        arrays = ", ".join(f"{name} {' x '.join(map(str, shape))}" for name, shape in shapes.items() if shape)
        origin = origin or "no TELESCOP and INSTRUME"
        return f"FITS file that is not from JWST ({origin}; {arrays or 'no image'})"
    name = _INSTRUMENTS[instrument.upper()]
    simulated = "simulated " if _word(header, "PEDIGREE").upper() == "SIMULATION" else ""
    readout = " ".join(filter(None, (_word(header, key) for key in ("DETECTOR", "SUBARRAY", "READPATT"))))
    readout = f", {readout}" if readout else ""
    if reftype := _word(header, "REFTYPE").upper():
        return f"{simulated}{reftype.lower()} reference (CRDS {reftype}) of {name}{readout}"
    exposure_type = _word(header, "EXP_TYPE").upper()
    what = f"{name} exposure" + (f" ({exposure_type})" if exposure_type else "")
    if "DARK" in exposure_type:
        what = f"{name} dark" if exposure_type == "NRC_DARK" else f"{name} dark ({exposure_type})"
    shape = tuple(shapes.get("SCI", ()))
    if len(shape) != 4:
        return f"{simulated}{_not_a_ramp(header, shape)} of a {what}{readout}, not a ramp"
    ramp = f"level 1b {what}" if not steps.completed(header) else f"calibrated ramp of a {what}"
    ramp = f"{simulated}{ramp}{readout}, {_count(shape[0], 'integration')} x {_count(shape[1], 'group')}"
    try:
        segment = segment_of(header, where)
    except BadInput:
        return f"a segment, which its keywords do not number, of a {ramp}"
    return ramp if segment is None else f"{segment} of a {ramp}"


def kind_of_file(path: Path) -> str:
    """Return in one line what a path is that cannot be read as FITS, such as a folder or a compressed file.

    Parameters
    ----------
    path : Path
        Need not exist.

    Returns
    -------
    str
        Such as ``"ASDF file (ROMAN WFI)"``.
    """
    if path.is_dir():
        count = sum(1 for entry in path.rglob("*") if ".fit" in entry.name.lower())
        return f"folder with {_count(count, 'FITS file')}: name one of them, or `nircam-darks run` the folder"
    if not path.is_file():
        return "pipe or device, not a file" if path.exists() else "no such file"
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        return f"file that cannot be read ({error.strerror})"
    if not start:
        return "empty file"
    if start.startswith(_GZIP):
        return _gzipped(path)
    for signature, kind in _SIGNATURES.items():
        if start.startswith(signature):
            origin = asdf_origin(path) if kind == "ASDF file" else ""
            return f"{kind} ({origin})" if origin else kind
    if start[_TAR] == b"ustar":
        return "tar archive"
    # A control character other than tab, line feed, form feed and carriage return is not text.
    binary = any(byte < 32 and byte not in b"\t\n\f\r" for byte in start)
    return "file in a format that is not known here" if binary else "text file"


def _not_a_ramp(header: Mapping[str, Any], shape: tuple[int, ...]) -> str:
    """Return what a JWST file without a 4-D SCI is."""

    def done(*keywords: str) -> bool:
        return any(_word(header, keyword).upper() == "COMPLETE" for keyword in keywords)

    model = _word(header, "DATAMODL")
    if len(shape) not in (2, 3):
        return f"product without an image SCI{f' ({model})' if model else ''}"
    if done("S_RESAMP", "S_OUTLIR"):
        return "combined image (level 3)" if done("S_RESAMP") else "calibrated image (level 2c)"
    if done("S_FLAT", "S_PHOTOM", "S_WCS"):
        return "calibrated image (level 2b)"
    if done("S_RAMP") or model in ("ImageModel", "CubeModel"):
        return (
            "rate image" if len(shape) == 2 else f"rate image for each of {_count(shape[0], 'integration')}"
        )
    return f"{len(shape)}-D image{f' ({model})' if model else ''}"


def _gzipped(path: Path) -> str:
    """Return what a file compressed by gzip is, from the first headers in it."""
    try:
        with path.open("rb") as file:
            start = zlib.decompressobj(_GZIP_WINDOW).decompress(file.read(LONGEST_HEADERS), LONGEST_HEADERS)
    except (OSError, zlib.error):
        start = b""
    header, shapes = readable_part(_Beginning(start), path.name)
    if not header:
        return "file compressed by gzip, not a FITS file"
    return f"{kind_of_headers(header, shapes, path.name)}, compressed by gzip"


class _Beginning:
    """The beginning of a file that is longer, in memory."""

    def __init__(self, start: bytes) -> None:
        self._start, self.size = start, len(start)

    def read(self, offset: int, length: int) -> bytes:
        return self._start[offset : offset + length]


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"


def _word(header: Mapping[str, Any], keyword: str) -> str:
    value = header.get(keyword)
    return value.strip() if isinstance(value, str) else ""
