"""Whether the image of a dark is flat: no amplifier that differs, no gradient, no sources.

Dark current is that of the detector's pixels, and light is not: a leak or a lamp makes a gradient, stars and
their ghosts make compact sources, a failing output makes an amplifier that differs. The rate alone shows none
of these. What is known to differ is allowed for: the ground test (CV3) gives the dark current of each
amplifier, whose scatter within a detector is 0.2 to 1.7 e- per 1000 s. Levels at the reset are not in SCI,
which begins at zero.

The image is that of the dark current, e- per 1000 s, in blocks (`BLOCKS` rows of blocks, and as many columns,
cut at the edges of amplifiers); a block's value is the median of its science pixels, so hot pixels do not
matter.

- Amplifiers: mean of its blocks minus the mean of all others.
- Gradients: the difference between opposite edges of the least-squares plane through the blocks, along x and
  y.

Limit of both: 5 sigma of the measurement, and 5 times the amplifiers' known scatter, in quadrature. The error
of the measurement is the larger of two estimates, as either may be too small by chance: the scatter of the
same quantity over the integrations, which sees 1/f noise that moves an amplifier or tilts frames; and the
scatter of the blocks about the plane. "5 sigma" stands for the same chance (6e-7) of a Student distribution
with the degrees of freedom that the blocks have.

- Sources: where the median of 3 x 3 pixels is above the image by 7 robust sigmas of such medians and by the
  0.1 e-/s from which on a pixel is warm. Four hot pixels side by side do not move that median, and charge
  that couples into the neighbours of a very hot pixel (IPC, 0.6 %) is told by its share of the brightest
  pixel, which in a point source is a quarter or more (sigma 1.2 pixels). Only pixels that half of the
  integrations measured to the end count: hits and fast RC pixels take their neighbours with them, and the few
  measurements that are left of such a patch scatter together. And most integrations must show it: light is
  there in all of them, what a snowball leaves around its flags in one. Every detector has some clusters of
  hot pixels, so one source in 10^6 science pixels is allowed.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

from services.darkref.measure.planes import MeanRamp
from services.darkref.verification.expectations import HELD_BEYOND
from shared.nircam.configuration import ConfigurationKey
from shared.nircam.detectors import detectors
from shared.products.reference import VerificationCheck
from shared.statistics.medians import median
from shared.statistics.robust import median_and_sigma
from shared.statistics.verdicts import Acceptance

#: Rows of blocks, and about as many columns of them.
BLOCKS = 16
_FEWEST_IN_BLOCK = 9
#: Chance of a Gaussian beyond 5 sigma on one side.
_CHANCE = float(stats.norm.sf(HELD_BEYOND))
_SOURCE_SIGMAS, _SOURCE_E_PER_S = 7.0, 0.1
#: Least share of the brightest of 3 x 3 pixels that their median has in a source.
_LEAST_SHARE = 0.05
_SOURCES_PER_PIXEL = 1e-6
#: Share of the integrations that must measure a pixel of a source to the end.
_LEAST_MEASURED = 0.5


def check_flatness(
    key: ConfigurationKey, ramp: MeanRamp, image: NDArray[np.float32]
) -> list[VerificationCheck]:
    """Check the image of a dark.

    Parameters
    ----------
    key : ConfigurationKey
    ramp : MeanRamp
        Gives the slopes of the integrations.
    image : ndarray of float32, 2D (y, x)
        Dark current, e- per 1000 s; NaN where there is none.
    """
    # Not those within 5 sigma of the whole image, on which the dark current is measured: an amplifier that
    # differs by more than that would be gone, and its check with it. Medians of blocks bear hot pixels.
    good = ramp.science & np.isfinite(image)
    scale = ramp.gain / ramp.group_time * 1000
    places = _Blocks(image.shape, ramp.amplifiers)
    whole = places.medians(image, good)
    each = [
        places.medians(ramp.integration_slope(index) * np.float32(scale), good)
        for index in range(ramp.integrations)
    ]
    known = detectors()[key.detector].amplifier_spread_cv3
    measured = ramp.n_valid(ramp.groups - 1) >= _LEAST_MEASURED * ramp.integrations
    return [
        *_amplifiers(places, whole, each, known),
        *_gradients(places, whole, each, known),
        _sources(ramp, image, good, good & measured),
    ]


class _Blocks:
    """Places of the blocks of an image; each block lies in one amplifier."""

    def __init__(self, shape: tuple[int, int], amplifiers: Sequence[slice]) -> None:
        each = max(1, BLOCKS // len(amplifiers))
        cuts = [np.linspace(columns.start, columns.stop, each + 1).astype(int) for columns in amplifiers]
        self.columns = [slice(a, b) for edges in cuts for a, b in itertools.pairwise(edges)]
        self.rows = [
            slice(a, b) for a, b in itertools.pairwise(np.linspace(0, shape[0], BLOCKS + 1).astype(int))
        ]
        #: Index of the amplifier of each column of blocks.
        self.amplifier = np.repeat(np.arange(len(amplifiers)), each)
        #: Centres of the blocks, in units of the image, from -1/2 to 1/2.
        self.x = np.array([(s.start + s.stop) / 2 for s in self.columns]) / shape[1] - 0.5
        self.y = np.array([(s.start + s.stop) / 2 for s in self.rows]) / shape[0] - 0.5

    def medians(self, image: NDArray[np.float32], good: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the median of each block, 2D (rows, columns of blocks); NaN with too few pixels."""
        values = np.full((len(self.rows), len(self.columns)), np.nan)
        for row, rows in enumerate(self.rows):
            for column, columns in enumerate(self.columns):
                block = image[rows, columns][good[rows, columns]]
                block = block[np.isfinite(block)]
                if block.size >= _FEWEST_IN_BLOCK:
                    values[row, column] = median(block)
        return values

    def plane(self, values: NDArray[np.float64]) -> tuple[float, float, NDArray[np.float64]]:
        """Return the differences between opposite edges along x and y, and the plane itself."""
        yy, xx = np.meshgrid(self.y, self.x, indexing="ij")
        known = np.isfinite(values)
        if np.count_nonzero(known) < 4:
            return math.nan, math.nan, np.full(values.shape, np.nan)
        design = np.stack([np.ones(known.sum()), xx[known], yy[known]], axis=1)
        (level, along_x, along_y), *_ = np.linalg.lstsq(design, values[known], rcond=None)
        return float(along_x), float(along_y), level + along_x * xx + along_y * yy


