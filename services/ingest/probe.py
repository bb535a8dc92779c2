"""Reads from an exposure's file what the checks need, window by window."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from numpy.typing import NDArray

from services.ingest.checks import Evidence, NotFinite
from shared.errors import BadInput
from shared.ramps import Ramp
from shared.sources import FileReader

#: Values of SCI in memory at once.
_WINDOW = 8 * 1024 * 1024
#: GROUPDQ values (jwst.datamodels.dqflags.group).
DO_NOT_USE = 1
SATURATED = 2


def open_exposure(
    path: Path,
    sha256: str | None = None,
    announced_size: int | None = None,
    announced_sha256: str | None = None,
) -> tuple[Evidence, Ramp | None]:
    """Read a file's headers.

    Parameters
    ----------
    path : Path
    sha256 : str, optional
        Of its bytes, where the caller has it.
    announced_size, announced_sha256 : optional
        What its announcement says.

    Returns
    -------
    evidence : Evidence
    ramp : Ramp or None
        Open, the caller closes it; None where the file is no whole FITS file, and `evidence` says why.

    Raises
    ------
    BadInput
        If there is no such file, or it cannot be read (check ``"file"``).
    """
    where = path.name
    reader = FileReader(path)
    said: dict[str, Any] = {
        "where": where,
        "size": reader.size,
        "sha256": sha256,
        "announced_size": announced_size,
        "announced_sha256": announced_sha256,
    }
    try:
        ramp = Ramp(reader, where)
    except BadInput as error:
        fault = error
        try:
            compressed = reader.size > 1 and reader.read(0, 2) == b"\x1f\x8b"
        finally:
            reader.close()
        if compressed:
            fault = BadInput("FITS", f"{where}: is gzip-compressed, not FITS; gunzip it first")
        primary, shapes = ({}, {}) if compressed else _what_is_left(path)
        return Evidence(primary=primary, shapes=shapes, fault=fault, **said), None
    except BaseException:
        reader.close()
        raise
    shapes = {name: ramp.shape(name) for name in ramp.headers if ramp.has(name)}
    return Evidence(primary=plain(ramp.primary), shapes=shapes, **said), ramp


def plain(header: fits.Header) -> dict[str, Any]:
    """Return a header's values by keyword; a card without a value, or past reading, is left out."""
    values: dict[str, Any] = {}
    for card in header.cards:
        try:
            keyword, value = card.keyword, card.value
        except fits.VerifyError:
            continue
        if keyword and not isinstance(value, fits.card.Undefined):
            values.setdefault(keyword, value)
    return values


def not_finite(ramp: Ramp) -> NotFinite | None:
    """Count the NaN and infinite values of SCI; None where SCI is no 4-D array."""
    shape = ramp.shape("SCI") if ramp.has("SCI") else ()
    if len(shape) != 4:
        return None
    if ramp.headers["SCI"]["BITPIX"] > 0:
        return NotFinite(0)
    count, first = 0, None
    integrations, groups, ny, nx = shape
    step = max(1, _WINDOW // max(ny * nx, 1))
    for integration in range(integrations):
        for group in range(0, groups, step):
            bad = ~np.isfinite(ramp.read("SCI", integration, slice(group, group + step)))
            found = int(np.count_nonzero(bad))
            if found and first is None:
                g, y, x = (int(place) for place in np.unravel_index(int(np.argmax(bad)), bad.shape))
                first = (integration, group + g, y, x)
            count += found
    return NotFinite(count, first)


def unusable_pixels(ramp: Ramp, science: NDArray[np.bool_]) -> int | None:
    """Count science pixels that PIXELDQ or the first groups of GROUPDQ rule out.

    Parameters
    ----------
    ramp : Ramp
    science : ndarray of bool, 2D (y, x)

    Returns
    -------
    int or None
        None where the file has no such extensions, or they do not fit.
    """
    shape = ramp.shape("SCI")
    if not (ramp.has("PIXELDQ") and ramp.has("GROUPDQ")):
        return None
    if ramp.shape("PIXELDQ") != shape[2:] or ramp.shape("GROUPDQ") != shape:
        return None
    first_groups = np.stack(
        [ramp.read("GROUPDQ", integration, slice(0, 1))[0] for integration in range(shape[0])]
    )
    return unusable(ramp.read_image("PIXELDQ"), first_groups, science)


def unusable(pixeldq: NDArray[Any], first_groups: NDArray[Any], science: NDArray[np.bool_]) -> int:
    """Count science pixels of which nothing can be used.

    Parameters
    ----------
    pixeldq : ndarray, 2D (y, x)
    first_groups : ndarray, 3D (integrations, y, x)
        GROUPDQ of group 0.
    science : ndarray of bool, 2D (y, x)
    """
    never = np.all((first_groups & (DO_NOT_USE | SATURATED)) != 0, axis=0)
    return int(np.count_nonzero(science & (((pixeldq & DO_NOT_USE) != 0) | never)))


def _what_is_left(path: Path) -> tuple[Mapping[str, Any], dict[str, tuple[int, ...]]]:
    """Return the primary header and the shapes that a broken file still gives."""
    primary: dict[str, Any] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        try:
            with fits.open(path, memmap=True) as hdus:
                primary = plain(hdus[0].header)
                for hdu in hdus[1:]:
                    shapes.setdefault(hdu.name, tuple(getattr(hdu, "shape", ())))
        except (OSError, ValueError, TypeError, LookupError, fits.VerifyError):
            pass
    return primary, shapes
