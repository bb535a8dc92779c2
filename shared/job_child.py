"""One job process as its parent holds it: the pipe, a file for its last words, and its end."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from multiprocessing import Pipe
from pathlib import Path
from typing import IO

from shared.job_process import DUMP_SIGNAL, Setup

# Ctrl-C is for the parent, which lets the job finish or ends it: ignored from the first statement on.
_PROGRAM = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "sys.path[:] = {path!r}; from shared.job_process import main; main({pipe}, {life}, {words})"
)
_STANDARD_ERROR = 2
_LONGEST_WORDS = 64_000
#: Seconds that a process gets to write its stacks down, and between two looks whether it did.
_DUMP_PATIENCE = 0.5
_DUMP_LOOK = 0.02


class Child:
    """One process. Its life is bound to this one's: it ends when this process does, however that is.

    Parameters
    ----------
    setup : Setup
        What it is told first.
    environment : mapping of str to str
        Added to this process's environment.
    """

    def __init__(self, setup: Setup, environment: Mapping[str, str]) -> None:
        self.peak_memory = 0
        self.pipe, theirs = Pipe()
        # Nothing is ever written to it: it is read to learn that the parent is gone, or done with it.
        ends_with, self._life = os.pipe()
        self._words = _nameless_file()
        self._last_words = ""
        self._lock = threading.Lock()
        fds = (theirs.fileno(), ends_with, self._words)
        program = _PROGRAM.format(path=sys.path, pipe=fds[0], life=fds[1], words=fds[2])
        try:
            with _output(setup) as log:
                self.process = subprocess.Popen(
                    [sys.executable, "-c", program],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=fds,
                    env={**os.environ, **environment},
                    # A terminal's Ctrl-C goes to the parent's group; and what a job starts ends with it.
                    process_group=0,
                )
        except OSError:
            self.let_go()
            self._collect()
            raise
        finally:
            theirs.close()
            os.close(ends_with)
        with contextlib.suppress(OSError):
            self.pipe.send(setup)

    def memory(self) -> int:
        """Return the bytes of memory in use, and note the peak; 0 where the system does not tell."""
        try:
            said = Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            return 0
        sizes = {}
        for line in said.splitlines():
            name, _, rest = line.partition(":")
            if name in ("VmHWM", "VmRSS"):
                sizes[name] = int(rest.split()[0]) * 1024
        self.peak_memory = max(self.peak_memory, sizes.get("VmHWM", 0))
        return sizes.get("VmRSS", 0)

    def dump_stacks(self) -> None:
        """Have a process that is about to be killed write down where each of its threads is."""
        self.process.send_signal(DUMP_SIGNAL)
        written, end = 0, time.monotonic() + _DUMP_PATIENCE
        # Nothing tells that the last line is there, but that no other comes.
        while time.monotonic() < end:
            time.sleep(_DUMP_LOOK)
            before, written = written, os.fstat(self._words).st_size
            if before == written > 0:
                return

    @property
    def last_words(self) -> str:
        """The stacks that it wrote down by the time of its end; empty if there are none."""
        return self._last_words

    def let_go(self) -> None:
        """Tell it to end: at once, whatever it does."""
        self.pipe.close()
        with self._lock:
            self._life = _closed(self._life)

    def end(self, grace: float) -> int:
        """End the process, by force after `grace` seconds; return its exit code."""
        if grace > 0:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(grace)
        if self.process.poll() is None:
            # Not yet reaped, so the number is still this process's own group.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        code = self.process.wait()
        self._collect()
        return code

    def _collect(self) -> None:
        with self._lock:
            if self._words >= 0:
                self._last_words = os.pread(self._words, _LONGEST_WORDS, 0).decode(errors="replace")
            self._words, self._life = _closed(self._words), _closed(self._life)


def _closed(fd: int) -> int:
    if fd >= 0:
        os.close(fd)
    return -1


def _nameless_file() -> int:
    if sys.platform == "linux":
        # A container may have no disk that can be written to.
        return os.memfd_create("darks-last-words")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _output(setup: Setup) -> contextlib.AbstractContextManager[IO[bytes] | int]:
    """Return where a job's standard output and error go: not among the lines of its parent's output."""
    if setup.log is not None and setup.log_file is None:
        return contextlib.nullcontext(_STANDARD_ERROR)
    return (setup.log_file or Path(os.devnull)).open("ab")
