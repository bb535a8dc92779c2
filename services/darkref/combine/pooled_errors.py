"""ERR of flight mode, from all groups of a pixel, and which pixels are too noisy to be clipped.

Why pooled. The variance of N values has N - 1 degrees of freedom. With N = 3 it is below a hundredth of its
expectation in one place of a hundred, and ERR is then next to 0 by coincidence: 6 % of all places are off by
more than five of their errors. But the ramp of a pixel has many groups, each with its own read noise and the
same expectation but for a known growth. The variance of each group g over integrations is therefore divided
by

    E[g] = R[g] + g P,

where R[g] is the variance of the detector's median pixel in that group, as measured, and P the Poisson noise
of the charge that the pixel itself collects in a group beyond the median pixel's. R[g] holds whatever the
noise really does from group to group, and nothing is assumed of it. The ratios are averaged with their
degrees of freedom, and

    ERR[g]^2 = ratio E[g] f(N) / n,

with n values left of N and f(N) of `services.darkref.combine.small_samples`. Groups share the read noise of
group 0, so the ratio of a long ramp still scatters by half as much as that of one group; but the half that
groups do not share keeps it from being near 0. Where hits leave few groups, the ratio is moderated: the
detector's mean ratio counts as `_PRIOR_FREEDOM` more degrees of freedom (as in Smyth 2004, Stat. Appl. Genet.
Mol. Biol. 3, 3, who calls it the moderated variance). A single measurement, which has no scatter, thus gets
an error like any other place.

Which pixels are noisy is judged before the clip: where the clip removed more than hits can explain
(`services.darkref.combine.unclipped`), the variance of all values but the farthest takes the place of what
the clip left. Pixels whose ratio is then above `noisy_noise`^2, and those that change between levels
(`services.darkref.combine.telegraph`), are not clipped after all: SCI is the mean of all their values, and
ERR^2 the variance of all over their number, group by group, since it need not grow as the others' does.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import special

from services.darkref.combine import small_samples
from services.darkref.combine.combine_set import CombinedSet
from services.darkref.combine.telegraph import falling_pixels, least_difference, pixels_hot_at_times
from services.darkref.combine.unclipped import ClippedPlane, more_than_hits
from services.darkref.combine.windows import group_positions
from services.darkref.measure.bad_pixels import LEAST_FREEDOM
from services.darkref.measure.planes import measuring_threads, read_ahead
from shared.statistics.jit import kernel
from shared.statistics.medians import median

#: Degrees of freedom that the detector's mean ratio counts for.
_PRIOR_FREEDOM = 4.0
#: The median of a group is taken over no more pixels than this, evenly spaced: 0.4 per cent of the variance.
_ENOUGH_PIXELS = 1 << 17


def judge_scatter(
    combined: CombinedSet, science: NDArray[np.bool_], gain: float, noisy_noise: float, hot: float
) -> None:
    """Judge the scatter of every pixel over integrations; rewrite ERR, and SCI of the noisy ones.

    Fills `CombinedSet.noisy`, `telegraph`, `variance_ratio`, `unclipped_ratio`, `freedom` and `growth`. Does
    nothing for a single integration, which has no scatter.

    Parameters
    ----------
    combined : CombinedSet
        Of flight mode; its SCI, ERR and slope are changed.
    science : ndarray of bool, 2D (y, x)
    gain : float
        e-/DN.
    noisy_noise : float
        A pixel is noisy above this noise, in units of the usual one.
    hot : float
        Rate from which on a pixel is hot, DN per group.

    Raises
    ------
    ValueError
        If the set was combined without what flight mode keeps of the clip and of falls.
    """
    if combined.clipped is None or combined.second_fall is None or combined.typical_fall is None:
        raise ValueError("only a set that was combined in flight mode has what its scatter is judged by")
    if combined.integrations < 2:
        return
    poisson = _excess_poisson(combined.slope, science, gain)
    scatter = _pool(combined, science, poisson)
    own = np.divide(
        scatter.total, scatter.freedom, out=np.ones_like(scatter.total), where=scatter.freedom > 0
    )
    usual = science & (scatter.freedom >= LEAST_FREEDOM) & (own < noisy_noise**2)
    centre = float(np.mean(own[usual], dtype=np.float64)) if usual.any() else 1.0
    combined.variance_ratio = (_PRIOR_FREEDOM * centre + scatter.total) / (_PRIOR_FREEDOM + scatter.freedom)
    combined.freedom = scatter.freedom + scatter.hidden_freedom
    combined.unclipped_ratio = np.divide(
        scatter.total + scatter.hidden,
        combined.freedom,
        out=np.full_like(own, np.nan),
        where=combined.freedom > 0,
    )
    decided = science & (combined.freedom >= LEAST_FREEDOM)
    combined.noisy = decided & (combined.unclipped_ratio > noisy_noise**2)
    combined.telegraph = falling_pixels(
        combined.second_fall,
        combined.typical_fall,
        np.float32(combined.growth[1]) + poisson,
        science,
    )
    step_sigma = math.sqrt(combined.growth[1])
    combined.telegraph |= pixels_hot_at_times(
        [partial(combined.slopes.plane, index) for index in range(combined.integrations)],
        science,
        least_difference(step_sigma, hot, len(combined.growth)),
    )
    _rewrite(combined, poisson)


@dataclass(frozen=True)
class _Scatter:
    # Sums over groups, planes of float32: of the ratios with their degrees of freedom, of these; and what the
    # values that the clip removed would add to both.
    total: NDArray[np.float32]
    freedom: NDArray[np.float32]
    hidden: NDArray[np.float32]
    hidden_freedom: NDArray[np.float32]


@dataclass(frozen=True)
class _Group:
    # One group as the combine left it; `kept` are the values that the clip left.
    error: NDArray[np.float32]
    n_valid: NDArray[np.uint16]
    kept: NDArray[np.uint16]
    clipped: ClippedPlane


def _excess_poisson(
    slope: NDArray[np.float32], science: NDArray[np.bool_], gain: float
) -> NDArray[np.float32]:
    """Return the Poisson noise of a group beyond the median pixel's, DN^2: charge in e- over gain^2."""
    here = science & np.isfinite(slope)
    usual = median(slope[here]) if here.any() else 0.0
    above = np.maximum(np.nan_to_num(slope) - np.float32(usual), 0)
    excess: NDArray[np.float32] = (above / np.float32(gain)).astype(np.float32)
    return excess


