"""A file that is replaced or written to while ingest works on it: no ramp of two files, and no rejection."""

import shutil
from pathlib import Path

import pytest

from services.ingest import handler, segments
from shared.errors import NoSpaceLeft, ScratchTooSmall, TransientError
from shared.products.ramp import EXPOSURE_ROLE
from shared.ramps.digests import DIGESTS, RampDigests
from shared.store.sources import sha256_of
from support.ingest_exposures import (
    ARCHIVE_ID,
    IDENTITY,
    Bench,
    bench_on,
    edit,
    write_exposure,
    write_references,
    write_segments,
)
from support.ramp_products import digests_of


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    return write_references(tmp_path_factory.mktemp("references"))


@pytest.fixture
def bench(tmp_path: Path, references, monkeypatch) -> Bench:
    return bench_on(tmp_path, references, monkeypatch)


def test_a_ramp_has_the_digests_of_its_file(bench):
    # Given an ingested exposure, Then its digests are those of the file in the store, and cover its pixels
    path = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", finished=True)
    manifest = bench.manifest(path)
    digests = RampDigests.decode(bench.store.get(manifest.object(DIGESTS).key))
    again = digests_of(bench.root / "store" / manifest.object("ramp.fits").key)
    assert list(digests.damaged(again)) == []
    assert {name: len(planes) for name, planes in digests.blocks.items()} == {
        "SCI": 12,
        "GROUPDQ": 12,
        "PIXELDQ": 1,
    }


@pytest.mark.parametrize("how", ["replaced", "written to", "removed"])
def test_a_file_that_changes_between_digest_and_calibration_is_tried_again(bench, monkeypatch, how):
    # Given an exposure, and another that takes its place once its digest is taken
    path = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", finished=True)
    other = write_exposure(bench.root / "other.fits", seed=9, finished=True)
    make = handler.make_ramp_file

    def change_first(*arguments, **named):
        if how == "replaced":
            shutil.copy(other, bench.root / "copy.fits").replace(path)
        elif how == "written to":
            path.write_bytes(other.read_bytes())
        made = make(*arguments, **named)
        if how == "removed":
            path.unlink()
        return made

    monkeypatch.setattr(handler, "make_ramp_file", change_first)
    # When it is ingested, Then no ramp is committed
    with pytest.raises(TransientError) as caught:
        bench.ingest(path)
    assert caught.value.where == str(path)
    assert bench.products() == []
    # And the next attempt makes the ramp of what is there then
    monkeypatch.undo()
    if how != "removed":
        again = Bench(bench.root, bench.settings.overrides)
        bench_on(bench.root, bench.settings.overrides, monkeypatch)
        inputs = [i.sha256 for i in again.manifest(path).inputs if i.role == EXPOSURE_ROLE]
        assert inputs == [sha256_of(path)]


def test_a_file_that_is_still_being_written_is_not_rejected(bench, monkeypatch):
    # Given an exposure of which half is written when ingest begins
    path = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", finished=True)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    read = handler.read_sums

    def and_go_on_writing(path):
        sums = read(path)
        path.write_bytes(whole)
        return sums

    monkeypatch.setattr(handler, "read_sums", and_go_on_writing)
    # When its size contradicts, Then it is no rejection
    with pytest.raises(TransientError):
        bench.ingest(path, sha256="0" * 64)
    assert bench.products() == []


def test_a_segment_that_changes_while_they_are_joined_is_noticed(bench, monkeypatch):
    whole = edit(write_exposure(bench.inbox / f"{ARCHIVE_ID}_uncal.fits", nints=5, finished=True), **IDENTITY)
    first, second = write_segments(whole, bench.inbox, (2, 3))
    bench.ingest(first)
    join = segments.join

    def change_first(*arguments):
        with first.open("r+b") as file:
            file.seek(-1, 2)
            file.write(b"x")
        join(*arguments)

    monkeypatch.setattr(segments, "join", change_first)
    with pytest.raises(TransientError) as caught:
        bench.ingest(second)
    assert caught.value.where == str(first)
    assert bench.products() == []


def test_what_does_not_fit_decompressed_is_no_failing_store(bench, monkeypatch):
    import gzip

    from services.ingest import compressed

    path = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", finished=True)
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(gzip.compress(path.read_bytes(), 1))

    def full(*_: object) -> None:
        raise NoSpaceLeft("no space left")

    monkeypatch.setattr(compressed, "_decompress", full)
    with pytest.raises(ScratchTooSmall) as caught:
        bench.ingest(packed)
    assert caught.value.setting == "DARKS_SCRATCH"
