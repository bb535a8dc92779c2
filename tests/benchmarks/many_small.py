"""`nircam-darks run` over a folder, and the sum of its jobs' own time: `many_small.py FOLDER JOBS`."""

import io
import json
import sys
import tempfile
import time
from pathlib import Path

import bench_handlers
from rich.console import Console

from services import local_run
from services.progress import StageBars
from services.schedule import peek
from shared.settings import StageSettings


def main() -> None:
    """Run it once."""
    folder, jobs = Path(sys.argv[1]), int(sys.argv[2])
    environment = json.loads((folder / "environment.json").read_text())
    local_run.HANDLERS = {stage: f"bench_handlers:{stage}" for stage in ("ingest", "darkref", "noise")}
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        out, times = Path(scratch) / "results", Path(scratch) / "times"
        begun = time.perf_counter()
        files = [peek(path) for path in sorted((folder / "darks").glob("*.fits"))]
        with StageBars(Console(file=io.StringIO()), len(files)) as bars:
            settings = StageSettings(store=out)
            environment |= {bench_handlers.TIMES: str(times)}
            local_run.run_local(files, out, settings, jobs, environment, bars)
        wall = time.perf_counter() - begun
        own = [json.loads(line) for line in times.read_text().splitlines()]
    # Each exposure is ingested and measured; beyond those are the set's jobs.
    assert len(own) > 2 * len(files), f"only {len(own)} jobs"
    said = {"wall": wall, "own": sum(one["seconds"] for one in own), "jobs": len(own)}
    print(json.dumps(said))


if __name__ == "__main__":
    main()
