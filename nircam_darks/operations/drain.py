"""Let the services finish what they have, and hold what comes."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from shared.broker.rabbitmq.holding import Hold
from shared.broker.rabbitmq.queues import STATISTICS_SECONDS, QueueReader, QueueState
from shared.broker.rabbitmq.settings import BrokerSettings
from shared.broker.rabbitmq.wire import DELAY_STEPS, LONG_DELAY, delay_queue

# The longest delay of a worker's retry is in the step before the last; what waits longer is a set's check.
_RETRIES = {delay_queue(str(step)) for step in DELAY_STEPS[:-1]}
_CHECKS = {delay_queue(str(DELAY_STEPS[-1])), delay_queue(LONG_DELAY)}

# Shorter than the shortest delay, so that no retry hides between two looks.
_LOOK_SECONDS = 0.5
#: For how long nothing may be seen at work before it is believed. A message goes only from one queue to
#: the next, and is in the next before it leaves the first; so once all figures, however old, were zero
#: for as long as they can be old, nothing is left.
IDLE_SECONDS = STATISTICS_SECONDS + 2.0


@dataclass(frozen=True)
class Drained:
    """How a drain ended.

    Attributes
    ----------
    drained : bool
        False if the time was over before.
    seconds : float
    held : int
        Announcements that wait by now.
    checks : int
        Checks of sets that wait for their time, at the broker; they stay.
    left : list of QueueState
        Where work is left.
    """

    drained: bool
    seconds: float
    held: int
    checks: int
    left: list[QueueState]

    @property
    def text(self) -> str:
        """For a person."""
        said = "drained" if self.drained else f"not drained in {self.seconds:.0f} s: {_said(self.left)}"
        staying = f"; {self.checks} checks of sets wait for their time and stay" if self.checks else ""
        return (
            f"{said}; {self.held} announcements are held{staying}; `nircam-darks drain --resume` lets them in"
        )


def drain(
    settings: BrokerSettings,
    tell: Callable[[str], None],
    timeout: float | None = None,
    idle: float = IDLE_SECONDS,
) -> Drained:
    """Hold announcements from now on, and wait until the services have nothing left to do.

    Parameters
    ----------
    tell : callable
        Given one line each time that what is left has changed.
    timeout : float, optional
        Seconds to wait at most.
    idle : float
        Seconds without anything at work; at least as long as the broker's statistics may be old.

    Raises
    ------
    TransientError
        If the broker cannot be reached, now or meanwhile. Announcements stay held once they are.
    EnvironmentFault
        If it refuses, or the topology is not applied.
    """
    with Hold(settings) as hold:
        hold.hold()
    started = busy = time.monotonic()
    told = ""
    with QueueReader(settings) as reader:
        while True:
            states = reader.states()
            now = time.monotonic()
            left = [state for state in states if _is_work(state)]
            if left:
                busy = now
            line = f"left: {_said(left)}" if left else f"nothing is left; looking on for {idle:.0f} s"
            if line != told:
                tell(line)
                told = line
            over = timeout is not None and now - started >= timeout
            if over or now - busy >= idle:
                held = sum(state.ready for state in states if state.kind == "held")
                checks = sum(state.ready for state in states if state.name in _CHECKS)
                return Drained(now - busy >= idle, now - started, held, checks, left)
            reader.rest(_LOOK_SECONDS)


def resume(settings: BrokerSettings) -> int:
    """Let announcements in again, and then those that were held; return how many these were.

    A second call, or one after a crash in the middle, does what is left to do.

    Raises
    ------
    TransientError
        If the broker cannot be reached, or does not confirm; what was not let in stays held.
    EnvironmentFault
        If it refuses, or the topology is not applied.
    """
    with Hold(settings) as hold:
        return hold.release()


def _is_work(state: QueueState) -> bool:
    if state.kind == "service":
        return bool(state.ready or state.unacked)
    return state.name in _RETRIES and bool(state.ready or state.unacked)


def _said(left: list[QueueState]) -> str:
    lines = []
    for state in left:
        if state.kind == "service":
            consumed = "" if state.consumers else ", and no service consumes it"
            lines.append(f"{state.name} {state.ready} ready, {state.unacked} at work{consumed}")
    delayed = sum(state.ready + state.unacked for state in left if state.kind == "delay")
    if delayed:
        lines.append(f"{delayed} delayed for another attempt")
    return "; ".join(lines) or "nothing was seen for too short a time"
