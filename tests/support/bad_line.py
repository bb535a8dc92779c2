"""A line to an S3 server on which every kind of thing goes wrong, at a known rate."""

import contextlib
import http.client
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

#: What the client is told, or what happens to its request and answer:
#: ``500``, ``503``: an error of the server, which has not seen the request;
#: ``reset``: the connection is cut before the server sees it;
#: ``lost``: the server does it, and its answer is lost;
#: ``truncated``: half of the answer's body arrives;
#: ``garbled``: a bit of the request's body is changed on its way; ``flipped``: one of an object's in the
#: answer (a listing has no digest by which anybody could tell).
KINDS = ("500", "503", "reset", "lost", "truncated", "garbled", "flipped")


class BadLine:
    """Carries every request to a server, and spoils one in so many.

    Parameters
    ----------
    upstream : str
        The server's address.
    every : int
        One request in so many is spoilt, in turn by each of `kinds`.
    burst_every : int
        One fault in so many is followed by `burst` more, so that a client that tries again fails, too.
    kinds : sequence of str
        Of `KINDS`.

    Attributes
    ----------
    endpoint : str
        Its own address.
    done : Counter of str
        How many requests were spoilt, by kind; an answer without a body is not.
    requests : int
        How many it has carried.
    """

    burst = 12

    def __init__(
        self, upstream: str, every: int, burst_every: int, kinds: Sequence[str] = KINDS, seed: int = 1
    ) -> None:
        self.done: Counter[str] = Counter()
        self.requests = 0
        self._upstream = urlsplit(upstream).netloc
        self._kinds = tuple(kinds)
        self._every, self._burst_every = every, burst_every
        self._rng = random.Random(seed)
        self._left_of_burst = self._faults = 0
        self._lock = threading.Lock()
        line = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                with contextlib.suppress(ConnectionError, TimeoutError):
                    super().handle_one_request()
                    return
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
            setattr(Handler, f"do_{method}", lambda handler, method=method: line.carry(handler, method))
        self._server = _Quiet(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def carry(self, handler: Any, method: str) -> None:
        """Carry a request and its answer, or spoil either."""
        body = bytearray(handler.rfile.read(int(handler.headers.get("Content-Length", 0))))
        kind = self._fault(method, bool(body), "prefix=" in urlsplit(handler.path).query)
        if kind in ("500", "503"):
            handler.send_error(int(kind))
            return
        if kind == "reset":
            _cut(handler)
            return
        if kind == "garbled":
            body[len(body) // 2] ^= 1
        answer, data = self._ask(handler, method, bytes(body))
        if kind == "lost":
            _cut(handler)
            return
        if kind in ("truncated", "flipped") and (not data or answer.status >= 300):
            with self._lock:
                self.done[kind] -= 1
            kind = None
        if kind == "flipped":
            data[len(data) // 2] ^= 1
        handler.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                handler.send_header(name, value)
        length = answer.getheader("Content-Length") if method == "HEAD" else str(len(data))
        if length is not None and answer.status != 204:
            handler.send_header("Content-Length", length)
        handler.end_headers()
        if kind == "truncated":
            handler.wfile.write(data[: len(data) // 2])
            _cut(handler)
            return
        handler.wfile.write(data)

    def close(self) -> None:
        """Carry nothing any more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _ask(self, handler: Any, method: str, body: bytes) -> tuple[http.client.HTTPResponse, bytearray]:
        connection = http.client.HTTPConnection(self._upstream, timeout=60)
        try:
            # The name of the host is signed: the server has to see that of the line.
            connection.putrequest(method, handler.path, skip_host=True, skip_accept_encoding=True)
            for name, value in handler.headers.items():
                if name.lower() not in ("expect", "connection"):
                    connection.putheader(name, value)
            connection.endheaders(body or None)
            answer = connection.getresponse()
            return answer, bytearray(answer.read())
        except OSError:
            # The server itself is away: the client hears no more than if there were no line between.
            _cut(handler)
            raise ConnectionAbortedError from None
        finally:
            connection.close()

    def _fault(self, method: str, has_body: bool, is_listing: bool) -> str | None:
        """Return what goes wrong with a request; None if nothing does."""
        with self._lock:
            self.requests += 1
            if self._left_of_burst:
                self._left_of_burst -= 1
                kind = "503"
            elif self._rng.random() >= 1 / self._every:
                return None
            else:
                self._faults += 1
                if self._faults % self._burst_every == 0:
                    self._left_of_burst = self.burst
                fitting = [
                    kind
                    for kind in self._kinds
                    if (kind != "garbled" or has_body)
                    and (kind not in ("truncated", "flipped") or method == "GET")
                    and (kind != "flipped" or not is_listing)
                ]
                # The rarest so far, so that each has its turn.
                kind = min(fitting, key=lambda each: self.done[each])
            self.done[kind] += 1
            return kind


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


def _cut(handler: Any) -> None:
    """Reset the connection."""
    handler.close_connection = True
    with contextlib.suppress(OSError):
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # `handler` holds other references to the socket: only this closes it at once.
        handler.connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def bad_line(upstream: str, every: int, burst_every: int, kinds: Sequence[str]) -> Iterator[BadLine]:
    """Give a line to `upstream`, as a context; its parameters are those of `BadLine`."""
    line = BadLine(upstream, every, burst_every, kinds)
    try:
        yield line
    finally:
        line.close()
