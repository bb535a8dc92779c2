"""Searches MAST for NIRCam darks and downloads their files, through its public interface for missions.

MAST lists JWST data by exposure ("dataset"), and separately the files of an exposure; both come from
`astroquery.mast.MastMissions`, documented with its fields, paging (``limit``, ``offset``, ``sort_by``),
date conditions (``>=``, ``a..b``) and download address at
https://astroquery.readthedocs.io/en/latest/mast/mast_missions.html. Only this interface lists every
``_uncal`` file with size and access: the keyword service ``Mast.Jwst.Filtered.Nircam`` generally finds only
the products of the highest level
(https://spacetelescope.github.io/mast_notebooks/notebooks/JWST/SI_keyword_exoplanet_search/SI_keyword_exoplanet_search.html;
for darks ``_dark``, ``_rate``, ..., https://github.com/spacetelescope/jwql/issues/935), and
``Observations`` cannot search by EXP_TYPE. MAST documents no checksums for the files, so only sizes are
compared.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import requests
from requests.adapters import HTTPAdapter
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from nircam_darks.operations.mast.records import (
    UNCAL,
    AskAgain,
    DarkExposure,
    DarkFile,
    Dataset,
    Datasets,
    FileListing,
    ListedFile,
    read_answer,
)
from shared.errors import PermanentError, TransientError
from shared.settings.mast import MastSettings
from shared.store.faults import store_faults

_T = TypeVar("_T")
_PIECE = 1 << 20
#: Datasets in one request for files; a dark has about 100 files.
_AT_ONCE = 50
#: HTTP statuses of a download after which a retry may help; searches only ever give 400 and 500.
_PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})


class ArchiveUnavailable(TransientError):
    """The archive did not answer, or not in its documented form."""


class DownloadRefused(PermanentError):
    """The archive did not deliver a file, or not the file that it lists."""


class MastArchive(AbstractContextManager["MastArchive", None]):
    """Anonymous access to the archive.

    Every method raises `ArchiveUnavailable` if the archive does not answer in its documented form within
    `settings.attempts` attempts.

    Parameters
    ----------
    settings : MastSettings
    """

    def __init__(self, settings: MastSettings) -> None:
        # Slow to import, and used by this command only.
        import astroquery
        from astropy.table import Table
        from astroquery.exceptions import InvalidQueryError
        from astroquery.exceptions import TimeoutError as OutOfTime
        from astroquery.mast import MastMissions

        # astroquery also logs to standard output, where --json goes.
        astroquery.log.setLevel("ERROR")
        self._settings = settings
        self._url = settings.url.rstrip("/")
        self._missions = MastMissions(mission="jwst")
        # astroquery reads its server from a setting at import, and builds the mission's address from that.
        self._missions._service_api_connection.SERVICE_URL = self._url
        self._missions.mission = "jwst"
        # Otherwise it first requests the names of all columns, without a time limit.
        names = ["program", "instrume", "exp_type", "date_obs", "fileSetName"]
        self._missions.columns["jwst"] = Table({"name": names})
        patient = _PatientAdapter(settings.connect_timeout, settings.read_timeout)
        self._session: requests.Session = self._missions._session
        self._session.mount("https://", patient)
        self._session.mount("http://", patient)
        # astroquery raises the same exception for 400 and 500.
        self._passing = (requests.RequestException, InvalidQueryError, OutOfTime, AskAgain)

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def exposures(self, program: int, since: datetime, until: datetime | None) -> Iterator[DarkExposure]:
        """Yield the NIRCam darks of a program in order of observation, with all their raw files.

        Parameters
        ----------
        program : int
        since, until : datetime
            Period of observation (UTC), `until` excluded; None: no end.
        """
        listed = self._datasets(program, since, until)
        for start in range(0, len(listed), _AT_ONCE):
            some = listed[start : start + _AT_ONCE]
            files = self._files([dataset.name for dataset in some])
            for dataset in some:
                yield DarkExposure(dataset.name, dataset.observed, files.get(dataset.name, ()))

    def download(self, file: DarkFile, path: Path) -> None:
        """Write a file to `path`.

        Raises
        ------
        DownloadRefused
            If the archive does not deliver it, or its size is not the listed one.
        """
        self._persistently(f"download of {file.name}", lambda: self._download(file, path))

    def _datasets(self, program: int, since: datetime, until: datetime | None) -> list[Dataset]:
        datasets: dict[str, Dataset] = {}
        for offset in _offsets(self._settings.page_size):
            page = self._page(program, since, until, offset)
            for dataset in page:
                # One row per product level; and rows may move to the next page between two requests.
                datasets.setdefault(dataset.name, dataset)
            if len(page) < self._settings.page_size:
                break
        within = [
            d for d in datasets.values() if since <= d.observed and (until is None or d.observed < until)
        ]
        return sorted(within, key=lambda dataset: (dataset.observed, dataset.name))

    def _page(self, program: int, since: datetime, until: datetime | None, offset: int) -> list[Dataset]:
        when = f">={_query_time(since)}" if until is None else f"{_query_time(since)}..{_query_time(until)}"

        def ask() -> list[Dataset]:
            answer = self._missions.query_criteria_async(
                program=str(program),
                instrume="NIRCAM",
                exp_type="NRC_DARK",
                date_obs=when,
                select_cols=["date_obs"],
                sort_by=["date_obs", "fileSetName"],
                sort_desc=[False, False],
                limit=self._settings.page_size,
                offset=offset,
                skip_count=True,
            )
            return read_answer(Datasets, answer.json()).results

        return self._persistently(f"search for darks of program {program}", ask)

    def _files(self, datasets: list[str]) -> dict[str, tuple[DarkFile, ...]]:
        def ask() -> list[ListedFile]:
            return read_answer(FileListing, self._missions.get_product_list_async(datasets).json()).flat()

        by_dataset: dict[str, dict[str, DarkFile]] = {name: {} for name in datasets}
        for product in self._persistently("list of files", ask):
            name = UNCAL.fullmatch(product.filename)
            if name and product.dataset in by_dataset:
                by_dataset[product.dataset][product.filename] = DarkFile(
                    name=product.filename,
                    visit=name[1],
                    program=f"jw{name[2]}",
                    address=product.uri,
                    public=product.access.upper() == "PUBLIC",
                    size=product.size,
                )
        return {name: tuple(files[key] for key in sorted(files)) for name, files in by_dataset.items()}

    def _download(self, file: DarkFile, path: Path) -> None:
        # astroquery's own download holds the whole file in memory unless it shows a progress bar.
        address = f"{self._url}/search/jwst/api/v0.1/retrieve_product"
        with self._session.get(address, params={"product_name": file.address}, stream=True) as answer:
            if answer.status_code in _PASSING_STATUS:
                raise AskAgain(f"status {answer.status_code} {answer.reason}")
            if not answer.ok:
                raise DownloadRefused(
                    f"{file.name}: download failed, the archive answered {answer.status_code} {answer.reason}"
                )
            have = 0
            with store_faults(path.parent), path.open("wb") as out:
                for piece in answer.iter_content(_PIECE):
                    have += out.write(piece)
                    if file.size is not None and have > file.size:
                        break
        if file.size is not None and have != file.size:
            received = f"{have} bytes" if have < file.size else "more"
            raise DownloadRefused(
                f"{file.name}: not announced, the archive lists {file.size} bytes and delivered {received}"
            )

    def _persistently(self, what: str, call: Callable[[], _T]) -> _T:
        tries: Retrying = Retrying(
            stop=stop_after_attempt(self._settings.attempts),
            wait=wait_random_exponential(multiplier=1, max=self._settings.longest_pause),
            retry=retry_if_exception_type(self._passing),
            reraise=True,
        )
        try:
            return tries(call)
        except self._passing as error:
            raise ArchiveUnavailable(
                f"{self._url}: no answer from the archive ({what}: {_reason(error)}); check the network and "
                "DARKS_MAST_URL, or try again later"
            ) from error


class _PatientAdapter(HTTPAdapter):  # type: ignore[misc]
    """Gives every request a time limit; astroquery sets none."""

    def __init__(self, connect: float, read: float) -> None:
        super().__init__()
        self._limit = (connect, read)

    def send(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["timeout"] = kwargs.get("timeout") or self._limit
        return super().send(*args, **kwargs)


def _offsets(step: int) -> Iterator[int]:
    offset = 0
    while True:
        yield offset
        offset += step


def _query_time(when: datetime) -> str:
    return when.strftime("%Y-%m-%d %H:%M:%S")


def _reason(error: BaseException) -> str:
    if isinstance(error, requests.JSONDecodeError):
        return "the answer is not JSON"
    if type(error).__name__ == "InvalidQueryError":
        return "status 400 or 500"
    if isinstance(error, requests.RequestException):
        # The innermost exception says why; those around it only that they gave up.
        while error.__context__ is not None:
            error = error.__context__
    return " ".join(str(error).split())[:300] or type(error).__name__
