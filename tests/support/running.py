"""The command line, run as its user runs it."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """A finished `nircam-darks run`."""

    code: int
    out: Path
    text: str

    @property
    def summary(self) -> dict:
        return json.loads((self.out / "summary.json").read_text())

    @property
    def manifests(self) -> dict[str, bytes]:
        """Every committed manifest, by its path under the results."""
        return {
            str(path.relative_to(self.out)): path.read_bytes()
            for path in sorted(self.out.rglob("manifest.json"))
        }


def command(*arguments) -> list[str]:
    """The command line as a user has it, in this environment's Python."""
    return [sys.executable, "-c", "from nircam_darks.cli.main import main; main()", *map(str, arguments)]


def run_darks(*arguments, out: Path, environment: dict[str, str] | None = None, within: float = 500.0) -> Run:
    done = subprocess.run(
        command("run", *arguments, "--out", out),
        capture_output=True,
        text=True,
        env=environment,
        timeout=within,
        check=False,
    )
    return Run(done.returncode, out, done.stdout + done.stderr)
