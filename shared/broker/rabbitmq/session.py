"""A connection for a command that runs and ends: every fault of it is one of our errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from shared.broker.rabbitmq.connection import CONNECTION_ERRORS, connect, describe, is_refusal
from shared.broker.rabbitmq.settings import BrokerSettings
from shared.closing import Closing
from shared.errors import EnvironmentFault, TransientError


class Session(Closing):
    """One connection with one channel, for one thread. It does not come back from a loss.

    Parameters
    ----------
    settings : BrokerSettings
    role : str
        What it is for, as the broker's operator sees it.

    Raises
    ------
    TransientError
        If the broker cannot be reached; so does every use of a connection that was lost.
    EnvironmentFault
        If it refuses: wrong password, no such virtual host; at a use, no such queue.
    """

    def __init__(self, settings: BrokerSettings, role: str) -> None:
        self._settings = settings
        self._connection = connect(settings, role)
        with self._told():
            #: pika's own, for who must see its exceptions.
            self.channel: Any = self._connection.channel()

    @property
    def is_open(self) -> bool:
        """Whether the channel can still be used, as far as is known."""
        return bool(self.channel.is_open)

    def ask(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Call the channel's `method`, such as ``queue_declare``, and return what it returns."""
        with self._told():
            return getattr(self.channel, method)(*arguments, **options)

    def ready(self, queue: str) -> int:
        """Return how many messages wait in `queue`."""
        return int(self.ask("queue_declare", queue, passive=True).method.message_count)

    def rest(self, seconds: float) -> None:
        """Wait so long, answering the broker's heartbeats."""
        with self._told():
            self._connection.sleep(seconds)

    def close(self) -> None:
        """Close the connection; what was not acked goes back to its queue."""
        if self._connection.is_open:
            with self._told():
                self._connection.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except CONNECTION_ERRORS as error:
            kind = EnvironmentFault if is_refusal(error) else TransientError
            raise kind(describe(error, self._settings)) from None
