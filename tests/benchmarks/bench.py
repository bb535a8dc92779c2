"""Run the benchmarks: `PYTHONPATH=tests python tests/benchmarks/bench.py [--rows darkref_small ...]`.

Each row is a module `row_<name>.py`. Data are made once, in a temporary folder that is removed at the end.
The results are added to the JSON file row by row, so that a run may be continued; the document's table is
made anew from all that is in it.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness import ROOT

ROWS = (
    "darkref_small",
    "darkref_full",
    "darkref_bucket",
    "effective_noise",
    "ingest",
    "ingest_long",
    "one_detector",
    "many_small",
    "messages",
    "workers",
    "memory",
)
_BEGIN, _END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
_MACHINE = """
import json, platform
from importlib import metadata
names = ("numpy", "numba", "scipy", "astropy", "jwst", "jwst_reffiles", "boto3", "pika")
print(json.dumps({"python": platform.python_version(), **{name: metadata.version(name) for name in names}}))
"""


def main() -> None:
    """Measure what was asked for and write it down."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path, default=ROOT / "docs" / "performance.json")
    parser.add_argument("--document", type=Path, default=ROOT / "docs" / "performance.md")
    parser.add_argument("--work", type=Path, help="keep the data here, for another time")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="darks-bench-") as temporary:
        work = asked.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        for name in asked.rows:
            print(f"-- {name}", flush=True)
            results = [
                asdict(row) for row in importlib.import_module(f"row_{name}").measure(work, asked.runs)
            ]
            for row in results:
                print(_line(row), flush=True)
            _keep(asked.json, name, results)
    _render(asked.document, json.loads(asked.json.read_text()))


def _keep(file: Path, name: str, rows: list[dict[str, Any]]) -> None:
    known = json.loads(file.read_text()) if file.exists() else {}
    known["machine"] = _machine()
    known.setdefault("rows", {})[name] = rows
    file.write_text(json.dumps(known, indent=1) + "\n")


def _machine() -> dict[str, Any]:
    document = json.loads(
        subprocess.run([sys.executable, "-c", _MACHINE], capture_output=True, check=True).stdout
    )
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "cores": len(os.sched_getaffinity(0)),
        "processor": models[0] if models else "unknown",
        "memory": f"{memory / 1024**3:.0f} GiB",
        "versions": document,
    }


def _render(document: Path, known: dict[str, Any]) -> None:
    text = document.read_text() if document.exists() else f"# Performance\n\n{_BEGIN}\n{_END}\n"
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    document.write_text(f"{before}{_BEGIN}\n{_table(known)}{_END}{after}")


def _table(known: dict[str, Any]) -> str:
    machine = known["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = [
        f"Measured {machine['date']} on {machine['cores']} cores ({machine['processor']}), "
        f"{machine['memory']} of memory; {versions}.",
        "",
        "| work | against | ours | theirs | ratio | wanted | | processor | peak memory |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    notes = []
    for name in ROWS:
        for row in known["rows"].get(name, ()):
            lines.append(_line(row))
            if row["note"]:
                notes.append(f"- {row['work']}: {row['note']}.")
    return "\n".join([*lines, "", *notes, ""])


def _line(row: dict[str, Any]) -> str:
    memory = processor = ""
    if row["our_memory"] and row["their_memory"]:
        memory = f"{row['our_memory'] / 1024**2:.0f} / {row['their_memory'] / 1024**2:.0f} MiB"
    if row["our_processor"] and row["their_processor"]:
        processor = f"{row['our_processor']:.3g} / {row['their_processor']:.3g} s"
    ours, theirs = (_figure(row[side], row["unit"]) for side in ("ours", "theirs"))
    mark = "" if row["target"].startswith("(") else "reached" if row["reached"] else "**not reached**"
    return (
        f"| {row['work']} | {row['against']} | {ours} | {theirs} | {row['ratio']:.3g}x | {row['target']} "
        f"| {mark} | {processor} | {memory} |"
    )


def _figure(value: float, unit: str) -> str:
    return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


if __name__ == "__main__":
    main()
