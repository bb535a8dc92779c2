"""Temporal noise: how the slopes of a pixel vary from ramp to ramp, for every number of groups.

The ramps of a set are read band by band of rows, and in a band in ascending order of groups. All ramps
advance together, so that only their running sums are held, whatever the number of groups. Threads read the
next window while all processors work on this one.
"""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.noise.effective.effective_noise import MINIMUM_PER_PIXEL
from services.noise.effective.slopes import BLOCK, RampSums, variances_over_ramps
from services.noise.memory_plan import SLOTS
from shared.nircam.configuration import ConfigurationKey
from shared.nircam.dq import PixelFlag
from shared.nircam.geometry import amplifiers, science_pixels
from shared.processors import processors
from shared.ramps.cube import Cube
from shared.ramps.window_plan import WindowPlan
from shared.ramps.window_reader import REQUESTS, Integration, Window, WindowReader, wait_all
from shared.statistics.medians import median
from shared.statistics.robust import variance_median_factor

#: Parts of a window per processor.
_PARTS = 4
#: Most threads that compute medians at once; each holds one or two planes.
_MOST_THREADS = 4


def temporal_sigmas(
    ramps: Sequence[Integration],
    key: ConfigurationKey,
    plan: WindowPlan,
    scratch: Path,
    tick: Callable[[], None],
) -> NDArray[np.float64]:
    """Return the temporal noise of slope_n: the root of the median over pixels of its variance over ramps.

    The variance of a pixel is over the ramps whose first n groups are unflagged, at least
    `MINIMUM_PER_PIXEL` of them, and is corrected for the median of a sample variance of so many
    (`variance_median_factor`).

    Parameters
    ----------
    ramps : sequence of Integration
    key : ConfigurationKey
        Of all ramps.
    plan : WindowPlan
        Rows and groups that are held at once.
    scratch : Path
        Folder for a temporary file.
    tick : callable
        Called after every window.

    Returns
    -------
    ndarray of float64, 2D (numbers of groups from 2 on, amplifiers)
        DN/group; NaN where no pixel has enough ramps.
    """
    file = scratch / "variances.raw"
    shape = (key.ngroups, key.subsize2, key.subsize1)
    threads = processors()
    with ExitStack() as stack:
        stack.callback(file.unlink, missing_ok=True)
        cube = stack.enter_context(Cube(file, shape, np.float32, as_fits=False))
        working = stack.enter_context(ThreadPoolExecutor(threads, "variance"))
        requests = stack.enter_context(ThreadPoolExecutor(REQUESTS, "request"))
        stack.callback(requests.shutdown, cancel_futures=True)
        factors = variance_median_factor(np.arange(len(ramps) + 1))
        written: deque[Future[None]] = deque()
        band = _BandSums(ramps, key, plan)
        for window in WindowReader(ramps, plan.places(len(ramps)), requests, SLOTS, quality=True):
            pixels = window.signal.shape[2]
            step = -(-pixels // (threads * _PARTS * BLOCK)) * BLOCK
            parts = [slice(at, min(at + step, pixels)) for at in range(0, pixels, step)]
            if len(written) == SLOTS:
                # The variances of this window go where those of that one were.
                written.popleft().result()
            sums, variances = band.of(window), band.variances(window)
            assert window.quality is not None
            wait_all(
                [
                    working.submit(
                        variances_over_ramps,
                        window.signal,
                        window.quality,
                        window.groups.start,
                        sums,
                        factors,
                        MINIMUM_PER_PIXEL,
                        part,
                        variances,
                    )
                    for part in parts
                ]
            )
            stored = variances.reshape(len(variances), -1, key.subsize1)
            # Written while the next window is worked on.
            written.append(requests.submit(cube.write, window.groups.start, window.rows.start, stored))
            tick()
        wait_all(written)

        def by_amplifier(group: int) -> list[float]:
            plane = cube.plane(group)
            return [float(np.sqrt(median(plane[:, columns].reshape(-1)))) for columns in amplifiers(key)]

        medians = stack.enter_context(ThreadPoolExecutor(min(threads, _MOST_THREADS), "median"))
        return np.array(list(medians.map(by_amplifier, range(1, key.ngroups))))


class _BandSums:
    """The running sums of a band of rows, in memory that is allocated once, and results for each slot."""

    def __init__(self, ramps: Sequence[Integration], key: ConfigurationKey, plan: WindowPlan) -> None:
        self._ramps = ramps
        self._science = science_pixels(key)
        count, pixels = len(ramps), plan.rows * key.subsize1
        self._total, self._weighted = np.empty((2, count * pixels))
        self._alive = np.empty(count * pixels, np.bool_)
        self._variances = [np.empty(plan.groups * pixels, np.float32) for _ in range(SLOTS)]

    def of(self, window: Window) -> RampSums:
        """Return the sums of a window's band; at its start they are zero, and usable pixels alive."""
        count, _, pixels = window.signal.shape
        sums = RampSums(
            self._total[: count * pixels].reshape(count, pixels),
            self._weighted[: count * pixels].reshape(count, pixels),
            self._alive[: count * pixels].reshape(count, pixels),
        )
        if window.starts_band:
            self._start(window.rows, sums)
        return sums

    def variances(self, window: Window) -> NDArray[np.float32]:
        """Return where the variances of a window go, 2D (groups, pixels)."""
        _, depth, pixels = window.signal.shape
        return self._variances[window.slot][: depth * pixels].reshape(depth, pixels)

    def _start(self, rows: slice, sums: RampSums) -> None:
        sums.total[:] = 0
        sums.weighted[:] = 0
        exposures = {id(integration.ramp): integration.ramp for integration in self._ramps}
        usable = {
            name: (
                self._science[rows] & (ramp.read_image("PIXELDQ", rows) & PixelFlag.DO_NOT_USE.mask == 0)
            ).ravel()
            for name, ramp in exposures.items()
        }
        for alive, integration in zip(sums.alive, self._ramps, strict=True):
            alive[:] = usable[id(integration.ramp)]
