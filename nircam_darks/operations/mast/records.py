"""MAST's answers about missions, in their documented form, and what they mean here."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

_Model = TypeVar("_Model", bound=BaseModel)
#: Nothing else is taken for a file's name: it becomes a path. Groups: visit, program.
UNCAL = re.compile(r"(jw(\d{5})\d{6})_[A-Za-z0-9_-]+_nrc[ab](?:[1-5]|long)_uncal\.fits")


class AskAgain(Exception):
    """What asking again may cure."""


class _Row(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


def _utc(when: datetime) -> datetime:
    # Without a zone it is UTC: TIMESYS of every JWST product.
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)


class Dataset(_Row):
    """An exposure, of all detectors."""

    name: str = Field(alias="fileSetName")
    observed: Annotated[datetime, AfterValidator(_utc)] = Field(alias="date_obs")


class Datasets(_Row):
    """A page of exposures."""

    results: list[Dataset]


class Product(_Row):
    """A file of an exposure."""

    dataset: str
    filename: str
    uri: str
    access: str
    size: int | None = None


class Products(_Row):
    """The files of some exposures."""

    # Some answers hold a list in the list; astroquery knows both.
    products: list[Product | list[Product]]

    def flat(self) -> list[Product]:
        """Return the files in one list."""
        return [file for one in self.products for file in (one if isinstance(one, list) else [one])]


@dataclass(frozen=True)
class DarkFile:
    """A raw (level 1b) file of one detector.

    Attributes
    ----------
    name : str
        Such as ``jw01062001001_02101_00001_nrca1_uncal.fits``.
    visit, program : str
        The beginnings of the name, such as ``jw01062001001`` and ``jw01062``.
    address : str
        What the archive calls it when it is to be downloaded.
    public : bool
        Anybody may have it.
    size : int or None
        Bytes, as the archive lists them.
    """

    name: str
    visit: str
    program: str
    address: str
    public: bool
    size: int | None


@dataclass(frozen=True)
class DarkExposure:
    """One exposure of all detectors that were read, and the files that the archive has of it."""

    name: str
    observed: datetime
    files: tuple[DarkFile, ...]


def read_answer(model: type[_Model], answer: Any) -> _Model:
    """Return an answer's content; `AskAgain` if it is not in the documented form."""
    try:
        return model.model_validate(answer)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise AskAgain(f"its answer is not in the documented form: {where}: {fault['msg']}") from None
