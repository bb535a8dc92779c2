"""The primary header of a dark: what CRDS requires, in the order and words of stdatamodels."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from astropy.io import fits

from shared.nircam.configuration import ConfigurationKey
from shared.nircam.detectors import detectors

#: Characters of a HISTORY card.
_CARD_TEXT = 72


@dataclass(frozen=True)
class DarkDescription:
    """What the header of a dark says, besides its configuration.

    Attributes
    ----------
    pedigree : str
        ``"SIMULATION"``, ``"GROUND"``, ``"MODEL"``, ``"DUMMY"`` or ``"INFLIGHT yyyy-mm-dd yyyy-mm-dd"``.
    useafter : str
        ``yyyy-mm-ddThh:mm:ss``, UTC.
    descrip : str
        At most `DESCRIP_LIMIT` characters.
    dark_current : float
        e-/s, for AVDRKCUR.
    history : sequence of str
    errors : str
        What ERR is, for the comment beside its unit.
    """

    pedigree: str
    useafter: str
    descrip: str
    author: str
    dark_current: float
    history: Sequence[str]
    errors: str = "population standard deviation"


def _fitting(value: object, comment: str | None) -> str | None:
    # A card has 80 characters; astropy warns where it cuts a comment.
    return comment[: max(65 - len(value), 0)] if comment and isinstance(value, str) else comment


def primary_header(name: str, key: ConfigurationKey, about: DarkDescription) -> fits.Header:
    """Return the primary header, in the order and words of stdatamodels' schema of a dark."""
    detector = detectors()[key.detector]
    # Noise may bring the rate below zero; the pipeline takes a Poisson variance from it.
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
