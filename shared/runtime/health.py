"""A service's HTTP endpoints: ``/live``, ``/ready`` and ``/metrics``."""

import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Protocol, Self

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from shared.errors import EnvironmentFault

_logger = logging.getLogger(__name__)

#: Connections at a time: a few probes, scrapers and people. Each costs a thread and an open file, of which
#: the service needs some itself.
MOST_CONNECTIONS = 32
#: Seconds that a client may take for its whole request, answer included.
REQUEST_SECONDS = 10.0


class Watched(Protocol):
    """What health needs to know of a worker."""

    last_tick: float

    @property
    def attached(self) -> bool:
        """Whether deliveries may arrive."""
        ...


class Health:
    """Decides whether a service is alive and ready. A busy one is both.

    Parameters
    ----------
    worker : Watched
    store_problem : callable
        Returns what is wrong with the store, or None.
    live_seconds : float
        Longest time in s that a live worker goes without attending to the broker.
    broker_problem : callable, optional
        Returns why the broker takes no messages, or None.
    """

    def __init__(
        self,
        worker: Watched,
        store_problem: Callable[[], str | None],
        live_seconds: float,
        broker_problem: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._worker = worker
        self._store_problem = store_problem
        self._broker_problem = broker_problem
        self._live_seconds = live_seconds

    def not_alive(self) -> list[str]:
        """Return why the service should be restarted; empty if it is alive."""
        silence = time.monotonic() - self._worker.last_tick
        if silence <= self._live_seconds:
            return []
        return [f"the I/O loop has not ticked for {silence:.0f} s; {self._live_seconds:g} s are allowed"]

    def not_ready(self) -> list[str]:
        """Return why the service takes no messages at present; empty if it does."""
        problems = self.not_alive()
        if not self._worker.attached:
            problems.append("no consumer is attached to the queue")
        problems += [
            problem for ask in (self._store_problem, self._broker_problem) if (problem := ask()) is not None
        ]
        return problems


class HealthServer:
    """Serves ``/live``, ``/ready`` and ``/metrics`` from a thread of its own; use it in a ``with``.

    Parameters
    ----------
    host : str
    port : int
        0 for any free port.
    health : Health
    registry : CollectorRegistry

    Raises
    ------
    EnvironmentFault
        If it cannot listen on that address.
    """

    def __init__(self, host: str, port: int, health: Health, registry: CollectorRegistry) -> None:
        class Handler(_Handler):
            pass

        Handler.health = health
        Handler.registry = registry
        try:
            self._server = _BoundedServer((host, port), Handler)
        except (OSError, OverflowError) as error:
            raise EnvironmentFault(
                f"cannot listen on {host}:{port} for /live, /ready and /metrics: {error}; "
                "set DARKS_HTTP_PORT and DARKS_HTTP_HOST to a free address",
                where=f"{host}:{port}",
                setting="DARKS_HTTP_PORT",
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _BoundedServer(ThreadingHTTPServer):
    """Serves a bounded number of connections, each for a bounded time; the others it closes at once."""

    daemon_threads = True
    request_queue_size = MOST_CONNECTIONS

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self._places = threading.BoundedSemaphore(MOST_CONNECTIONS)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            # No thread could be started.
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Clients that hang up in the middle are everyday life, and each would be a traceback in the log.
        _logger.debug("a request from %s failed", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    health: Health
    registry: CollectorRegistry
    server_version = "nircam-darks"
    sys_version = ""
    #: A silent client no longer holds a thread after this time; `handle` ends slow ones.
    timeout = REQUEST_SECONDS

    def handle(self) -> None:
        """Serve the connection; cut it off when its time is over."""
        cut = threading.Timer(REQUEST_SECONDS, self._cut_off)
        cut.daemon = True
        cut.start()
        try:
            super().handle()
        finally:
            cut.cancel()

    def _cut_off(self) -> None:
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            self._send(HTTPStatus.OK, encode(self.registry), content_type)
        elif path == "/live":
            self._send_verdict(self.health.not_alive())
        elif path == "/ready":
            self._send_verdict(self.health.not_ready())
        else:
            self._send_verdict(["not found; see /live, /ready and /metrics"], HTTPStatus.NOT_FOUND)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _send_verdict(self, problems: list[str], bad: HTTPStatus = HTTPStatus.SERVICE_UNAVAILABLE) -> None:
        body = json.dumps({"ok": not problems, "problems": problems}).encode() + b"\n"
        self._send(bad if problems else HTTPStatus.OK, body, "application/json")

    def _send(self, status: HTTPStatus, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        # Probes arrive every few seconds.
        _logger.debug(format, *args)
