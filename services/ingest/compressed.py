"""Exposures that are compressed by gzip or fpack, as some are delivered: decompressed into scratch, once.

Everything behind reads the decompressed file, so its digest is that of the exposure: the same file,
compressed or not, gives the same product. An announcement has the size and sha256 of the compressed file.

What decompresses to far more than an exposure may have is refused before it fills the scratch. Files of fpack
(``.fits.fz``) are FITS files whose pixels are tables, see `services.ingest.fpacked`.
"""

import gzip
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from services.ingest.checks import ExposureProbe, delivery_checks, first_failure
from services.ingest.fpacked import unpack
from shared.contracts.messages import ExposureAnnounced
from shared.errors import BadInput, NoSpaceLeft, ScratchTooSmall
from shared.store.faults import store_faults
from shared.store.sources import FileReader, sha256_of

_MAGIC = b"\x1f\x8b"
#: Bytes that are decompressed at once.
_PIECE = 8 * 1024 * 1024
#: A dark has no more bytes: 10 x 108 groups of the full frame, with errors and flags, are 41 GB.
_LARGEST = 64 * 1024**3
#: Nor does noise shrink this much; only a file of one repeated value does, which may be small.
_LARGEST_RATIO, _SMALL = 100, 16 * 1024 * 1024


@contextmanager
def uncompressed(
    path: Path, announced: ExposureAnnounced, scratch: Callable[[], Path]
) -> Iterator[tuple[Path, ExposureAnnounced]]:
    """Give a delivered file as it is, or decompressed if gzip or fpack compressed it, as a context.

    Parameters
    ----------
    path : Path
    announced : ExposureAnnounced
    scratch : callable
        Returns the folder under which the decompressed file lies until the end of the context.

    Yields
    ------
    path : Path
        The file to be read.
    announced : ExposureAnnounced
        What its bytes have to agree with: of a decompressed file, its size and sha256 are not announced.

    Raises
    ------
    BadInput
        If the file is damaged, is not FITS inside, or becomes too large (check ``"FITS"`` or
        ``"truncated"``), or if it is not the one that was announced (check ``"size"`` or ``"sha256"``).
    ScratchTooSmall
        If scratch has no room for it.
    """
    with FileReader(path) as file:
        size = file.size
        is_zipped = size > len(_MAGIC) and file.read(0, len(_MAGIC)) == _MAGIC
    is_packed = not is_zipped and path.name.lower().endswith(".fz")
    if not (is_zipped or is_packed):
        yield path, announced
        return
    digest = sha256_of(path) if announced.sha256 is not None else None
    probe = ExposureProbe(path.name, {}, {}, None, size, digest, announced.size, announced.sha256)
    failure = first_failure(delivery_checks(probe), path.name)
    if failure is not None:
        raise failure
    folder = scratch()
    with tempfile.TemporaryDirectory(dir=folder, prefix="uncompressed-") as own:
        stem = path.name[:-3] if path.name.lower().endswith((".gz", ".fz")) else path.name
        target = Path(own) / (stem or path.name)
        try:
            with store_faults(folder):
                unfold = unpack if is_packed else _decompress
                unfold(path, target, min(_LARGEST, max(_SMALL, size * _LARGEST_RATIO)))
        except NoSpaceLeft as error:
            # Were the store full, it would be waited for, and the file fetched again and again.
            raise ScratchTooSmall(
                f"{path.name}: decompressed, it does not fit on the scratch disk: {error}",
                where=folder,
                setting="DARKS_SCRATCH",
            ) from error
        yield target, announced.model_copy(update={"size": None, "sha256": None})


def _decompress(path: Path, target: Path, largest: int) -> None:
    """Write the decompressed file, unless it is not FITS or has more than `largest` bytes."""
    written = 0
    with gzip.open(path, "rb") as source, target.open("wb") as file:
        while piece := _read(source, path.name):
            if not written and not piece.startswith(b"SIMPLE"):
                raise BadInput(
                    "FITS", f"{path.name}: what gzip compressed is not a FITS file; fetch it again"
                )
            written += len(piece)
            if written > largest:
                raise BadInput(
                    "FITS",
                    f"{path.name}: decompresses to more than {largest} bytes, which no dark has; "
                    "announce it uncompressed if it is one",
                )
            file.write(piece)
    if not written:
        raise BadInput("FITS", f"{path.name}: gzip compressed an empty file; fetch it again")


def _read(source: gzip.GzipFile, name: str) -> bytes:
    try:
        return source.read(_PIECE)
    except EOFError:
        raise BadInput(
            "truncated", f"{name}: truncated: its gzip stream has no end; fetch it again"
        ) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise BadInput("FITS", f"{name}: its gzip stream is damaged ({error}); fetch it again") from None
