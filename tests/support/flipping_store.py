"""A store whose ranged reads flip bits, as a bad line, a bad disk or bad memory would."""

from pathlib import Path

from shared.store.base import ObjectReader
from shared.store.local import LocalStore
from shared.store.ranged_file import RangedFile


class FlippingReader:
    """Passes reads on, and flips the lowest bit of the bytes at chosen places, as often as `times` says.

    Parameters
    ----------
    reader : ObjectReader
    places : dict of int to int
        Byte of the object -> how many more reads of it are flipped.
    """

    def __init__(self, reader: ObjectReader, places: dict[int, int]) -> None:
        self.reader, self.places = reader, places
        self.bytes_read = 0

    @property
    def size(self) -> int:
        return self.reader.size

    def read(self, offset: int, length: int) -> bytes:
        data = bytearray(length)
        self.read_into(offset, memoryview(data))
        return bytes(data)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.reader.read_into(offset, buffer)
        self.bytes_read += len(buffer)
        for place, left in self.places.items():
            if left > 0 and offset <= place < offset + len(buffer):
                buffer[place - offset] ^= 1
                self.places[place] = left - 1

    def forget(self) -> None:
        self.reader.forget()

    def close(self) -> None:
        self.reader.close()

    def __enter__(self) -> "FlippingReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class FlippingStore(LocalStore):
    """A folder of which some bytes arrive flipped.

    Attributes
    ----------
    places : dict of str to dict
        Key -> byte -> how many more reads of it are flipped.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.places: dict[str, dict[int, int]] = {}

    def open(self, key: str) -> ObjectReader:
        return FlippingReader(super().open(key), self.places.get(key, {}))


def byte_of_pixel(file: Path, extension: str, *index: int) -> int:
    """Return where the last byte of a pixel lies in a file, by its indices, the slowest axis first."""
    from shared.ramps.ramp import Ramp

    with Ramp(RangedFile(file), file.name) as ramp:
        extent = next(extent for extent in ramp.extents if extent.name == extension)
        width = abs(extent.header["BITPIX"]) // 8
        number = 0
        for at, length in zip(index, ramp.shape(extension), strict=True):
            number = number * length + at
        return extent.data_at + (number + 1) * width - 1
