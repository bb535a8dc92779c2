"""Fixtures of the tests of `nircam-darks watch-mast`."""

import os
from pathlib import Path

import pytest

from shared.broker.memory import Faults, MemoryBroker
from support.mast_stub import MastStub, running_mast


@pytest.fixture
def archive():
    """MAST, as a server on this machine."""
    with running_mast() as stub:
        yield stub


@pytest.fixture
def mast_environment(archive: MastStub, tmp_path: Path, monkeypatch) -> None:
    """Settings of this archive and a store of its own, and none of the caller's."""
    for name in [name for name in os.environ if name.startswith("DARKS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DARKS_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("DARKS_MAST_URL", archive.url)
    monkeypatch.setenv("DARKS_MAST_PUBLIC_BUCKET", "")
    monkeypatch.setenv("DARKS_MAST_LONGEST_PAUSE", "0.01")


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def heard(faults: Faults, monkeypatch) -> list:
    """What was announced, in a broker of this process that misbehaves as `faults` say."""
    messages: list = []

    def broker() -> MemoryBroker:
        memory = MemoryBroker(faults)
        memory.listen("exposure.announced", messages.append)
        return memory

    monkeypatch.setattr("shared.broker.opening.open_services_broker", broker)
    return messages
