"""The file of a ramp that is being calibrated: its planes on scratch, in their places from the start.

jwst writes a data model that is whole in memory. Here SCI, GROUPDQ and ZEROFRAME are mapped where they
belong in the FITS file, filled in piece by piece, and the headers and small extensions follow at the end,
from jwst's own translation of the model (`stdatamodels.fits_support.to_fits`). What HISTORY will say is not
known when the first plane is written, so that room is left behind the primary header, in blank cards.
"""

import io
import mmap
import sys
import threading
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from stdatamodels import fits_support

_BLOCK = 2880
#: Blocks of 36 cards for the HISTORY of what is still to be found.
_ROOM = 4
#: What is mapped, and the types of its values as stored.
_BULK = {"SCI": ">f4", "GROUPDQ": "u1", "ZEROFRAME": ">f4"}
#: Their names in a data model.
_PARTS = {"SCI": "data", "GROUPDQ": "groupdq", "ZEROFRAME": "zeroframe"}
#: Bytes at a time when planes have to make room.
_PIECE = 32 * 1024**2
#: Seconds between two releases of the pages that were touched.
_RELEASE_EVERY = 0.01


class _Mapped(np.ndarray[Any, Any]):
    """A mapped array that lets go of the pages touched before, whenever a part of it is asked for."""

    release: Callable[[], None] | None = None

    def __getitem__(self, index: Any) -> Any:
        if self.release is not None:
            self.release()
        # A plain array: what is computed from it is in memory and has nothing to let go of.
        part = super().__getitem__(index)
        return part.view(np.ndarray) if isinstance(part, np.ndarray) else part


