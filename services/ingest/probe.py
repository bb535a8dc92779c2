"""Reads what the checks need from an exposure's file, in windows of bounded memory."""

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from services.ingest.checks import ExposureProbe, NotFinite
from services.ingest.file_sums import FileSums
from shared.errors import BadInput
from shared.nircam.dq import UNUSABLE_GROUP_FLAGS, PixelFlag
from shared.ramps.hdus import HeaderSource, walk_hdus
from shared.ramps.ramp import Ramp
from shared.store.sources import FileReader

#: Values of SCI in memory at once.
_WINDOW = 8 * 1024 * 1024


def open_exposure(
    path: Path,
    sums: FileSums | None = None,
    announced_size: int | None = None,
    announced_sha256: str | None = None,
) -> tuple[ExposureProbe, Ramp | None]:
    """Open an exposure's file and read its headers.

    Parameters
    ----------
    path : Path
    sums : FileSums, optional
        Of the file, if the caller has read them.
    announced_size, announced_sha256 : optional
        As announced.

    Returns
    -------
    probe : ExposureProbe
    ramp : Ramp or None
        The caller closes it; None if the file is not a whole FITS file, see `ExposureProbe.fault`.

    Raises
    ------
    BadInput
        If the file does not exist or cannot be read (check ``"file"``).
    """
    where = path.name
    reader = FileReader(path)
    known: dict[str, Any] = {
        "where": where,
        "size": reader.size,
        "sha256": sums.sha256 if sums is not None else None,
        "sums": sums,
        "announced_size": announced_size,
        "announced_sha256": announced_sha256,
    }
    try:
        ramp = Ramp(reader, where)
    except BadInput as error:
        with reader:
            primary, shapes = readable_part(reader, where)
        return ExposureProbe(primary=primary, shapes=shapes, fault=error, **known), None
    except BaseException:
        reader.close()
        raise
    shapes = {name: ramp.shape(name) for name in ramp.headers if ramp.has(name)}
    types = {name: ramp.dtype(name) for name in shapes}
    primary = header_values(ramp.primary)
    return ExposureProbe(primary=primary, shapes=shapes, types=types, **known), ramp


def header_values(header: fits.Header) -> dict[str, Any]:
    """Return a header's values by keyword, without cards that have no value."""
    values: dict[str, Any] = {}
    for card in header.cards:
        keyword, value = card.keyword, card.value
        if keyword and not isinstance(value, fits.card.Undefined):
            values.setdefault(keyword, value)
    return values


def not_finite(ramp: Ramp) -> NotFinite | None:
    """Count the NaN and infinite values of SCI where a value should be.

    Where nothing was measured there is nothing to count: a pixel that PIXELDQ marks DO_NOT_USE, or a group
    that GROUPDQ marks DO_NOT_USE or SATURATED. The steps of jwst, and ours, write NaN there.

    Parameters
    ----------
    ramp : Ramp

    Returns
    -------
    NotFinite or None
        None if SCI is not a 4-D array.
    """
    shape = ramp.shape("SCI") if ramp.has("SCI") else ()
    if len(shape) != 4:
        return None
    if ramp.dtype("SCI").kind in "iu":
        return NotFinite(0)
    count, first = 0, None
    integrations, groups, ny, nx = shape
    unused = _unused_pixels(ramp, (ny, nx))
    step = max(1, _WINDOW // max(ny * nx, 1))
    for integration in range(integrations):
        for group in range(0, groups, step):
            window = slice(group, group + step)
            with np.errstate(over="ignore"):
                # The steps calculate with float32, which holds less than a double.
                bad = ~np.isfinite(ramp.read("SCI", integration, window).astype(np.float32, copy=False))
            bad &= ~unused
            # Most files have no such value at all, so the flags of most groups need not be read.
            if bad.any() and ramp.has("GROUPDQ") and ramp.shape("GROUPDQ") == shape:
                flags = ramp.read("GROUPDQ", integration, window)
                bad &= (flags & UNUSABLE_GROUP_FLAGS.mask) == 0
            bad_values = int(np.count_nonzero(bad))
            if bad_values and first is None:
                g, y, x = (int(index) for index in np.unravel_index(int(np.argmax(bad)), bad.shape))
                first = (integration, group + g, y, x)
            count += bad_values
    return NotFinite(count, first)


def unusable_pixels(ramp: Ramp, science: NDArray[np.bool_]) -> int | None:
    """Count the science pixels that PIXELDQ or the first groups of GROUPDQ make unusable.

    Parameters
    ----------
    ramp : Ramp
    science : ndarray of bool, 2D (y, x)

    Returns
    -------
    int or None
        None if the file lacks these extensions, or their shapes do not match SCI.
    """
    shape = ramp.shape("SCI")
    if not (ramp.has("PIXELDQ") and ramp.has("GROUPDQ")):
        return None
    if ramp.shape("PIXELDQ") != shape[2:] or ramp.shape("GROUPDQ") != shape:
        return None
    first_groups = (ramp.read("GROUPDQ", integration, slice(0, 1))[0] for integration in range(shape[0]))
    return unusable(ramp.read_image("PIXELDQ"), first_groups, science)


def unusable(pixeldq: NDArray[Any], first_groups: Iterable[NDArray[Any]], science: NDArray[np.bool_]) -> int:
    """Count the science pixels without any usable group.

    Parameters
    ----------
    pixeldq : ndarray, 2D (y, x)
    first_groups : iterable of ndarray, 2D (y, x)
        GROUPDQ of group 0 of each integration.
    science : ndarray of bool, 2D (y, x)
    """
    never = np.ones(science.shape, bool)
    for flags in first_groups:
        never &= (flags & UNUSABLE_GROUP_FLAGS.mask) != 0
    return int(np.count_nonzero(science & (((pixeldq & PixelFlag.DO_NOT_USE.mask) != 0) | never)))


def _unused_pixels(ramp: Ramp, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which pixels PIXELDQ marks DO_NOT_USE; none if there is no PIXELDQ of this shape."""
    if not (ramp.has("PIXELDQ") and ramp.shape("PIXELDQ") == shape):
        return np.zeros(shape, bool)
    unused: NDArray[np.bool_] = (ramp.read_image("PIXELDQ") & PixelFlag.DO_NOT_USE.mask) != 0
    return unused


def readable_part(reader: HeaderSource, where: str) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """Return the primary header and the shapes that can be read from a broken file.

    Parameters
    ----------
    reader : HeaderSource
    where : str
        Name of the file.

    Returns
    -------
    primary : dict
        Values by keyword; empty if it cannot be read.
    shapes : dict of str to tuple of int
        Of the image extensions, slowest axis first.
    """
    primary: dict[str, Any] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    with contextlib.suppress(BadInput):
        for extent in walk_hdus(reader, where):
            if extent.start == 0:
                primary = header_values(extent.header)
            elif extent.array is not None:
                shapes.setdefault(extent.name, extent.array.shape)
    return primary, shapes
