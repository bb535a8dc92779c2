"""The configuration key: which exposures may be combined into one dark reference."""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from shared.errors import BadInput, ConfigurationMismatch

#: Field of `ConfigurationKey` -> FITS keyword of the primary header.
KEYWORDS = {
    "detector": "DETECTOR",
    "subarray": "SUBARRAY",
    "substrt1": "SUBSTRT1",
    "substrt2": "SUBSTRT2",
    "subsize1": "SUBSIZE1",
    "subsize2": "SUBSIZE2",
    "noutputs": "NOUTPUTS",
    "readpatt": "READPATT",
    "nframes": "NFRAMES",
    "groupgap": "GROUPGAP",
    "tframe": "TFRAME",
    "ngroups": "NGROUPS",
    "coronmsk": "CORONMSK",
    "exp_type": "EXP_TYPE",
}


#: Characters of a slug in front of its digest: it names a folder, and header strings may have any length.
_LONGEST_SLUG = 100


class ConfigurationKey(BaseModel):
    """The keywords that must be equal before two exposures may be combined; `KEYWORDS` has their names.

    Attributes
    ----------
    substrt1, substrt2 : int
        First column and row of the subarray on the detector, 1-based.
    subsize1, subsize2 : int
        Columns and rows.
    noutputs : int
        Amplifiers that read the subarray, 1 or 4.
    nframes, groupgap : int
        Frames averaged into a group, and frames dropped between groups.
    tframe : float
        Frame time, s.
    ngroups : int
        Groups per integration.
    coronmsk : str
        Coronagraphic mask, ``"NONE"`` if the header has no CORONMSK.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    detector: str
    subarray: str
    substrt1: int
    substrt2: int
    subsize1: int
    subsize2: int
    noutputs: int
    readpatt: str
    nframes: int
    groupgap: int
    tframe: float
    ngroups: int
    coronmsk: str = "NONE"
    exp_type: str

    @classmethod
    def from_header(cls, header: Mapping[str, Any], where: str) -> Self:
        """Read the key from a primary header.

        TFRAME is brought to the nearest whole number of pixel times (`shared.nircam.subarrays.PIXEL_TIME`,
        10 us): headers that write one frame time with other digits at the end (0.05016 and 0.050160001)
        give one key. The edges of this rounding separate no such headers, because they lie half a pixel
        time from every frame time that a detector can have.

        Parameters
        ----------
        header : mapping of str to object
            Primary FITS header.
        where : str
            Name of the file, for the error.

        Raises
        ------
        BadInput
            If a keyword is missing or has a value of the wrong type (check: the keyword).
        """
        values: dict[str, Any] = {}
        for field, keyword in KEYWORDS.items():
            value = header.get(keyword)
            if value is None or value == "":
                if field == "coronmsk":
                    continue
                raise BadInput(
                    keyword,
                    f"{where}: the primary header has no {keyword}, which its configuration needs; "
                    "fetch the file again from the archive, or add the keyword",
                )
            try:
                values[field] = _of_type(cls.model_fields[field].annotation, value)
            except (TypeError, ValueError, OverflowError) as error:
                raise BadInput(
                    keyword, f"{where}: {keyword} = {value!r} is not a valid value; correct the keyword"
                ) from error
        values["tframe"] = _whole_pixel_times(values["tframe"])
        return cls(**values)

    @property
    def slug(self) -> str:
        """Short readable name that is unique to the key, such as ``nrca1_sub640_rapid_g20_3f2a9c1b``."""
        digest = hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:8]
        words = f"{self.detector}_{self.subarray}_{self.readpatt}_g{self.ngroups}"
        return re.sub(r"[^a-z0-9_]+", "-", words.lower())[:_LONGEST_SLUG] + f"_{digest}"

    @property
    def group_time(self) -> float:
        """Time from one group to the next, s: TFRAME * (NFRAMES + GROUPGAP)."""
        return self.tframe * (self.nframes + self.groupgap)


def require_same(members: Sequence[tuple[str, ConfigurationKey]]) -> ConfigurationKey:
    """Return the configuration key that all members share.

    Parameters
    ----------
    members : sequence of (str, ConfigurationKey)
        Name of a file or exposure, and its key.

    Raises
    ------
    ConfigurationMismatch
        If two keys differ; the message names the keyword, both values and both files.
    """
    if not members:
        raise ConfigurationMismatch("no exposures were given to combine")
    first_name, first = members[0]
    for name, key in members[1:]:
        for field, keyword in KEYWORDS.items():
            mine, other = getattr(first, field), getattr(key, field)
            if mine != other:
                raise ConfigurationMismatch(
                    f"{keyword} differs: {mine!r} in {first_name}, {other!r} in {name}; "
                    "exposures of different configurations are never combined"
                )
    return first


def _of_type(wanted: Any, value: object) -> str | int | float:
    """Return `value` converted to a type; raises `ValueError` if the conversion would change its meaning."""
    text = str(value).strip()
    if wanted is str:
        if not isinstance(value, str) or not text:
            raise ValueError("text is wanted")
        return text
    if isinstance(value, bool):
        raise ValueError("a number is wanted")
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a finite number is wanted")
    if wanted is float:
        return number
    if number != int(number):
        raise ValueError("a whole number is wanted")
    return int(number)


def _whole_pixel_times(seconds: float) -> float:
    # Rounding to digits, not a product with PIXEL_TIME: 10.73677 must stay the number that it is.
    rounded = round(seconds, 5)
    return rounded if rounded > 0 else seconds
