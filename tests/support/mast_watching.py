"""What the tests of `nircam-darks watch-mast` share: exposures in the archive, and the command."""

import re
import sys

import pytest

from nircam_darks.cli.main import main
from support.mast_stub import Listed

WATCH = ("watch-mast", "--program", "1062", "--since", "2024-01-01")


def exposure(number: int, day: int, detectors=("nrca1", "nrcblong"), **said) -> Listed:
    name = f"jw01062001001_02101_{number:05d}"
    files = {detector: f"{name} {detector}".encode() * 50 for detector in detectors}
    return Listed(name, f"2024-01-{day:02d}T10:00:00.000", files, **said)


def names(messages) -> list[str]:
    return [message.content.exposure_id for message in messages]


def counts(line: str) -> dict[str, int]:
    """The numbers of the line that ends a round, by what they count."""
    pairs = re.findall(r"(\d+) ([a-z ]+)", line)
    return {what.strip().removesuffix("s"): int(number) for number, what in pairs}


def run(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["nircam-darks", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code or 0
