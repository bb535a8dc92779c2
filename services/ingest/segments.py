"""Exposures that the archive delivers in segments: told by their headers, joined once all have arrived.

The archive cuts an exposure whose file would be too large into segments, each a file of its own with some of
the integrations: NINTS is the number of the whole exposure, EXSEGNUM of EXSEGTOT says which segment it is,
INTSTART to INTEND which integrations it holds (1-based)
(https://jwst-pipeline.readthedocs.io/en/stable/jwst/data_products/file_naming.html#segmented-files).

Each segment is recorded by its claim as it arrives; whichever worker then sees the claims of all of them
joins the files, so they may arrive in any order, and at two workers at once. The joined file is what the
exposure would be as one file: the pixels of the segments one after the other, copied in pieces, under the
header of the first. All that follows, persistence and telemetry included, sees the whole exposure.
"""

import math
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from astropy.io import fits

from services.ingest.compressed import uncompressed
from shared.catalog.store_contents import claims_of_exposures
from shared.contracts.messages import ExposureAnnounced
from shared.errors import BadInput
from shared.nircam.configuration import KEYWORDS
from shared.products.claim import Claim, Segment, missing_segments, newest_segments
from shared.ramps.ramp import Ramp
from shared.runtime.handler import StageContext
from shared.store.base import Store
from shared.store.sources import FileReader, FileState, NotThereYet, sha256_of, source_of

#: Name of the check of an exposure's segments.
SEGMENTS = "segments"
#: Most segments of an exposure: file names have three digits for their number.
_MOST = 999
_BLOCK = 2880
#: Extensions whose slowest axis is the integration.
_BY_INTEGRATION = frozenset({"SCI", "ERR", "GROUPDQ", "ZEROFRAME", "REFOUT"})
#: Tables with rows for integrations or their groups.
_ROWS = frozenset({"INT_TIMES", "GROUP"})
#: Must be equal in all segments, since the joined file has one header.
_SAME = (
    *KEYWORDS.values(),
    "NINTS",
    "EXPSTART",
    "EXPEND",
    "DATE-OBS",
    "TGROUP",
    "FILTER",
    "PUPIL",
    "PEDIGREE",
)
_SUMS = ("CHECKSUM", "DATASUM")


def segment_of(header: Mapping[str, Any], where: str) -> Segment | None:
    """Return which segment of its exposure a file is.

    Parameters
    ----------
    header : mapping of str to object
        Primary header.
    where : str
        Name of the file, for the error.

    Returns
    -------
    Segment or None
        None if the file holds the whole exposure: EXSEGTOT is missing or 1.

    Raises
    ------
    BadInput
        If the keywords do not say which part of the exposure it is (check ``"segments"``).
    """
    if header.get("EXSEGTOT") in (None, "", 0, 1):
        return None
    names = ("EXSEGNUM", "EXSEGTOT", "INTSTART", "INTEND", "NINTS")
    values = [header.get(name) for name in names]
    numbers = [value for value in values if isinstance(value, int) and not isinstance(value, bool)]
    if len(numbers) == len(names):
        number, total, first, last, integrations = numbers
        if 1 <= number <= total <= _MOST and 1 <= first <= last <= integrations:
            return Segment(number=number, total=total, first=first, last=last)
    said = ", ".join(f"{name} = {value!r}" for name, value in zip(names, values, strict=True))
    raise BadInput(
        SEGMENTS,
        f"{where}: {said} do not say which segment of its exposure this is; fetch it again from the archive",
    )


def whole_name(segment_file: str) -> str:
    """Return the name of the file that a segment's exposure would have been as one file."""
    return re.sub(r"-seg\d+(?=[_.])", "", segment_file, flags=re.IGNORECASE)


def arrived_segments(exposure_id: str, store: Store) -> list[Claim] | None:
    """Return the segments of an exposure in order, or None as long as any is missing."""
    segments = newest_segments(claims_of_exposures(store, [exposure_id])[exposure_id])
    if not segments or missing_segments(segments):
        return None
    return [segments[number] for number in sorted(segments)]


@contextmanager
def joined_file(segments: Sequence[Claim], here: Path, context: StageContext) -> Iterator[Path]:
    """Give the exposure as one file, as a context; the file is removed at its end.

    Parameters
    ----------
    segments : sequence of Claim
        All segments, in order.
    here : Path
        The segment that arrived last, which is on this machine's disk already.
    context : StageContext

    Raises
    ------
    BadInput
        If a segment is no longer where it was announced, was changed since, or does not belong to the others
        (check ``"segments"``).
    TransientError
        If a file changed while it was read.
    """
    with ExitStack() as opened:
        # As they were before their digests were taken.
        states: list[FileState] = []
        for claim in segments:
            state = FileState.of(here)
            if claim.file != here.name or sha256_of(here) != claim.sha256:
                state = opened.enter_context(_on_disk(claim, context))
            states.append(state)
        paths = [state.path for state in states]
        ramps = [opened.enter_context(Ramp(FileReader(path), path.name)) for path in paths]
        _require_whole(segments, ramps)
        folder = tempfile.TemporaryDirectory(dir=context.store.scratch(), prefix="segments-")
        target = Path(opened.enter_context(folder)) / whole_name(segments[0].file)
        join(ramps, target, [claim.date for claim in segments])
        for state in states:
            state.require_unchanged()
        yield target


