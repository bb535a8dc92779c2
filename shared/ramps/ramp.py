"""Read windows of an up-the-ramp FITS file, by integration, groups and rows, from any store.

The headers are read once, then only the bytes of each window: a whole exposure is never in memory. Files are
as jwst writes them: uncompressed, SCI and GROUPDQ 4-D (integrations, groups, y, x), PIXELDQ 2-D.

A ramp that is opened with its digests is checked as it is read: whole blocks are read, and one that is not as
it was written is read once more, in case a bit was flipped on the way.
"""

import logging
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from shared.errors import BadInput, DamagedObject
from shared.ramps.digests import RampDigests
from shared.ramps.hdus import HduExtent, ImageArray, walk_hdus
from shared.store.base import ObjectReader

_logger = logging.getLogger(__name__)

_DTYPES = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
#: (BITPIX, BZERO) of integers with the other signedness, by the convention of FITS -> their type.
_SHIFTED = {
    (8, -128.0): np.int8,
    (16, 2.0**15): np.uint16,
    (32, 2.0**31): np.uint32,
    (64, 2.0**63): np.uint64,
}
#: Bytes that are read at once where a whole extension is read.
_PIECE = 8 * 1024 * 1024


class Ramp(AbstractContextManager["Ramp", None]):
    """An open ramp; close it, or use it in a ``with``.

    Parameters
    ----------
    reader : ObjectReader
        The file's bytes; closed with the ramp.
    where : str
        Name of the file, for errors.
    digests : RampDigests, optional
        What was written. All that is read is compared with it.

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
    DamagedObject
        If a header is not the one that was written.
    """

    def __init__(self, reader: ObjectReader, where: str, digests: RampDigests | None = None) -> None:
        self._reader = reader
        self._digests = digests
        self.where = where
        self.headers: dict[str, fits.Header] = {}
        self.extents: list[HduExtent] = []
        self._arrays: dict[str, ImageArray] = {}
        self._data: dict[str, tuple[int, int]] = {}
        for extent in walk_hdus(reader, where):
            self.extents.append(extent)
            # Of HDUs with the same name the first counts, as in astropy.
            if extent.name in self.headers:
                continue
            self.headers[extent.name] = extent.header
            self._data[extent.name] = (extent.data_at, extent.size)
            if extent.array is not None:
                self._arrays[extent.name] = extent.array
        self.primary = self.extents[0].header
        if digests is not None:
            self._check_headers(digests)

    def _check_headers(self, digests: RampDigests) -> None:
        read = [extent.header_crc for extent in self.extents]
        if read != digests.headers.tolist():
            differ = [
                extent.name
                for extent, crc in zip(self.extents, digests.headers.tolist(), strict=False)
                if extent.header_crc != crc
            ]
            raise self._damaged(f"the header of HDU {(differ or ['?'])[0]}", (differ or [""])[0])

    def _damaged(self, what: str, extension: str) -> DamagedObject:
        return DamagedObject(
            f"{self.where}: {what} is not what was written there, also when it is read again; "
            "`nircam-darks verify` says what else is damaged; remove the ramp's product and announce the "
            "exposure again",
            where=self.where,
            keyword=extension,
        )

    def has(self, extension: str) -> bool:
        """Return whether there is an image extension of that name."""
        return extension in self._arrays

    def dtype(self, extension: str) -> np.dtype[Any]:
        """Return the type of the values of an image extension, as `read` gives them.

        Raises
        ------
        BadInput
            If there is no such extension.
        """
        array = self._array(extension)
        return _values(array, np.empty(0, _DTYPES[array.bitpix])).dtype

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

    def stored_size(self, extension: str) -> int:
        """Return the number of bytes that `stored_bytes` yields."""
        return self._data[extension][1]

    def shape(self, extension: str = "SCI") -> tuple[int, ...]:
        """Return an extension's shape, slowest axis first.

        Raises
        ------
        BadInput
            If there is no such extension.
        """
        return self._array(extension).shape

    def _array(self, extension: str) -> ImageArray:
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
        array, window, plane, row = self._window(extension, integration, groups, rows)
        stored = np.empty(window, _DTYPES[array.bitpix])
        self._fill(array, plane, row, stored)
        return _values(array, stored)

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
        array, window, plane, row = self._window(extension, integration, groups, rows)
        if into.shape != window:
            raise ValueError(f"{self.where}: {extension}: the window is {window}, not {into.shape}")
        self._fill(array, plane, row, into)

    def _fill(self, array: ImageArray, plane: int, row: int, into: NDArray[Any]) -> None:
        """Read rows from `row` on of the planes from `plane` on, 3D (planes, rows, x), as they are stored."""
        if into.size == 0:
            return
        planes, height, nx = into.shape
        ny = array.shape[-2]
        blocks = None if self._digests is None else self._digests.blocks.get(array.name)
        if self._digests is not None and blocks is not None:
            first, stop = self._digests.around(row, row + height, ny)
            if (first, stop) != (row, row + height):
                # A plane at a time: the windows of a long ramp have hundreds, and several threads read.
                whole = np.empty((1, stop - first, nx), into.dtype)
                for number in range(planes):
                    self._fill(array, plane + number, first, whole)
                    into[number] = whole[0, row - first : row - first + height]
                return
        buffer = into.reshape(-1).view(np.uint8).data
        # Whole planes lie one after the other.
        runs = 1 if height == ny else planes
        size = len(buffer) // runs
        for run in range(runs):
            at = self._offset(array, plane + run, row)
            self._reader.read_into(at, buffer[run * size : (run + 1) * size])
        if self._digests is not None and blocks is not None:
            self._check_blocks(array, plane, row, into, blocks)

    def _offset(self, array: ImageArray, plane: int, row: int) -> int:
        ny, nx = array.shape[-2:]
        return array.offset + (plane * ny + row) * nx * abs(array.bitpix) // 8

    def _check_blocks(
        self, array: ImageArray, plane: int, row: int, values: NDArray[Any], blocks: NDArray[np.uint32]
    ) -> None:
        """Compare whole blocks with what was written; read those that differ once more."""
        assert self._digests is not None
        height = self._digests.rows
        for number, whole in enumerate(values, start=plane):
            for first in range(0, len(whole), height):
                block = whole[first : first + height]
                data = block.reshape(-1).view(np.uint8).data
                expected = int(blocks[number, (row + first) // height])
                if zlib.crc32(data) == expected:
                    continue
                where = self._block_words(array, number, row + first, len(block))
                self._reader.forget()
                self._reader.read_into(self._offset(array, number, row + first), data)
                if zlib.crc32(data) != expected:
                    raise self._damaged(where, array.name)
                _logger.warning("%s: %s arrived damaged, and whole when read again", self.where, where)

    def _block_words(self, array: ImageArray, plane: int, row: int, rows: int) -> str:
        words = f"HDU {array.name}, rows {row + 1} to {row + rows}"
        if len(array.shape) == 4:
            integration, group = divmod(plane, array.shape[1])
            words += f" of group {group + 1} of integration {integration + 1}"
        return words

    def _window(
        self, extension: str, integration: int, groups: slice, rows: slice
    ) -> tuple[ImageArray, tuple[int, int, int], int, int]:
        """Return the array and shape of a window, and where it begins.

        Returns
        -------
        array : ImageArray
        window : (int, int, int)
            Shape.
        plane, row : int
            Its first plane, counted over all integrations, and its first row.
        """
        array = self._array(extension)
        if len(array.shape) != 4:
            raise BadInput("shape", f"{self.where}: {extension} has {len(array.shape)} axes, not 4")
        nints, ngroups, ny, nx = array.shape
        if not 0 <= integration < nints:
            raise IndexError(f"{self.where}: integration {integration} of {nints}")
        (g0, g1), (r0, r1) = _window(groups, ngroups), _window(rows, ny)
        window = max(g1 - g0, 0), max(r1 - r0, 0), nx
        return array, window, integration * ngroups + g0, r0

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
        stored = np.empty((1, max(r1 - r0, 0), nx), _DTYPES[array.bitpix])
        self._fill(array, 0, r0, stored)
        image: NDArray[Any] = _values(array, stored)[0]
        return image

    def read_frame(self, extension: str, integration: int) -> NDArray[Any]:
        """Read an integration's plane of a 3-D extension such as ZEROFRAME.

        Returns
        -------
        ndarray, 2D (y, x)
        """
        array = self._array(extension)
        if len(array.shape) != 3:
            raise BadInput("shape", f"{self.where}: {extension} has {len(array.shape)} axes, not 3")
        stored = np.empty((1, *array.shape[1:]), _DTYPES[array.bitpix])
        self._fill(array, integration, 0, stored)
        frame: NDArray[Any] = _values(array, stored)[0]
        return frame

    def read_whole(self, extension: str) -> NDArray[Any]:
        """Return a whole array of any number of axes, unchecked; the caller looks at its size first."""
        array = self._array(extension)
        stored = np.empty(array.shape, _DTYPES[array.bitpix])
        self._reader.read_into(array.offset, stored.reshape(-1).view(np.uint8).data)
        return _values(array, stored)

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._reader.close()


def _values(array: ImageArray, stored: NDArray[Any]) -> NDArray[Any]:
    """Return values in native byte order, scaled, from those in the file, which may be changed in place."""
    native = stored.astype(stored.dtype.newbyteorder("="), copy=False)
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


def _window(wanted: slice, length: int) -> tuple[int, int]:
    start, stop, step = wanted.indices(length)
    if step != 1:
        raise ValueError(f"{wanted}: a window is contiguous and ascending")
    return start, stop
