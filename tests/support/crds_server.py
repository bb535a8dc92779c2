"""A CRDS server for tests, on 127.0.0.1: hands out a cache that `simulate` could have written.

It answers what crds's client asks of https://jwst-crds.stsci.edu before it fetches: ``get_server_info``, with
size and sha1 of every file, and ``get_mapping_names``; then the files themselves. `cut` files are sent short,
the first time; `pause` is how long each reference takes.
"""

import contextlib
import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from nircam_darks.simulation.crds_cache import CONTEXT


@dataclass
class CrdsServer:
    """The server: what was fetched from it, by file name."""

    cache: Path
    pause: float = 0.0
    cut: set[str] = field(default_factory=set)
    fetched: Counter[str] = field(default_factory=Counter)
    url: str = ""

    def environment(self, crds_path: Path) -> dict[str, str]:
        """Variables of a process that fetches from here into its own cache."""
        return {
            "CRDS_PATH": str(crds_path),
            "CRDS_SERVER_URL": self.url,
            "CRDS_CONTEXT": CONTEXT,
            "STPIPE_DISABLE_CRDS_STEPPARS": "true",
        }

    def files(self) -> dict[str, Path]:
        return {path.name: path for path in self.cache.rglob("*") if path.is_file()}

    def info(self) -> dict:
        config = (self.cache / "config" / "jwst" / "server_config").read_text()
        about = {
            name: {"size": str(path.stat().st_size), "sha1sum": hashlib.sha1(path.read_bytes()).hexdigest()}
            for name, path in self.files().items()
        }
        places = {name: {"jwst": f"{self.url}/files"} for name in ("reference_url", "mapping_url")}
        return {**eval(config), **places, "download_metadata": about}


@contextlib.contextmanager
def running_crds_server(cache: Path) -> Iterator[CrdsServer]:
    """Run a server that hands out a cache."""
    server = CrdsServer(cache)
    lock = threading.Lock()

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["method"]
            mappings = [name for name in server.files() if name.endswith("map")]
            result = {"get_server_info": server.info(), "get_mapping_names": mappings}[asked]
            self._send(json.dumps({"error": None, "result": result}).encode())

        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            path = server.files().get(name)
            if path is None:
                self.send_error(404)
                return
            with lock:
                server.fetched[name] += 1
                cut = name in server.cut
                server.cut.discard(name)
            if name.endswith(".fits"):
                time.sleep(server.pause)
            body = path.read_bytes()
            self._send(body[: len(body) // 2] if cut else body)

        def _send(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.url = f"http://127.0.0.1:{httpd.server_address[1]}"
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()