@contextmanager
def _on_disk(claim: Claim, context: StageContext) -> Iterator[FileState]:
    source = source_of(claim.uri, context.settings)
    with ExitStack() as opened:
        try:
            delivered = opened.enter_context(source.on_disk(context.store.scratch))
            as_before = ExposureAnnounced(exposure_id=claim.exposure_id, uri=claim.uri)
            path, _ = opened.enter_context(uncompressed(delivered, as_before, context.store.scratch))
            state = FileState.of(path)
            same = sha256_of(path) == claim.sha256
        except (BadInput, NotThereYet) as error:
            raise BadInput(
                SEGMENTS,
                f"{claim.file}: {claim.segment} is no longer at {claim.uri}; announce it where it is",
                where=claim.uri,
            ) from error
        if not same:
            raise BadInput(
                SEGMENTS,
                f"{claim.file}: {claim.segment} was changed since it came ({claim.uri}); announce it again",
                where=claim.uri,
            )
        yield state


def _require_whole(segments: Sequence[Claim], ramps: Sequence[Ramp]) -> None:
    """Raise unless the segments are all integrations of one exposure, each once."""
    first, expected = ramps[0], 1
    for claim, ramp in zip(segments, ramps, strict=True):
        for keyword in _SAME:
            mine, other = first.primary.get(keyword), ramp.primary.get(keyword)
            if mine != other:
                raise BadInput(
                    SEGMENTS,
                    f"{ramp.where}: {keyword} = {other!r}, but {first.where} of the same exposure has "
                    f"{mine!r}; fetch both again from the archive",
                    keyword=keyword,
                )
        part = claim.segment
        if part is None or part.first != expected:
            raise BadInput(
                SEGMENTS,
                f"{ramp.where}: {part} should begin with integration {expected}; fetch all segments again",
            )
        expected = part.last + 1
    if expected - 1 != first.primary.get("NINTS"):
        raise BadInput(
            SEGMENTS,
            f"{ramps[-1].where}: the segments end with integration {expected - 1}, but NINTS = "
            f"{first.primary.get('NINTS')}; fetch all segments again",
        )


def join(ramps: Sequence[Ramp], target: Path, dates: Sequence[str] = ()) -> None:
    """Write the segments of an exposure as one file, in bounded memory.

    Parameters
    ----------
    ramps : sequence of Ramp
        The open segments, in order.
    target : Path
    dates : sequence of str, optional
        DATE of each; the latest becomes DATE of the file.

    Raises
    ------
    BadInput
        If an extension differs between segments that has to be the same (check ``"segments"``).

    Notes
    -----
    The extension ASDF is left out: it repeats the header of its own segment, and jwst makes it again. So are
    CHECKSUM and DATASUM, which are those of the segments.
    """
    first = ramps[0]
    primary = first.primary.copy()
    primary["EXSEGNUM"], primary["EXSEGTOT"] = 1, 1
    primary["INTSTART"], primary["INTEND"] = 1, primary["NINTS"]
    primary["FILENAME"] = target.name
    if any(dates):
        primary["DATE"] = max(dates)
    with target.open("wb") as file:
        write_hdu(file, primary, ())
        for name, header in first.headers.items():
            if name in ("PRIMARY", "ASDF"):
                continue
            if any(name not in ramp.headers for ramp in ramps):
                raise BadInput(
                    SEGMENTS, f"{first.where}: has {name}, which another segment lacks; fetch both again"
                )
            if name in _BY_INTEGRATION and all(ramp.has(name) and ramp.shape(name) for ramp in ramps):
                whole = header.copy()
                axis = f"NAXIS{header['NAXIS']}"
                whole[axis] = sum(ramp.headers[name][axis] for ramp in ramps)
                write_hdu(file, whole, (piece for ramp in ramps for piece in ramp.stored_bytes(name)))
            elif name in _ROWS:
                rows = _rows(ramps, name)
                whole = header.copy()
                whole["NAXIS2"] = len(rows)
                write_hdu(file, whole, rows)
            else:
                write_hdu(file, header, _same_in_all(ramps, name))


def _same_in_all(ramps: Sequence[Ramp], name: str) -> Iterator[bytes]:
    """Yield the data of an extension in pieces; raises `BadInput` where it differs between segments."""
    first = ramps[0]
    if any(ramp.stored_size(name) != first.stored_size(name) for ramp in ramps):
        raise BadInput(SEGMENTS, f"{first.where}: {name} differs in size between segments; fetch them again")
    for pieces in zip(*(ramp.stored_bytes(name) for ramp in ramps), strict=True):
        if any(piece != pieces[0] for piece in pieces):
            raise BadInput(SEGMENTS, f"{first.where}: {name} differs between segments; fetch them again")
        yield pieces[0]


def _rows(ramps: Sequence[Ramp], name: str) -> list[bytes]:
    """Return the rows of a table over all segments; INT_TIMES may list the whole exposure in each."""
    rows: dict[bytes, None] = {}
    for ramp in ramps:
        width = ramp.headers[name].get("NAXIS1", 0)
        same = 0 < width == ramps[0].headers[name].get("NAXIS1")
        if not same or ramp.has(name) or ramp.headers[name].get("PCOUNT"):
            raise BadInput(SEGMENTS, f"{ramp.where}: table {name} differs in kind; fetch all segments again")
        data = b"".join(ramp.stored_bytes(name))
        rows |= dict.fromkeys(data[start : start + width] for start in range(0, len(data), width))
    return list(rows)


def write_hdu(file: BinaryIO, header: fits.Header, data: Iterable[bytes]) -> None:
    """Write a header and its data to a FITS file, padded to whole blocks, without CHECKSUM and DATASUM."""
    header = header.copy()
    for keyword in _SUMS:
        header.remove(keyword, ignore_missing=True)
    file.write(header.tostring().encode("ascii"))
    size = sum(file.write(piece) for piece in data)
    file.write(bytes(math.ceil(size / _BLOCK) * _BLOCK - size))
