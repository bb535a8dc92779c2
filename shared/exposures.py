"""What an exposure is called."""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

#: Product suffixes that MAST puts behind the root name of an up-the-ramp exposure.
_SUFFIX = re.compile(r"_(uncal|ramp|jump|dark|saturation|linearity|superbias|refpix|dq_init|persistence)$")


def exposure_id(name: str, header: Mapping[str, Any] | None = None) -> str:
    """Return the id of an exposure: its root name, with neither product suffix nor ``.fits``.

    FILENAME in the header is preferred to the file's own name, so that a renamed copy is still known
    for the exposure it is.

    Parameters
    ----------
    name : str
        File name or URI.
    header : mapping, optional
        Primary header.

    Returns
    -------
    str
        Such as ``jw01062001001_02101_00001_nrca1``; only letters, digits, ``_``, ``-`` and ``.``.
    """
    said = header.get("FILENAME") if header else None
    stem = PurePosixPath(said.strip() if isinstance(said, str) and said.strip() else name).name
    stem = re.sub(r"\.fits(\.gz)?$", "", stem, flags=re.IGNORECASE)
    return re.sub(r"[^A-Za-z0-9_.-]", "-", _SUFFIX.sub("", stem)).lstrip(".") or "unnamed"
