"""What the plots need of pixels: images from the store, averaged to the size of a page, and histograms."""

import io

import numpy as np
from astropy.io import fits
from matplotlib.axes import Axes
from numpy.typing import NDArray

from shared.statistics.robust import median_and_sigma
from shared.store.base import ObjectReader, Store
from shared.store.manifest import Manifest

#: Longest side of an image on the page, in pixels, and of a strip, which takes the whole width.
LONGEST_SIDE = 420
LONGEST_STRIP = 900


class _File(io.RawIOBase):
    """An object of the store as a binary file, which astropy reads from."""

    def __init__(self, reader: ObjectReader) -> None:
        self._reader = reader
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._reader.size}[whence]
        self._at = max(start + offset, 0)
        return self._at

    def read(self, size: int = -1) -> bytes:
        remaining = max(self._reader.size - self._at, 0)
        data = self._reader.read(self._at, remaining if size < 0 else min(size, remaining))
        self._at += len(data)
        return data


def quality(store: Store, manifest: Manifest, name: str) -> NDArray[np.uint32] | None:
    """Return the DQ plane (y, x) of a reference file; None if the product has no such file or plane."""
    try:
        entry = manifest.object(name)
    except KeyError:
        return None
    try:
        with (
            store.open(entry.key) as reader,
            fits.open(_File(reader), memmap=False, lazy_load_hdus=True) as hdus,
        ):
            return np.asarray(hdus["DQ"].data, dtype=np.uint32)
    except (OSError, KeyError):
        return None


def image(store: Store, manifest: Manifest, name: str) -> NDArray[np.float32] | None:
    """Return an image of a product. Of a cube, only the last plane is read.

    Parameters
    ----------
    store : Store
    manifest : Manifest
    name : str
        Name of the object; the image is in its first HDU that has one.

    Returns
    -------
    ndarray of float32, 2D (y, x), or None
        None if the product has no such object.
    """
    try:
        entry = manifest.object(name)
    except KeyError:
        return None
    with store.open(entry.key) as reader, fits.open(_File(reader), memmap=False, lazy_load_hdus=True) as hdus:
        for hdu in hdus:
            if hdu.header.get("NAXIS", 0) == 3:
                return np.asarray(hdu.section[-1], dtype=np.float32)
            if hdu.header.get("NAXIS", 0) == 2 and hdu.is_image:
                return np.asarray(hdu.data, dtype=np.float32)
    return None


def is_strip(shape: tuple[int, ...]) -> bool:
    """Return whether an image (y, x) is so wide that it takes the whole width of the page."""
    return shape[1] >= 4 * shape[0]


def for_page(pixels: NDArray[np.float32]) -> tuple[NDArray[np.float32], int]:
    """Average an image over square blocks until it fits the page.

    Parameters
    ----------
    pixels : ndarray, 2D (y, x)

    Returns
    -------
    ndarray, 2D
        NaN where a block has no finite pixel.
    int
        Side of a block; 1 if nothing was averaged. Pixels at the upper and right edges that fill no block
        are dropped.
    """
    block = -(-max(pixels.shape) // (LONGEST_STRIP if is_strip(pixels.shape) else LONGEST_SIDE))
    block = min(block, *pixels.shape)
    if block == 1:
        return pixels, 1
    height, width = (side // block * block for side in pixels.shape)
    blocks = pixels[:height, :width].reshape(height // block, block, width // block, block)
    good = np.isfinite(blocks)
    total = np.where(good, blocks, 0).sum(axis=(1, 3), dtype=np.float64)
    counted = good.sum(axis=(1, 3))
    mean = np.divide(total, counted, out=np.full(total.shape, np.nan), where=counted > 0)
    return mean.astype(np.float32), block


def robust_limits(pixels: NDArray[np.float32]) -> tuple[float, float]:
    """Return the limits of the colour scale of an image; (0, 1) if it has no finite pixel.

    The lower limit is the first percentile. The upper limit is at most 1.5 times as far from the median,
    so that hot pixels do not set the scale.
    """
    finite = pixels[np.isfinite(pixels)]
    if not finite.size:
        return 0.0, 1.0
    bottom, middle, top = (float(v) for v in np.percentile(finite, [1.0, 50.0, 99.9]))
    top = min(top, middle + 1.5 * (middle - bottom))
    return (bottom, top) if top > bottom else (bottom - 0.5, bottom + 0.5)


#: Pixels per bin at least, and limits of the number of bins: finer bins would show only noise.
_PER_BIN, _BINS = 60, (20, 120)


def bins_for(values: NDArray[np.floating]) -> int:
    """Return the number of bins for a histogram of these values."""
    fewest, most = _BINS
    return min(most, max(fewest, values.size // _PER_BIN))


def draw_gaussian(
    plot: Axes, values: NDArray[np.floating], low: float, high: float, colour: str, label: str | None = None
) -> float | None:
    """Draw the robust Gaussian of `values` to the scale of their histogram from `low` to `high`.

    Returns
    -------
    float or None
        The width; None, and nothing drawn, where the values have none.
    """
    if not values.size:
        return None
    centre, width = median_and_sigma(values)
    if width <= 0:
        return None
    at = np.linspace(low, high, 400)
    bin_width = (high - low) / bins_for(values)
    density = np.exp(-0.5 * ((at - centre) / width) ** 2) / (width * np.sqrt(2 * np.pi))
    counts = density * values.size * bin_width
    plot.plot(at, counts, color=colour, linewidth=1.2, linestyle=(0, (4, 2)), label=label)
    return width
