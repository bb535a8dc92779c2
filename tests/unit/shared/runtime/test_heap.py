"""The allocator's memory is reused only while that is asked for, as a process of its own shows."""

import subprocess
import sys

import pytest

from shared.runtime.python_child import python_command, python_environment

#: Makes and frees arrays of 40 MiB, ten by each of two threads; prints the page faults that took.
_ARRAYS = """
import resource, sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from shared.runtime.heap import reusing_memory, share_one_heap
share_one_heap()
def fill(_):
    for _ in range(10):
        np.ones(10 * 1024**2, np.float32)
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(fill, range(2)))
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
usual = faults()
with reusing_memory():
    reused = faults()
resident = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
print(usual, reused, faults(), resident)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator, which Linux has")
def test_memory_is_reused_meanwhile_and_given_back_at_the_end():
    # When two threads make and free large arrays before, while and after memory is reused
    child = subprocess.run(
        python_command("-c", _ARRAYS),
        env={**python_environment(), "NUMPY_MADVISE_HUGEPAGE": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    usual, reused, after, resident = map(int, child.stdout.split())
    # Then the pages of twenty arrays are faulted in before and after, and those of a few meanwhile
    assert usual > 15 * 10240
    assert reused < 5 * 10240
    assert after > 15 * 10240
    # And nothing of them is still held
    assert resident < 80 * 1024**2
