"""How many processors a job may use."""

import psutil

#: More do not help: what a job reads and writes does not arrive any faster.
_MOST = 16


def processors() -> int:
    """Return the number of processors that this process may use, at most 16.

    The process's affinity counts where the system has one (Linux: also what `taskset` and cpusets allow),
    so that jobs on a shared machine do not start more threads than they can run.
    """
    process = psutil.Process()
    available = len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else psutil.cpu_count() or 1
    return min(available, _MOST)