def _amplifiers(
    places: _Blocks, whole: NDArray[np.float64], each: list[NDArray[np.float64]], known: float
) -> list[VerificationCheck]:
    count = int(places.amplifier.max()) + 1
    if count == 1:
        return []
    checks = []
    for number in range(count):
        mine = places.amplifier == number

        def by_row(values: NDArray[np.float64], mine: NDArray[np.bool_] = mine) -> NDArray[np.float64]:
            difference = _means(values[:, mine], 1) - _means(values[:, ~mine], 1)
            return difference[np.isfinite(difference)]

        rows = by_row(whole)
        value = float(rows.mean()) if rows.size else math.nan
        own = [float(rows_of.mean()) for values in each if (rows_of := by_row(values)).size]
        blocks = float(rows.std(ddof=1)) / math.sqrt(rows.size) if rows.size > 2 else math.nan
        checks.append(
            _check(
                "amplifier against the others",
                f"amplifier {number + 1}",
                value,
                _limit(own, blocks, rows.size - 1, known),
                "mean of its blocks minus that of the other amplifiers'",
            )
        )
    return checks


def _gradients(
    places: _Blocks, whole: NDArray[np.float64], each: list[NDArray[np.float64]], known: float
) -> list[VerificationCheck]:
    *gradients, plane = places.plane(whole)
    residual = whole - plane
    of_integrations = [places.plane(values)[:2] for values in each]
    checks = []
    for axis, (name, at) in enumerate((("x", places.x), ("y", places.y))):
        # Noise correlates the blocks of a row: their mean counts once.
        profile = _means(residual, 0 if name == "x" else 1)
        present = np.isfinite(profile)
        freedom = int(present.sum()) - 2
        blocks = math.nan
        if freedom >= 2:
            width = float(np.sum((at[present] - at[present].mean()) ** 2))
            blocks = math.sqrt(float(np.sum(profile[present] ** 2)) / freedom / width)
        own = [gradient[axis] for gradient in of_integrations if math.isfinite(gradient[axis])]
        checks.append(
            _check(
                f"gradient along {name}",
                "detector",
                gradients[axis],
                _limit(own, blocks, freedom, known),
                f"rise of the image from its first to its last {'column' if name == 'x' else 'row'}",
            )
        )
    return checks


def _limit(own: Sequence[float], blocks: float, freedom: int, known: float) -> float:
    """Return the limit of a difference: 5 sigma of measurement and known scatter; NaN if unknown."""
    if freedom < 2 or not math.isfinite(blocks):
        return math.nan
    measured = blocks * float(stats.t.isf(_CHANCE, freedom))
    if len(own) >= 2:
        student = float(stats.t.isf(stats.norm.sf(1), len(own) - 1))
        scatter = student * float(np.std(own, ddof=1)) / math.sqrt(len(own))
        measured = max(measured, HELD_BEYOND * scatter)
    return math.hypot(measured, HELD_BEYOND * known)


