"""Hold new announcements while the services finish their work."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from shared.broker.rabbitmq.management import STATISTICS_SECONDS, QueueReader, QueueState
from shared.broker.rabbitmq.topology import Hold
from shared.broker.rabbitmq.wire import DELAY_STEPS, LONG_DELAY, delay_queue
from shared.settings.broker import BrokerSettings

# Retries of workers use all delays but the longest; whatever waits longer is a set check.
_RETRIES = {delay_queue(str(step)) for step in DELAY_STEPS[:-1]}
_CHECKS = {delay_queue(str(DELAY_STEPS[-1])), delay_queue(LONG_DELAY)}

# Shorter than the shortest delay, so that no retry can hide between two looks.
_LOOK_SECONDS = 0.5
#: How long all queues must be seen empty before that is believed (s). A message enters its next queue before
#: it leaves the last one; so if every count has been zero for as long as a count can be out of date, no
#: message is left.
IDLE_SECONDS = STATISTICS_SECONDS + 2.0


@dataclass(frozen=True)
class Drained:
    """The outcome of a drain.

    Attributes
    ----------
    drained : bool
        False if the timeout came first.
    seconds : float
        Duration.
    held : int
        Announcements held so far.
    checks : int
        Set checks scheduled at the broker; a drain leaves them there.
    left : list of QueueState
        Queues with work left.
    """

    drained: bool
    seconds: float
    held: int
    checks: int
    left: list[QueueState]

    @property
    def text(self) -> str:
        """The outcome in words."""
        outcome = "Drained"
        if not self.drained:
            outcome = f"Not drained in {self.seconds:.0f} s: {_in_words(self.left)}"
        checks = f"; {_count(self.checks, 'set check')} still scheduled" if self.checks else ""
        return (
            f"{outcome}; {_count(self.held, 'announcement')} held{checks}; to let announcements through "
            "again: nircam-darks drain --resume"
        )


def drain(
    settings: BrokerSettings,
    report: Callable[[str], None],
    timeout: float | None = None,
    idle: float = IDLE_SECONDS,
) -> Drained:
    """Hold announcements from now on, and wait until the services have nothing left to do.

    Parameters
    ----------
    settings : BrokerSettings
    report : callable
        Gets one line whenever the remaining work has changed.
    timeout : float, optional
        Maximum wait (s).
    idle : float
        How long all queues must stay empty (s): at least the age that the broker's statistics can have.

    Raises
    ------
    TransientError
        If the broker cannot be reached, at first or later. Announcements that are held stay held.
    EnvironmentFault
        If the broker refuses, or the topology is not applied.
    """
    with Hold(settings) as hold:
        hold.hold()
    started = busy = time.monotonic()
    reported = ""
    with QueueReader(settings) as reader:
        while True:
            states = reader.states()
            now = time.monotonic()
            left = [state for state in states if _is_work(state)]
            if left:
                busy = now
            line = f"Remaining: {_in_words(left)}" if left else f"Queues empty; confirming for {idle:.0f} s"
            if line != reported:
                report(line)
                reported = line
            over = timeout is not None and now - started >= timeout
            if over or now - busy >= idle:
                held = sum(state.ready for state in states if state.kind == "held")
                checks = sum(state.ready for state in states if state.name in _CHECKS)
                return Drained(now - busy >= idle, now - started, held, checks, left)
            reader.rest(_LOOK_SECONDS)


def resume(settings: BrokerSettings) -> int:
    """Let announcements through again, then requeue the held ones; return how many those were.

    May be called again at any time, also after a crash: it does what is left to do.

    Raises
    ------
    TransientError
        If the broker cannot be reached, or does not confirm; the remaining announcements stay held.
    EnvironmentFault
        If the broker refuses, or the topology is not applied.
    """
    with Hold(settings) as hold:
        return hold.release()


def _is_work(state: QueueState) -> bool:
    if state.kind == "service":
        return bool(state.ready or state.unacked)
    return state.name in _RETRIES and bool(state.ready or state.unacked)


def _in_words(left: list[QueueState]) -> str:
    lines = []
    for state in left:
        if state.kind == "service":
            consumers = "" if state.consumers else ", no consumer"
            lines.append(f"{state.name} {state.ready} waiting, {state.unacked} in progress{consumers}")
    delayed = sum(state.ready + state.unacked for state in left if state.kind == "delay")
    if delayed:
        lines.append(f"{_count(delayed, 'message')} delayed for another attempt")
    return "; ".join(lines) or "queues empty, but not for long enough to be sure"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
