"""Exposure ids: what an exposure is called, from its header if that says which exposure it is.

MAST calls a file of level 1b ``jw<ppppp><ooo><vvv>_<gg><s><aa>_<eeeee>[-seg<nnn>]_<detector>_uncal.fits``:
program, observation, visit, visit group, parallel sequence, activity, exposure, segment and detector
(https://jwst-pipeline.readthedocs.io/en/stable/jwst/data_products/file_naming.html). The id of an exposure is
that name without segment and suffix, so all segments and all pipeline products of an exposure share it.

The primary header holds the same parts as keywords. Names of files change when people copy and rename them,
so the keywords decide; a file without them, such as a dark from a ground test, is known by its name.
"""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

#: Keyword of each part of an id -> its number of characters. DETECTOR is written out.
IDENTITY_KEYWORDS = {
    "PROGRAM": 5,
    "OBSERVTN": 3,
    "VISIT": 3,
    "VISITGRP": 2,
    "SEQ_ID": 1,
    "ACT_ID": 2,
    "EXPOSURE": 5,
}
_ARCHIVE_NAME = re.compile(
    r"(?P<observation>jw\d{11}_[0-9a-z]{5}_\d{5})(?:-seg\d+)?_(?P<detector>nrc[ab](?:[1-5]|long))(?![0-9a-z])",
    re.IGNORECASE,
)
_FITS_NAME = re.compile(r"\.fits?(\.gz|\.fz)?$", re.IGNORECASE)
_SEGMENT = re.compile(r"-seg\d+(?=_|$)", re.IGNORECASE)
#: Suffixes of the products of jwst up to the ramp: of its pipelines, and of each step that is run by itself.
_SUFFIX = re.compile(
    r"_(uncal|ramp|jump|dark|saturation|linearity|superbias|refpix|dq_?init|persistence"
    r"|group_?scale|darkpipeline|detector1pipeline|[a-z0-9]+step)$",
    re.IGNORECASE,
)


def exposure_id_of(header: Mapping[str, Any]) -> str | None:
    """Return the id of an exposure from the keywords of its primary header.

    Parameters
    ----------
    header : mapping of str to object
        Primary header; `IDENTITY_KEYWORDS` and DETECTOR are read.

    Returns
    -------
    str or None
        None if a keyword is missing or cannot be a part of an id.

    Examples
    --------
    >>> header = {"PROGRAM": "01062", "OBSERVTN": "001", "VISIT": "001", "VISITGRP": "02"}
    >>> header |= {"SEQ_ID": "1", "ACT_ID": "01", "EXPOSURE": "1", "DETECTOR": "NRCA1"}
    >>> exposure_id_of(header)
    'jw01062001001_02101_00001_nrca1'
    """
    parts = [_part(header.get(keyword), length) for keyword, length in IDENTITY_KEYWORDS.items()]
    detector = str(header.get("DETECTOR") or "").strip().lower()
    known = [part for part in parts if part is not None]
    if len(known) < len(parts) or not re.fullmatch(r"[a-z0-9]+", detector):
        return None
    program, observation, visit, group, sequence, activity, exposure = known
    return f"jw{program}{observation}{visit}_{group}{sequence}{activity}_{exposure}_{detector}"


def exposure_id(name: str, header: Mapping[str, Any] | None = None) -> str:
    """Return the id of an exposure, from its header where that gives it, else from a name.

    The name is FILENAME of the header, if it has one, so that a renamed copy is still recognised; else the
    file's own.

    Parameters
    ----------
    name : str
        File name or URI.
    header : mapping, optional
        Primary header.

    Returns
    -------
    str
        Of letters, digits, ``_``, ``-`` and ``.`` only.

    Examples
    --------
    >>> exposure_id("darks/jw01062001001_02101_00001-seg002_nrca1_uncal.fits")
    'jw01062001001_02101_00001_nrca1'
    """
    if header and (identity := exposure_id_of(header)) is not None:
        return identity
    filename = header.get("FILENAME") if header else None
    named = filename.strip() if isinstance(filename, str) else ""
    stem = PurePosixPath(named or name).name
    stem = _FITS_NAME.sub("", stem)
    if (archive_id := _archive_id(stem)) is not None:
        return archive_id
    stem = _SEGMENT.sub("", _SUFFIX.sub("", stem))
    return re.sub(r"[^A-Za-z0-9_.-]", "-", stem).lstrip(".") or "unnamed"


def is_fits_name(name: str) -> bool:
    """Return whether a name is that of a FITS file: ``.fits``, ``.fit``, also ``.gz`` or ``.fz``, any case.

    Parameters
    ----------
    name : str
        File name, path or key of an object.
    """
    return _FITS_NAME.search(name) is not None


def contradicts(announced_id: str, header_id: str) -> bool:
    """Return whether an announced id is that of another exposure than the header's.

    An announced id that is no id of the archive contradicts nothing: whoever announced the file had only its
    name to go by.
    """
    announced = _archive_id(announced_id)
    return announced is not None and announced != header_id


def _archive_id(stem: str) -> str | None:
    match = _ARCHIVE_NAME.match(stem)
    return f"{match['observation']}_{match['detector']}".lower() if match else None


def _part(value: object, length: int) -> str | None:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    text = str(value).strip().lower()
    return text.zfill(length) if re.fullmatch(rf"[0-9a-z]{{1,{length}}}", text) else None
