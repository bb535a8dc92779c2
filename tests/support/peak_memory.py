"""The most memory that a program ever held, as the kernel counted it.

Not `ru_maxrss`: that survives `exec`, so it begins with what the process that started the program held
(getrusage(2) says nothing of it; the kernel's `setmax_mm_hiwater_rss` in `exec_mmap` does it). A child of a
pytest worker of 1.5 GiB then seems to have held 1.5 GiB, whatever it did. `VmHWM` of a process starts anew
with each program.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.paths import TESTS

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="no /proc: peak memory cannot be read"
)

_PRINT_PEAK = """
from pathlib import Path
(_peak,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
print(int(_peak.split()[1]) * 1024)
"""


def peak_of(code: str, *arguments: object, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Run Python code in a process of its own; return the bytes at its peak, and what it printed.

    The code finds `arguments` in `sys.argv[1:]`, and the tests' `support` on its path.
    """
    done = subprocess.run(
        [sys.executable, "-c", "import sys\n" + code + _PRINT_PEAK, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**(os.environ if environment is None else environment), "PYTHONPATH": str(TESTS)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *printed, peak = done.stdout.splitlines()
    return int(peak), "\n".join(printed)
