"""Walk a set of ramps window by window, and combine them into cubes on disk."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from services.darkref.combine import Combined, drop_after_hit
from services.darkref.cubes import Cube
from services.darkref.modes import Combiner
from services.darkref.windows import WindowPlan
from shared.ramps import Ramp
from shared.stage import Progress


class CombinedSet:
    """What a set of ramps came to; the cubes are scratch files, gone when it is closed.

    Attributes
    ----------
    sci, err : Cube of float32, (groups, y, x)
        Mean and population standard deviation, DN.
    nmeas : Cube of uint16, (groups, y, x)
        Measurements before the clip.
    slopes : Cube of float32, (integrations, y, x)
        Least-squares slope of each integration, DN per group; NaN where it was hit.
    slope : ndarray of float32, 2D (y, x)
        Least-squares slope of SCI over the groups that were measured, DN per group; NaN with fewer
        than two of them.
    used, kept, unmeasured : int
        Measurements before and after the clip; (group, pixel) places without any.
    """

    def __init__(self, scratch: Path, ngroups: int, ny: int, nx: int, integrations: int) -> None:
        self._stack = ExitStack()
        shape = (ngroups, ny, nx)

        def cube(name: str, shape: tuple[int, int, int], dtype: type) -> Cube:
            return self._stack.enter_context(Cube(scratch / f"{name}.raw", shape, dtype))

        self.sci = cube("sci", shape, np.float32)
        self.err = cube("err", shape, np.float32)
        self.nmeas = cube("nmeas", shape, np.uint16)
        self.slopes = cube("slopes", (integrations, ny, nx), np.float32)
        self.slope = np.empty((ny, nx), np.float32)
        self.used = self.kept = self.unmeasured = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


@dataclass(frozen=True)
class Integration:
    """One integration of an open ramp."""

    ramp: Ramp
    index: int


def combine_set(
    integrations: Sequence[Integration],
    into: CombinedSet,
    windows: WindowPlan,
    combine: Combiner,
    sigma: float,
    progress: Progress,
) -> None:
    """Combine integrations, bands of rows outside and groups ascending within.

    That order needs the state of one band only: what was hit, and the running sums.
    """
    ngroups, _, nx = into.sci.shape
    weights = np.arange(ngroups, dtype=np.float64) - (ngroups - 1) / 2
    samples = np.empty((len(integrations), windows.groups, windows.rows, nx), np.float32)
    done = 0
    for rows in windows.row_slices():
        height = rows.stop - rows.start
        hit = np.zeros((len(integrations), height, nx), bool)
        moment = np.zeros((len(integrations), height, nx))
        line = _Line(height, nx)
        for groups in windows.group_slices():
            depth = groups.stop - groups.start
            # Always the same memory, and contiguous also where the last window is smaller.
            window = samples.reshape(-1)[: len(integrations) * depth * height * nx]
            window = window.reshape(len(integrations), depth, height, nx)
            for n, integration in enumerate(integrations):
                window[n] = integration.ramp.read("SCI", integration.index, groups, rows)
                groupdq = integration.ramp.read("GROUPDQ", integration.index, groups, rows)
                drop_after_hit(window[n], groupdq, hit[n], moment[n], weights[groups])
            combined = combine(window, sigma)
            _store(combined, into, groups.start, rows.start)
            line.add(combined, weights[groups])
            done += 1
            progress(done, windows.windows, "combining windows of groups and rows")
        into.slope[rows] = line.slope()
        moment /= np.sum(weights**2)
        moment[hit] = np.nan
        into.slopes.write(0, rows.start, moment.astype(np.float32))


def _store(combined: Combined, into: CombinedSet, group: int, row: int) -> None:
    into.sci.write(group, row, combined.mean)
    into.err.write(group, row, combined.std)
    into.nmeas.write(group, row, combined.used)
    into.used += int(combined.used.sum(dtype=np.int64))
    into.kept += int(combined.kept.sum(dtype=np.int64))
    into.unmeasured += int(np.count_nonzero(combined.used == 0))


class _Line:
    """Least-squares line per pixel through the groups that were measured, from running sums."""

    def __init__(self, ny: int, nx: int) -> None:
        self._n, self._g, self._gg, self._y, self._gy = np.zeros((5, ny, nx))

    def add(self, combined: Combined, position: NDArray[np.float64]) -> None:
        for g, mean, used in zip(position, combined.mean, combined.used, strict=True):
            measured = used > 0
            self._n += measured
            self._g += g * measured
            self._gg += g * g * measured
            # The mean of no measurement is 0, so it adds nothing here.
            self._y += mean
            self._gy += g * mean.astype(np.float64)

    def slope(self) -> NDArray[np.float32]:
        enough = self._n >= 2
        determinant = np.where(enough, self._n * self._gg - self._g**2, 1.0)
        slope = (self._n * self._gy - self._g * self._y) / determinant
        result: NDArray[np.float32] = np.where(enough, slope, np.nan).astype(np.float32)
        return result


def median_ramp(cube: Cube, nmeas: Cube, science: NDArray[np.bool_]) -> list[float]:
    """Return the median of SCI or ERR over the science pixels that were measured, per group, DN.

    A group without any is 0, as SCI and ERR are there.
    """
    medians = []
    for group in range(cube.shape[0]):
        values = cube.plane(group)[science & (nmeas.plane(group) > 0)]
        medians.append(float(np.median(values)) if values.size else 0.0)
    return medians
