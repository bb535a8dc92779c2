"""`make audit` tells what is known, and never that nothing is known because nobody could be asked."""

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from support.paths import ROOT
from support.rabbitmq_node import free_port

pytestmark = [pytest.mark.image, pytest.mark.timeout(600)]


@pytest.fixture
def advisories() -> Iterator[tuple[str, dict[str, Any], set[str]]]:
    """Where a service answers as OSV does, what it knows by package, and what it was asked about."""
    known: dict[str, Any] = {}
    asked: set[str] = set()

    class Osv(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name = query["package"]["name"]
            asked.add(name)
            body = json.dumps({"vulns": [known[name]]} if name in known else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Osv) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1/query", known, asked
        server.shutdown()
        thread.join()


def audit(url: str, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    service = ("--vulnerability-service", "osv", "--osv-url", url, "--cache-dir", folder / "cache")
    return subprocess.run(
        ["sh", ROOT / "deploy" / "audit.sh", *service],
        env={**os.environ, "SBOMS": str(folder), **more},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_lock_that_nothing_is_known_against_passes(advisories, tmp_path) -> None:
    url, _, asked = advisories
    done = audit(url, tmp_path)
    assert done.returncode == 0, done.stderr
    # And it was asked about, though nothing of it is installed for the audit
    assert {"jwst", "numpy", "pika", "urllib3"} <= asked
    assert "of Debian's packages nothing was asked" in done.stderr


def test_a_known_vulnerability_fails_it_and_is_named(advisories, tmp_path) -> None:
    url, known, _ = advisories
    known["pika"] = {"id": "PYSEC-2099-1", "affected": [{"package": {"name": "pika", "ecosystem": "PyPI"}}]}
    done = audit(url, tmp_path)
    assert done.returncode == 1
    assert "PYSEC-2099-1" in done.stdout


def test_where_nobody_answers_nothing_passes(tmp_path) -> None:
    done = audit(f"http://127.0.0.1:{free_port()}/v1/query", tmp_path)
    assert done.returncode != 0
    assert "No known vulnerabilities" not in done.stdout + done.stderr


def test_what_debian_knows_against_an_image_is_told(advisories, tmp_path) -> None:
    # Given the SBOM of an image, and a copy of the tracker that knows something against a package of it
    purl = "pkg:deb/debian/zlib@1.2.13?arch=source"
    package = {"type": "library", "bom-ref": purl, "purl": purl, "name": "zlib", "version": "1.2.13"}
    root = {"type": "container", "bom-ref": "root", "name": "image"}
    sbom = {"bomFormat": "CycloneDX", "specVersion": "1.6", "metadata": {"component": root}}
    (tmp_path / "image.cdx.json").write_text(json.dumps({**sbom, "components": [package]}))
    entry = {"status": "open", "repositories": {"bookworm": "1.2.13"}, "urgency": "high"}
    known = {"scope": "remote", "description": "planted", "releases": {"bookworm": entry}}
    tracker = tmp_path / "tracker.json"
    tracker.write_text(json.dumps({"zlib": {"CVE-2099-0001": known}}))
    # When what is known is asked for
    done = audit(advisories[0], tmp_path, DEBIAN_TRACKER=str(tracker))
    # Then it is told
    assert done.returncode == 0, done.stderr
    assert "CVE-2099-0001" in done.stdout