class RampPlanes:
    """SCI, GROUPDQ and ZEROFRAME of a ramp, as arrays on disk.

    Parameters
    ----------
    path : Path
        The file, which is created.
    model : RampModel
        With the metadata, PIXELDQ and tables of the exposure; its SCI and GROUPDQ are of some groups only,
        its ZEROFRAME, if it has any, of some integrations.
    shape : (int, int, int, int)
        Of the exposure: (integrations, groups, y, x).
    has_zeroframe : bool

    Attributes
    ----------
    data : ndarray of float32 in big-endian order, 4D
        SCI (DN).
    groupdq : ndarray of uint8, 4D
    zeroframe : ndarray of float32 in big-endian order, 3D (integrations, y, x)
        ZEROFRAME (DN), if the exposure has it.
    """

    def __init__(
        self, path: Path, model: Any, shape: tuple[int, int, int, int], has_zeroframe: bool = False
    ) -> None:
        self.path, self.shape = path, shape
        self._shapes: dict[str, tuple[int, ...]] = {"SCI": shape, "GROUPDQ": shape}
        if has_zeroframe:
            self._shapes["ZEROFRAME"] = shape[0], *shape[2:]
        with path.open("w+b") as file:
            # Where nothing was written a file takes no room; the maps need its length.
            file.truncate(sum(map(self._size, self._shapes)) + 1024 * _BLOCK)
            stand_in = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            # A copy: what jwst does to a model before it is saved parts it from a HISTORY that begins later.
            starts, length = self._starts(self._hdus(model.copy(), stand_in), _ROOM * _BLOCK)
            file.truncate(length)
            self._map = mmap.mmap(file.fileno(), length)
        self._start = starts
        self._view()

    def _view(self) -> None:
        self.data: NDArray[np.float32] = self._mapped("SCI")
        self.groupdq: NDArray[np.uint8] = self._mapped("GROUPDQ")
        if "ZEROFRAME" in self._shapes:
            self.zeroframe: NDArray[np.float32] = self._mapped("ZEROFRAME")

    def _size(self, name: str) -> int:
        """Return the bytes of a mapped array."""
        return int(np.prod(self._shapes[name])) * np.dtype(_BULK[name]).itemsize

    def _mapped(self, name: str) -> "_Mapped":
        array = np.ndarray(self._shapes[name], _BULK[name], self._map, self._start[name]).view(_Mapped)
        array.release = self.release
        return array

    def put(
        self, integration: int, groups: slice, data: NDArray[np.float32], groupdq: NDArray[np.uint8]
    ) -> None:
        """Write the planes of some groups; what is in `data` afterwards is of no use.

        Written rather than assigned: the system need not clear the pages of a file before they are filled.

        Parameters
        ----------
        integration : int
        groups : slice
        data, groupdq : ndarray, 3D (groups, y, x)
        """
        stored = np.asarray(data, np.float32)
        if sys.byteorder == "little":
            stored.byteswap(inplace=True)
        planes = {"SCI": stored, "GROUPDQ": groupdq}
        number = integration * self.shape[1] + groups.start
        with self.path.open("r+b", buffering=0) as file:
            for name, values in planes.items():
                contiguous = np.ascontiguousarray(values)
                file.seek(self._start[name] + number * contiguous[0].nbytes)
                piece = contiguous.reshape(-1).view(np.uint8).data
                while piece:
                    piece = piece[file.write(piece) :]

    def release(self) -> None:
        """Let go of the memory of the pages that were touched; what was written stays in the file."""
        self._map.madvise(mmap.MADV_DONTNEED)

    @contextmanager
    def releasing(self) -> Iterator[None]:
        """Release pages all the time, while code that knows nothing of it passes over the arrays."""
        done = threading.Event()

        def release() -> None:
            while not done.wait(_RELEASE_EVERY):
                self.release()

        thread = threading.Thread(target=release, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            self.release()

    def finish(self, model: Any) -> None:
        """Write the headers and the other extensions of `model` around the planes."""
        hdus = self._hdus(model, self._map)
        recorded = fits_support.fits_hash(hdus)
        starts, _ = self._starts(hdus, 0)
        if starts["SCI"] > self._start["SCI"]:
            self._make_room(starts)
        header = hdus[0].header
        length = len(header.tostring()) + self._start["SCI"] - starts["SCI"]
        while len(header.tostring()) < length:
            header.append(fits.Card(), end=True, useblanks=False)
        # jwst reads the headers only if this hash of them differs.
        padded = fits_support.fits_hash(hdus)
        small = _Written(hdus, self._shapes, recorded.encode(), padded.encode())
        with self.path.open("r+b") as file:
            for hdu, piece in zip(hdus, small.pieces, strict=True):
                file.write(piece)
                if hdu.name in self._shapes:
                    if file.tell() != self._start[hdu.name]:
                        raise RuntimeError(f"{self.path.name}: {hdu.name} is not where it was expected")
                    size = self._size(hdu.name)
                    file.seek(size, io.SEEK_CUR)
                    file.write(bytes(-size % _BLOCK))
            file.truncate()
        self.release()

    def close(self) -> None:
        """Let go of the map; the arrays must not be used any more."""
        for part in _PARTS.values():
            vars(self).pop(part, None)

    def _hdus(self, model: Any, buffer: mmap.mmap) -> fits.HDUList:
        """Return the model as jwst would write it, with arrays that are never looked at for the planes."""
        kept = {name: getattr(model, _PARTS[name]) for name in self._shapes}
        try:
            for name, shape in self._shapes.items():
                native = np.dtype(_BULK[name]).newbyteorder("=")
                setattr(model, _PARTS[name], np.ndarray(shape, native, buffer))
            model.on_save(str(self.path))
            return fits_support.to_fits(model._instance, model._schema)
        finally:
            for name, array in kept.items():
                setattr(model, _PARTS[name], array)

    def _starts(self, hdus: fits.HDUList, room: int) -> tuple[dict[str, int], int]:
        """Return where the mapped arrays begin, and how long the file is."""
        starts, at = {}, room
        for hdu, piece in zip(hdus, _Written(hdus, self._shapes).pieces, strict=True):
            at += len(piece)
            if hdu.name in self._shapes:
                starts[hdu.name] = at
                size = self._size(hdu.name)
                at += size + -size % _BLOCK
        return starts, at

    def _make_room(self, starts: dict[str, int]) -> None:
        """Move the planes to where longer headers leave them, the last one first."""
        by = {name: starts[name] - self._start[name] for name in self._shapes}
        length = len(self._map)
        with self.path.open("r+b") as file:
            file.truncate(length + max(by.values()))
            for name in sorted(starts, key=lambda name: -starts[name]):
                size = self._size(name)
                for start in range(size - size % _PIECE, -1, -_PIECE):
                    file.seek(self._start[name] + start)
                    piece = file.read(min(_PIECE, size - start))
                    file.seek(starts[name] + start)
                    file.write(piece)
            self._map = mmap.mmap(file.fileno(), 0)
        self._start = starts
        self._view()


class _Written:
    """The bytes of every HDU as astropy writes it; of those that are mapped the header alone."""

    def __init__(
        self, hdus: fits.HDUList, mapped: Container[str], old: bytes = b"", new: bytes = b""
    ) -> None:
        file = io.BytesIO()
        small = fits.HDUList([hdu for hdu in hdus if hdu.name not in mapped])
        small.writeto(file, output_verify="silentfix+ignore")
        file.seek(0)
        self.pieces = []
        for hdu in hdus:
            if hdu.name in mapped:
                self.pieces.append(hdu.header.tostring().encode("ascii"))
                continue
            piece = file.read(hdu.filebytes())
            self.pieces.append(piece.replace(old, new) if hdu.name == "ASDF" and old else piece)