def _check(name: str, where: str, value: float, limit: float, detail: str) -> VerificationCheck:
    undecided = not (math.isfinite(value) and math.isfinite(limit))
    return VerificationCheck(
        name=name,
        where=where,
        passed=None if undecided else abs(value) <= limit,
        on_failure=Acceptance.HELD,
        value=None if undecided else value,
        limit=None if undecided else limit,
        unit="e-/1000 s",
        detail=f"not enough data: {detail}" if undecided else detail,
    )


def _sources(
    ramp: MeanRamp, image: NDArray[np.float32], good: NDArray[np.bool_], measured: NDArray[np.bool_]
) -> VerificationCheck:
    if not measured.any():
        return VerificationCheck(
            name="sources",
            where="detector",
            passed=None,
            on_failure=Acceptance.HELD,
            detail="no usable pixel",
        )
    smooth, bright, cut = _bright_places(image, measured)
    labels, count = ndimage.label(bright, np.ones((3, 3)))
    steady = _in_most_integrations(ramp, labels, image, measured)
    limit = int(_SOURCES_PER_PIXEL * np.count_nonzero(good))
    detail = f"above {cut / 1000:.3g} e-/s in the median of 3 x 3 pixels, in most integrations"
    if len(steady):
        peaks = ndimage.maximum_position(smooth, labels, steady[:3])
        sizes = [smooth[place] / 1000 for place in peaks]
        named = (f"{size:.3g} e-/s at x {x}, y {y}" for size, (y, x) in zip(sizes, peaks, strict=True))
        detail += f": {', '.join(named)}{', ...' if len(steady) > 3 else ''}"
    if count > len(steady):
        detail += f"; {count - len(steady)} more in one integration or few, as hits leave them"
    return VerificationCheck(
        name="sources",
        where="detector",
        passed=len(steady) <= limit,
        on_failure=Acceptance.HELD,
        value=len(steady),
        limit=limit,
        unit="sources",
        detail=detail,
    )


def _bright_places(
    image: NDArray[np.float32], good: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.bool_], float]:
    """Return the medians of 3 x 3 pixels above the level, where they are of a source, and the cut."""
    level = median(image[good])
    filled = np.where(good, image, np.float32(level)) - np.float32(level)
    smooth = ndimage.median_filter(filled, 3, mode="nearest")
    centre, sigma = median_and_sigma(smooth[good])
    cut = centre + max(_SOURCE_SIGMAS * sigma, _SOURCE_E_PER_S * 1000)
    # On the border a pixel would count as its own neighbour.
    bright = np.zeros_like(good)
    bright[1:-1, 1:-1] = smooth[1:-1, 1:-1] > cut
    bright &= smooth > _LEAST_SHARE * ndimage.maximum_filter(filled, 3, mode="nearest")
    return smooth, bright, cut


def _in_most_integrations(
    ramp: MeanRamp, labels: NDArray[np.int32], image: NDArray[np.float32], good: NDArray[np.bool_]
) -> list[int]:
    """Return the labels that are bright in most integrations, by half of what they have in the mean.

    A place takes in its neighbours, as a source is 3 x 3 pixels at least and a single integration is noisy.
    """
    places = list(range(1, int(labels.max()) + 1))
    if not places:
        return []
    wide = np.where(good, ndimage.maximum_filter(labels, 3), 0)
    scale = np.float32(ramp.gain / ramp.group_time * 1000)
    each = np.full((ramp.integrations, len(places)), np.nan)
    for index in range(ramp.integrations):
        plane = ramp.integration_slope(index) * scale
        known = np.isfinite(plane)
        if not (known & good).any():
            continue
        excess = np.where(known, plane - np.float32(median(plane[known & good])), 0)
        counts = ndimage.sum_labels(known, wide, places)
        totals = ndimage.sum_labels(excess, wide, places)
        each[index] = np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)
    means = ndimage.mean(image, wide, places) - median(image[good])
    steady = []
    for place, mean, values in zip(places, means, each.T, strict=True):
        present = np.sort(values[np.isfinite(values)])
        # The lower of the two in the middle: of two integrations both have to show it.
        if not present.size or present[(present.size - 1) // 2] > mean / 2:
            steady.append(place)
    return steady


def _means(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Return means of the known values along an axis; NaN where none is."""
    known = np.isfinite(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
