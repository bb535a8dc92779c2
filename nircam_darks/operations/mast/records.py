"""The documented form of MAST's answers, and the exposures and files read from them."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

_Model = TypeVar("_Model", bound=BaseModel)
#: The only file names that are accepted, since they become paths. Groups: visit, program.
UNCAL = re.compile(r"(jw(\d{5})\d{6})_[A-Za-z0-9_-]+_nrc[ab](?:[1-5]|long)_uncal\.fits")


class AskAgain(Exception):
    """An answer that may be better on another attempt."""


class _Row(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


def _utc(when: datetime) -> datetime:
    # MAST gives no time zone; TIMESYS of every JWST product is UTC.
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)


class Dataset(_Row):
    """One exposure, with all its detectors."""

    name: str = Field(alias="fileSetName")
    observed: Annotated[datetime, AfterValidator(_utc)] = Field(alias="date_obs")


class Datasets(_Row):
    """One page of exposures."""

    results: list[Dataset]


class ListedFile(_Row):
    """One file of an exposure."""

    dataset: str
    filename: str
    uri: str
    access: str
    size: int | None = None


class FileListing(_Row):
    """The files of some exposures."""

    # Some answers hold lists within the list; astroquery handles both forms too.
    products: list[ListedFile | list[ListedFile]]

    def flat(self) -> list[ListedFile]:
        """Return the files in one list."""
        return [file for entry in self.products for file in (entry if isinstance(entry, list) else [entry])]


@dataclass(frozen=True)
class DarkFile:
    """A raw (level 1b) file of one detector.

    Attributes
    ----------
    name : str
        Such as ``jw01062001001_02101_00001_nrca1_uncal.fits``.
    visit, program : str
        From the name, such as ``jw01062001001`` and ``jw01062``.
    address : str
        The archive's identifier for downloads.
    public : bool
        Available without an account.
    size : int or None
        Size in bytes, as the archive lists it.
    """

    name: str
    visit: str
    program: str
    address: str
    public: bool
    size: int | None


@dataclass(frozen=True)
class DarkExposure:
    """One exposure, and the raw files of all its detectors in the archive."""

    name: str
    observed: datetime
    files: tuple[DarkFile, ...]


def read_answer(model: type[_Model], answer: Any) -> _Model:
    """Return the content of an answer; raise `AskAgain` if it is not in the documented form."""
    try:
        return model.model_validate(answer)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise AskAgain(f"the answer is not in the documented form: {where}: {fault['msg']}") from None
