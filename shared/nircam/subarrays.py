"""NIRCam's subarrays: where each lies on its detector, how many outputs read it, and how long that takes.

``nircam_subarrays.csv`` beside this file has a row for each subarray and detector, with its source in the PRD
(PRDOPSSOC-075): NIRCam_Subarrays.xml, which is what NRC-09 asks for, or else the aperture of the SIAF whose
corner and size it takes, in science orientation. Outputs are those of NIRCam_subarray_definitions.list. The
two sources do not agree on every place (SUB64P of NRCALONG begins at x 1046, y 1 in the first and at x 1935,
y 1911 in the SIAF), so these places are for simulations; an exposure's own header says where it lies.
"""

import csv
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

#: The detectors are clocked at one pixel in 10 us, so a frame takes a whole number of these (s). Source: JWST
#: user documentation, "NIRCam Detector Subarrays".
PIXEL_TIME = 10e-6
#: Pixel times that each line takes beyond its pixels; the same source.
LINE_OVERHEAD = 12

#: Keywords of readouts in stripes: a frame is then made of pieces of the detector that SUBSTRT and SUBSIZE do
#: not describe. Source: stdatamodels, core.schema.yaml (multistripe_reads1 to num_superstripe).
STRIPE_KEYWORDS = (
    "MSTR_RD1",
    "MSTR_SK1",
    "MSTR_RD2",
    "MSTR_SK2",
    "MSTR_RPT",
    "MSTR_ILV",
    "SSTR_STP",
    "SSTR_NST",
)
#: What the names of such subarrays have in them: SUB164STRIPE4_DHS, FULL_SUPSTP024, SUB64P_SUPSTP008.
_STRIPE_NAMES = ("STRIPE", "SUPSTP")
_NO_STRIPES = (None, "", 0, "0")


@dataclass(frozen=True)
class Subarray:
    """Position of a subarray on one detector, 1-based, in science orientation."""

    name: str
    detector: str
    substrt1: int
    substrt2: int
    subsize1: int
    subsize2: int
    noutputs: int
    coronmsk: str


@functools.cache
def subarrays() -> dict[tuple[str, str], Subarray]:
    """Return the known subarrays by (detector, name)."""
    text = resources.files("shared.nircam").joinpath("nircam_subarrays.csv").read_text()
    known = {}
    for row in csv.DictReader(text.splitlines()):
        subarray = Subarray(
            name=row["subarray"],
            detector=row["detector"],
            substrt1=int(row["substrt1"]),
            substrt2=int(row["substrt2"]),
            subsize1=int(row["subsize1"]),
            subsize2=int(row["subsize2"]),
            noutputs=int(row["noutputs"]),
            coronmsk=row["coronmsk"],
        )
        known[subarray.detector, subarray.name] = subarray
    return known


def frame_time(columns: int, rows: int, noutputs: int) -> float:
    """Return the time to read a frame (s).

    A pixel takes 10 us and a line 12 pixels of overhead; with four outputs there are one line and one pixel
    more, with one output two lines more. Source: JWST user documentation, "NIRCam Detector Subarrays"; it
    gives the 10.73677 s of a full frame and the 4.18584 s of SUB640.

    Examples
    --------
    >>> frame_time(2048, 2048, 4)
    10.73677
    """
    line = columns // noutputs + LINE_OVERHEAD
    pixels = line * (rows + 1) + 1 if noutputs > 1 else line * (rows + 2)
    return round(pixels * PIXEL_TIME, 5)


def stripe_keywords(header: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords by which a header says that the detector was read in stripes; empty if it was not.

    Parameters
    ----------
    header : mapping of str to object
        Primary FITS header. Stripe keywords that are 0 or false, as in an ordinary readout, do not count;
        SUBARRAY does if it is the name of such a readout.

    Returns
    -------
    dict
        Value by keyword.
    """
    keywords = {
        keyword: header[keyword] for keyword in STRIPE_KEYWORDS if header.get(keyword) not in _NO_STRIPES
    }
    name = header.get("SUBARRAY")
    if isinstance(name, str) and any(part in name.upper() for part in _STRIPE_NAMES):
        keywords["SUBARRAY"] = name
    return keywords
