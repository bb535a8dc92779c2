"""One job of ours in a process of its own: `job.py STAGE STORE MESSAGE [--scratch FOLDER --endpoint URL]`.

Prints the seconds that it measured itself. What it made is removed, so that the next run makes it again.
"""

import argparse
import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """Handle the message, as a worker's job process does."""
    begun = time.perf_counter()
    parser = argparse.ArgumentParser()
    parser.add_argument("stage")
    parser.add_argument("store")
    parser.add_argument("message", type=Path)
    parser.add_argument("--scratch", type=Path)
    parser.add_argument("--endpoint")
    parser.add_argument(
        "--second", action="store_true", help="do it twice, tell of the second, as in a worker"
    )
    parser.add_argument("--max-memory", type=int, default=2 * 1024**3)
    parser.add_argument("--mode", default="flight")
    parser.add_argument("--threads", type=int, default=1, help="of ingest")
    asked = parser.parse_args()
    from shared.runtime.heap import share_one_heap

    share_one_heap()
    handle = importlib.import_module(f"services.{asked.stage}.handler").handle
    from shared.contracts.messages import parse
    from shared.runtime.handler import StageContext
    from shared.settings.stage import S3Settings, StageSettings
    from shared.store.opening import open_store

    settings = StageSettings(
        store=asked.store,
        scratch=asked.scratch,
        s3=S3Settings(endpoint=asked.endpoint),
        max_memory=asked.max_memory,
        mode=asked.mode,
        ingest_threads=asked.threads,
        # A second pass over the ramps, which no peer makes; its time is measured by itself.
        verify=False,
        min_integrations=1,
        allowed_sources=["file:///"],
    )
    store = open_store(settings)
    if asked.second:
        handle(parse(asked.message.read_bytes()), StageContext(store, settings))
        _clear(asked, store)
    imported = time.perf_counter()
    handle(parse(asked.message.read_bytes()), StageContext(store, settings))
    done = time.perf_counter()
    # The whole process counts; what follows is clearing up, which a worker does not do.
    record = {"imports": imported - begun, "job": done - imported}
    timings = _clear(asked, store)
    store.close()
    record["cleared"] = time.perf_counter() - done
    print(json.dumps({**record, "timings": timings}))
    sys.stdout.flush()
    # As a worker's job process ends: without taking itself apart piece by piece.
    os._exit(0)


def _clear(asked: argparse.Namespace, store: Any) -> dict[str, float]:
    """Remove what a job made; return the timings of its manifest."""
    timings = {}
    from shared.store.manifest import find_all

    for manifest in find_all(store, f"{asked.stage}/"):
        timings = manifest.timings or timings
        for key in list(store.list(manifest.path)):
            store.delete(key)
    if asked.stage == "ingest":
        for prefix in ("persistence/", "exposures/", "bytes/"):
            for key in list(store.list(prefix)):
                store.delete(key)
    return timings


if __name__ == "__main__":
    main()
