"""What is known of a job that failed, written down for whoever finds its message among the dead letters."""

import functools
import platform
import signal
import socket
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from shared.logs import without_credentials

#: Longest evidence in characters: a dead letter carries it in a header.
LONGEST = 16_000
_LONGEST_PART = 6_000
_DISTRIBUTIONS = ("nircam-darks", "jwst")
_VM_STATISTICS = Path("/proc/vmstat")


@dataclass(frozen=True)
class Evidence:
    """How a job failed, and in which circumstances.

    Attributes
    ----------
    how : str
        What became of it, in one line.
    service, message_id : str
    pid : int
        Of the job's process.
    seconds : float
        How long the job had run.
    peak_memory : int
        Most bytes of memory that its process was seen to hold, this job and those before; 0 if nobody
        looked before it ended.
    progress : str
        The last that it reported of itself; empty if it reported nothing.
    stack : str
        Stack of each of the process's threads when it died or was about to be killed, as `faulthandler`
        writes it.
    traceback : str
        Of the exception, where one led to the failure.
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
        """Return it in lines, without credentials, in `LONGEST` characters at most."""
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
        # The calls nearest to the fault stand first in a stack, and last in a traceback.
        if self.stack:
            lines += ["stack of each thread, most recent call first:", _bounded(self.stack, _LONGEST_PART)]
        if self.traceback:
            lines += ["traceback:", _bounded(self.traceback, _LONGEST_PART, keep_end=True)]
        return without_credentials("\n".join(lines))[:LONGEST]


@functools.cache
def versions() -> str:
    """Return the versions that a job's result depends on, in one line."""
    found = []
    for name in _DISTRIBUTIONS:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"{name} not installed")
    return ", ".join([*found, f"python {platform.python_version()}"])


def kernel_kills(statistics: Path = _VM_STATISTICS) -> int | None:
    """Return how many processes this machine's kernel has killed for want of memory; None if unknown."""
    try:
        for line in statistics.read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    except (OSError, ValueError):
        return None
    return None


def how_it_died(code: int, kernel_killed: bool) -> str:
    """Say in words how a process ended that nobody of ours ended.

    Parameters
    ----------
    code : int
        Its exit code; negative for a signal, as `subprocess` has it.
    kernel_killed : bool
        Whether the kernel killed a process for want of memory meanwhile.
    """
    if code >= 0:
        return f"ended its process with exit code {code}; see the log"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    if -code == signal.SIGKILL:
        advice = (
            "out of memory: the kernel killed a process for want of it meanwhile; "
            if kernel_killed
            else "out of memory? no limit of ours was passed; "
        ) + "lower --jobs or --max-memory, or give the machine more"
    elif -code == signal.SIGTERM:
        advice = "stopped from outside; run again"
    else:
        advice = "a fault in compiled code; report it with the log"
    return f"was killed by signal {-code} ({name}): {advice}"


def _bounded(text: str, longest: int, keep_end: bool = False) -> str:
    text = text.strip()
    if len(text) <= longest:
        return text
    return f"[...]\n{text[-longest:]}" if keep_end else f"{text[:longest]}\n[...]"
