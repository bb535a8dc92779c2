"""Connections to RabbitMQ: how one is made, on which node, with which certificates, and what its errors mean.

`Session` is the connection of a command that runs and ends; workers have their own, in `consumer` and
`publisher`. `describe_connection_error` turns every error of pika's into one line that says what to do.
"""

import logging
import os
import random
import socket
import ssl
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pika
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.exceptions import (
    AMQPError,
    AMQPHeartbeatTimeout,
    AuthenticationError,
    ChannelClosedByBroker,
    ChannelError,
    ConnectionBlockedTimeout,
    ConnectionClosedByBroker,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
)

from shared.errors import EnvironmentFault, TransientError
from shared.settings.broker import BrokerSettings

#: What any use of a connection may raise. What pika's connectors raise, such as for a broker that takes the
#: connection and then says nothing, is no AMQPError.
CONNECTION_ERRORS = (AMQPError, AMQPConnectorException, ChannelError, OSError)

_ACCESS_REFUSED = 403
_NOT_FOUND = 404
_NOT_ALLOWED = 530
_LONGEST_WAIT = 30.0

# pika logs each failed attempt in a dozen lines with tracebacks; we log it once, in one line.
logging.getLogger("pika").setLevel(logging.CRITICAL)


class ConsumerCancelled(ConnectionError):
    """The broker cancelled a consumer; its channel is still open."""


def parameters(settings: BrokerSettings, role: str) -> Any:
    """Return pika's parameters of one connection.

    Parameters
    ----------
    role : str
        What the connection is for, as shown to the broker's operator, such as ``"consume ingest"``.

    Raises
    ------
    EnvironmentFault
        If the password or a certificate cannot be read.
    """
    return pika.ConnectionParameters(
        host=settings.host,
        port=settings.port,
        virtual_host=settings.vhost,
        credentials=pika.PlainCredentials(settings.username, settings.password()),
        ssl_options=pika.SSLOptions(tls_context(settings), settings.host)
        if settings.scheme == "amqps"
        else None,
        heartbeat=settings.heartbeat,
        # A peer that accepts the connection and then stays silent must not keep a worker from its job for
        # long.
        socket_timeout=5.0,
        stack_timeout=10.0,
        client_properties={
            "connection_name": f"nircam-darks {role} on {socket.gethostname()} ({os.getpid()})"
        },
    )


def connect(settings: BrokerSettings, role: str) -> Any:
    """Return a blocking connection to the first node of the cluster that accepts one.

    Raises
    ------
    EnvironmentFault
        If a node refuses, or the password or a certificate cannot be read.
    TransientError
        If no node can be reached; the message names each.
    """
    faults = []
    for node in settings.each_node():
        try:
            return pika.BlockingConnection(parameters(node, role))
        except CONNECTION_ERRORS as error:
            if is_refusal(error):
                raise EnvironmentFault(describe_connection_error(error, node), where=node.where) from None
            faults.append(describe_connection_error(error, node))
    nodes = ", ".join(node.where for node in settings.each_node())
    raise TransientError("; ".join(faults), where=nodes)


class Nodes:
    """The nodes of a cluster in turn, beginning with that of the URL; after a loss the next one is tried.

    Parameters
    ----------
    settings : BrokerSettings
    """

    def __init__(self, settings: BrokerSettings) -> None:
        self._each = settings.each_node()
        self._turn = 0

    @property
    def current(self) -> BrokerSettings:
        """The settings of the node whose turn it is."""
        return self._each[self._turn]

    def go_on(self) -> None:
        """Turn to the next node."""
        self._turn = (self._turn + 1) % len(self._each)


def tls_context(settings: BrokerSettings) -> ssl.SSLContext:
    """Return the TLS context that verifies the broker's certificate, with the client's own if it has one.

    Raises
    ------
    EnvironmentFault
        If a certificate cannot be read.
    """
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        if settings.cert_file is not None:
            context.load_cert_chain(settings.cert_file, settings.key_file)
    except (OSError, ValueError) as error:
        files = ", ".join(str(f) for f in (settings.ca_file, settings.cert_file, settings.key_file) if f)
        raise EnvironmentFault(
            f"a certificate for the broker cannot be used ({files}): {_one_line(error)}; correct "
            "DARKS_BROKER_CA_FILE, DARKS_BROKER_CERT_FILE or DARKS_BROKER_KEY_FILE"
        ) from None
    return context