def _read(combined: CombinedSet, group: int) -> _Group:
    n_valid = combined.n_valid.plane(group)
    kept = n_valid.copy()
    if combined.clipped is None:
        raise ValueError("only flight mode keeps what the clip removed")
    clipped = combined.clipped.of_group(group)
    kept.reshape(-1)[clipped.pixel] -= clipped.removed.astype(np.uint16)
    return _Group(combined.err.plane(group), n_valid, kept, clipped)


def _pool(combined: CombinedSet, science: NDArray[np.bool_], poisson: NDArray[np.float32]) -> _Scatter:
    """Average each pixel's variances over the groups; fill `CombinedSet.growth`."""
    shape = science.shape
    scatter = _Scatter(*np.zeros((4, *shape), np.float32))
    factors = small_samples.variance_factors(combined.integrations)
    freedom = np.arange(1.0, combined.integrations)
    # The median of a sample variance is below its mean. Entries 0 and 1 are not used.
    median_factor = np.ones(combined.integrations + 1)
    median_factor[2:] = 2 * special.gammaincinv(freedom / 2, 0.5) / freedom
    chosen = np.flatnonzero(science)
    chosen = chosen[:: max(-(-chosen.size // _ENOUGH_PIXELS), 1)]
    with measuring_threads() as threads:
        groups: list[Callable[[], _Group]] = [
            partial(_read, combined, group) for group in range(1, len(combined.growth))
        ]
        for group, plane in enumerate(read_ahead(threads, groups), start=1):
            variance = np.empty(shape, np.float32)
            _variances(
                plane.error.ravel(), plane.n_valid.ravel(), plane.kept.ravel(), factors, variance.ravel()
            )
            several = chosen[plane.kept.reshape(-1)[chosen] >= 2]
            if not several.size:
                continue
            typical = median(variance.reshape(-1)[several] / median_factor[plane.kept.reshape(-1)[several]])
            combined.growth[group] = typical
            if typical <= 0:
                continue
            _add_ratios(
                variance.ravel(),
                plane.kept.ravel(),
                np.float32(typical),
                np.float32(group),
                poisson.ravel(),
                scatter.total.ravel(),
                scatter.freedom.ravel(),
            )
            _add_hidden(scatter, plane, variance, np.float32(typical) + np.float32(group) * poisson)
    return scatter


def _add_hidden(
    scatter: _Scatter, plane: _Group, variance: NDArray[np.float32], expected: NDArray[np.float32]
) -> None:
    """Add the difference that all values but the farthest make where the clip removed more than hits."""
    n_valid = plane.n_valid.reshape(-1)[plane.clipped.pixel]
    chosen = more_than_hits(plane.clipped, n_valid) & (n_valid > 2)
    pixel = plane.clipped.pixel[chosen]
    kept = np.maximum(plane.kept.reshape(-1)[pixel].astype(np.float32) - 1, 0)
    all_but_one = n_valid[chosen].astype(np.float32) - 2
    more = all_but_one * plane.clipped.without_farthest[chosen] - kept * variance.reshape(-1)[pixel]
    scatter.hidden.reshape(-1)[pixel] += more / expected.reshape(-1)[pixel]
    scatter.hidden_freedom.reshape(-1)[pixel] += all_but_one - kept


def _rewrite(combined: CombinedSet, poisson: NDArray[np.float32]) -> None:
    """Write ERR of all pixels, and SCI and slope of those that are not clipped after all."""
    groups = len(combined.growth)
    unstable = combined.noisy | combined.telegraph
    pixels = np.flatnonzero(unstable)
    line = np.zeros((5, pixels.size))
    highest = np.zeros(pixels.size, np.float32)
    positions = group_positions(groups)
    # Group 0 is 0 in all integrations, so that only its number counts.
    started = combined.n_valid.plane(0).reshape(-1)[pixels] > 0
    line[:3] += started * np.array([1.0, positions[0], positions[0] ** 2])[:, None]
    frames = [partial(_group_errors, combined, group, poisson, pixels) for group in range(1, groups)]
    with measuring_threads() as threads:
        for group, frame in enumerate(read_ahead(threads, frames), start=1):
            # Where hits leave only the quiet ones of the integrations, their scatter says nothing of the
            # others.
            highest = np.maximum(highest, frame.variance)
            frame.error.reshape(-1)[pixels] = np.sqrt(highest / np.maximum(frame.n_valid, 1))
            frame.error.reshape(-1)[pixels[frame.n_valid == 0]] = 0
            combined.err.write(group, 0, frame.error[None])
            position, measured = positions[group], frame.n_valid > 0
            line[:3] += measured * np.array([1.0, position, position**2])[:, None]
            line[3] += frame.signal
            line[4] += position * frame.signal
    n, g, gg, y, gy = line
    determinant = np.where(n >= 2, n * gg - g**2, 1.0)
    combined.slope.reshape(-1)[pixels] = np.where(n >= 2, (n * gy - g * y) / determinant, np.nan)


@dataclass(frozen=True)
class _GroupErrors:
    # ERR of a group, and of the unstable pixels SCI, the number and the variance of all values, 1D.
    error: NDArray[np.float32]
    signal: NDArray[np.float32]
    n_valid: NDArray[np.uint16]
    variance: NDArray[np.float32]


def _group_errors(
    combined: CombinedSet, group: int, poisson: NDArray[np.float32], pixels: NDArray[np.intp]
) -> _GroupErrors:
    """Return the pooled errors of a group, and all values of the unstable `pixels`, whose SCI is written."""
    plane = _read(combined, group)
    factors = small_samples.variance_factors(combined.integrations)
    # Where no pixel has two values, nothing is known.
    typical = np.float32(combined.growth[group])
    expected = (typical + np.float32(group) * poisson) * np.float32(typical > 0)
    pooled, variance = np.empty((2, *plane.error.shape), np.float32)
    error, n_valid, kept = plane.error.ravel(), plane.n_valid.ravel(), plane.kept.ravel()
    _errors(combined.variance_ratio.ravel(), expected.ravel(), n_valid, kept, factors, pooled.ravel())
    if not pixels.size:
        nothing = np.zeros(0, np.float32)
        return _GroupErrors(pooled, nothing, nothing.astype(np.uint16), nothing)
    _variances(error, n_valid, kept, factors, variance.ravel())
    unstable = np.zeros(n_valid.size, np.bool_)
    unstable[pixels] = True
    clipped = unstable[plane.clipped.pixel]
    at = plane.clipped.pixel[clipped]
    variance.reshape(-1)[at] = plane.clipped.variance[clipped]
    sci = combined.sci.plane(group)
    if at.size:
        sci.reshape(-1)[at] = plane.clipped.mean[clipped]
        combined.sci.write(group, 0, sci[None])
    return _GroupErrors(
        pooled,
        sci.reshape(-1)[pixels],
        n_valid[pixels],
        np.maximum(variance.reshape(-1)[pixels], expected.reshape(-1)[pixels]),
    )


@kernel
def _variances(error, n_valid, kept, factors, variance):  # type: ignore[no-untyped-def]
    # The variance of the values that were kept, from the standard error of their mean.
    for p in range(error.size):
        variance[p] = error[p] * error[p] * kept[p] / factors[n_valid[p]]


@kernel
def _add_ratios(variance, kept, typical, group, poisson, total, freedom):  # type: ignore[no-untyped-def]
    for p in range(variance.size):
        weight = np.float32(kept[p]) - np.float32(1.0)
        if weight > 0:
            total[p] += weight * variance[p] / (typical + group * poisson[p])
            freedom[p] += weight


@kernel
def _errors(ratio, expected, n_valid, kept, factors, error):  # type: ignore[no-untyped-def]
    for p in range(error.size):
        error[p] = np.sqrt(ratio[p] * expected[p] * factors[n_valid[p]] / kept[p]) if kept[p] > 0 else 0.0
