"""What one exposure is, and which of its files counts, through the real handler."""

import gzip
import hashlib
import itertools
from datetime import UTC, datetime
from pathlib import Path

import pytest
from astropy.io import fits

from nircam_darks.report.exposure_entries import exposure_entries
from shared.catalog.products import RunProducts
from shared.catalog.sets import stored_sets
from shared.catalog.store_contents import read_stored
from shared.contracts.messages import ExposureIngested, ExposureRejected, SetReady
from shared.errors import BadMessage
from shared.products.claim import Claim
from shared.products.ramp import RampMetadata
from shared.store.manifest import find
from support.ingest_exposures import (
    ARCHIVE_ID,
    IDENTITY,
    START_MJD,
    Bench,
    bench_on,
    edit,
    write_exposure,
    write_references,
)

OTHER_ID = "jw01062001001_02101_00002_nrca3"
LATER, LATEST = "2026-02-01T00:00:00.000", "2026-03-01T00:00:00.000"


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    return write_references(tmp_path_factory.mktemp("references"))


@pytest.fixture
def bench(tmp_path, references, monkeypatch) -> Bench:
    return bench_on(tmp_path, references, monkeypatch)


def dark(path: Path, *, seed: int = 0, date: str = LATER, done: bool = True, **keywords) -> Path:
    """An exposure of the archive; `done` says that every step was run."""
    write_exposure(path, seed=seed, finished=done)
    return edit(path, **{**IDENTITY, "DATE": date, **keywords})


def manifest_of(bench: Bench, path: Path) -> str:
    content = bench.content(path)
    assert isinstance(content, ExposureIngested)
    return content.member.manifest


def results_of(bench: Bench, manifest: str) -> RampMetadata:
    product = find(bench.store, manifest.removesuffix("/manifest.json"))
    assert product is not None
    return RampMetadata.model_validate(product.results)


def claims(bench: Bench) -> dict[str, Claim]:
    return {claim.uri: claim for claim in read_stored(bench.store).claims}


def test_a_compressed_file_gives_the_ramp_of_the_file_in_it(bench: Bench) -> None:
    # Given an exposure as a file, and compressed
    path = dark(bench.inbox / f"{ARCHIVE_ID}_uncal.fits", done=False)
    packed = bench.inbox / "packed" / f"{ARCHIVE_ID}_uncal.fits.gz"
    packed.parent.mkdir()
    packed.write_bytes(gzip.compress(path.read_bytes()))
    # When both are ingested, the compressed file with its own size and sha256
    digest = hashlib.sha256(packed.read_bytes()).hexdigest()
    of_packed = bench.content(packed, size=packed.stat().st_size, sha256=digest)
    of_plain = bench.content(path)
    # Then they are one product, and nothing of the decompressed file is left
    assert isinstance(of_packed, ExposureIngested)
    assert of_packed.member == of_plain.member
    assert not list(bench.store.scratch().glob("uncompressed-*"))


def last_set(bench: Bench, path: Path) -> list[str]:
    """The manifests of the set that a count of 1 makes ready with this file."""
    sets = [
        entry.message.content
        for entry in bench.ingest(path, expected_exposures=1)
        if isinstance(entry.message.content, SetReady)
    ]
    assert len(sets) == 1
    return [member.manifest for member in sets[0].members]


@pytest.mark.parametrize("name", ["my dark.fits", f"{ARCHIVE_ID}_darkpipeline.fits", "copy_uncal.fits"])
def test_an_exposure_is_what_its_header_says_whatever_its_file_is_called(bench: Bench, name: str) -> None:
    results = results_of(bench, manifest_of(bench, dark(bench.inbox / name)))
    assert (results.exposure_id, results.identity) == (ARCHIVE_ID, "header")


def test_a_file_without_these_keywords_is_known_by_its_announcement(bench: Bench) -> None:
    path = write_exposure(bench.inbox / "ground_7_uncal.fits", finished=True)
    results = results_of(bench, manifest_of(bench, path))
    assert (results.exposure_id, results.identity) == ("ground_7", "announced")


def test_a_file_announced_under_another_exposures_id_does_not_block_that_exposure(bench: Bench) -> None:
    # Given a file of exposure 1 under the name of exposure 2
    wrong = dark(bench.inbox / "wrong" / f"{OTHER_ID}_uncal.fits", seed=1)
    # When it is announced, then the message is refused, and nothing is recorded
    with pytest.raises(BadMessage) as caught:
        bench.ingest(wrong)
    assert caught.value.keyword == "exposure_id"
    assert ARCHIVE_ID in str(caught.value)
    assert OTHER_ID in str(caught.value)
    assert list(bench.store.list("")) == []
    # And both honest files are ingested
    honest = dark(bench.inbox / f"{OTHER_ID}_uncal.fits", seed=2, EXPOSURE="2")
    assert results_of(bench, manifest_of(bench, honest)).exposure_id == OTHER_ID
    first = dark(bench.inbox / f"{ARCHIVE_ID}_uncal.fits", seed=1)
    assert results_of(bench, manifest_of(bench, first)).exposure_id == ARCHIVE_ID


