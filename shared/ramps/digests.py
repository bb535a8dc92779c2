"""Digests of a ramp by blocks of rows, by which its readers know that they read what ingest wrote.

A ramp is read in windows of some groups and rows, again and again, so a digest of the whole file helps no
reader. Every block, which is a few rows of one group of one integration, therefore has its own; so has the
header of every HDU. They are taken while the store hashes the file, and lie beside it as `DIGESTS`, whose own
sha256 is in the manifest. `shared.ramps.ramp.Ramp` compares each block that it reads.

The digest is CRC-32. It guards against accidents, not against people: who can write a ramp can write its
manifest. It tells every change of one or two bits of a block, and of any run of 32 bits; of all other
changes it misses one in 4e9. It takes a quarter of the time of blake2b, and is in Python's library.
"""

import io
import math
import zipfile
import zlib
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from shared.ramps.ramp import Ramp

#: Name of the object that holds the digests of a ramp.
DIGESTS = "digests.npz"
#: Extensions whose pixels are covered.
COVERED = ("SCI", "GROUPDQ", "PIXELDQ")
#: Bytes of a block of SCI. A bucket is asked for no fewer (`shared.store.s3.READ_AHEAD`), so that reading
#: whole blocks costs nothing where only a row is wanted.
_BLOCK = 1 << 16
_HEADERS, _ROWS = "HEADERS", "ROWS"


def rows_per_block(nx: int) -> int:
    """Return how many rows of `nx` pixels a block has: a power of two.

    Examples
    --------
    >>> rows_per_block(2048), rows_per_block(640), rows_per_block(64)
    (8, 16, 256)
    """
    return 1 << max((_BLOCK // (4 * nx)).bit_length() - 1, 0)


def digests_size(shape: tuple[int, int, int], integrations: int) -> int:
    """Return the bytes that the digests of a set's SCI and GROUPDQ take in memory.

    Parameters
    ----------
    shape : (int, int, int)
        (groups, y, x) of an integration.
    integrations : int
        Over all exposures of the set.

    Examples
    --------
    >>> digests_size((108, 2048, 2048), 10)
    2211840
    """
    ngroups, ny, nx = shape
    return 2 * np.dtype(np.uint32).itemsize * integrations * ngroups * -(-ny // rows_per_block(nx))


@dataclass(frozen=True)
class RampDigests:
    """The digests of a ramp.

    Attributes
    ----------
    rows : int
        Rows of a block; the last block of a group may have fewer.
    blocks : mapping of str to ndarray of uint32, 2D (groups of all integrations, blocks)
        By EXTNAME. PIXELDQ has one plane.
    headers : ndarray of uint32, 1D
        Of the header of every HDU, in the order of the file.
    """

    rows: int
    blocks: Mapping[str, NDArray[np.uint32]]
    headers: NDArray[np.uint32]

    def encode(self) -> bytes:
        """Return them as the bytes of an ``.npz`` file; equal digests give equal bytes."""
        arrays: dict[str, Any] = {_ROWS: np.uint32(self.rows), _HEADERS: self.headers, **self.blocks}
        file = io.BytesIO()
        np.savez(file, **arrays)
        return file.getvalue()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the digests that `encode` wrote.

        Raises
        ------
        ValueError
            If these are no digests.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                values = {name: arrays[name] for name in arrays.files}
            return cls(int(values.pop(_ROWS)), headers=values.pop(_HEADERS), blocks=values)
        except (KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"no digests of a ramp: {error}") from error

    def around(self, first: int, stop: int, ny: int) -> tuple[int, int]:
        """Return the first row and the row after the last of the blocks that hold some rows."""
        return first - first % self.rows, min(-(-stop // self.rows) * self.rows, ny)

    def damaged(self, other: "RampDigests") -> Iterator[str]:
        """Yield where two ramps differ, in words: the HDU, and for pixels the groups and rows.

        Parameters
        ----------
        other : RampDigests
            Of the same file, as it is now.
        """
        if self.headers.shape != other.headers.shape:
            yield f"{len(other.headers)} HDUs, not {len(self.headers)}"
            return
        for hdu in np.flatnonzero(self.headers != other.headers):
            yield f"header of HDU {hdu}"
        for name, planes in self.blocks.items():
            now = other.blocks.get(name)
            if now is None or now.shape != planes.shape:
                yield f"{name}: other axes"
                continue
            for plane, block in np.argwhere(planes != now):
                first = int(block) * self.rows
                yield f"{name}: plane {plane + 1}, rows {first + 1} to {first + self.rows}"


class RampDigester:
    """Takes the digests of a ramp from its bytes as they pass by.

    Parameters
    ----------
    ramp : Ramp
        The open file, for where its HDUs lie; its pixels are not read.
    """

    def __init__(self, ramp: "Ramp") -> None:
        self._shapes = {name: ramp.shape(name) for name in COVERED if ramp.has(name)}
        self._rows = rows_per_block(ramp.shape("SCI")[-1])
        self._values = {name: array("I") for name in (*self._shapes, _HEADERS)}
        self._edges = self._layout(ramp)
        self._at, self._crc = 0, 0
        self._edge = next(self._edges, None)

    def _layout(self, ramp: "Ramp") -> Iterator[tuple[int, str | None]]:
        """Yield where each part of the file ends, and which digests it belongs to, if any."""
        to_come = set(self._shapes)
        for extent in ramp.extents:
            yield extent.data_at, _HEADERS
            # Of HDUs with the same name the first counts, as for readers.
            if extent.name in to_come:
                to_come.remove(extent.name)
                at = extent.data_at
                *planes, ny, nx = self._shapes[extent.name]
                width = nx * abs(int(extent.header["BITPIX"])) // 8
                for _ in range(math.prod(planes)):
                    for first in range(0, ny, self._rows):
                        at += min(self._rows, ny - first) * width
                        yield at, extent.name
            yield extent.end, None

    def update(self, data: bytes | memoryview) -> None:
        """Take the next bytes of the file."""
        left = memoryview(data)
        while self._edge is not None:
            end, name = self._edge
            part = left[: end - self._at]
            if name is not None:
                self._crc = zlib.crc32(part, self._crc)
            self._at += len(part)
            left = left[len(part) :]
            if self._at < end:
                return
            if name is not None:
                self._values[name].append(self._crc)
            self._crc = 0
            self._edge = next(self._edges, None)

    def finish(self) -> RampDigests:
        """Return the digests, once all bytes were given.

        Raises
        ------
        ValueError
            If the bytes ended before the last HDU does.
        """
        if self._edge is not None:
            raise ValueError(f"the ramp ended at byte {self._at}, before its last HDU does")
        values = {name: np.array(numbers, np.uint32) for name, numbers in self._values.items()}
        headers = values.pop(_HEADERS)
        planes = {name: math.prod(shape[:-2]) for name, shape in self._shapes.items()}
        return RampDigests(
            self._rows, {name: each.reshape(planes[name], -1) for name, each in values.items()}, headers
        )