def describe_connection_error(error: BaseException, settings: BrokerSettings) -> str:
    """Return one line that says what is wrong with a connection and what to do; never the password."""
    cause = _root(error)
    if (
        isinstance(cause, (AuthenticationError, ProbableAuthenticationError))
        or _code(cause) == _ACCESS_REFUSED
    ):
        return (
            f"the broker at {settings.where} refuses user {settings.username!r}: wrong password, or no "
            f"rights in virtual host {settings.vhost!r}; see DARKS_BROKER_URL and DARKS_BROKER_PASSWORD_FILE"
        )
    if isinstance(cause, ProbableAccessDeniedError) or _code(cause) == _NOT_ALLOWED:
        return (
            f"the broker at {settings.where} has no virtual host {settings.vhost!r} for user "
            f"{settings.username!r}; create it, or correct DARKS_BROKER_URL"
        )
    if isinstance(cause, ChannelClosedByBroker) and cause.reply_code == _NOT_FOUND:
        return (
            f"the broker at {settings.where} says {_one_line(cause.reply_text)}; "
            "run `nircam-darks topology apply`"
        )
    if isinstance(cause, (ConnectionClosedByBroker, ChannelClosedByBroker)):
        return f"the broker at {settings.where} closed the connection: {_one_line(cause.reply_text)}"
    if isinstance(cause, ssl.SSLError):
        return (
            f"no TLS with the broker at {settings.where}: {_one_line(cause)}; check DARKS_BROKER_CA_FILE "
            "and the host in DARKS_BROKER_URL"
        )
    if isinstance(cause, ConsumerCancelled):
        return (
            f"the broker at {settings.where} cancelled the consumer: its queue was deleted, or (from "
            "RabbitMQ 4.3 on) an ack took longer than the broker's consumer_timeout"
        )
    if isinstance(cause, AMQPHeartbeatTimeout):
        return f"the broker at {settings.where} sent no heartbeat for {settings.heartbeat} s"
    if isinstance(cause, ConnectionBlockedTimeout):
        return f"the broker at {settings.where} blocks publishers (short of memory or disk)"
    return f"the broker at {settings.where} cannot be reached: {_one_line(cause)}"


def is_refusal(error: BaseException) -> bool:
    """Return True if the broker was reached and refused: its owner must act, waiting does not help."""
    cause = _root(error)
    if isinstance(cause, (AuthenticationError, ProbableAuthenticationError, ProbableAccessDeniedError)):
        return True
    if isinstance(cause, ssl.SSLCertVerificationError):
        return True
    if isinstance(cause, ConnectionClosedByBroker):
        return cause.reply_code in (_ACCESS_REFUSED, _NOT_ALLOWED)
    return isinstance(cause, ChannelClosedByBroker) and cause.reply_code in (_ACCESS_REFUSED, _NOT_FOUND)


def backoff(attempt: int) -> float:
    """Return the seconds to wait before the next attempt to connect; `attempt` counts from 0 after a loss.

    They are jittered, so that not all workers connect at once when a broker comes back.
    """
    return random.uniform(0.5, 1.0) * min(_LONGEST_WAIT, 0.1 * 2.0 ** min(attempt, 20))


def _code(error: BaseException) -> int | None:
    if isinstance(error, (ConnectionClosedByBroker, ChannelClosedByBroker)):
        return int(error.reply_code)
    return None


def _root(error: BaseException) -> BaseException:
    """Return the error that pika's connectors wrapped."""
    while True:
        inner = getattr(error, "exceptions", None) or getattr(error, "exception", None)
        if inner is None and error.args and isinstance(error.args[0], BaseException):
            inner = error.args[0]
        if isinstance(inner, (list, tuple)):
            inner = inner[-1]
        if not isinstance(inner, BaseException):
            return error
        error = inner


def _one_line(error: object) -> str:
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror
    elif isinstance(error, BaseException):
        text = ", ".join(str(part) for part in error.args) or type(error).__name__
    else:
        text = str(error)
    return " ".join(text.split())[:300]


class Session(AbstractContextManager["Session", None]):
    """One connection with one channel, for one thread. It is not made again after a loss.

    Parameters
    ----------
    settings : BrokerSettings
    role : str
        What it is for, as shown to the broker's operator.

    Raises
    ------
    TransientError
        If the broker cannot be reached. Every use of a lost connection raises it, too.
    EnvironmentFault
        If the broker refuses: wrong password, no such virtual host, or (when used) no such queue.
    """

    def __init__(self, settings: BrokerSettings, role: str) -> None:
        self._settings = settings
        self._connection = connect(settings, role)
        with self._as_our_errors():
            #: pika's own channel, for callers that need to see pika's exceptions.
            self.channel: Any = self._connection.channel()

    @property
    def is_open(self) -> bool:
        """Whether the channel can still be used, as far as is known."""
        return bool(self.channel.is_open)

    def ask(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of the channel, such as ``queue_declare``, and return its result."""
        with self._as_our_errors():
            return getattr(self.channel, method)(*arguments, **options)

    def ready(self, queue: str) -> int:
        """Return the number of messages that wait in `queue`."""
        return int(self.ask("queue_declare", queue, passive=True).method.message_count)

    def rest(self, seconds: float) -> None:
        """Wait, answering the broker's heartbeats meanwhile."""
        with self._as_our_errors():
            self._connection.sleep(seconds)

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; whatever was not acked returns to its queue."""
        if self._connection.is_open:
            with self._as_our_errors():
                self._connection.close()

    @contextmanager
    def _as_our_errors(self) -> Iterator[None]:
        try:
            yield
        except CONNECTION_ERRORS as error:
            kind = EnvironmentFault if is_refusal(error) else TransientError
            raise kind(describe_connection_error(error, self._settings), where=self._settings.where) from None
