"""Monitors the store in a thread of its own, so that a health check never waits for the store."""

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from shared.errors import DarksError
from shared.store.base import Store

_logger = logging.getLogger(__name__)
#: The key of an object that never exists: being told so shows that the store answers.
_NOTHING = "health/nothing"


def require_store(store: Store) -> None:
    """Raise unless the store answers: ask it for an object that does not exist.

    Raises
    ------
    TransientError
        If the store does not answer.
    PermanentError
        If it refuses.
    OSError
        If its folder cannot be read.
    """
    try:
        store.get(_NOTHING)
    except KeyError:
        return


class StoreMonitor:
    """Checks again and again that the store answers; use it in a ``with``.

    Parameters
    ----------
    store : Store
    every : float
        Seconds between two checks.
    chore : callable, optional
        Called with the store every `chore_every` seconds as long as the store answers, in a thread of its
        own: however long it takes, the store is asked all the same. If it takes long, it is called less
        often, so that it takes at most a tenth of the time.
    chore_every : float
        In s.
    """

    def __init__(
        self,
        store: Store,
        every: float = 5.0,
        chore: Callable[[Store], None] | None = None,
        chore_every: float = 30.0,
    ) -> None:
        self._store = store
        self._every = every
        self._chore = chore
        self._chore_every = chore_every
        self._chore_next = time.monotonic() + min(every, chore_every)
        self._chore_thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._problem: str | None = "the store has not been checked yet"
        self._asked = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="store-monitor", daemon=True)

    @property
    def problem(self) -> str | None:
        """What is wrong with the store, for a person; None if it answers."""
        silence = time.monotonic() - self._asked
        if silence > 3 * self._every + 10:
            return f"the store has not answered for {silence:.0f} s"
        return self._problem

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        # A thread that hangs in the store is not waited for.
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        while True:
            self._ask()
            if self._stop.wait(self._every):
                return

    def _ask(self) -> None:
        try:
            require_store(self._store)
            self._problem = None
        except (DarksError, OSError) as error:
            self._problem = " ".join(str(error).split())
        except Exception:
            _logger.exception("the store could not be checked")
            self._problem = "the store could not be checked; see the log"
        self._asked = time.monotonic()
        if self._problem is not None or self._chore is None or self._asked < self._chore_next:
            return
        if self._chore_thread is None or not self._chore_thread.is_alive():
            self._chore_thread = threading.Thread(
                target=self._do_chore, args=(self._chore,), name="store-chore", daemon=True
            )
            self._chore_thread.start()

    def _do_chore(self, chore: Callable[[Store], None]) -> None:
        began = time.monotonic()
        try:
            chore(self._store)
        except Exception:
            _logger.exception("surveying the store failed")
        ended = time.monotonic()
        self._chore_next = ended + max(self._chore_every, 9 * (ended - began))
