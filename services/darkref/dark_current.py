"""The dark current of a detector, in e- per 1000 s, with an error that can be believed.

Value: the median of the slopes of the mean ramp (SCI), times the gain, over the science pixels that are
not hot. A pixel is out where its slope is more than `CLIP` robust sigmas (1.4826 MAD about the median,
repeated until nothing changes) from the median of all. Those above are counted as hot if their own
integrations without a hit say so too: where an integration drops out of the mean ramp at a hit, the ramp
steps by that integration's pedestal over N, which makes many a slope look hot, or negative.

Why the median of slopes. Hot and warm pixels, and cosmic rays too faint for the jump step (most of them
neighbours of a hit, with the few electrons that crossed to them), all push one way. A mean takes in
their full charge; the median moves only by their share of the pixels, about 1.25 sigma of the slopes per
unit of it. It is a median of slopes and not a slope of medians: each reset leaves its own pedestal
(kTC, ~37 e-) in every pixel, and beside that a warm pixel is no outlier of a single group, so a median
over pixels of one group takes its excess in like a mean.

Error (1 sigma), the root of the sum of squares of

- the statistical one: the largest of four estimates that see different correlations.
  Scatter of the integrations about each other, over sqrt(N): sees everything that differs between
  integrations, 1/f drifts of the whole frame included; but few integrations may agree by chance.
  Scatter of the frames of the mean ramp about its line: sees what moves whole frames from group to
  group, with as many degrees of freedom as there are groups. Both with Student's factor.
  Scatter of the medians of blocks of the mean image (amplifier x band of rows, in several sizes): all
  that one integration can give; sees 1/f noise that correlates rows, and real structure.
  Scatter of the pixels as if they were independent: the floor.
- the tail's: the distance between mean and median of the pixels that were kept, which is as much as
  undetected hits and warm pixels below the clip can have moved the median.

The gain's own error is not in it: it scales the expectation's measurement likewise.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.darkref.dark_current_errors import blocks_error, frames_error, integrations_error
from services.darkref.plane_threads import side_by_side
from shared.cubes import Cube
from shared.detectors import Expected
from shared.medians import SIGMA_PER_MAD, median

#: A pixel this many robust sigmas from the median is not used.
CLIP = 5.0
#: Deviation, in sigmas of measurement and expectation together, up to which a value is within.
WITHIN = 2.0
#: Deviation from which a value is off however large its own error.
SURELY_OFF = 3.0
#: An error above so many widths of the expectation says nothing about it.
TOO_UNCERTAIN = 2.0
_MEDIAN_TO_MEAN_ERROR = math.sqrt(math.pi / 2)

#: e- per 1000 s in one e-/s.
_PER_KS = 1000.0


@dataclass(frozen=True)
class DarkCurrent:
    """Dark current of one detector and subarray; every rate in e- per 1000 s.

    Attributes
    ----------
    value, error : float
        As the module says; `error` is 1 sigma. `value` is NaN where no pixel could be used.
    by_integration : list of float
        One an integration, from its pixels without a hit; NaN where there is none. The median leans away
        from the tail that the few electrons' Poisson noise has: up to 0.5 low in a single long-wave ramp,
        1/N of it in the mean ramp.
    by_amplifier : list of float
        NaN for an output without a usable pixel.
    hot_pixels : int
        Science pixels left out as hot, in the mean ramp and in the mean of their integrations without a
        hit.
    image : ndarray of float32, 2D (y, x)
        Of every pixel; NaN where it was measured in fewer than two groups.
    """

    value: float
    error: float
    by_integration: list[float]
    by_amplifier: list[float]
    hot_pixels: int
    image: NDArray[np.float32]


def measure(
    slope: NDArray[np.float32],
    integration_slope: Callable[[int], NDArray[np.float32]],
    integrations: int,
    frames: Sequence[Callable[[], NDArray[np.float32]]],
    complete: NDArray[np.bool_],
    science: NDArray[np.bool_],
    amplifiers: list[slice],
    gain: float,
    group_time: float,
) -> DarkCurrent:
    """Measure the dark current.

    Parameters
    ----------
    slope : ndarray of float32, 2D (y, x)
        Slope of the mean ramp, DN per group; NaN where there is none.
    integration_slope : callable
        Gives one integration's slopes (the same shape and unit; NaN where hit), by its index, so that
        only one is in memory.
    integrations : int
    frames : sequence of callable
        Each gives one group of the mean ramp (SCI), the same shape, DN; only one is in memory.
    complete : ndarray of bool, 2D (y, x)
        Pixels that were hit in no integration, whose mean ramp has no steps.
    science : ndarray of bool, 2D (y, x)
    amplifiers : list of slice
        Columns of each output.
    gain : float
        e-/DN.
    group_time : float
        s from group to group.
    """
    scale = gain / group_time * _PER_KS
    image = slope * np.float32(scale)
    good, above = usable_pixels(image, science)
    values = image[good]
    if not values.size:
        return DarkCurrent(
            math.nan, math.nan, [math.nan] * integrations, [math.nan] * len(amplifiers), 0, image
        )
    by_integration = []
    bright = np.flatnonzero(above)
    total, unhit = np.zeros((2, bright.size))

    def look_at(index: int) -> tuple[float, NDArray[np.floating]]:
        plane = integration_slope(index)
        one = plane[good]
        return median(one[np.isfinite(one)]) * scale, plane.ravel()[bright] * scale

    with side_by_side() as threads:
        for rate, one in threads.map(look_at, range(integrations)):
            by_integration.append(rate)
            total += np.nan_to_num(one)
            unhit += np.isfinite(one)
    hot = int(np.count_nonzero((unhit > 0) & (total > float(values.max()) * unhit)))
    value = median(values)
    pixels = _MEDIAN_TO_MEAN_ERROR * float(np.std(values, dtype=np.float64)) / math.sqrt(values.size)
    statistical = max(
        pixels,
        integrations_error(by_integration),
        frames_error(frames, good & complete) * scale,
        blocks_error(image, good, amplifiers),
    )
    tail = float(np.mean(values, dtype=np.float64)) - value
    return DarkCurrent(
        value=value,
        error=math.hypot(statistical, tail),
        by_integration=by_integration,
        by_amplifier=[median(image[:, columns][good[:, columns]]) for columns in amplifiers],
        hot_pixels=hot,
        image=image,
    )


def usable_pixels(
    image: NDArray[np.float32], science: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which pixels the dark current is measured on, and which are out because they are above.

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
        centre = median(values)
        width = CLIP * SIGMA_PER_MAD * median(np.abs(values - np.float32(centre)))
        low, high = np.float32(centre - width), np.float32(centre + width)
        # A pixel that is out once stays out.
        lowest, highest = max(lowest, low), min(highest, high)
        inside = values[(values >= low) & (values <= high)]
        if inside.size == values.size:
            break
        values = inside
    return candidates & (image >= lowest) & (image <= highest), candidates & (image > high)


def median_ramps(cubes: Sequence[Cube], nmeas: Cube, science: NDArray[np.bool_]) -> list[list[float]]:
    """Return, for each of some cubes, the median over the measured science pixels of every group.

    A group without any is 0, as SCI and ERR are there.
    """

    def medians(group: int) -> list[float]:
        measured = science & (nmeas.plane(group) > 0)
        found = [cube.plane(group)[measured] for cube in cubes]
        return [median(values) if values.size else 0.0 for values in found]

    with side_by_side() as threads:
        by_group = list(threads.map(medians, range(nmeas.shape[0])))
    return [list(ramp) for ramp in zip(*by_group, strict=True)]


def verdict(current: DarkCurrent, expected: Expected) -> str:
    """Say how a dark current compares with what is expected, both in e- per 1000 s.

    Returns
    -------
    str
        ``"within (...)"``, ``"N.n sigma above expected (...)"``, ``"N.n sigma below expected (...)"``,
        or ``"not enough data (...)"`` where the error is more than `TOO_UNCERTAIN` widths of the
        expectation and the value is not off all the same.
    """
    if not (math.isfinite(current.value) and math.isfinite(current.error)):
        return "not enough data (no usable pixel)"
    off = (current.value - expected.value) / math.hypot(current.error, expected.sigma)
    places = max(1 - math.floor(math.log10(current.error)), 0) if current.error > 0 else 2
    said = (
        f"({current.value:.{places}f} ± {current.error:.{places}f}, "
        f"expected {expected.value:g} ± {expected.sigma:g})"
    )
    if abs(off) < SURELY_OFF and current.error > TOO_UNCERTAIN * expected.sigma:
        return f"not enough data {said}"
    if abs(off) <= WITHIN:
        return f"within {said}"
    return f"{abs(off):.1f} sigma {'above' if off > 0 else 'below'} expected {said}"
