"""How a watch is stopped: at once while it waits, after the confirm and the state while it announces."""

import contextlib
import signal
import threading
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import TypeVar

from shared.closing import Closing

_T = TypeVar("_T")


# Not an error: whoever catches errors must not take it for one.
class Stopped(BaseException):
    """SIGTERM or SIGINT came."""


class Stop(Closing):
    """Listens for SIGTERM and SIGINT until it is closed. For the main thread.

    The handler raises only where nothing is half done; else it is remembered, and raised there next.
    """

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._may_raise = False
        self._before = {
            number: signal.signal(number, self._handle) for number in (signal.SIGTERM, signal.SIGINT)
        }

    def close(self) -> None:
        """Handle the signals as before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let a signal end what is done meanwhile; `Stopped` at once if one came before."""
        self._may_raise = True
        try:
            if self._asked.is_set():
                raise Stopped
            yield
        finally:
            self._may_raise = False

    def interruptibly(self, items: Iterable[_T]) -> Iterator[_T]:
        """Yield `items`; a signal ends the getting of them, not what is done with them."""
        getting = iter(items)
        while True:
            with self.interruptible():
                try:
                    item = next(getting)
                except StopIteration:
                    return
            yield item

    def wait(self, seconds: float) -> None:
        """Wait; `Stopped` as soon as a signal comes."""
        with self.interruptible():
            self._asked.wait(seconds)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._asked.set()
        if self._may_raise:
            self._may_raise = False
            raise Stopped
