"""Kernels are compiled once, also where the program's own folder cannot be written to."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from shared.statistics import jit

MODULE = """
from shared.statistics.jit import kernel


@kernel
def add(a, b):
    return a + b
"""
PROGRAM = """
import tempfile, os
from pathlib import Path
import numba.core.caching as caching


def nowhere(self):
    # As on a read-only file system, which root does not notice.
    if not str(self.get_cache_path()).startswith({writable!r}):
        raise OSError(30, "Read-only file system")
    os.makedirs(self.get_cache_path(), exist_ok=True)


caching._CacheLocator.ensure_cache_path = nowhere
import {module}
assert {module}.add(1, 2) == 3
print(sum({module}.add.stats.cache_hits.values()))
"""


def _run(folder: Path, writable: Path, **environment: str) -> int:
    """Load and call a kernel in a process that can write to one folder only; say how often it was found."""
    program = PROGRAM.format(writable=str(writable), module="a_kernel")
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(folder), "TMPDIR": str(writable), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "a_kernel.py").write_text(MODULE)
    return tmp_path / "code"


def test_in_a_read_only_container_kernels_are_kept_in_the_temporary_folder(folder: Path, tmp_path: Path):
    # Given only a temporary folder to write to
    writable = tmp_path / "tmp"
    writable.mkdir()
    # When the first process compiles, Then the second finds what it left
    assert _run(folder, writable) == 0
    assert _run(folder, writable) == 1
    [kept] = writable.iterdir()
    assert kept.stat().st_mode & 0o077 == 0


def test_a_folder_of_another_that_everybody_may_write_to_is_not_trusted(folder: Path, tmp_path: Path):
    # Given a folder under our own name that others may write to
    writable = tmp_path / "tmp"
    planted = writable / f"nircam-darks-{os.getuid()}-kernels"
    planted.mkdir(parents=True)
    planted.chmod(0o777)
    # When, Then
    assert _run(folder, writable) == 0
    assert not any(planted.iterdir())


def test_the_folder_of_the_environment_comes_first(folder: Path, tmp_path: Path):
    chosen = tmp_path / "chosen"
    for hits in (0, 1):
        assert _run(folder, chosen, NUMBA_CACHE_DIR=str(chosen)) == hits


@pytest.mark.parametrize(
    ("before", "after"), [("return b", "return b + FACTOR - 1"), ("FACTOR = 1", "FACTOR = 1.0")]
)
def test_a_kernel_is_compiled_anew_when_what_it_imports_changed(
    folder: Path, tmp_path: Path, before: str, after: str
):
    # Given a kernel in the cache, with one of another module and a number of a third compiled in
    part, number = folder / "a_part.py", folder / "a_number.py"
    number.write_text("FACTOR = 1\n")
    part.write_text(
        "from a_number import FACTOR\nfrom shared.statistics.jit import kernel\n\n\n"
        "@kernel\ndef part(b):\n    return b\n"
    )
    (folder / "a_kernel.py").write_text(
        "from a_number import FACTOR\nfrom a_part import part\nfrom shared.statistics.jit import kernel\n\n\n"
        "@kernel\ndef add(a, b):\n    return a + FACTOR * part(b)\n"
    )
    kept = tmp_path / "kept"
    assert [_run(folder, kept, NUMBA_CACHE_DIR=str(kept)) for _ in range(2)] == [0, 1]
    # When one of the two changes, Then what was kept is void
    for file in (part, number):
        file.write_text(file.read_text().replace(before, after))
    assert [_run(folder, kept, NUMBA_CACHE_DIR=str(kept)) for _ in range(2)] == [0, 1]


def test_numba_is_used_through_its_public_names():
    source = Path(jit.__file__).read_text()
    assert not re.findall(r"\._[a-z]\w*", source)
