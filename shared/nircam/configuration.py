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


class ConfigurationKey(BaseModel):
    """Everything that must be equal before two exposures may be combined.

    Attributes
    ----------
    tframe : float
        Frame time in s.
    coronmsk : str
        Coronagraphic mask, ``"NONE"`` where the header has no CORONMSK.
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

        Parameters
        ----------
        header : mapping of str to object
            Primary FITS header.
        where : str
            Name of the file, for the error.

        Raises
        ------
        BadInput
            If a keyword is missing or is not of its type.
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
        return cls(**values)

    @property
    def slug(self) -> str:
        """Short readable name, unique for the key: ``nrca1_sub640_rapid_g20_3f2a9c1b``."""
        digest = hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:8]
        words = f"{self.detector}_{self.subarray}_{self.readpatt}_g{self.ngroups}"
        return re.sub(r"[^a-z0-9_]+", "-", words.lower()) + f"_{digest}"

    @property
    def group_time(self) -> float:
        """Time from one group to the next, in s: TFRAME * (NFRAMES + GROUPGAP)."""
        return self.tframe * (self.nframes + self.groupgap)


def require_same(members: Sequence[tuple[str, ConfigurationKey]]) -> ConfigurationKey:
    """Return the one key that all members share.

    Parameters
    ----------
    members : sequence of (str, ConfigurationKey)
        File or exposure name, and its key.

    Raises
    ------
    ConfigurationMismatch
        If two keys differ; names the keyword, both values and both files.
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
    """Return `value` as the type wanted; `ValueError` where that would change what it says."""
    said = str(value).strip()
    if wanted is str:
        if not isinstance(value, str) or not said:
            raise ValueError("text is wanted")
        return said
    if isinstance(value, bool):
        raise ValueError("a number is wanted")
    number = float(said)
    if not math.isfinite(number):
        raise ValueError("a finite number is wanted")
    if wanted is float:
        return number
    if number != int(number):
        raise ValueError("a whole number is wanted")
    return int(number)
