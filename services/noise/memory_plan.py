"""How much of the memory bound is left for the noise of a set, and the windows that fit into it."""

import psutil

from shared.errors import EnvironmentFault
from shared.nircam.configuration import ConfigurationKey
from shared.ramps.window_plan import WindowCost, WindowPlan, plan_windows

#: Bytes that the compiled kernels and scipy take once they run, and that the allocator keeps.
_LIBRARIES = 64 * 1024**2
#: Bytes per pixel that `measure_first_pass` holds, whatever the number of groups and integrations: measured
#: 179 on a full frame. Spectra are taken while nothing else is at work.
_PER_PIXEL = 181
#: Of them, those that are still held afterwards, and what a plane of variances takes.
_KEPT_PER_PIXEL = 166
#: Windows in memory: one is worked on while the next is read.
SLOTS = 2
#: What `services.noise.effective.temporal` holds: of each (ramp, group, pixel) SCI and GROUPDQ, of each
#: (group, pixel) a variance, of each (ramp, pixel) two sums and whether it is still used.
_COST = WindowCost(sample=(4 + 1) * SLOTS, result=4 * SLOTS, per_integration=8 + 8 + 1, stored=4 + 1)
#: Always allowed, so that a bound below the size of the interpreter still lets a subarray through.
_FLOOR = 48 * 1024**2


def resident_memory() -> int:
    """Return the bytes of memory that this process holds now."""
    return int(psutil.Process().memory_info().rss)


def plan_noise(key: ConfigurationKey, ramps: int, max_memory: int, used: int, further: int = 0) -> WindowPlan:
    """Choose windows that keep the noise of a set within a bound; results do not depend on them.

    Parameters
    ----------
    key : ConfigurationKey
    ramps : int
        Integrations of the set.
    max_memory, used : int
        The bound, and what the process holds before it starts, bytes.
    further : int
        Bytes per pixel that are held from the first pass to the end besides what every set takes.

    Raises
    ------
    EnvironmentFault
        If the bound is too small for even one group of all pixels; says how much is needed.
    """
    shape = key.ngroups, key.subsize2, key.subsize1
    pixels = key.subsize1 * key.subsize2
    available = max(max_memory - used - _LIBRARIES, _FLOOR)
    if (_PER_PIXEL + further) * pixels > available:
        needed = (used + _LIBRARIES + (_PER_PIXEL + further) * pixels) // 1024**2 + 1
        raise EnvironmentFault(
            f"{key.slug}: noise needs {needed} MiB for {key.subsize1} x {key.subsize2} pixels, but may use "
            f"{max_memory // 1024**2} MiB: raise --max-memory (DARKS_MAX_MEMORY)",
            setting="--max-memory",
        )
    available = max(available - (_KEPT_PER_PIXEL + further) * pixels, _FLOOR)
    return plan_windows(shape, ramps, available, _COST)
