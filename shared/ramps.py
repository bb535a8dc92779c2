"""Windows of an up-the-ramp FITS file, by integration, groups and rows, from any store.

FITS is random access: the headers are read once, then only the bytes of each window. A whole exposure
is never in memory here. Files are those that jwst writes: uncompressed, SCI and GROUPDQ 4-D
(integrations, groups, y, x), PIXELDQ 2-D.
"""

import math
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from shared.errors import BadInput
from shared.store.base import ObjectReader

_BLOCK = 2880
_DTYPES = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
#: (BITPIX, BZERO) by which FITS says that integers are unsigned -> the unsigned type.
_UNSIGNED = {(16, 1 << 15): np.uint16, (32, 1 << 31): np.uint32, (64, 1 << 63): np.uint64}


@dataclass(frozen=True)
class _Array:
    offset: int
    shape: tuple[int, ...]
    bitpix: int
    bzero: float
    bscale: float


class Ramp:
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

    Raises
    ------
    BadInput
        If the bytes are not FITS, or are cut short (check ``"FITS"`` or ``"truncated"``).
    """

    def __init__(self, reader: ObjectReader, where: str) -> None:
        self._reader = reader
        self.where = where
        self.headers: dict[str, fits.Header] = {}
        self._arrays: dict[str, _Array] = {}
        offset = 0
        first = True
        while offset < reader.size:
            header, data_at = self._header(offset)
            if first:
                self.primary = header
            name = header.get("EXTNAME", "PRIMARY" if first else f"HDU{len(self.headers)}").strip().upper()
            first = False
            shape = tuple(header[f"NAXIS{n}"] for n in range(header["NAXIS"], 0, -1))
            bits = abs(header["BITPIX"]) * header.get("GCOUNT", 1)
            size = bits // 8 * (header.get("PCOUNT", 0) + math.prod(shape)) if shape else 0
            if data_at + size > reader.size:
                raise BadInput(
                    "truncated",
                    f"{where}: truncated: HDU {name} should end at byte {data_at + size}, "
                    f"but the file has {reader.size}; fetch it again",
                )
            # Of two HDUs with one name the first counts, as in astropy.
            self.headers.setdefault(name, header)
            self._arrays.setdefault(
                name,
                _Array(data_at, shape, header["BITPIX"], header.get("BZERO", 0), header.get("BSCALE", 1)),
            )
            offset = data_at + math.ceil(size / _BLOCK) * _BLOCK
        if first:
            raise BadInput("FITS", f"{where}: the file is empty; fetch it again")

    def _header(self, offset: int) -> tuple[fits.Header, int]:
        text = b""
        while True:
            at = offset + len(text)
            if at + _BLOCK > self._reader.size:
                if offset == 0 and not text.startswith(b"SIMPLE"):
                    raise BadInput("FITS", f"{self.where}: not a FITS file: it does not begin with SIMPLE")
                raise BadInput(
                    "truncated",
                    f"{self.where}: truncated in the header at byte {offset}: the file has "
                    f"{self._reader.size} bytes; fetch it again",
                )
            text += self._reader.read(at, _BLOCK)
            if offset == 0 and not text.startswith(b"SIMPLE"):
                raise BadInput("FITS", f"{self.where}: not a FITS file: it does not begin with SIMPLE")
            last = text[-_BLOCK:]
            if any(last[card : card + 8] == b"END     " for card in range(0, _BLOCK, 80)):
                break
        try:
            return fits.Header.fromstring(text), offset + len(text)
        except Exception as error:  # whatever astropy makes of broken cards
            raise BadInput("FITS", f"{self.where}: unreadable header at byte {offset}: {error}") from error

    def has(self, extension: str) -> bool:
        """Say whether there is an extension of that name."""
        return extension in self._arrays

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
            raise BadInput(
                extension, f"{self.where}: no {extension} extension (has {', '.join(self._arrays)})"
            ) from None

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
        array = self._array(extension)
        if len(array.shape) != 4:
            raise BadInput("shape", f"{self.where}: {extension} has {len(array.shape)} axes, not 4")
        nints, ngroups, ny, nx = array.shape
        if not 0 <= integration < nints:
            raise IndexError(f"{self.where}: integration {integration} of {nints}")
        g0, g1, _ = groups.indices(ngroups)
        r0, r1, _ = rows.indices(ny)
        planes, height = max(g1 - g0, 0), max(r1 - r0, 0)
        start = ((integration * ngroups + g0) * ny + r0) * nx
        if height == ny:
            return self._values(array, start, planes * ny * nx).reshape(planes, ny, nx)
        window = [self._values(array, start + g * ny * nx, height * nx) for g in range(planes)]
        if not window:
            return self._values(array, 0, 0).reshape(0, height, nx)
        return np.stack(window).reshape(planes, height, nx)

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
        r0, r1, _ = rows.indices(ny)
        height = max(r1 - r0, 0)
        return self._values(array, r0 * nx, height * nx).reshape(height, nx)

    def _values(self, array: _Array, start: int, count: int) -> NDArray[Any]:
        dtype = np.dtype(_DTYPES[array.bitpix])
        raw = self._reader.read(array.offset + start * dtype.itemsize, count * dtype.itemsize)
        stored = np.frombuffer(raw, dtype=dtype)
        native = stored.astype(dtype.newbyteorder("="))
        unsigned = _UNSIGNED.get((array.bitpix, int(array.bzero)))
        if unsigned is not None and array.bscale == 1:
            # Adding 2**(n-1) modulo 2**n is flipping the highest bit.
            flipped: NDArray[Any] = native.view(unsigned) ^ unsigned(1 << (array.bitpix - 1))
            return flipped
        if array.bzero or array.bscale != 1:
            return native * array.bscale + array.bzero
        return native

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
