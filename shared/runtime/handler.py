"""The interface between the runtime and a stage: what a handler gets, and what it returns.

Short, because it is all that a service has to know of the runtime.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from shared.contracts.messages import Envelope
from shared.settings.stage import StageSettings
from shared.store.base import Store
from shared.store.manifest import Manifest

#: ``progress(done, total, what)`` reports the groups, steps or rows done so far, for logs and progress bars.
Progress = Callable[[int, int, str], None]


def _at_once() -> None:
    pass


def _silent(done: int, total: int, what: str) -> None:
    pass


@dataclass(frozen=True)
class StageContext:
    """What a handler gets besides its message.

    Attributes
    ----------
    store : Store
    settings : StageSettings
    progress : callable
        Reports how far the work has come.
    wait_turn : callable
        Returns when what the run announced earlier, and what the rest of the work needs, has been done
        (`shared.runtime.turns`); at once outside a run.
    """

    store: Store
    settings: StageSettings
    progress: Progress = field(default=_silent)
    wait_turn: Callable[[], None] = field(default=_at_once)


@dataclass(frozen=True)
class Outgoing:
    """A message to publish, at once or `delay` seconds later."""

    message: Envelope
    delay: float = 0.0


def outbox(manifest: Manifest) -> list[Outgoing]:
    """Return the messages of a committed product, to be published at once."""
    return [Outgoing(envelope) for envelope in manifest.messages]


class Handler(Protocol):
    """A stage's entry point: do the work or find it done, commit it, and return the messages to publish.

    Handlers are idempotent: a second call with the same message finds the manifest and returns the same
    messages. They never publish and never ack.
    """

    def __call__(self, message: Envelope, context: StageContext) -> list[Outgoing]:
        """Handle one message; raise `PermanentError` or `TransientError` with one line for a person."""
        ...
