"""`nircam-darks run` over a folder, and the sum of its jobs' own time: `many_small.py FOLDER JOBS`."""

import io
import json
import sys
import tempfile
import time
from pathlib import Path

import bench_handlers
from rich.console import Console

from nircam_darks.cli.progress import StageBars
from nircam_darks.cli.run import local_run
from nircam_darks.operations.candidates import peek
from shared.settings.stage import StageSettings


def main() -> None:
    """Run it once."""
    folder, jobs = Path(sys.argv[1]), int(sys.argv[2])
    environment = json.loads((folder / "environment.json").read_text())
    local_run.STAGE_HANDLERS = {stage: f"bench_handlers:{stage}" for stage in ("ingest", "darkref", "noise")}
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        out, times = Path(scratch) / "results", Path(scratch) / "times"
        begun, since = time.perf_counter(), time.time()
        files = [peek(path) for path in sorted((folder / "darks").glob("*.fits"))]
        with StageBars(Console(file=io.StringIO()), len(files)) as bars:
            settings = StageSettings(store=out)
            environment |= {bench_handlers.TIMES: str(times)}
            local_run.run_local(files, out, settings, jobs, environment, bars)
        wall = time.perf_counter() - begun
        own = [json.loads(line) for line in times.read_text().splitlines()]
    # Each exposure is ingested and measured; beyond those are the set's jobs.
    assert len(own) > 2 * len(files), f"only {len(own)} jobs"
    record = {
        "wall": wall,
        "own": sum(each["seconds"] for each in own),
        "waited": sum(each["waited"] for each in own),
        "ingested": max(each["end"] for each in own if each["stage"] == "ingest") - since,
        "jobs": len(own),
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
