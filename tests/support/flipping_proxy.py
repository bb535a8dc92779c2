"""A line to an S3 server that flips bits in the bodies that it carries, as a bad network card would."""

import contextlib
import http.client
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class FlippingProxy:
    """Carries GET and HEAD to a server.

    Attributes
    ----------
    endpoint : str
        Its own address.
    flips : int
        How many more bodies of GETs have their middle byte changed.
    gets : int
        How many GETs it has carried.
    part_lengths : dict of str to int
        Path -> what HEAD says of the first part of the object there, if the server itself does not know.
    """

    def __init__(self, upstream: str) -> None:
        self.flips = self.gets = 0
        self.part_lengths: dict[str, int] = {}
        self._upstream = urlsplit(upstream).netloc
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                proxy.carry(self, "GET")

            def do_HEAD(self) -> None:
                proxy.carry(self, "HEAD")

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def carry(self, handler: BaseHTTPRequestHandler, method: str) -> None:
        connection = http.client.HTTPConnection(self._upstream, timeout=30)
        # The name of the host is signed: the server has to see that of the proxy.
        connection.putrequest(method, handler.path, skip_host=True, skip_accept_encoding=True)
        for name, value in handler.headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        body = bytearray(answer.read())
        with self._lock:
            if method == "GET":
                self.gets += 1
                if self.flips > 0 and body and answer.status < 300:
                    self.flips -= 1
                    body[len(body) // 2] ^= 1
        handler.send_response_only(answer.status)
        part = self.part_lengths.get(urlsplit(handler.path).path) if "partNumber" in handler.path else None
        for name, value in answer.getheaders():
            if name.lower() == "content-length" and method == "HEAD" and part is not None:
                value = str(part)
            if name.lower() not in ("connection", "transfer-encoding"):
                handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)
        connection.close()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextlib.contextmanager
def flipping_proxy(upstream: str) -> Iterator[FlippingProxy]:
    """Give a proxy before `upstream`, as a context."""
    proxy = FlippingProxy(upstream)
    try:
        yield proxy
    finally:
        proxy.close()
