"""Finds the dark exposures among files and folders, and says what it passed over.

A folder is searched with all folders in it, as MAST's download tool makes them: a folder a file set, previews
and rate images beside the ramps, some files compressed by gzip. Only headers are read, so that thousands of
files take seconds.

- What is not a NIRCam dark ramp is passed over and counted. A file that looks like a damaged dark is not: it
  is announced, and ingest says what is wrong with it. So is every file that is named itself, whatever it is.
- Of several files of one exposure, or of one segment of it, the rawest counts, and of equally raw ones the
  latest (`docs/intake.md`). The others are *not needed*. A rawer file that its header or its length shows to
  be unusable does not count; it is announced too, to be reported.
"""

import gzip
import math
import os
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from astropy.io import fits

from nircam_darks.operations.candidates import Candidate, candidate_of
from services.ingest import steps
from services.ingest.adapted import Adaptation
from services.ingest.checks import ExposureProbe, first_failure
from services.ingest.header_checks import EXP_TYPE, header_checks
from services.ingest.probe import header_values, open_exposure
from services.ingest.segments import segment_of
from shared.errors import BadInput, DarksError
from shared.nircam.exposure_id import is_fits_name
from shared.settings.stage import StageSettings

#: MAST's names of NIRCam exposures, apart from the products that are made after the ramp.
_DARK_NAME = re.compile(
    r"jw\d{11}_[0-9a-z]{5}_\d{5}(-seg\d+)?_nrc[ab]([1-5]|long)(?!.*_(rate|rateints|cal|calints|i2d|crf|o\d+))",
    re.IGNORECASE,
)
#: Other names of raw files, which hold a ramp whatever the instrument: not MAST's names of other detectors.
_RAW_NAME = re.compile(r"(?!jw\d{11}_).*_uncal\.fits?(\.gz)?$", re.IGNORECASE)
_GZIP = b"\x1f\x8b"
_BLOCK = 2880
#: Blocks; longer without END, it is no header.
_LONGEST_HEADER = 1000
#: Kinds of file that are named when some are passed over; the rest is summed up.
_NAMED_KINDS = 5
NOT_DARKS, NOT_RAMPS, NOT_FITS = "not NIRCam darks", "not ramps", "not FITS"
BROKEN_LINKS, REPEATED, CLOSED = "broken links", "repeated", "closed folders"
#: What is said of one file of a kind, and of several; other kinds are patterns of names.
_SAID = {
    NOT_DARKS: ("is not a NIRCam dark", "are not NIRCam darks"),
    NOT_RAMPS: ("is made from a dark and not a ramp", "are made from darks and not ramps"),
    NOT_FITS: ("is not FITS", "are not FITS"),
    BROKEN_LINKS: ("is a link to nothing", "are links to nothing"),
    REPEATED: ("is given twice", "are given twice"),
    CLOSED: ("is a folder that may not be read", "are folders that may not be read"),
}


@dataclass(frozen=True)
class UnneededFile:
    """A file of an exposure that another file stands for, and why.

    Attributes
    ----------
    candidate : Candidate
    reason : str
    stand_in : Candidate
        The file that is announced in its place.
    """

    candidate: Candidate
    reason: str
    stand_in: Candidate


@dataclass
class PassedOver:
    """How many files of each kind are not announced because they are no dark exposures.

    Attributes
    ----------
    kinds : Counter of str
        Number by kind: one of the kinds named here, such as `NOT_DARKS`, or a pattern such as ``"*.jpg"``.
    """

    kinds: Counter[str] = field(default_factory=Counter)

    def __bool__(self) -> bool:
        return bool(self.kinds)

    def __str__(self) -> str:
        """Return what there was, such as ``"204 files: 200 are not NIRCam darks, 4 *.jpg"``."""
        total = sum(self.kinds.values())
        files = f"{total} file{'s' * (total != 1)}"
        common = self.kinds.most_common()
        if len(common) == 1:
            [(kind, _)] = common
            return f"{files} {_SAID[kind][total != 1]}" if kind in _SAID else f"{files} ({kind})"
        parts = [
            f"{number} {_SAID[kind][number != 1] if kind in _SAID else kind}"
            for kind, number in common[:_NAMED_KINDS]
        ]
        rest = sum(number for _, number in common[_NAMED_KINDS:])
        return f"{files}: {', '.join(parts)}{f', {rest} of other kinds' if rest else ''}"


@dataclass
class FileSelection:
    """A user's files, by what becomes of them.

    Attributes
    ----------
    candidates : list of Candidate
        To be announced.
    not_needed : list of UnneededFile
    passed_over : PassedOver
    """

    candidates: list[Candidate] = field(default_factory=list)
    not_needed: list[UnneededFile] = field(default_factory=list)
    passed_over: PassedOver = field(default_factory=PassedOver)


