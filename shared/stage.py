"""What a stage is handed, and what it gives back."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from shared.messages import Envelope
from shared.settings import StageSettings
from shared.store.base import Store

#: ``progress(done, total, what)``: groups, steps or rows done so far, for metrics, logs and the bar.
Progress = Callable[[int, int, str], None]


def _silent(done: int, total: int, what: str) -> None:
    pass


@dataclass(frozen=True)
class StageContext:
    """What a handler may use besides its message."""

    store: Store
    settings: StageSettings
    progress: Progress = field(default=_silent)


@dataclass(frozen=True)
class Outgoing:
    """A message to publish, at once or after `delay` seconds."""

    message: Envelope
    delay: float = 0.0


class Handler(Protocol):
    """A stage's entry point: run (or find) the work, commit it, return what to announce.

    Handlers are idempotent: a second call with the same message finds the manifest and returns the
    same messages. They never publish and never ack.
    """

    def __call__(self, message: Envelope, context: StageContext) -> list[Outgoing]:
        """Handle one message; raise `PermanentError` or `TransientError` with a line for a person."""
        ...
