"""Combine the segments between hits by least squares: the second pass of flight mode.

A hit lifts a pixel's ramp; nothing is wrong with what follows. In place of discarding all that follows the
first hit of an integration, each hit begins a new *segment*, and

    y[i, g] = S[g] + level(i, segment)

is solved by least squares for the mean ramp S (S[0] = 0) and the levels together, pixel by pixel, over all
groups of all integrations. SATURATED, DO_NOT_USE and PERSISTENCE groups are not used; what follows them
begins a segment too. Without any hit S is the plain mean of the integrations, each with its group 0
subtracted. The weights are those of white noise, which read noise is: the limit of faint pixels of Brandt's
likelihood fit (2024, PASP 136, 045004 and 045005; ``stcal.ramp_fitting.likely_fit``).

The values are not clipped by group: the clip of few values loses 8 to 11 per cent of the variance, and each
value that it rejects moves the mean by that integration's own level. Hits that nobody flagged are steps of
one integration against the others; differences are compared with the scatter of all differences of the pixel,
which is known from hundreds of values. A step of `STEP_LIMIT` of their standard deviations begins a segment.
A pixel with two such steps down has levels of its own (telegraph noise): it keeps its mean of before, as do
pixels that are judged to be so before the clip, and those of a great many segments.

NMEAS[g] is the number of integrations that measure the difference between groups g-1 and g, and in group 0
those with a usable group 0. Where nothing measures a difference, S ends: later groups are 0 and have no
measurements.

ERR. The scatter of the values about S and their levels is pooled over the pixel's groups: it has some
(N-1)(G-1) degrees of freedom. The variance of S[g] - S[0] is that times the diagonal of the inverse of the
normal matrix (2/N without hits), plus the Poisson noise of the pixel's own charge: charge over gain, of the
integrations that measure each difference.

The same sums give the pixel's rate, and its share of the detector's settling curve, by a fit with the
covariance of S; see `services.darkref.measure.model_ramp`, which uses them.

All groups of all integrations of a pixel are in memory at once, so the set is read again, in bands of rows.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.darkref.combine.combine_set import CombinedSet
from services.darkref.combine.windows import BASE_BYTES
from services.darkref.kernels import segments as kernels
from shared.processors import processors
from shared.ramps.cube import Cube
from shared.ramps.digests import digests_size
from shared.ramps.window_plan import WindowPlan, rows_of_whole_blocks
from shared.ramps.window_reader import REQUESTS, Integration, Window, WindowReader
from shared.runtime.handler import Progress

#: Standard deviations of a pixel's differences from which on one is a step that nobody flagged.
STEP_LIMIT = 5.0
#: Part of the integrations from which on flags in the same group are no hits.
SHARED_FLAGS = 0.75
#: Fewest integrations that are combined this way: one alone has no scatter.
LEAST_INTEGRATIONS = 2
#: Most segments of a pixel whose levels are solved for; a set of N integrations has 2 N + `_MORE_LEVELS`, or
#: fewer.
_MORE_LEVELS = 32
_MOST_LEVELS = 256
#: Windows in memory: one is being read while the other is combined.
_SLOTS = 2
#: Bytes of each (group, pixel) of a band: SCI, ERR and NMEAS, and what writing them takes.
_RESULT = 2 * (4 + 4 + 2)
#: Planes of the subarray, 4 bytes a pixel, that are held meanwhile: what `CombinedSet` has of each pixel, and
#: what the allocator keeps of judging their scatter (for a full frame 270 MiB above `BASE_BYTES`, measured).
_WHOLE_PLANES = 20
_LEAST_BYTES = 16 * 1024**2
#: Larger bands gain no speed.
_LARGEST_BAND = 256 * 1024**2
#: Parts of a band for each processor, so that at its end nobody waits long for the last one.
_PARTS = 4


@dataclass
class SegmentFit:
    """What the second pass found out about each pixel.

    Attributes
    ----------
    planes : Cube of float32, (`kernels.PLANES`, y, x)
        The rate, DN per group; the share of the settling curve; how many sigma the two misfit the ramp; the
        variance of one value, DN^2, without Poisson noise; and for white noise of unit variance the variances
        of rate and share and their covariance; the slope of a straight line through the groups, DN per group;
        and 1 where the ramp is that of the segments. NaN where unknown.
    curve : ndarray of float64, 1D (groups)
        The settling curve, DN; 0 where the detector does not settle.
    fitted : int
        Pixels whose ramp is that of the segments.
    steps : int
        Steps that nobody flagged.
    with_hits : int
        Pixels with more segments than integrations.
    left : int
        Pixels that keep the mean of before.
    """

    planes: Cube
    curve: NDArray[np.float64]
    fitted: int = 0
    steps: int = 0
    with_hits: int = 0
    left: int = 0


def plan_segments(integrations: int, shape: tuple[int, int, int], max_memory: int) -> WindowPlan:
    """Choose bands of rows so that the peak memory of a job stays within a bound.

    Parameters
    ----------
    integrations : int
        Over all exposures of the set.
    shape : (int, int, int)
        (groups, y, x) of an integration.
    max_memory : int
        Bytes for the whole process. A single row is always allowed.

    Examples
    --------
    >>> plan_segments(10, (108, 2048, 2048), 2 * 1024**3)
    WindowPlan(groups=108, rows=16, ngroups=108, ny=2048)
    """
    ngroups, ny, nx = shape
    row = nx * ngroups * (integrations * 5 * _SLOTS + _RESULT)
    held = BASE_BYTES + _WHOLE_PLANES * 4 * ny * nx + digests_size(shape, integrations)
    available = max(max_memory - held, _LEAST_BYTES)
    rows = max(min(available, 2 * _LARGEST_BAND) // row, 1)
    # Bands of about the same height.
    bands = -(-ny // min(rows, ny))
    return WindowPlan(
        groups=ngroups, rows=rows_of_whole_blocks(-(-ny // bands), ny, nx), ngroups=ngroups, ny=ny
    )


def combine_segments(
    integrations: Sequence[Integration],
    into: CombinedSet,
    fit: SegmentFit,
    gain: float,
    left_alone: NDArray[np.bool_],
    plan: WindowPlan,
    progress: Progress,
    threads: int | None = None,
) -> None:
    """Replace the mean ramp of a set by that of the segments, band by band.

    Parameters
    ----------
    integrations : sequence of Integration
    into : CombinedSet
        Of `combine_set`. SCI, ERR and NMEAS of the pixels that are fitted change, and the slope of their
        ramp.
    fit : SegmentFit
        Takes what is found out; its `curve` is used.
    gain : float
        e-/DN.
    left_alone : ndarray of bool, 2D (y, x)
        Pixels that keep their mean.
    plan : WindowPlan
        Of `plan_segments`.
    progress : callable
    threads : int, optional
        Threads that combine; by default one for each processor that this process may use.
    """
    threads = threads or processors()
    count = len(integrations)
    bands = _Bands(into, fit, gain, left_alone, sums_of_curve(fit.curve), count)
    with ExitStack() as stack:
        requests = stack.enter_context(ThreadPoolExecutor(REQUESTS, "request"))
        combining = stack.enter_context(ThreadPoolExecutor(threads, "segments"))
        stack.callback(requests.shutdown, cancel_futures=True)
        reader = WindowReader(integrations, plan.places(count), requests, _SLOTS, quality=True, native=True)
        for done, window in enumerate(reader, start=1):
            bands.combine(window, combining, threads)
            progress(done, plan.windows, "combining segments between hits")
    into.single = 0
    into.unmeasured = bands.unmeasured
    into.total_valid = bands.measured
    into.total_kept = bands.measured - fit.steps


def sums_of_curve(curve: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums over the groups before each that the fits take, 2D (6, groups + 1).

    They are sums of 1, t, t^2, c, c^2 and t c, of time t in groups from the middle of the ramp and curve c.
    """
    time = np.arange(curve.size) - (curve.size - 1) / 2
    sums = np.zeros((6, curve.size + 1))
    terms = (np.ones_like(time), time, time**2, curve, curve**2, time * curve)
    sums[:, 1:] = np.cumsum(terms, axis=1)
    return sums


