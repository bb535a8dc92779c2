"""The runbook's part about a damaged ramp, walked: its product removed, and its exposure announced again."""

import shutil
from pathlib import Path

import pytest

from services.darkref.handler import handle as darkref
from shared.contracts.messages import Envelope, SetReady
from shared.errors import BadMessage, DamagedObject
from shared.runtime.handler import StageContext
from shared.settings.stage import StageSettings
from shared.store.manifest import find_all
from support.flipping_store import byte_of_pixel
from support.ingest_exposures import Bench, bench_on, write_exposure, write_references


@pytest.fixture
def bench(tmp_path, monkeypatch) -> Bench:
    return bench_on(tmp_path, write_references(tmp_path / "references"), monkeypatch)


def announced_sets(outgoing) -> list[Envelope]:
    return [each.message for each in outgoing if isinstance(each.message.content, SetReady)]


def exposure(folder: Path, number: int) -> Path:
    name = f"jw01062001001_02101_{number:05d}_nrca3_uncal.fits"
    return write_exposure(folder / name, seed=number, start_mjd=61042.25 + 0.01 * number)


def test_an_exposure_announced_again_brings_its_set_and_its_reference(bench, tmp_path):
    # Given a set of two exposures, and a bit of a ramp's pixels that was changed in the store
    files = [exposure(bench.inbox, number) for number in (1, 2)]
    bench.ingest(files[0], expected_exposures=2)
    [ready] = announced_sets(bench.ingest(files[1], expected_exposures=2))
    ramp = bench.store.root / ready.content.members[0].ramp.key
    place = byte_of_pixel(ramp, "SCI", 0, 1, 20, 20)
    content = bytearray(ramp.read_bytes())
    content[place] ^= 1
    ramp.write_bytes(content)
    context = StageContext(bench.store, StageSettings(store=bench.store.root, verify=False))
    with pytest.raises(DamagedObject):
        darkref(ready, context)
    # When its product is removed, and its exposure announced again
    shutil.rmtree((bench.store.root / ready.content.members[0].manifest).parent)
    [again] = announced_sets(bench.ingest(files[0], expected_exposures=2))
    # Then that announces the set with the new ramp
    assert again.content.set_id == ready.content.set_id
    assert again.content.members[0].ramp.sha256 != ready.content.members[0].ramp.sha256
    # And the message of before, which names the ramp that is gone, builds nothing
    with pytest.raises(BadMessage):
        darkref(ready, context)
    assert list(find_all(bench.store, "darkref/")) == []
    # And the new one builds the reference of both
    darkref(again, context)
    [reference] = [each for each in find_all(bench.store, "darkref/") if each.product == "reference"]
    assert len(reference.results["exposures"]) == 2
    # And then the message of before ends well, too, and makes nothing more
    darkref(ready, context)
    assert [each.path for each in find_all(bench.store, "darkref/")] == [reference.path]
