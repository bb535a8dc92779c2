"""What a new dark changes against the one it replaces: pixels newly hot, rate, noise.

Compared are the groups that both have, over the pixels that are science in the detector. Rates are the
slopes of both mean ramps over the same groups. The rate's change is the median over pixels that are hot
in neither; its error (1 sigma) is the larger of what the pixels' scatter gives, of what blocks of pixels
give (noise that correlates them), and of what whole frames of either dark do about its line (see
`services.darkref.dark_current`); noise that whole integrations share is in it only as far as frames show it.

Which pixels the earlier file has for hot, its own DQ says. A file that flags none as hot (reference mode,
most of CRDS's darks) is judged by its mean ramp with the rule that flight mode has for pixels that few
integrations measured: 5 robust sigmas and 0.5 e-/s.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from services.darkref.dark_current_errors import blocks_error, frames_error
from services.darkref.flag_thresholds import Thresholds
from services.darkref.pixel_flags import HOT
from shared.medians import median_and_sigma

#: What HISTORY says of a dark that replaces none.
NO_EARLIER_FILE = "DIFFERENCES: replaces no earlier file."

# Error of a median over that of a mean, of a normal distribution.
_MEDIAN_TO_MEAN_ERROR = math.sqrt(math.pi / 2)
_PER_KS = 1000.0


@dataclass(frozen=True)
class Dark:
    """A dark as it is compared. Every plane is 2D (y, x), and only few are in memory at once.

    Attributes
    ----------
    name : str
        Of its file.
    sci, err : callable
        Give one group of SCI and of ERR, DN, by its index.
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
class Difference:
    """How a new dark differs from an earlier one.

    Attributes
    ----------
    replaces : str
        File of the earlier one.
    groups : int
        That were compared: the first ones of both.
    newly_hot, no_longer_hot, hot_in_both : int
    hot_by_flag : bool
        The earlier file's DQ says which pixels are hot; else its mean ramp was judged.
    rate_change_e_per_ks, rate_change_error_e_per_ks : float
        New less earlier; NaN where no pixel can be compared.
    noise_new_dn, noise_earlier_dn : list of float
        Median of ERR of the last compared group, DN, one an amplifier.
    errors_new, errors_earlier : str
        What either ERR is.
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


def compare(
    new: Dark,
    earlier: Dark,
    science: NDArray[np.bool_],
    amplifiers: list[slice],
    gain: float,
    group_time: float,
    thresholds: Thresholds | None = None,
) -> Difference:
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
    hot_now = science & (new.quality & HOT != 0)
    hot_before = science & (earlier.quality & HOT != 0)
    by_flag = bool(hot_before.any())
    if not by_flag:
        hot_before = _hot_by_mean_ramp(slopes[1], science, scale, thresholds or Thresholds())
    change = slopes[0] - slopes[1]
    usable = science & ~hot_now & ~hot_before & np.isfinite(change)
    for dark in (new, earlier):
        usable &= _measured(dark.err(groups - 1))
    rate, error = _change(change, usable, amplifiers, (new, earlier), groups)
    noise = [_noise_by_amplifier(dark.err(groups - 1), usable, amplifiers) for dark in (new, earlier)]
    return Difference(
        replaces=earlier.name,
        groups=groups,
        newly_hot=int(np.count_nonzero(hot_now & ~hot_before)),
        no_longer_hot=int(np.count_nonzero(hot_before & ~hot_now)),
        hot_in_both=int(np.count_nonzero(hot_now & hot_before)),
        hot_by_flag=by_flag,
        rate_change_e_per_ks=rate * scale * _PER_KS,
        rate_change_error_e_per_ks=error * scale * _PER_KS,
        noise_new_dn=noise[0],
        noise_earlier_dn=noise[1],
        errors_new=new.errors,
        errors_earlier=earlier.errors,
    )


def describe(difference: Difference | None) -> list[str]:
    """Say the difference in HISTORY; of None, that no earlier file is replaced."""
    if difference is None:
        return [NO_EARLIER_FILE]
    d = difference
    how = "" if d.hot_by_flag else " (whose DQ flags none; its mean ramp was judged)"
    if math.isfinite(d.rate_change_e_per_ks):
        rate = (
            f"median rate {d.rate_change_e_per_ks:+.2f} +- {d.rate_change_error_e_per_ks:.2f} e- per 1000 s "
            "(new less earlier)"
        )
    else:
        rate = "no pixel whose rate can be compared"
    noise = "; ".join(
        f"{number}: {earlier:.3g} to {new:.3g}"
        for number, (earlier, new) in enumerate(zip(d.noise_earlier_dn, d.noise_new_dn, strict=True), start=1)
    )
    said = f"DIFFERENCES: median ERR of group {d.groups} by amplifier, earlier to new, DN: {noise}."
    if d.errors_new != d.errors_earlier:
        said += (
            f" The earlier ERR is {d.errors_earlier}, the new one {d.errors_new}: this is no change of noise."
        )
    return [
        f"DIFFERENCES: replaces {d.replaces}; compared over the first {d.groups} groups.",
        f"DIFFERENCES: {d.newly_hot} pixels newly hot, {d.no_longer_hot} no longer hot, {d.hot_in_both} hot "
        f"in both files{how}.",
        f"DIFFERENCES: {rate}.",
        said,
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


def _change(
    change: NDArray[np.float64],
    usable: NDArray[np.bool_],
    amplifiers: list[slice],
    darks: tuple[Dark, Dark],
    groups: int,
) -> tuple[float, float]:
    """Return the median change of the rate and its error, DN per group."""
    if not usable.any():
        return math.nan, math.nan
    centre, sigma = median_and_sigma(change[usable])
    frames = [frames_error([partial(dark.sci, group) for group in range(groups)], usable) for dark in darks]
    pixels = _MEDIAN_TO_MEAN_ERROR * sigma / math.sqrt(np.count_nonzero(usable))
    blocks = blocks_error(change.astype(np.float32), usable, amplifiers)
    return centre, max(pixels, blocks, math.hypot(*frames))


def _noise_by_amplifier(
    err: NDArray[np.float32], usable: NDArray[np.bool_], amplifiers: list[slice]
) -> list[float]:
    return [
        median_and_sigma(err[:, columns][usable[:, columns]])[0] if usable[:, columns].any() else math.nan
        for columns in amplifiers
    ]
