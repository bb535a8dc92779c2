"""Mutated exposures through the whole handler of ingest, in this process."""

import shutil
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from shared.contracts.messages import ExposureIngested, ExposureRejected
from shared.errors import DarksError
from support.fuzz_files import base_files, mutated_files, stored_pixels
from support.fuzz_limits import SEED, first_input, inputs, time_limit
from support.ingest_exposures import Bench, bench_on, write_references

SECONDS = 30.0
MIB = 1024**2


def end_of(bench: Bench, path: Path) -> str:
    """Ingest a file; return how it ended."""
    try:
        outgoing = bench.ingest(path)
    except DarksError:
        return "failed"
    products = bench.products()
    if not outgoing:
        assert products == []
        return "waits for a segment"
    content = outgoing[0].message.content
    assert len(outgoing) == len(products) == 1
    if isinstance(content, ExposureRejected):
        assert len(content.reason) < 2000
        assert "\n" not in content.reason
        return "rejected"
    assert isinstance(content, ExposureIngested)
    assert content.member.ramp.size < 4 * MIB
    return "ingested"


def empty(bench: Bench) -> None:
    """Remove all products, and leave the store's scratch as it is."""
    for folder in (bench.root / "store").iterdir():
        if not folder.name.startswith("."):
            shutil.rmtree(folder)


@pytest.mark.timeout(0)
def test_a_mutated_exposure_ends_once_and_never_with_changed_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given good exposures, some with the sums of FITS, which were mutated
    bench = bench_on(tmp_path, write_references(tmp_path / "references"), monkeypatch)
    bases = base_files(tmp_path / "bases")
    path = bench.inbox / "fuzz_uncal.fits"
    path.parent.mkdir()
    ends: Counter[str] = Counter()
    files = islice(mutated_files(SEED, inputs(250, in_ci=1000), bases), first_input(), None)
    for number, (base, content) in enumerate(files, start=first_input()):
        path.write_bytes(content)
        # When each is ingested, Then it ends as a rejection, a product or an error of ours, in time
        with time_limit(SECONDS):
            try:
                end = end_of(bench, path)
            except BaseException as error:
                kept = tmp_path / f"{number}.fits"
                shutil.copyfile(path, kept)
                error.add_note(f"input {number}, a mutated {base.name}, is kept as {kept}")
                raise
        ends[end] += 1
        # And a file that states sums is only accepted with the pixels that they were made of
        if base.sums and end in ("ingested", "waits for a segment") and content[:2] != b"\x1f\x8b":
            # An extension that was added states no sums.
            pixels = stored_pixels(content)
            assert {name: pixels.get(name) for name in base.pixels()} == base.pixels(), f"input {number}"
        empty(bench)
    print(f"{sum(ends.values())} files: {dict(ends)}")
    assert ends.keys() >= {"rejected", "ingested"}
