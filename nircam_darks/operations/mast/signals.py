"""Stops a watch on a signal: at once while it waits, after confirm and state while it announces."""

import contextlib
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from types import FrameType
from typing import TypeVar

_T = TypeVar("_T")


# Not an Exception: code that catches errors must not catch this.
class Stopped(BaseException):
    """SIGTERM or SIGINT arrived."""


class Stop(AbstractContextManager["Stop", None]):
    """Listens for SIGTERM and SIGINT until it is closed. Only for the main thread.

    The handler raises only inside `interruptible`, where nothing is half done; otherwise the next
    `interruptible` raises.
    """

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._may_raise = False
        self._previous = {
            number: signal.signal(number, self._handle) for number in (signal.SIGTERM, signal.SIGINT)
        }

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Restore the previous signal handlers."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let a signal interrupt the block with `Stopped`; raise it at once if a signal arrived earlier."""
        self._may_raise = True
        try:
            if self._asked.is_set():
                raise Stopped
            yield
        finally:
            self._may_raise = False

    def interruptibly(self, items: Iterable[_T]) -> Iterator[_T]:
        """Yield `items`; a signal interrupts the iteration, but not the caller's work on an item."""
        iterator = iter(items)
        while True:
            with self.interruptible():
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    def wait(self, seconds: float) -> None:
        """Wait; raise `Stopped` as soon as a signal arrives."""
        with self.interruptible():
            self._asked.wait(seconds)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._asked.set()
        if self._may_raise:
            self._may_raise = False
            raise Stopped