@dataclass(frozen=True)
class _File:
    """A file that is a dark, or is announced as if it were.

    Attributes
    ----------
    header : mapping
        Its primary header; empty if that cannot be read.
    """

    candidate: Candidate
    header: Mapping[str, Any]

    @property
    def path(self) -> Path:
        return self.candidate.path

    @property
    def steps_done(self) -> int:
        return len(steps.completed(self.header))

    @property
    def date(self) -> str:
        return str(self.header.get("DATE", "")).strip()

    @property
    def exposure(self) -> tuple[str, float | None, int | None] | None:
        """What files of the same exposure, or of the same segment of it, share; None if that is not known."""
        if not self.header:
            return None
        try:
            segment = segment_of(self.header, self.path.name)
        except BadInput:
            return None
        number = segment.number if segment is not None else None
        return self.candidate.exposure_id, self.candidate.start_mjd, number


def find_exposures(paths: Sequence[Path], settings: StageSettings | None = None) -> FileSelection:
    """Find the dark exposures among files, and in folders and all folders in them.

    Parameters
    ----------
    paths : sequence of Path
        Need not exist: a file that is named is announced, and ingest says what is wrong with it.
    settings : StageSettings, optional
        By which ingest may change the exposures (`services.ingest.adapted`).

    Returns
    -------
    FileSelection
        The candidates in the order of `paths`, those of a folder by path.
    """
    selection = FileSelection()
    files: list[_File] = []
    seen: set[str] = set()
    for named in paths:
        folder = named if named.is_dir() else None
        for path in _walk(folder, selection.passed_over) if folder is not None else [named]:
            path = path.absolute()
            real = os.path.realpath(path)
            if real in seen:
                selection.passed_over.kinds[REPEATED] += 1
                continue
            probe, kind = _examine(path)
            if kind is not None and folder is not None:
                selection.passed_over.kinds[kind] += 1
                continue
            seen.add(real)
            candidate = candidate_of(probe, settings, path)
            if folder is not None:
                candidate = replace(candidate, place=path.relative_to(folder.absolute()).as_posix())
            files.append(_File(candidate, probe.primary if kind is None else {}))
    of_exposure: dict[Any, list[_File]] = defaultdict(list)
    for file in files:
        of_exposure[file.exposure or file.path].append(file)
    unneeded = [each for together in of_exposure.values() for each in _unneeded(together, settings)]
    paths_unneeded = {each.candidate.path for each in unneeded}
    selection.candidates = [file.candidate for file in files if file.path not in paths_unneeded]
    selection.not_needed = unneeded
    return selection


