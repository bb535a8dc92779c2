"""Combine ramps that are arrays in memory as a job of darkref does, judging of scatter included."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.darkref.combine.combine_set import CombinedSet, combine_set
from services.darkref.combine.methods import mode_named
from services.darkref.combine.pooled_errors import judge_scatter
from services.darkref.combine.unclipped import ClippedPlaces
from services.darkref.combine.windows import plan_combine
from services.darkref.measure.bad_pixels import Thresholds
from shared.ramps.cube import Cube
from shared.ramps.window_reader import Integration

GAIN, GROUP_TIME = 1.84, 10.73677


class MemoryRamp:
    """A ramp as `combine_set` reads it, of arrays (groups, y, x)."""

    def __init__(self, data: NDArray[np.float32], groupdq: NDArray[np.uint8]) -> None:
        self._arrays = {"SCI": np.asarray(data, ">f4")[None], "GROUPDQ": groupdq[None]}

    def shape(self, extension: str = "SCI") -> tuple[int, ...]:
        return self._arrays[extension].shape

    def read_stored(self, extension, index, groups, rows, into) -> None:
        part = np.ascontiguousarray(self._arrays[extension][index, groups, rows])
        into.reshape(-1).view(np.uint8)[:] = part.reshape(-1).view(np.uint8)


@contextmanager
def combined_in_flight_mode(
    folder: Path,
    data: NDArray[np.floating],
    groupdq: NDArray[np.uint8] | None = None,
    science: NDArray[np.bool_] | None = None,
    judged: bool = True,
) -> Iterator[CombinedSet]:
    """Combine ramps, (integrations, groups, y, x) in DN, and judge the scatter of their pixels."""
    count, *shape = data.shape
    groupdq = np.zeros(data.shape, np.uint8) if groupdq is None else groupdq
    science = np.ones(shape[1:], bool) if science is None else science
    folder.mkdir(exist_ok=True)
    with ExitStack() as stack:

        def cube(name, planes, dtype):
            return stack.enter_context(Cube(folder / name, (planes, *shape[1:]), dtype))

        combined = CombinedSet(
            cube("sci", shape[0], np.float32),
            cube("err", shape[0], np.float32),
            cube("n_valid", shape[0], np.uint16),
            cube("slopes", count, np.float32),
            clipped=stack.enter_context(ClippedPlaces(folder / "clipped")),
        )
        ramps = [Integration(MemoryRamp(ramp, flags), 0) for ramp, flags in zip(data, groupdq, strict=True)]
        plan = plan_combine(count, shape, 2 << 30, pedestals=True)
        combine_set(ramps, combined, plan, mode_named("flight"), 3.0, folder, lambda *_: None)
        if judged:
            limits = Thresholds()
            hot = limits.hot_e_per_s * GROUP_TIME / GAIN
            judge_scatter(combined, science, GAIN, limits.noisy_noise, hot)
        yield combined


def planes_of(cube: Cube) -> NDArray:
    """Return a cube in memory."""
    return np.array([cube.plane(n) for n in range(cube.shape[0])])
