"""How much of the memory bound is left, and how the temporal noise of a set fits into it."""

import resource
import sys
from dataclasses import dataclass
from pathlib import Path

from services.noise.slopes import RampVariance
from shared.configuration import ConfigurationKey
from shared.errors import EnvironmentFault

#: What the compiled kernels and scipy take once they run, and what the allocator keeps.
_LIBRARIES = 64 * 1024**2
#: Bytes per pixel that `measure_planes` holds, measured.
_PER_PIXEL = 115
#: Bytes per pixel and number of groups while variances are drawn from their sums, besides the sums.
_DRAWING = 50
#: Bytes per sample of a window that is being read: FITS bytes, native values and masks.
_READING = 18
_CACHE_FRIENDLY = 64 * 1024**2
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
    slopes : int
        How many numbers of groups are done in one go; the ramps are read again for the next.
    rows : int
        Rows of all groups of a ramp that are read at once.
    """

    slopes: int
    rows: int


def plan(key: ConfigurationKey, max_memory: int, used: int) -> Windows:
    """Return the windows that keep the noise of a set within `max_memory`.

    Neither what is measured nor its last digit depends on them.

    Parameters
    ----------
    key : ConfigurationKey
    max_memory, used : int
        The bound, and what the process holds before it begins, bytes.

    Raises
    ------
    EnvironmentFault
        If the bound is too small for even one group of all pixels; says how much is needed.
    """
    pixels = key.subsize1 * key.subsize2
    left = max(max_memory - used - _LIBRARIES, _FLOOR)
    if _PER_PIXEL * pixels > left:
        needed = (used + _LIBRARIES + _PER_PIXEL * pixels) // 1024**2 + 1
        raise EnvironmentFault(
            f"{key.slug}: noise needs {needed} MiB for {key.subsize1} x {key.subsize2} pixels, but may use "
            f"{max_memory // 1024**2} MiB: raise --max-memory (DARKS_MAX_MEMORY)"
        )
    slopes = min(max(left * 6 // 10 // (4 * pixels), 1), max(key.ngroups - 1, 1))
    per_row = key.subsize1 * (slopes * (RampVariance.BYTES + _DRAWING) + key.ngroups * _READING)
    rows = min(max(min(left * 3 // 10, _CACHE_FRIENDLY) // per_row, 1), key.subsize2)
    return Windows(slopes, rows)
