"""The dark current of a detector, in e- per 1000 s, with an error that can be believed.

Value: the median of the slopes of the mean ramp (SCI), times the gain, over the science pixels that are not
hot. A pixel is excluded where its slope is more than `CLIP` robust sigmas (1.4826 MAD about the median,
repeated until nothing changes) from the median of all. Pixels above are counted as hot only if their own
integrations without a bad group agree: where an integration drops out of the mean ramp at a hit, the ramp
steps by that integration's pedestal over N, which makes many a slope look hot, or negative.

Why the median of slopes. Hot and warm pixels, and cosmic rays too faint for the jump step (mostly neighbours
of a hit, with the few electrons that crossed over), all push one way. A mean takes in their full charge; the
median moves only by their share of the pixels, about 1.25 sigma of the slopes per unit of it. It is a median
of slopes and not a slope of medians, because each reset leaves its own pedestal (kTC noise, ~37 e-) in every
pixel. Beside that a warm pixel is no outlier in a single group, so that a median over the pixels of one group
takes in its excess as a mean does.

Error (1 sigma), the root of the sum of squares of

- the statistical error: the largest of four estimates that see different correlations. `integrations_error`:
  scatter of the integrations about each other, over sqrt(N). It sees everything that differs between
  integrations, 1/f drifts of the whole frame included; but a few integrations may agree by chance.
  `frames_error`: scatter of the frames of the mean ramp about its line. It sees what moves whole frames from
  group to group, with as many degrees of freedom as there are groups. Both have Student's factor.
  `blocks_error`: scatter of the medians of blocks of the mean image (amplifier x band of rows, in several
  sizes). It is all that one integration can give, and sees 1/f noise that correlates rows, and real
  structure. The scatter of the pixels as if they were independent: the floor.
- the tail's: the distance between mean and median of the pixels that were kept, which is as much as
  undetected hits and warm pixels below the clip can have moved the median.

- the settling's: what the fit of a significant settling after the reset adds. Its curve is subtracted first,
  from the frames as from all slopes, so it is in neither the value nor the rates of integrations and pixels;
  see `services.darkref.measure.reset_settling`.

The gain's own error is not included: it scales the measured expectation likewise.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import special

from services.darkref.measure.planes import MeanRamp, measuring_threads, read_ahead
from services.darkref.measure.reset_settling import Settling, without_settling
from shared.statistics.jit import kernel
from shared.statistics.medians import median
from shared.statistics.robust import median_and_sigma
from shared.statistics.verdicts import Value, Verdict, VerdictState, compare

#: Numbers of bands of rows that each amplifier is cut into, for the scatter of blocks.
_BANDS = (1, 2, 4, 8, 16, 32)
_FEWEST_IN_BLOCK = 30
_FEWEST_BLOCKS = 4


def integrations_error(rates: list[float]) -> float:
    """Return the error of the mean from the scatter of the integrations; 0 with fewer than two."""
    known = [rate for rate in rates if math.isfinite(rate)]
    if len(known) < 2:
        return 0.0
    return _student(len(known) - 1) * _error_of_mean(known)


def blocks_error(image: NDArray[np.float32], good: NDArray[np.bool_], amplifiers: list[slice]) -> float:
    """Return the error of the mean from the scatter of blocks of pixels; 0 where there are too few blocks.

    Noise that correlates neighbours makes blocks scatter more than their number of pixels allows. The size
    that shows most of it counts (block averaging; Flyvbjerg and Petersen 1989, J. Chem. Phys. 91, 461).
    """

    def error_of(bands: int) -> float:
        edges = np.linspace(0, len(image), bands + 1).astype(int)
        medians = []
        for columns in amplifiers:
            for top, bottom in itertools.pairwise(edges):
                block = image[top:bottom, columns][good[top:bottom, columns]]
                if block.size >= _FEWEST_IN_BLOCK:
                    medians.append(median(block))
        return _error_of_mean(medians) if len(medians) >= _FEWEST_BLOCKS else 0.0

    with measuring_threads() as threads:
        return max(threads.map(error_of, _BANDS))


def frames_error(frames: Sequence[Callable[[], NDArray[np.float32]]], pixels: NDArray[np.bool_]) -> float:
    """Return the error of the slope, DN per group, from the offsets of whole frames; 0 if it is unknown.

    A frame's offset is the median over pixels of the distance from the pixel's own line. Offsets are taken as
    independent from group to group.

    Parameters
    ----------
    frames : sequence of callable
        Each returns one group of the mean ramp, 2D (y, x), DN.
    pixels : ndarray of bool, 2D (y, x)
        Pixels to use.
    """
    return frames_errors(frames, pixels, [slice(None)])[0]


def frames_errors(
    frames: Sequence[Callable[[], NDArray[np.float32]]], pixels: NDArray[np.bool_], parts: Sequence[slice]
) -> list[float]:
    """Return `frames_error` of several parts of the detector, from one pass over the frames.

    Parameters
    ----------
    frames, pixels
        As `frames_error` has them.
    parts : sequence of slice
        Columns of each part, such as those of an amplifier; a part of too few pixels has 0.
    """
    ngroups = len(frames)
    columns = np.nonzero(pixels)[1]
    members = [np.isin(columns, np.arange(pixels.shape[1])[part]) for part in parts]
    enough = [np.count_nonzero(inside) >= _FEWEST_IN_BLOCK for inside in members]
    if ngroups < 3 or not any(enough):
        return [0.0] * len(parts)
    time = np.arange(ngroups) - (ngroups - 1) / 2
    time_squared = float(np.sum(time**2))
    centre, slope = np.zeros((2, columns.size))

    def offsets_of(at: tuple[float, Callable[[], NDArray[np.float32]]]) -> list[float]:
        t, frame = at
        residuals = np.empty_like(centre)
        _off_the_line(frame(), pixels, centre, slope, t, residuals)
        return [
            median(residuals[inside]) if known else 0.0 for inside, known in zip(members, enough, strict=True)
        ]

    with measuring_threads() as threads:
        # Summed in the order of groups, which the last digit depends on.
        for t, values in zip(time, read_ahead(threads, frames), strict=True):
            _add_to_lines(values, pixels, np.float32(ngroups), t / time_squared, centre, slope)
        offsets = list(threads.map(offsets_of, zip(time, frames, strict=True)))
    freedom = ngroups - 2
    return [
        _student(freedom) * math.sqrt(sum(offset**2 for offset in of_part) / freedom / time_squared)
        for of_part in zip(*offsets, strict=True)
    ]


@kernel
def _add_to_lines(plane, pixels, groups, weight, centre, slope):  # type: ignore[no-untyped-def]
    # Plane and pixels are (y, x); centre and slope hold one value for each chosen pixel, in the same order.
    at = 0
    for row in range(pixels.shape[0]):
        for column in range(pixels.shape[1]):
            if pixels[row, column]:
                value = plane[row, column]
                centre[at] += value / groups
                slope[at] += weight * value
                at += 1


@kernel
def _off_the_line(plane, pixels, centre, slope, time, residuals):  # type: ignore[no-untyped-def]
    at = 0
    for row in range(pixels.shape[0]):
        for column in range(pixels.shape[1]):
            if pixels[row, column]:
                residuals[at] = plane[row, column] - centre[at] - slope[at] * time
                at += 1


def _student(freedom: int) -> float:
    # Half-width of the central 68 per cent of Student's distribution; 1 for a Gaussian.
    return float(special.stdtrit(freedom, special.ndtr(1)))


def _error_of_mean(values: list[float]) -> float:
    return float(np.std(values, ddof=1)) / math.sqrt(len(values))


#: Pixels more robust sigmas than this from the median are not used.
CLIP = 5.0
#: Deviation from which a value is off however large its own error.
SURELY_OFF = 3.0
_MEDIAN_TO_MEAN_ERROR = math.sqrt(math.pi / 2)

#: e- per 1000 s in one e-/s.
_PER_KS = 1000.0


@dataclass(frozen=True)
class DarkCurrent:
    """Dark current of one detector and subarray; every rate in e- per 1000 s.

    Attributes
    ----------
    value, error : float
        See the module's docstring; `error` is 1 sigma. `value` is NaN where no pixel could be used.
    by_integration : list of float
        For each integration, from its pixels without a bad group; NaN where there is none. The Poisson noise
        of few electrons has a tail that the median leans away from: up to 0.5 low in a single long-wave ramp,
        1/N of that in the mean ramp.
    by_amplifier : list of float
        For each output; NaN where it has no usable pixel.
    hot_pixels : int
        Science pixels excluded as hot, both in the mean ramp and in the mean of their integrations without a
        bad group.
    image : ndarray of float32, 2D (y, x)
        Of every pixel; NaN where it was measured in fewer than two groups.
    settling : Settling or None
        The settling after the reset that is in none of these rates, DN; None where none was significant.
    amplifier_errors : list of float
        1 sigma of `by_amplifier`, from the pixels of that output alone: its own drifts are in it, too.
    """

    value: float
    error: float
    by_integration: list[float]
    by_amplifier: list[float]
    hot_pixels: int
    image: NDArray[np.float32]
    settling: Settling | None = None
    amplifier_errors: list[float] = field(default_factory=list)


def measure_dark_current(ramp: MeanRamp, settling: Settling | None = None) -> DarkCurrent:
    """Measure the dark current of a set.

    Parameters
    ----------
    ramp : MeanRamp
        Slopes in DN per group; only a few of its planes are in memory at once.
    settling : Settling, optional
        What `reset_settling.find_settling` found in the ramp; subtracted before anything is measured.

    Returns
    -------
    DarkCurrent
        In e- per 1000 s; its value is NaN where no pixel can be used.
    """
    ramp = without_settling(ramp, settling)
    scale = ramp.gain / ramp.group_time * _PER_KS
    image = ramp.slope * np.float32(scale)
    good, above = usable_pixels(image, ramp.science)
    values = image[good]
    if not values.size:
        none = [math.nan] * len(ramp.amplifiers)
        return DarkCurrent(math.nan, math.nan, [math.nan] * ramp.integrations, none, 0, image, settling, none)
    by_integration: list[float] = []
    by_output: list[list[float]] = []
    bright = np.flatnonzero(above)
    total, measured = np.zeros((2, bright.size))

    def rates_of(index: int) -> tuple[float, list[float], NDArray[np.floating]]:
        plane = ramp.integration_slope(index)
        outputs = [plane[:, columns][good[:, columns]] for columns in ramp.amplifiers]
        whole = median(np.concatenate(outputs)) * scale
        return whole, [median(rates) * scale for rates in outputs], plane.ravel()[bright] * scale

    with measuring_threads() as threads:
        for rate, of_outputs, bright_rates in threads.map(rates_of, range(ramp.integrations)):
            by_integration.append(rate)
            by_output.append(of_outputs)
            total += np.nan_to_num(bright_rates)
            measured += np.isfinite(bright_rates)
    hot = int(np.count_nonzero((measured > 0) & (total > float(values.max()) * measured)))
    of_frames = frames_errors(ramp.frames, good & ramp.complete, [slice(None), *ramp.amplifiers])
    settled = 0.0 if settling is None else settling.slope_error * scale

    def rate_of(part: slice, rates: Sequence[float], frames: float, blocks: list[slice]) -> Value:
        errors = integrations_error(list(rates)), frames * scale, blocks_error(image, good, blocks)
        return _typical(image[:, part][good[:, part]], errors, settled)

    whole = rate_of(slice(None), by_integration, of_frames[0], ramp.amplifiers)
    outputs = [
        rate_of(columns, rates, frames, [columns])
        for columns, rates, frames in zip(
            ramp.amplifiers, zip(*by_output, strict=True), of_frames[1:], strict=True
        )
    ]
    return DarkCurrent(
        value=whole.value,
        error=whole.error,
        by_integration=by_integration,
        by_amplifier=[output.value for output in outputs],
        hot_pixels=hot,
        image=image,
        settling=settling,
        amplifier_errors=[output.error for output in outputs],
    )


def _typical(values: NDArray[np.float32], errors: Sequence[float], settled: float) -> Value:
    """Return the median of the pixels of a detector or an output, with its error from these estimates."""
    if not values.size:
        return Value(math.nan, math.nan)
    centre = median(values)
    pixels = _MEDIAN_TO_MEAN_ERROR * float(np.std(values, dtype=np.float64)) / math.sqrt(values.size)
    tail = float(np.mean(values, dtype=np.float64)) - centre
    return Value(centre, math.hypot(max(pixels, *errors), tail, settled))


def usable_pixels(
    image: NDArray[np.float32], science: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which pixels the dark current is measured on, and which are excluded as too bright.

    Parameters
    ----------
    image : ndarray of float32, 2D (y, x)
        Rate in any unit; NaN where there is none.
    science : ndarray of bool, 2D (y, x)
    """
    candidates = science & np.isfinite(image)
    values = image[candidates]
    lowest, highest = np.float32(-math.inf), np.float32(math.inf)
    high = highest
    while values.size:
        centre, sigma = median_and_sigma(values)
        width = CLIP * sigma
        low, high = np.float32(centre - width), np.float32(centre + width)
        # Once excluded, a pixel stays excluded.
        lowest, highest = max(lowest, low), min(highest, high)
        inside = values[(values >= low) & (values <= high)]
        if inside.size == values.size:
            break
        values = inside
    return candidates & (image >= lowest) & (image <= highest), candidates & (image > high)


def median_ramps(ramp: MeanRamp) -> list[list[float]]:
    """Return the median over the measured science pixels of every group, DN, of SCI and of ERR.

    A group without a measurement is 0, as SCI and ERR are there.
    """

    def medians(group: int) -> list[float]:
        measured = ramp.science & (ramp.n_valid(group) > 0)
        planes = [plane(group)[measured] for plane in (ramp.sci, ramp.err)]
        return [median(values) if values.size else 0.0 for values in planes]

    with measuring_threads() as threads:
        by_group = list(threads.map(medians, range(ramp.groups)))
    return [list(medians_of_plane) for medians_of_plane in zip(*by_group, strict=True)]


def compare_dark_current(current: DarkCurrent, expected: Value) -> Verdict:
    """Compare a dark current with its expectation, both in e- per 1000 s.

    An error of more than two widths of the expectation is not enough data, unless the value is `SURELY_OFF`
    all the same.
    """
    figure = Value(current.value, current.error)
    if not (math.isfinite(figure.value) and math.isfinite(figure.error)):
        return Verdict(state=VerdictState.NOT_ENOUGH, reason="no usable pixel")
    return compare(figure, expected, surely_off=SURELY_OFF, relative_error=0.0)
