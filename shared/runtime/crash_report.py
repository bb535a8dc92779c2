"""What is known about a failed job, written down for whoever finds its message among the dead letters."""

import functools
import platform
import signal
import socket
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from shared.runtime.logs import without_credentials

#: Longest report in characters: a dead letter carries it in a header.
LONGEST = 16_000
_LONGEST_PART = 6_000
_DISTRIBUTIONS = ("nircam-darks", "jwst")
#: Linux's count of processes killed for lack of memory, which psutil does not give.
_VM_STATISTICS = Path("/proc/vmstat")


@dataclass(frozen=True)
class CrashReport:
    """How a job failed, and under which circumstances.

    Attributes
    ----------
    how : str
        What happened, in one line.
    service, message_id : str
    pid : int
        Of the job's process.
    seconds : float
        How long the job had run.
    peak_memory : int
        The most memory in bytes that its process was seen to hold, during this job and earlier ones; 0 if it
        ended before anybody looked.
    progress : str
        Its last progress report; empty if it made none.
    stack : str
        Stack of each of the process's threads when it died or was about to be killed, as `faulthandler`
        writes it.
    traceback : str
        Of the exception, if one led to the failure.
    """

    how: str
    service: str
    message_id: str
    pid: int
    seconds: float
    peak_memory: int = 0
    progress: str = ""
    stack: str = ""
    traceback: str = ""

    def text(self) -> str:
        """Return the report in lines, without credentials, in at most `LONGEST` characters."""
        memory = f"{self.peak_memory / 2**20:.0f} MiB" if self.peak_memory else "not seen"
        lines = [
            f"what happened: {_bounded(self.how, 2000)}",
            f"job: {self.service}, message {self.message_id}",
            f"ran for: {self.seconds:.1f} s",
            f"progress at the end: {_bounded(self.progress, 500) or 'none reported'}",
            f"peak memory of its process: {memory}",
            f"process: pid {self.pid} on {socket.gethostname()}",
            f"versions: {versions()}",
        ]
        # The calls nearest to the fault come first in a stack, and last in a traceback.
        if self.stack:
            lines += ["stack of each thread, most recent call first:", _bounded(self.stack, _LONGEST_PART)]
        if self.traceback:
            lines += ["traceback:", _bounded(self.traceback, _LONGEST_PART, keep_end=True)]
        return without_credentials("\n".join(lines))[:LONGEST]


@functools.cache
def versions() -> str:
    """Return the versions that a job's result depends on, in one line."""
    installed = []
    for name in _DISTRIBUTIONS:
        try:
            installed.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            installed.append(f"{name} not installed")
    return ", ".join([*installed, f"python {platform.python_version()}"])


def kernel_kills(statistics: Path = _VM_STATISTICS) -> int | None:
    """Return the number of processes that the kernel has killed for lack of memory; None if unknown."""
    try:
        for line in statistics.read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    except (OSError, ValueError):
        return None
    return None


def how_it_died(code: int, kernel_killed: bool) -> str:
    """Return in words how a process ended that we did not end ourselves.

    Parameters
    ----------
    code : int
        Its exit code; negative for a signal, as in `subprocess`.
    kernel_killed : bool
        Whether the kernel killed a process for lack of memory meanwhile.
    """
    if code >= 0:
        return f"ended its process with exit code {code}; see the log"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    if -code == signal.SIGKILL:
        advice = (
            "out of memory: the kernel killed a process for lack of it meanwhile; "
            if kernel_killed
            else "out of memory? none of our own limits was exceeded; "
        ) + "lower --jobs or --max-memory, or give the machine more"
    elif -code == signal.SIGTERM:
        advice = "stopped from outside; run it again"
    else:
        advice = "a fault in compiled code; report it with the log"
    return f"was killed by signal {-code} ({name}): {advice}"


def _bounded(text: str, longest: int, keep_end: bool = False) -> str:
    text = text.strip()
    if len(text) <= longest:
        return text
    return f"[...]\n{text[-longest:]}" if keep_end else f"{text[:longest]}\n[...]"
