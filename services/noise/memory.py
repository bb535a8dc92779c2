"""How much of the memory bound is left, and how the temporal noise of a set fits into it."""

import resource
import sys
from dataclasses import dataclass
from pathlib import Path

from shared.configuration import ConfigurationKey
from shared.errors import EnvironmentFault

#: What the compiled kernels and scipy take once they run, and what the allocator keeps.
_LIBRARIES = 64 * 1024**2
#: Bytes per pixel that `measure_planes` holds, measured (179 of a full frame); it keeps to them for any
#: number of groups and integrations, and spectra are taken while nothing else is at work.
_PER_PIXEL = 181
#: Of them, those that are still held once it is done, and what a plane of variances takes.
_KEPT_PER_PIXEL = 166
#: A window larger than this gains nothing.
_LARGEST_WINDOW = 48 * 1024**2
#: Bytes of a group that are read at once, if there is room: a bucket's store charges by the request.
_PIECE = 1024**2
#: Windows in memory: one is worked on while the next is read.
IN_FLIGHT = 2
# Bytes a pixel of a window of rows, as `services.noise.temporal` holds them: sums and flags of each ramp;
# SCI and GROUPDQ of each ramp and group; the variance of each group.
_STATE_PER_RAMP = 8 + 8 + 1
_SAMPLE_PER_RAMP = (4 + 1) * IN_FLIGHT
_VARIANCE = 4 * IN_FLIGHT
#: What is always allowed, so that a bound below the interpreter's own size still lets a subarray through.
_FLOOR = 48 * 1024**2


def resident() -> int:
    """Return the bytes of memory that this process holds now."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    # Elsewhere only the peak so far is known, in kilobytes but on macOS.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@dataclass(frozen=True)
class Windows:
    """How temporal noise is measured within a bound.

    Attributes
    ----------
    rows, groups : int
        Rows and groups of all ramps that are in memory at once.
    """

    rows: int
    groups: int


def plan(key: ConfigurationKey, ramps: int, max_memory: int, used: int, further: int = 0) -> Windows:
    """Return the windows that keep the noise of a set within `max_memory`.

    Neither what is measured nor its last digit depends on them.

    Parameters
    ----------
    key : ConfigurationKey
    ramps : int
    max_memory, used : int
        The bound, and what the process holds before it begins, bytes.
    further : int
        Bytes a pixel that are held beside what every set takes, from the first pass to the end.

    Raises
    ------
    EnvironmentFault
        If the bound is too small for even one group of all pixels; says how much is needed.
    """
    pixels = key.subsize1 * key.subsize2
    left = max(max_memory - used - _LIBRARIES, _FLOOR)
    if (_PER_PIXEL + further) * pixels > left:
        needed = (used + _LIBRARIES + (_PER_PIXEL + further) * pixels) // 1024**2 + 1
        raise EnvironmentFault(
            f"{key.slug}: noise needs {needed} MiB for {key.subsize1} x {key.subsize2} pixels, but may use "
            f"{max_memory // 1024**2} MiB: raise --max-memory (DARKS_MAX_MEMORY)"
        )
    left = max(left - (_KEPT_PER_PIXEL + further) * pixels, _FLOOR)

    def room(rows: int) -> int:
        window = rows * key.subsize1
        return (left - window * _STATE_PER_RAMP * ramps) // (window * (_SAMPLE_PER_RAMP * ramps + _VARIANCE))

    rows = min(-(-_PIECE // (4 * key.subsize1)), key.subsize2)
    while rows > 1 and room(rows) < 1:
        rows = -(-rows // 2)
    worth = _LARGEST_WINDOW // (rows * key.subsize1 * 5 * ramps)
    return Windows(rows, min(max(min(room(rows), worth), 1), key.ngroups))