@dataclass
class _Bands:
    """Combines one band after the other."""

    into: CombinedSet
    fit: SegmentFit
    gain: float
    left_alone: NDArray[np.bool_]
    sums: NDArray[np.float64]
    count: int
    measured: int = 0
    unmeasured: int = 0

    def combine(self, window: Window, combining: ThreadPoolExecutor, threads: int) -> None:
        """Combine a band in parts, and write its results."""
        into, rows = self.into, window.rows
        pixels = window.signal.shape[2]
        mean, error, n_valid = (_read_band(cube, rows) for cube in (into.sci, into.err, into.n_valid))
        planes = np.full((kernels.PLANES, pixels), np.nan, np.float32)
        skip = self.left_alone[rows].reshape(-1)
        most = min(2 * self.count + _MORE_LEVELS, _MOST_LEVELS)
        shared = max(int(np.ceil(SHARED_FLAGS * self.count)), 3)

        def part(first: int, last: int) -> NDArray[np.int64]:
            tally = np.zeros(4, np.int64)
            kernels.fit_pixels(
                window.signal.view(np.float32),
                window.quality,
                self.sums,
                self.fit.curve,
                self.gain,
                shared,
                STEP_LIMIT,
                most,
                skip,
                (first, last),
                mean,
                error,
                n_valid,
                planes,
                tally,
            )
            return tally

        edges = np.linspace(0, pixels, threads * _PARTS + 1).astype(int)
        tally = sum(combining.map(part, edges[:-1], edges[1:]), np.zeros(4, np.int64))
        self._write(rows, mean, error, n_valid, planes)
        fit = self.fit
        fit.fitted += int(tally[0])
        fit.steps += int(tally[1])
        fit.with_hits += int(tally[2])
        fit.left += int(tally[3])

    def _write(
        self,
        rows: slice,
        mean: NDArray[np.float32],
        error: NDArray[np.float32],
        n_valid: NDArray[np.uint16],
        planes: NDArray[np.float32],
    ) -> None:
        into = self.into
        for cube, values in (
            (into.sci, mean),
            (into.err, error),
            (into.n_valid, n_valid),
            (self.fit.planes, planes),
        ):
            cube.write(0, rows.start, values.reshape(len(values), -1, cube.shape[2]))
        self.measured += int(n_valid.sum(dtype=np.int64))
        self.unmeasured += int(np.count_nonzero(n_valid == 0))
        slope = planes[kernels.SLOPE].reshape(-1, into.sci.shape[2])
        fitted = np.isfinite(planes[kernels.FITTED]).reshape(slope.shape)
        into.slope[rows][fitted] = slope[fitted]


def _read_band(cube: Cube, rows: slice) -> NDArray[Any]:
    """Return some rows of all planes, 2D (planes, pixels), in native byte order."""
    return np.stack([cube.rows(plane, rows).reshape(-1) for plane in range(cube.shape[0])])
