"""What a new dark changes against the one it replaces: newly hot pixels, rate, noise.

The groups that both have are compared, over the science pixels. Rates are the slopes of both mean ramps over
the same groups. The change of the rate is the median over the pixels that are hot in neither. Its error (1
sigma) is the largest of three estimates (see `measure.dark_current`): from the scatter of pixels, from that
of blocks of pixels (correlated noise), and from that of whole frames of either dark about its line. Noise
that whole integrations share is in it only as far as frames show it.

The earlier file's own DQ says which of its pixels are hot. In a file that flags none as hot (notebook mode,
most darks of CRDS) they are found in its mean ramp, with flight mode's rule for pixels that few integrations
measured: 5 robust sigmas and 0.5 e-/s.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from services.darkref.measure.bad_pixels import Thresholds
from services.darkref.measure.dark_current import blocks_error, frames_error
from shared.nircam.dq import PixelFlag
from shared.products.reference import FigureChange
from shared.statistics.robust import median_and_sigma
from shared.statistics.verdicts import Value, finite

#: What HISTORY says of a dark that replaces none.
NO_EARLIER_FILE = "DIFFERENCES: replaces no earlier file."

# Error of a median over that of a mean, of a normal distribution.
_MEDIAN_TO_MEAN_ERROR = math.sqrt(math.pi / 2)
_PER_KS = 1000.0
#: Flags of a dark, in the order in which a difference lists them.
_COMPARED_FLAGS = (
    PixelFlag.HOT,
    PixelFlag.WARM,
    PixelFlag.RC,
    PixelFlag.DEAD,
    PixelFlag.TELEGRAPH,
    PixelFlag.UNRELIABLE_DARK,
)


@dataclass(frozen=True)
class Dark:
    """A dark to compare. Every plane is 2D (y, x), and only a few are in memory at once.

    Attributes
    ----------
    name : str
        Of its file.
    sci, err : callable
        Return one group of SCI and of ERR, DN, by its index.
    groups : int
    quality : ndarray of uint32
        DQ.
    errors : str
        What ERR is: ``"standard error of the mean"``, ``"population standard deviation"``, or
        ``"of unknown meaning"``.
    """

    name: str
    sci: Callable[[int], NDArray[np.float32]]
    err: Callable[[int], NDArray[np.float32]]
    groups: int
    quality: NDArray[np.uint32]
    errors: str


@dataclass(frozen=True)
class DarkDifference:
    """How a new dark differs from an earlier one.

    Attributes
    ----------
    replaces : str
        File of the earlier one.
    groups : int
        Groups that were compared: the first ones of both.
    newly_hot, no_longer_hot, hot_in_both : int
    hot_by_flag : bool
        Whether the earlier file's DQ says which pixels are hot; else they are from its mean ramp.
    rate_change_e_per_ks, rate_change_error_e_per_ks : float
        New minus earlier; NaN where no pixel can be compared.
    noise_new_dn, noise_earlier_dn : list of float
        Median of ERR of the last compared group, DN, for each amplifier.
    errors_new, errors_earlier : str
        What ERR is in each of them.
    changes : list of FigureChange
        Rate, noise and flags of both with their errors.
    image : ndarray of float32, 2D (y, x)
        Rate of every science pixel, new minus earlier, e- per 1000 s; NaN where either has none.
    """

    replaces: str
    groups: int
    newly_hot: int
    no_longer_hot: int
    hot_in_both: int
    hot_by_flag: bool
    rate_change_e_per_ks: float
    rate_change_error_e_per_ks: float
    noise_new_dn: list[float]
    noise_earlier_dn: list[float]
    errors_new: str
    errors_earlier: str
    changes: list[FigureChange]
    image: NDArray[np.float32]


def compare_darks(
    new: Dark,
    earlier: Dark,
    science: NDArray[np.bool_],
    amplifiers: list[slice],
    gain: float,
    group_time: float,
    thresholds: Thresholds | None = None,
) -> DarkDifference:
    """Compare two darks of the same pixels and of the same time between groups.

    Parameters
    ----------
    new, earlier : Dark
    science : ndarray of bool, 2D (y, x)
    amplifiers : list of slice
        Columns of each output.
    gain : float
        e-/DN.
    group_time : float
        s.
    thresholds : Thresholds, optional
        For hot pixels of an earlier file that flags none.

    Raises
    ------
    ValueError
        If their planes have different shapes, or one has fewer than two groups.
    """
    if new.quality.shape != earlier.quality.shape:
        raise ValueError(
            f"{new.name} has {new.quality.shape} pixels (y, x), but {earlier.name} has "
            f"{earlier.quality.shape}: compare darks of one subarray"
        )
    groups = min(new.groups, earlier.groups)
    if groups < 2:
        raise ValueError(f"{new.name} and {earlier.name} share {groups} group: a rate needs 2")
    scale = gain / group_time
    slopes = [mean_slope(dark.sci, groups) for dark in (new, earlier)]
    hot_now = science & (new.quality & PixelFlag.HOT.mask != 0)
    hot_before = science & (earlier.quality & PixelFlag.HOT.mask != 0)
    by_flag = bool(hot_before.any())
    if not by_flag:
        hot_before = _hot_by_mean_ramp(slopes[1], science, scale, thresholds or Thresholds())
    change = slopes[0] - slopes[1]
    measured = science & np.isfinite(change)
    for dark in (new, earlier):
        measured &= _measured(dark.err(groups - 1))
    usable = measured & ~hot_now & ~hot_before
    rates = [
        rate.times(scale * _PER_KS)
        for rate in _rates([*slopes, change], usable, amplifiers, (new, earlier), groups)
    ]
    noise = [_noise_by_amplifier(dark.err(groups - 1), usable, amplifiers) for dark in (new, earlier)]
    hot = hot_now, hot_before
    return DarkDifference(
        replaces=earlier.name,
        groups=groups,
        newly_hot=int(np.count_nonzero(hot_now & ~hot_before)),
        no_longer_hot=int(np.count_nonzero(hot_before & ~hot_now)),
        hot_in_both=int(np.count_nonzero(hot_now & hot_before)),
        hot_by_flag=by_flag,
        rate_change_e_per_ks=rates[2].value,
        rate_change_error_e_per_ks=rates[2].error,
        noise_new_dn=[each.value for each in noise[0]],
        noise_earlier_dn=[each.value for each in noise[1]],
        errors_new=new.errors,
        errors_earlier=earlier.errors,
        changes=[
            _rate_row(*rates),
            *_noise_rows(noise[0], noise[1], groups, new.errors == earlier.errors),
            *_flag_rows(new.quality, earlier.quality, science, hot),
        ],
        image=np.where(measured, change * (scale * _PER_KS), np.nan).astype(np.float32),
    )


def describe_difference(difference: DarkDifference | None) -> list[str]:
    """Return the difference as lines of HISTORY; for None, that no earlier file is replaced."""
    if difference is None:
        return [NO_EARLIER_FILE]
    d = difference
    how = "" if d.hot_by_flag else " (whose DQ flags none; its mean ramp was judged)"
    if math.isfinite(d.rate_change_e_per_ks):
        rate = (
            f"median rate {d.rate_change_e_per_ks:+.2f} +- {d.rate_change_error_e_per_ks:.2f} e- per 1000 s "
            "(new minus earlier)"
        )
    else:
        rate = "no pixel whose rate can be compared"
    noise = "; ".join(
        f"{number}: {earlier:.3g} to {new:.3g}"
        for number, (earlier, new) in enumerate(zip(d.noise_earlier_dn, d.noise_new_dn, strict=True), start=1)
    )
    errors = f"DIFFERENCES: median ERR of group {d.groups} by amplifier, earlier to new, DN: {noise}."
    if d.errors_new != d.errors_earlier:
        errors += (
            f" The earlier ERR is {d.errors_earlier}, the new one {d.errors_new}: this is no change of noise."
        )
    return [
        f"DIFFERENCES: replaces {d.replaces}; compared over the first {d.groups} groups.",
        f"DIFFERENCES: {d.newly_hot} pixels newly hot, {d.no_longer_hot} no longer hot, {d.hot_in_both} hot "
        f"in both files{how}.",
        f"DIFFERENCES: {rate}.",
        errors,
    ]


def mean_slope(sci: Callable[[int], NDArray[np.float32]], groups: int) -> NDArray[np.float64]:
    """Return the least-squares slope of the first groups of a mean ramp, 2D (y, x), DN per group."""
    time = np.arange(groups) - (groups - 1) / 2
    moment: NDArray[np.float64] = sci(0) * time[0]
    for group in range(1, groups):
        moment += sci(group) * time[group]
    moment /= np.sum(time**2)
    return moment


def _measured(err: NDArray[np.float32]) -> NDArray[np.bool_]:
    # Where nothing was measured SCI and ERR are 0; a file may also have no ERR at all.
    known: NDArray[np.bool_] = np.isfinite(err) & (err > 0)
    return known if known.any() else np.ones(err.shape, np.bool_)


def _hot_by_mean_ramp(
    slope: NDArray[np.float64], science: NDArray[np.bool_], scale: float, thresholds: Thresholds
) -> NDArray[np.bool_]:
    here = science & np.isfinite(slope)
    if not here.any():
        return here
    centre, sigma = median_and_sigma(slope[here])
    cut = max(centre + thresholds.hot_sigma * sigma, thresholds.hot_e_per_s / scale)
    result: NDArray[np.bool_] = here & (slope >= cut)
    return result


def _rates(
    planes: Sequence[NDArray[np.float64]],
    usable: NDArray[np.bool_],
    amplifiers: list[slice],
    darks: tuple[Dark, Dark],
    groups: int,
) -> list[Value]:
    """Return the median rates of the new and of the earlier dark and of their difference, DN per group."""
    if not usable.any():
        return [Value(math.nan, math.nan)] * len(planes)
    frames = [frames_error([partial(dark.sci, group) for group in range(groups)], usable) for dark in darks]
    rates = []
    for plane, of_frames in zip(planes, [*frames, math.hypot(*frames)], strict=True):
        centre, sigma = median_and_sigma(plane[usable])
        pixels = _MEDIAN_TO_MEAN_ERROR * sigma / math.sqrt(np.count_nonzero(usable))
        blocks = blocks_error(plane.astype(np.float32), usable, amplifiers)
        rates.append(Value(centre, max(pixels, blocks, of_frames)))
    return rates


def _noise_by_amplifier(
    err: NDArray[np.float32], usable: NDArray[np.bool_], amplifiers: list[slice]
) -> list[Value]:
    """Return the median of ERR over the pixels of each amplifier, DN."""
    medians = []
    for columns in amplifiers:
        values = err[:, columns][usable[:, columns]]
        centre, sigma = median_and_sigma(values) if values.size else (math.nan, math.nan)
        medians.append(Value(centre, _MEDIAN_TO_MEAN_ERROR * sigma / math.sqrt(max(values.size, 1))))
    return medians


def _rate_row(new: Value, earlier: Value, change: Value) -> FigureChange:
    return FigureChange(
        figure="dark current",
        unit="e-/1000 s",
        before=finite(earlier.value),
        before_error=finite(earlier.error),
        after=finite(new.value),
        after_error=finite(new.error),
        change=finite(change.value),
        change_error=finite(change.error),
    )


def _noise_rows(
    new: Sequence[Value], earlier: Sequence[Value], groups: int, comparable: bool
) -> Iterator[FigureChange]:
    """Yield ERR of each amplifier; without a change where ERR is not the same quantity in both files."""
    for number, (now, before) in enumerate(zip(new, earlier, strict=True), start=1):
        yield FigureChange(
            figure=f"ERR of group {groups}, amplifier {number}",
            unit="DN",
            before=finite(before.value),
            before_error=finite(before.error),
            after=finite(now.value),
            after_error=finite(now.error),
            change=finite(now.value - before.value) if comparable else None,
            change_error=finite(math.hypot(now.error, before.error)) if comparable else None,
        )


def _flag_rows(
    new: NDArray[np.uint32],
    earlier: NDArray[np.uint32],
    science: NDArray[np.bool_],
    hot: tuple[NDArray[np.bool_], NDArray[np.bool_]],
) -> Iterator[FigureChange]:
    """Yield the number of science pixels with each flag; hot ones as they were compared."""
    for flag in _COMPARED_FLAGS:
        now, before = (
            hot if flag == PixelFlag.HOT else (science & (dq & flag.mask != 0) for dq in (new, earlier))
        )
        if not (now.any() or before.any()):
            continue
        counts = int(np.count_nonzero(now)), int(np.count_nonzero(before))
        yield FigureChange(
            figure=str(flag.name),
            unit="pixels",
            before=counts[1],
            after=counts[0],
            change=counts[0] - counts[1],
            newly=int(np.count_nonzero(now & ~before)),
            no_longer=int(np.count_nonzero(before & ~now)),
        )
