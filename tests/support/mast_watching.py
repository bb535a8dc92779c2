"""What the tests of `nircam-darks watch-mast` share: exposures in the archive, and the command."""

import sys

import pytest
from mast_stub import Listed

from services.cli import main

WATCH = ("watch-mast", "--program", "1062", "--since", "2024-01-01")


def exposure(number: int, day: int, detectors=("nrca1", "nrcblong"), **said) -> Listed:
    name = f"jw01062001001_02101_{number:05d}"
    files = {detector: f"{name} {detector}".encode() * 50 for detector in detectors}
    return Listed(name, f"2024-01-{day:02d}T10:00:00.000", files, **said)


def names(messages) -> list[str]:
    return [message.content.exposure_id for message in messages]


def run(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["nircam-darks", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code or 0
