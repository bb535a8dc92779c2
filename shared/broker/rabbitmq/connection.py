"""How a connection is made, and what one says when it cannot be."""

import logging
import os
import random
import socket
import ssl
from typing import Any

import pika
from pika.exceptions import (
    AMQPError,
    AMQPHeartbeatTimeout,
    AuthenticationError,
    ChannelClosedByBroker,
    ConnectionBlockedTimeout,
    ConnectionClosedByBroker,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
)

from shared.broker.rabbitmq.settings import BrokerSettings
from shared.errors import EnvironmentFault, TransientError

#: What any use of a connection may raise.
CONNECTION_ERRORS = (AMQPError, OSError)

_ACCESS_REFUSED = 403
_NOT_FOUND = 404
_NOT_ALLOWED = 530
_LONGEST_WAIT = 30.0

# pika logs each failed attempt as a dozen lines and tracebacks; it is said here once, in one.
logging.getLogger("pika").setLevel(logging.CRITICAL)


class ConsumerCancelled(ConnectionError):
    """The broker took a consumer off its queue; its channel stands."""


def parameters(settings: BrokerSettings, role: str) -> Any:
    """Return pika's parameters of one connection.

    Parameters
    ----------
    role : str
        What the connection is for, as the broker's operator sees it (``"consume ingest"``).

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
        # A peer that takes the connection and says nothing must not hold a worker from its job for long.
        socket_timeout=5.0,
        stack_timeout=10.0,
        client_properties={
            "connection_name": f"nircam-darks {role} on {socket.gethostname()} ({os.getpid()})"
        },
    )


def connect(settings: BrokerSettings, role: str) -> Any:
    """Return a blocking connection to the first node of the cluster that takes it.

    Raises
    ------
    EnvironmentFault
        If a node refuses, or the password or a certificate cannot be read.
    TransientError
        If no node can be reached; each is named.
    """
    faults = []
    for node in settings.each_node():
        try:
            return pika.BlockingConnection(parameters(node, role))
        except CONNECTION_ERRORS as error:
            if is_refusal(error):
                raise EnvironmentFault(describe(error, node)) from None
            faults.append(describe(error, node))
    raise TransientError("; ".join(faults))


class Nodes:
    """The nodes of a cluster in turn, beginning with the URL's: after a loss the next one is tried.

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
    """Return what verifies the broker's certificate, with the client's own where there is one.

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


def describe(error: BaseException, settings: BrokerSettings) -> str:
    """Say in one line what is wrong with a connection, and what to do. Never holds a password."""
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
            f"the broker at {settings.where} cancelled the consumer: its queue is gone, or (from RabbitMQ "
            "4.3 on) an ack took longer than the broker's consumer_timeout"
        )
    if isinstance(cause, AMQPHeartbeatTimeout):
        return f"the broker at {settings.where} gave no sign for {settings.heartbeat} s"
    if isinstance(cause, ConnectionBlockedTimeout):
        return f"the broker at {settings.where} blocks publishers (short of memory or disk)"
    return f"the broker at {settings.where} cannot be reached: {_one_line(cause)}"


def is_refusal(error: BaseException) -> bool:
    """Return True if the broker was reached and said no: its owner must act, waiting does not help."""
    cause = _root(error)
    if isinstance(cause, (AuthenticationError, ProbableAuthenticationError, ProbableAccessDeniedError)):
        return True
    if isinstance(cause, ssl.SSLCertVerificationError):
        return True
    if isinstance(cause, ConnectionClosedByBroker):
        return cause.reply_code in (_ACCESS_REFUSED, _NOT_ALLOWED)
    return isinstance(cause, ChannelClosedByBroker) and cause.reply_code in (_ACCESS_REFUSED, _NOT_FOUND)


def backoff(attempt: int) -> float:
    """Return the seconds before the next attempt to connect (0 for the first one after a loss).

    Jittered, so that a broker that comes back is not met by all workers at once.
    """
    return random.uniform(0.5, 1.0) * min(_LONGEST_WAIT, 0.1 * 2.0 ** min(attempt, 20))


def _code(error: BaseException) -> int | None:
    if isinstance(error, (ConnectionClosedByBroker, ChannelClosedByBroker)):
        return int(error.reply_code)
    return None


def _root(error: BaseException) -> BaseException:
    """Return what pika's connectors wrapped."""
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
