"""The archive for tests: answers on 127.0.0.1 in the documented form of MAST's search for missions.

Form and names after https://astroquery.readthedocs.io/en/latest/mast/mast_missions.html and the answers
that astroquery's own tests hold: `search`, `post_list_products`, `retrieve_product`.
"""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

_BASE = "/search/jwst/api/v0.1/"


@dataclass
class Listed:
    """An exposure that the archive lists, with the bytes of its raw files by detector."""

    name: str
    observed: str
    files: dict[str, bytes]
    access: str = "PUBLIC"
    exp_type: str = "NRC_DARK"
    program: str = "1062"

    def products(self) -> list[dict]:
        results = []
        for detector, content in self.files.items():
            for suffix, level, size in (("_uncal", "1b", len(content)), ("_dark", "2a", 7)):
                name = f"{self.name}_{detector}{suffix}.fits"
                results.append(
                    {
                        "product_key": f"{self.name}_{name}",
                        "access": self.access,
                        "dataset": self.name,
                        "instrument_name": "NIRCAM",
                        "filters": "",
                        "filename": name,
                        "uri": f"{self.name}/{name}",
                        "authz_primary_identifier": self.name,
                        "file_suffix": suffix,
                        "category": level,
                        "size": size,
                        "type": "science",
                    }
                )
        return results


@dataclass
class MastStub:
    """The archive; `faults` are what the next requests get instead, in turn.

    A fault is an HTTP status, a body, or something to wait for before the answer is given.
    """

    exposures: list[Listed] = field(default_factory=list)
    faults: list[int | bytes | Callable[[], None]] = field(default_factory=list)
    downloads: dict[str, bytes | Callable[[], None]] = field(default_factory=dict)
    asked: list[tuple[str, dict]] = field(default_factory=list)
    url: str = ""

    def searches(self) -> list[dict]:
        return [body for path, body in self.asked if path == "search"]

    def search(self, body: dict) -> dict:
        conditions = {name: value for condition in body["conditions"] for name, value in condition.items()}
        assert set(conditions) == {"program", "instrume", "exp_type", "date_obs"}
        assert conditions["instrume"] == "NIRCAM"
        results = [
            exposure
            for exposure in self.exposures
            if exposure.program == conditions["program"]
            and exposure.exp_type == conditions["exp_type"]
            and _fits(exposure.observed, conditions["date_obs"])
        ]
        assert body["sort_by"] == ["date_obs", "fileSetName"]
        results.sort(key=lambda each: (each.observed, each.name))
        page = results[body["offset"] : body["offset"] + body["limit"]]
        return {
            "info": [{"name": "fileSetName", "type": "VARCHAR"}, {"name": "date_obs", "type": "DATETIME"}],
            "search_params": body,
            "results": [
                {"ArchiveFileID": 1000 + number, "fileSetName": one.name, "date_obs": f"{one.observed}0000"}
                for number, one in enumerate(page)
            ],
        }

    def list_products(self, body: dict) -> dict:
        wanted = set(body["dataset_ids"])
        return {
            "products": [
                p for exposure in self.exposures if exposure.name in wanted for p in exposure.products()
            ]
        }

    def content(self, product: str) -> bytes | None:
        name = product.partition("/")[2]
        given = self.downloads.get(name)
        if callable(given):
            given()
            given = None
        if given is not None:
            return given
        for exposure in self.exposures:
            for detector, content in exposure.files.items():
                if product == f"{exposure.name}/{exposure.name}_{detector}_uncal.fits":
                    return content
        return None


def _fits(observed: str, condition: str) -> bool:
    when = observed.replace("T", " ")
    if condition.startswith(">="):
        return when >= condition[2:]
    low, high = condition.split("..")
    return low <= when <= high


def _handler(stub: MastStub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name = self.path.removeprefix(_BASE)
            stub.asked.append((name, body))
            if not self._fault():
                answer = {"search": stub.search, "post_list_products": stub.list_products}[name](body)
                self._send(200, json.dumps(answer).encode())

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            assert parts.path == f"{_BASE}retrieve_product"
            product = parse_qs(parts.query)["product_name"][0]
            stub.asked.append(("retrieve_product", {"product": product}))
            if not self._fault():
                content = stub.content(product)
                self._send(404 if content is None else 200, content or b"")

        def _fault(self) -> bool:
            fault = stub.faults.pop(0) if stub.faults else None
            if isinstance(fault, int):
                self._send(fault, b"{}")
            elif isinstance(fault, bytes):
                self._send(200, fault)
            elif fault is not None:
                fault()
            return fault is not None and not callable(fault)

        def _send(self, status: int, body: bytes) -> None:
            # A client that gave up waiting is gone.
            with contextlib.suppress(ConnectionError):
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    return Handler


@contextlib.contextmanager
def running_mast() -> Iterator[MastStub]:
    """Give an archive that lists nothing as yet."""
    stub = MastStub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(stub))
    server.daemon_threads = True
    stub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
