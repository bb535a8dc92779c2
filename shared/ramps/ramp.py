"""Read windows of an up-the-ramp FITS file, by integration, groups and rows, from any store.

The headers are read once, then only the bytes of each window: a whole exposure is never in memory. Files are
as jwst writes them: uncompressed, SCI and GROUPDQ 4-D (integrations, groups, y, x), PIXELDQ 2-D.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from shared.contracts.messages import SetMember
from shared.errors import BadInput, PermanentError
from shared.nircam.configuration import ConfigurationKey
from shared.store.base import ObjectReader, Store

_BLOCK = 2880
_DTYPES = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
#: (BITPIX, BZERO) of integers with the other signedness, by the convention of FITS -> their type.
_SHIFTED = {
    (8, -128.0): np.int8,
    (16, 2.0**15): np.uint16,
    (32, 2.0**31): np.uint32,
    (64, 2.0**63): np.uint64,
}
#: Blocks; longer without END, it is no header.
_LONGEST_HEADER = 1000
#: Bytes that are read at once where a whole extension is read.
_PIECE = 8 * 1024 * 1024


@dataclass(frozen=True)
class _Array:
    offset: int
    shape: tuple[int, ...]
    bitpix: int
    bscale: float
    bzero: float


@dataclass(frozen=True)
class HduExtent:
    """Where an HDU lies in its file: bytes `start` to `end`, its data from `data_at` on, padding included."""

    name: str
    header: fits.Header
    start: int
    data_at: int
    end: int


class Ramp(AbstractContextManager["Ramp", None]):
    """An open ramp; close it, or use it in a ``with``.

    Parameters
    ----------
    reader : ObjectReader
        The file's bytes; closed with the ramp.
    where : str
        Name of the file, for errors.

    Attributes
    ----------
    primary : astropy.io.fits.Header
        The primary header.
    headers : dict of str to astropy.io.fits.Header
        Every extension's header, by EXTNAME.
    extents : list of HduExtent
        Every HDU in the order of the file, also where several have the same name.

    Raises
    ------
    BadInput
        If the bytes are not FITS, or are cut short (check ``"FITS"`` or ``"truncated"``).
    """

    def __init__(self, reader: ObjectReader, where: str) -> None:
        self._reader = reader
        self.where = where
        self.headers: dict[str, fits.Header] = {}
        self.extents: list[HduExtent] = []
        self._arrays: dict[str, _Array] = {}
        self._data: dict[str, tuple[int, int]] = {}
        offset = 0
        while (located := self._header(offset)) is not None:
            header, data_at = located
            if offset == 0:
                self.primary = header
            name, array, size = self._described(header, offset, data_at)
            end = data_at + math.ceil(size / _BLOCK) * _BLOCK
            if end > reader.size:
                raise BadInput(
                    "truncated",
                    f"{where}: truncated: HDU {name} should end at byte {end}, "
                    f"but the file has {reader.size}; fetch it again",
                )
            self.extents.append(HduExtent(name, header, offset, data_at, end))
            # Of HDUs with the same name the first counts, as in astropy.
            self.headers.setdefault(name, header)
            self._data.setdefault(name, (data_at, size))
            if array is not None:
                self._arrays.setdefault(name, array)
            offset = end

    def _header(self, offset: int) -> tuple[fits.Header, int] | None:
        """Return the header at `offset` and where its data begin; None if there is no further HDU."""
        start = self._reader.read(offset, min(8, self._reader.size - offset))
        if offset == 0 and start[:6] != b"SIMPLE":
            hint = "it is gzip-compressed: gunzip it" if start[:2] == b"\x1f\x8b" else "fetch it again"
            raise BadInput("FITS", f"{self.where}: not a FITS file: it does not begin with SIMPLE; {hint}")
        if offset > 0 and not (start and b"XTENSION".startswith(start)):
            # The FITS standard allows other records after the last extension.
            return None
        blocks: list[bytes] = []
        while not blocks or not _ends(blocks[-1]):
            at = offset + len(blocks) * _BLOCK
            if at + _BLOCK > self._reader.size or len(blocks) == _LONGEST_HEADER:
                raise BadInput(
                    "truncated",
                    f"{self.where}: truncated: the header at byte {offset} has no END before byte {at} of "
                    f"{self._reader.size}; fetch it again",
                )
            blocks.append(self._reader.read(at, _BLOCK))
        try:
            return fits.Header.fromstring(b"".join(blocks)), offset + len(blocks) * _BLOCK
        except Exception as error:
            raise self._unreadable(offset, error) from error

    def _described(self, header: fits.Header, offset: int, data_at: int) -> tuple[str, _Array | None, int]:
        """Return an HDU's name, its array if it is an image, and its data's size in bytes."""
        try:
            shape = tuple(int(header[f"NAXIS{n}"]) for n in range(header["NAXIS"], 0, -1))
            bitpix = int(header["BITPIX"])
            items = header.get("GCOUNT", 1) * (header.get("PCOUNT", 0) + math.prod(shape)) if shape else 0
            size = abs(bitpix) // 8 * int(items)
            scale = float(header.get("BSCALE", 1)), float(header.get("BZERO", 0))
            name = str(header.get("EXTNAME", f"HDU{len(self.headers)}" if offset else "PRIMARY"))
            is_image = str(header.get("XTENSION", "IMAGE")).strip() == "IMAGE"
        except Exception as error:
            raise self._unreadable(offset, error) from error
        if bitpix not in _DTYPES or size < 0 or min(shape, default=0) < 0:
            raise self._unreadable(offset, f"BITPIX {bitpix} with axes {shape}")
        array = _Array(data_at, shape, bitpix, *scale) if is_image else None
        return name.strip().upper(), array, size

    def _unreadable(self, offset: int, why: object) -> BadInput:
        reason = " ".join(str(why).split())
        return BadInput("FITS", f"{self.where}: unreadable header at byte {offset}: {reason}; fetch it again")

    def has(self, extension: str) -> bool:
        """Return whether there is an image extension of that name."""
        return extension in self._arrays

    def stored_bytes(self, extension: str) -> Iterator[bytes]:
        """Yield the data of an extension as they are in the file, without padding, in pieces of 8 MiB.

        Parameters
        ----------
        extension : str
            Of an image or a table, by EXTNAME.

        Raises
        ------
        KeyError
            If there is no such extension.
        """
        offset, size = self._data[extension]
        for start in range(0, size, _PIECE):
            yield self._reader.read(offset + start, min(_PIECE, size - start))

    def shape(self, extension: str = "SCI") -> tuple[int, ...]:
        """Return an extension's shape, slowest axis first.

        Raises
        ------
        BadInput
            If there is no such extension.
        """
        return self._array(extension).shape

    def _array(self, extension: str) -> _Array:
        try:
            return self._arrays[extension]
        except KeyError:
            if extension in self.headers:
                fault = f"{extension} is a table, not an image; if it is compressed, uncompress it (funpack)"
            else:
                fault = f"no {extension} extension (has {', '.join(self.headers)})"
            raise BadInput(extension, f"{self.where}: {fault}") from None

    def read(
        self,
        extension: str,
        integration: int,
        groups: slice = slice(None),
        rows: slice = slice(None),
    ) -> NDArray[Any]:
        """Read a window of a 4-D extension.

        Parameters
        ----------
        extension : str
            ``"SCI"`` (DN) or ``"GROUPDQ"``.
        integration : int
            0-based.
        groups, rows : slice
            Contiguous and ascending; all by default.

        Returns
        -------
        ndarray, 3D (groups, rows, x)
            In native byte order, scaled; float32 SCI stays float32, GROUPDQ is uint8.
        """
        array, window, start, runs, step = self._window(extension, integration, groups, rows)
        length = math.prod(window) // max(runs, 1)
        parts = [self._values(array, start + run * step, length) for run in range(runs)]
        if len(parts) == 1:
            return parts[0].reshape(window)
        return np.stack(parts).reshape(window) if parts else self._values(array, 0, 0).reshape(window)

    def read_stored(
        self,
        extension: str,
        integration: int,
        groups: slice,
        rows: slice,
        into: NDArray[Any],
    ) -> None:
        """Read a window of a 4-D extension into an array, in the file's byte order.

        If the values in the file have the array's type, their bytes go straight into it; otherwise they are
        converted as in `read`. Several threads may read at once.

        Parameters
        ----------
        extension, integration, groups, rows
            As in `read`.
        into : ndarray, 3D (groups, rows, x)
            C-contiguous; big-endian where its type has more than one byte, such as ``>f4``.
        """
        array = self._array(extension)
        stored = np.dtype(_DTYPES[array.bitpix])
        if stored != into.dtype or (array.bscale, array.bzero) != (1, 0):
            into[...] = self.read(extension, integration, groups, rows)
            return
        array, window, start, runs, step = self._window(extension, integration, groups, rows)
        if into.shape != window:
            raise ValueError(f"{self.where}: {extension}: the window is {window}, not {into.shape}")
        buffer = into.reshape(-1).view(np.uint8).data
        size = len(buffer) // max(runs, 1)
        for run in range(runs):
            at = array.offset + (start + run * step) * stored.itemsize
            self._reader.read_into(at, buffer[run * size : (run + 1) * size])

    def _window(
        self, extension: str, integration: int, groups: slice, rows: slice
    ) -> tuple[_Array, tuple[int, int, int], int, int, int]:
        """Return the array and shape of a window, and the runs of bytes that make it up.

        Returns
        -------
        array : _Array
        window : (int, int, int)
            Shape.
        start, runs, step : int
            The first run begins at value `start`, each further one `step` values later.
        """
        array = self._array(extension)
        if len(array.shape) != 4:
            raise BadInput("shape", f"{self.where}: {extension} has {len(array.shape)} axes, not 4")
        nints, ngroups, ny, nx = array.shape
        if not 0 <= integration < nints:
            raise IndexError(f"{self.where}: integration {integration} of {nints}")
        (g0, g1), (r0, r1) = _window(groups, ngroups), _window(rows, ny)
        planes, height = max(g1 - g0, 0), max(r1 - r0, 0)
        start = ((integration * ngroups + g0) * ny + r0) * nx
        runs, step = (1, 0) if height == ny else (planes, ny * nx)
        return array, (planes, height, nx), start, runs, step

    def read_image(self, extension: str, rows: slice = slice(None)) -> NDArray[Any]:
        """Read rows of a 2-D extension such as PIXELDQ.

        Returns
        -------
        ndarray, 2D (rows, x)
        """
        array = self._array(extension)
        if len(array.shape) != 2:
            raise BadInput("shape", f"{self.where}: {extension} has {len(array.shape)} axes, not 2")
        ny, nx = array.shape
        r0, r1 = _window(rows, ny)
        height = max(r1 - r0, 0)
        return self._values(array, r0 * nx, height * nx).reshape(height, nx)

    def _values(self, array: _Array, start: int, count: int) -> NDArray[Any]:
        dtype = np.dtype(_DTYPES[array.bitpix])
        raw = self._reader.read(array.offset + start * dtype.itemsize, count * dtype.itemsize)
        stored = np.frombuffer(raw, dtype=dtype)
        native = stored.astype(dtype.newbyteorder("="))
        if array.bscale == 1 and array.bzero == 0:
            return native
        shifted = _SHIFTED.get((array.bitpix, array.bzero))
        if shifted is not None and array.bscale == 1:
            # Adding 2**(n-1) modulo 2**n is flipping the highest bit.
            flipped: NDArray[Any] = native.view(shifted) ^ np.array(1 << (array.bitpix - 1)).astype(shifted)
            return flipped
        # float32 holds every 16-bit integer; astropy scales to the same types.
        wide = np.float32 if array.bitpix in (8, 16, -32) else np.float64
        scaled: NDArray[Any] = (native.astype(np.float64) * array.bscale + array.bzero).astype(wide)
        return scaled

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._reader.close()


def _ends(block: bytes) -> bool:
    return any(block[card : card + 8] == b"END     " for card in range(0, _BLOCK, 80))


def _window(wanted: slice, length: int) -> tuple[int, int]:
    start, stop, step = wanted.indices(length)
    if step != 1:
        raise ValueError(f"{wanted}: a window is contiguous and ascending")
    return start, stop


def open_member(
    store: Store, member: SetMember, key: ConfigurationKey, extensions: Sequence[str] = ("SCI", "GROUPDQ")
) -> Ramp:
    """Open the ramp of one exposure of a set, and check that it has the shape of its configuration.

    Parameters
    ----------
    store : Store
    member : SetMember
    key : ConfigurationKey
        Of the set.
    extensions : sequence of str, optional
        The extensions that will be read: 4-D (integrations, groups, y, x), except PIXELDQ, 2-D (y, x).

    Returns
    -------
    Ramp
        Close it, or use it in a ``with``.

    Raises
    ------
    PermanentError
        If the ramp is not in the store, or an extension has another shape.
    BadInput
        If the file cannot be read as a ramp.
    """
    where = f"{member.exposure_id} ({member.ramp.key})"
    try:
        reader = store.open(member.ramp.key)
    except KeyError as error:
        raise PermanentError(
            f"{where}: the ramp is not in the store; ingest the exposure again", where=member.ramp.key
        ) from error
    ramp = Ramp(reader, where)
    cube = (member.integrations, key.ngroups, key.subsize2, key.subsize1)
    for extension in extensions:
        expected = cube[2:] if extension == "PIXELDQ" else cube
        shape = ramp.shape(extension)
        if shape != expected:
            ramp.close()
            raise PermanentError(
                f"{where}: {extension} has shape {shape}, but NINTS, NGROUPS, SUBSIZE2, SUBSIZE1 say "
                f"{expected}; ingest the exposure again",
                where=member.ramp.key,
                keyword=extension,
            )
    return ramp