def _walk(folder: Path, passed_over: PassedOver) -> Iterator[Path]:
    """Yield the files in a folder and in all folders in it, by path; links to folders are followed."""
    entered: set[tuple[int, int]] = set()

    def closed(_: OSError) -> None:
        passed_over.kinds[CLOSED] += 1

    for place, folders, names in os.walk(folder, onerror=closed, followlinks=True):
        here = Path(place)
        state = here.stat()
        if (state.st_dev, state.st_ino) in entered or (here != folder and _is_ours(here)):
            folders.clear()
            continue
        entered.add((state.st_dev, state.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        # A name that begins with a dot is hidden: macOS leaves "._name" beside each file it copies.
        yield from (here / name for name in sorted(names) if not name.startswith("."))


def _is_ours(folder: Path) -> bool:
    """Return whether a folder holds the results of a run, or is a CRDS cache: none of it is an exposure."""
    is_results = (folder / "run.log").exists() and (folder / ".lock").exists()
    return is_results or (folder / "config" / "jwst").is_dir()


def _examine(path: Path) -> tuple[ExposureProbe, str | None]:
    """Return what the first headers of a file tell, and what it is called if it is passed over."""
    unread = ExposureProbe(path.name)
    if not path.exists():
        return unread, BROKEN_LINKS
    if not is_fits_name(path.name):
        return unread, f"*{path.suffix.lower()}" if path.suffix else "without a suffix"
    is_raw = bool(_RAW_NAME.match(path.name))
    looks_like_one = is_raw or bool(_DARK_NAME.match(path.name))
    try:
        headers = read_first_headers(path)
    except (OSError, EOFError, ValueError, zlib.error):
        return unread, None if looks_like_one else NOT_FITS
    primary = header_values(headers[0])
    shape = _shape(headers[1]) if len(headers) > 1 else ()
    probe = ExposureProbe(path.name, primary, {"SCI": shape} if shape else {})
    instrument, exposure_type = (
        str(primary.get(keyword, "")).strip().upper() for keyword in ("INSTRUME", "EXP_TYPE")
    )
    if not instrument and not exposure_type and looks_like_one:
        return probe, None
    # Without EXP_TYPE nobody knows what an exposure of NIRCam is: ingest says so.
    if instrument != "NIRCAM" or exposure_type not in (EXP_TYPE, "") or "REFTYPE" in primary:
        return probe, NOT_DARKS
    is_ramp = is_raw or len(shape) in (0, 4)
    return probe, None if is_ramp else NOT_RAMPS


def _shape(header: fits.Header) -> tuple[int, ...]:
    """Return the shape of an image, slowest axis first, also of one that fpack packed; empty for a table."""
    if header.get("ZIMAGE"):
        return tuple(
            int(header.get(f"ZNAXIS{axis}", 0)) for axis in range(int(header.get("ZNAXIS", 0)), 0, -1)
        )
    if str(header.get("XTENSION", "IMAGE")).strip() != "IMAGE":
        return ()
    return tuple(int(header.get(f"NAXIS{axis}", 0)) for axis in range(int(header.get("NAXIS", 0)), 0, -1))


def read_first_headers(path: Path) -> list[fits.Header]:
    """Return the primary header of a FITS file, and that of its first extension if there is one.

    Parameters
    ----------
    path : Path
        May be compressed by gzip: then only its beginning is decompressed.

    Raises
    ------
    OSError, EOFError, zlib.error
        If the file cannot be read or decompressed.
    ValueError
        If it does not begin with a FITS header.
    """
    with path.open("rb") as plain:
        start = plain.read(len(_GZIP))
        plain.seek(0)
        stream = gzip.GzipFile(fileobj=plain) if start == _GZIP else plain
        primary = _next_header(stream, b"SIMPLE")
        if primary is None:
            raise ValueError(f"{path.name}: not a FITS file")
        shape = [int(primary.get(f"NAXIS{axis}", 0)) for axis in range(1, int(primary.get("NAXIS", 0)) + 1)]
        size = abs(int(primary.get("BITPIX", 8))) // 8 * math.prod(shape) if shape else 0
        stream.seek(math.ceil(size / _BLOCK) * _BLOCK, os.SEEK_CUR)
        try:
            extension = _next_header(stream, b"XTENSION")
        except (OSError, EOFError, zlib.error):
            extension = None
    return [primary] if extension is None else [primary, extension]


def _next_header(stream: BinaryIO | gzip.GzipFile, start: bytes) -> fits.Header | None:
    blocks = b""
    while len(blocks) < _LONGEST_HEADER * _BLOCK:
        block = stream.read(_BLOCK)
        if len(block) < _BLOCK or not (blocks or block).startswith(start):
            return None
        blocks += block
        if any(block[card : card + 8] == b"END     " for card in range(0, _BLOCK, 80)):
            return fits.Header.fromstring(blocks)
    return None


def _unneeded(files: Sequence[_File], settings: StageSettings | None) -> Iterator[UnneededFile]:
    """Yield those of the files of one exposure that need not be announced."""
    if len(files) < 2:
        return
    usable = _rawest_first(file for file in files if _is_usable(file, settings))
    if not usable:
        return
    best = usable[0]
    for file in usable[1:]:
        name = best.path.name if best.path.name != file.path.name else str(best.path)
        if file.steps_done > best.steps_done:
            why = f"{name} of the same exposure is rawer"
        elif file.date != best.date:
            why = f"{name} of the same exposure was made later (DATE {best.date})"
        elif _is_compressed(file.path) or file.path.stat().st_size == best.path.stat().st_size:
            why = f"{name} is the same exposure, as raw and of the same date"
        else:
            # Equally raw and of one date, but not the same file: ingest compares their pixels.
            continue
        yield UnneededFile(file.candidate, f"not needed: {why}", best.candidate)
    # Unusable files that are less raw than the best would not count anyway.
    for file in files:
        if file not in usable and file.steps_done > best.steps_done:
            why = f"not needed: {best.path.name} of the same exposure is rawer"
            yield UnneededFile(file.candidate, why, best.candidate)


def _rawest_first(files: Iterable[_File]) -> list[_File]:
    by_path = sorted(files, key=lambda file: (_is_compressed(file.path), str(file.path)))
    return sorted(sorted(by_path, key=lambda file: file.date, reverse=True), key=lambda file: file.steps_done)


def _is_compressed(path: Path) -> bool:
    return path.name.lower().endswith((".gz", ".fz"))


def _is_usable(file: _File, settings: StageSettings | None) -> bool:
    """Return whether a file passes the checks of its length and headers."""
    if not file.header or _is_compressed(file.path):
        return bool(file.header)
    try:
        probe, ramp = open_exposure(file.path)
    except DarksError:
        return False
    if ramp is not None:
        ramp.close()
    if settings is not None:
        probe = Adaptation.of(probe, settings).probe(probe)
    checks = header_checks(probe, settings is not None and settings.use_problem_data)
    return ramp is not None and first_failure(checks, file.path.name) is None
