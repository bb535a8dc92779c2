"""How long so many ingest workers take for a folder of exposures: `workers.py FOLDER WORKERS`."""

import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

from nircam_darks.operations.candidates import peek
from shared.broker.memory import MemoryBroker
from shared.contracts.messages import Envelope, ExposureAnnounced
from shared.runtime.events import WorkerEvent
from shared.runtime.jobs import JobProcesses
from shared.runtime.worker import Worker
from shared.settings.stage import StageSettings


def main() -> None:
    """Announce everything, then let the workers begin, each in a process that has done one job."""
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    environment = json.loads((folder / "environment.json").read_text())
    candidates = [peek(path) for path in sorted((folder / "darks").glob("*.fits"))]
    # One apiece to load jwst by, which a worker does once in its life.
    warming, measured = candidates[:count], candidates[2:]
    finished = threading.Semaphore(0)
    failed: list[str] = []

    def observe(event: WorkerEvent) -> None:
        if event.kind == "finished":
            finished.release()
        elif event.kind in ("dead-lettered", "retried"):
            failed.append(event.reason)
            finished.release()

    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        settings = StageSettings(store=Path(scratch), allowed_sources=["file:///"])
        broker = MemoryBroker()
        stop = threading.Event()
        handlers = {"ingest": "services.ingest.handler:handle"}
        with JobProcesses(count, handlers, settings, environment={**os.environ, **environment}) as jobs:
            threads = [
                threading.Thread(target=Worker("ingest", broker, jobs, observe).run, args=(stop,))
                for _ in range(count)
            ]
            for thread in threads:
                thread.start()
            seconds = 0.0
            for batch in (warming, measured):
                begun = time.perf_counter()
                for candidate in batch:
                    content = ExposureAnnounced(exposure_id=candidate.exposure_id, uri=candidate.uri)
                    broker.publish(Envelope.of(content, identity=candidate.uri))
                for _ in batch:
                    finished.acquire()
                seconds = time.perf_counter() - begun
            stop.set()
            for thread in threads:
                thread.join()
        assert not failed, failed[0]
    print(json.dumps({"seconds": seconds, "exposures": len(measured)}))


if __name__ == "__main__":
    main()
