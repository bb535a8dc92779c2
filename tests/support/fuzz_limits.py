"""How many inputs a fuzz test draws, and how long an input may take."""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

#: Inputs of each kind, from the environment: `FUZZ_INPUTS=10000 pytest tests/fuzz`.
FUZZ_INPUTS = "FUZZ_INPUTS"
#: The first of them that is tried: what comes before is drawn and passed over.
FUZZ_FIRST = "FUZZ_FIRST"
SEED = 18


class Hang(BaseException):
    """An input took longer than a job may; no handler of errors takes it for one of its own."""


def inputs(default: int, in_ci: int | None = None) -> int:
    """Return how many inputs to draw: what the environment says; else in CI `in_ci`; else `default`."""
    if in_ci is not None and os.environ.get("CI") == "true":
        default = in_ci
    return int(os.environ.get(FUZZ_INPUTS, default))


def first_input() -> int:
    """Return the number of the first input to try."""
    return int(os.environ.get(FUZZ_FIRST, 0))


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `Hang` if the context takes more seconds of processor time."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