def test_a_claim_ends_with_the_failure_of_its_file(bench: Bench) -> None:
    path = dark(bench.inbox / "a_uncal.fits", EXPEND=1e300)
    edit(path, EXPEND=START_MJD - 1)
    assert isinstance(bench.content(path), ExposureRejected)
    assert read_stored(bench.store).claims == []
    assert isinstance(bench.content(dark(path)), ExposureIngested)


def test_an_end_that_no_clock_shows_is_rejected(bench: Bench) -> None:
    path = dark(bench.inbox / "a_uncal.fits")
    body = path.read_bytes()
    at = body.index(b"EXPEND  =")
    path.write_bytes(body[:at] + b"EXPEND  =               1E999".ljust(80) + body[at + 80 :])
    assert bench.content(path).check in ("times", "keywords")


@pytest.mark.parametrize("keyword", ["TITLE", "PROPOSID"])
def test_a_file_of_which_only_cards_were_changed_leaves_the_ramp_as_it_is(bench: Bench, keyword: str) -> None:
    # Given a ramp
    first = dark(bench.inbox / f"{ARCHIVE_ID}_uncal.fits")
    before, keys = manifest_of(bench, first), set(bench.store.list("ingest/"))
    # When the archive delivers the file again, with another card and a later DATE
    again = dark(bench.inbox / "again" / f"{ARCHIVE_ID}_uncal.fits", date=LATEST, **{keyword: "mended"})
    # Then the same ramp stands and is announced again, and the file is noted
    assert manifest_of(bench, again) == before
    assert set(bench.store.list("ingest/")) == keys
    assert "pixels" in claims(bench)[again.as_uri()].stands_aside
    assert claims(bench)[first.as_uri()].stands_aside == ""


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_of_files_with_other_pixels_the_one_made_last_counts_in_any_order(bench: Bench, order) -> None:
    # Given three deliveries of one exposure
    dates = ["2026-01-01T00:00:00.000", LATER, LATEST]
    files = [
        dark(bench.inbox / str(seed) / f"{ARCHIVE_ID}_uncal.fits", seed=seed, date=date)
        for seed, date in enumerate(dates)
    ]
    # When they arrive, in some order, and are all announced again
    for number in (*order, *order):
        members = last_set(bench, files[number])
    # Then sets hold the last, once, as status and coverage see them, too
    assert len(members) == 1
    assert results_of(bench, members[0]).file_date == LATEST
    [configuration] = stored_sets(read_stored(bench.store), bench.settings, datetime.now(UTC))
    assert [each.exposures for each in configuration.sets] == [(ARCHIVE_ID,)]


def test_a_ramp_that_supersedes_another_says_so(bench: Bench) -> None:
    first = dark(bench.inbox / f"{ARCHIVE_ID}_uncal.fits", done=False)
    before = manifest_of(bench, first)
    again = dark(bench.inbox / "again" / f"{ARCHIVE_ID}_uncal.fits", seed=9, date=LATEST, done=False)
    after = manifest_of(bench, again)
    results = results_of(bench, after)
    assert [(ramp.product, ramp.reason) for ramp in results.supersedes] == [(before.split("/")[-2], "newer")]
    assert any("takes the place" in remark for remark in results.remarks)
    with fits.open(bench.root / "store" / bench.manifest(again).object("ramp.fits").key) as hdus:
        assert any("Supersedes" in line for line in hdus[0].header["HISTORY"])
    # And the earlier file does not come back
    assert manifest_of(bench, first) == after


def test_a_file_changed_in_place_supersedes_the_ramp_of_its_earlier_bytes(bench: Bench) -> None:
    path = dark(bench.inbox / f"{ARCHIVE_ID}_uncal.fits")
    before = manifest_of(bench, path)
    dark(path, seed=5)
    assert manifest_of(bench, path) != before
    assert last_set(bench, path) == [manifest_of(bench, path)]


@pytest.mark.parametrize("raw_first", [True, False])
def test_the_rawest_file_of_an_exposure_counts(bench: Bench, raw_first: bool) -> None:
    # Given the raw file of an exposure, and what jwst made of it later
    raw = dark(bench.inbox / f"{ARCHIVE_ID}_uncal.fits", done=False)
    calibrated = dark(bench.inbox / f"{ARCHIVE_ID}_jumpstep.fits", date=LATEST)
    # When both arrive
    for path in (raw, calibrated) if raw_first else (calibrated, raw):
        assert isinstance(bench.content(path), ExposureIngested)
    # Then sets hold the ramp of the raw file
    [manifest] = last_set(bench, calibrated)
    results = results_of(bench, manifest)
    assert results.steps_done == 0
    assert results.uri == raw.as_uri()
    if raw_first:
        assert "rawer" in claims(bench)[calibrated.as_uri()].stands_aside
    else:
        assert [ramp.reason for ramp in results.supersedes] == ["rawer"]


