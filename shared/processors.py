"""How many processors a job may count on."""

import os

#: More do not help: what a job reads and writes does not come any faster.
_MOST = 16


def processors() -> int:
    """Return how many processors this process may use."""
    return min(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, _MOST
    )