@pytest.mark.parametrize("raw_first", [True, False])
def test_a_run_says_which_file_of_an_exposure_was_not_needed(bench: Bench, raw_first: bool) -> None:
    raw = dark(bench.inbox / f"{ARCHIVE_ID}_uncal.fits", done=False)
    calibrated = dark(bench.inbox / f"{ARCHIVE_ID}_jumpstep.fits", date=LATEST)
    order = (raw, calibrated) if raw_first else (calibrated, raw)
    products = RunProducts.of(bench.store, [manifest_of(bench, path) for path in order])
    assert len(products.ramps) == 1
    files = [(path, ARCHIVE_ID) for path in (raw, calibrated)]
    entries = exposure_entries(bench.store, files, products, {}, [])
    assert [entry.status for entry in entries] == ["ingested", "not needed"]
    assert raw.name in (entries[1].reason or "")


def test_a_bad_redelivery_leaves_the_ramp_as_it_is(bench: Bench) -> None:
    first = dark(bench.inbox / f"{ARCHIVE_ID}_uncal.fits")
    before = manifest_of(bench, first)
    bad = dark(bench.inbox / "again" / f"{ARCHIVE_ID}_uncal.fits", seed=3, date=LATEST, TFRAME=None)
    assert isinstance(bench.content(bad), ExposureRejected)
    assert last_set(bench, first) == [before]


def test_a_copy_in_another_place_is_the_same_file(bench: Bench) -> None:
    first = dark(bench.inbox / f"{ARCHIVE_ID}_uncal.fits")
    copy = bench.inbox / "copy" / first.name
    copy.parent.mkdir()
    copy.write_bytes(first.read_bytes())
    assert manifest_of(bench, copy) == manifest_of(bench, first)


def test_a_card_that_the_calibration_uses_makes_a_new_revision(bench: Bench) -> None:
    first = dark(bench.inbox / f"{ARCHIVE_ID}_uncal.fits")
    mended = dark(bench.inbox / "b" / f"{ARCHIVE_ID}_uncal.fits", date=LATEST, EXPSTART=START_MJD + 1e-6)
    manifest_of(bench, first)
    manifest_of(bench, mended)
    assert results_of(bench, last_set(bench, first)[0]).start_mjd == START_MJD + 1e-6


def test_the_revision_of_a_file_does_not_depend_on_its_bookkeeping(bench: Bench) -> None:
    first = results_of(bench, manifest_of(bench, dark(bench.inbox / "a.fits")))
    with fits.open(bench.inbox / "a.fits") as hdus:
        hdus[0].header["HISTORY"] = "edited"
        hdus.writeto(bench.inbox / "b.fits", checksum=True)
    again = results_of(bench, manifest_of(bench, bench.inbox / "b.fits"))
    assert again.revision == first.revision
    assert len(first.revision or "") == 64


def test_calibrated_exposures_record_with_what_and_are_told_apart(bench: Bench) -> None:
    # Given three calibrated exposures of which one names another context, version of jwst and superbias
    late = {"CRDS_CTX": "jwst_1303.pmap", "CAL_VER": "1.18.0", "R_SUPERB": "crds://bias_0041.fits"}
    early = {"CRDS_CTX": "jwst_0870.pmap", "CAL_VER": "1.4.6", "R_SUPERB": "crds://bias_0030.fits"}
    paths = [
        dark(bench.inbox / f"{number}_uncal.fits", seed=number, EXPOSURE=str(number), **said)
        for number, said in enumerate((late, early, late), 1)
    ]
    # When they are ingested as the three of their epoch
    outgoing = [entry for path in paths for entry in bench.ingest(path, expected_exposures=3)]
    # Then each ramp's manifest has the values, and each calibration is a set
    sets = [entry.message.content for entry in outgoing if isinstance(entry.message.content, SetReady)]
    assert [len(each.members) for each in sets] == [2, 1]
    results = results_of(bench, sets[1].members[0].manifest)
    assert results.calibrated_before == {"CRDS_CTX": "jwst_0870.pmap", "CAL_VER": "1.4.6"}
    assert results.references["superbias"] == "crds://bias_0030.fits"
    now = datetime.now(UTC)
    (configuration,) = stored_sets(read_stored(bench.store), bench.settings, now)
    assert [each.set_id for each in configuration.sets] == [each.set_id for each in sets]


def test_a_file_of_fpack_is_the_exposure_that_was_packed(bench: Bench) -> None:
    # Given an exposure of integers, and the same as fpack packs it
    path = dark(bench.inbox / f"{ARCHIVE_ID}_uncal.fits")
    packed = bench.inbox / "packed" / f"{path.name}.fz"
    packed.parent.mkdir()
    with fits.open(path, memmap=False) as hdus:
        tile = (1, 1, 1, hdus["SCI"].shape[-1])
        hdus["SCI"] = fits.CompImageHDU(hdus["SCI"].data, hdus["SCI"].header, tile_shape=tile)
        hdus.writeto(packed)
    # When both are ingested, Then they are one ramp, and nothing of the unpacked file is left
    of_plain = bench.content(path)
    assert isinstance(of_plain, ExposureIngested)
    assert bench.content(packed).member == of_plain.member
    assert not list(bench.store.scratch().glob("uncompressed-*"))
