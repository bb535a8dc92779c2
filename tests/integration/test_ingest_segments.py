"""An exposure that is delivered in segments is one exposure, the same as in one file."""

import itertools
import threading
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nircam_darks.report.exposure_entries import exposure_entries
from services.ingest.segments import join
from shared.catalog.products import RunProducts
from shared.catalog.store_contents import read_stored
from shared.contracts.messages import ExposureIngested, ExposureRejected, SetReady
from shared.errors import EnvironmentFault
from shared.products.claim import Claim, Segment, describe_missing, missing_segments, newest_segments
from shared.products.ramp import RampMetadata
from shared.ramps.ramp import Ramp
from shared.store.manifest import find_all
from shared.store.sources import FileReader
from support.ingest_exposures import (
    ARCHIVE_ID,
    IDENTITY,
    START_MJD,
    Bench,
    bench_on,
    edit,
    put_nan,
    write_exposure,
    write_references,
    write_segments,
)

NAME = f"{ARCHIVE_ID}_uncal.fits"
CUTS = (2, 1, 2)


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    return write_references(tmp_path_factory.mktemp("references"))


@pytest.fixture
def bench(tmp_path, references, monkeypatch) -> Bench:
    return bench_on(tmp_path, references, monkeypatch)


def whole_exposure(path: Path, seed: int = 4, **options) -> Path:
    """Five integrations with saturation and cosmic rays."""
    write_exposure(path, seed=seed, nints=sum(CUTS), saturated=[(5, 6)], **options)
    return edit(path, **IDENTITY)


def extensions(bench: Bench) -> dict[str, np.ndarray]:
    [ramp] = [manifest for manifest in find_all(bench.store, "ingest/") if manifest.product == "ramp"]
    with fits.open(bench.root / "store" / ramp.object("ramp.fits").key) as hdus:
        return {name: hdus[name].data.copy() for name in ("SCI", "GROUPDQ", "PIXELDQ")}


def results_of(bench: Bench) -> RampMetadata:
    [ramp] = [manifest for manifest in find_all(bench.store, "ingest/") if manifest.product == "ramp"]
    return RampMetadata.model_validate(ramp.results)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_segments_give_the_products_of_the_exposure_in_one_file(
    bench: Bench, references, tmp_path: Path, order: tuple[int, ...]
) -> None:
    # Given an exposure in one file, ingested
    whole = whole_exposure(bench.inbox / NAME)
    bench.ingest(whole)
    other = Bench(tmp_path / "other", references)
    # When the same exposure comes in segments
    segments = write_segments(whole, other.inbox, CUTS)
    sent = [other.ingest(segments[number]) for number in order]
    # Then the last to come gives its ramp, and the others wait
    assert [len(messages) for messages in sent] == [0, 0, 1]
    assert isinstance(sent[-1][0].message.content, ExposureIngested)
    # And its pixels and flags are the same
    expected, actual = extensions(bench), extensions(other)
    for name, values in expected.items():
        np.testing.assert_array_equal(actual[name], values, err_msg=name)
    assert (expected["GROUPDQ"] != 0).any()
    # And what its manifest says, apart from how it was delivered
    mine, theirs = (results_of(each).model_dump() for each in (bench, other))
    different = {name for name in mine if mine[name] != theirs[name]}
    assert different <= {"uri", "steps", "segments"}
    assert (mine["segments"], theirs["segments"]) == (1, 3)
    assert theirs["uri"] == segments[0].as_uri()
    # And the ramp's inputs are the segments, in order
    [ramp] = list(find_all(other.store, "ingest/"))
    assert [entry.uri for entry in ramp.inputs if entry.role == "exposure"] == [
        path.as_uri() for path in segments
    ]


def test_segments_and_the_whole_file_are_one_delivery(bench: Bench) -> None:
    whole = whole_exposure(bench.inbox / NAME, finished=True)
    before = bench.content(whole)
    for path in write_segments(whole, bench.inbox, CUTS):
        messages = bench.ingest(path)
    assert messages[0].message.content == before
    assert bench.products() == ["ramp"]


@given(data=st.data())
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_order_with_repetitions_gives_one_ramp_and_one_set(bench: Bench, data) -> None:
    # Given an exposure in segments, some of which are announced more than once
    root = bench.root / uuid4().hex
    here = Bench(root, bench.settings.overrides)
    whole = whole_exposure(here.inbox / NAME, finished=True)
    segments = write_segments(whole, here.inbox / "s", CUTS)
    order = data.draw(st.lists(st.sampled_from(range(3)), max_size=3)) + data.draw(st.permutations(range(3)))
    # When they arrive
    sets = [
        entry.message.content.set_id
        for number in order
        for entry in here.ingest(segments[number], expected_exposures=1)
        if isinstance(entry.message.content, SetReady)
    ]
    # Then
    assert here.products() == ["ramp"]
    assert len(set(sets)) == 1


def test_two_workers_with_the_last_two_segments_at_once_make_one_ramp(bench: Bench) -> None:
    whole = whole_exposure(bench.inbox / NAME, finished=True)
    segments = write_segments(whole, bench.inbox / "s", CUTS)
    bench.ingest(segments[1])
    barrier, sent = threading.Barrier(2), []

    def ingest(path: Path) -> None:
        barrier.wait()
        sent.extend(bench.ingest(path))

    threads = [threading.Thread(target=ingest, args=(segments[number],)) for number in (0, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bench.products() == ["ramp"]
    assert len({entry.message.id for entry in sent}) == 1


def test_a_missing_segment_is_named_and_nothing_is_made(bench: Bench) -> None:
    whole = whole_exposure(bench.inbox / NAME, finished=True)
    segments = write_segments(whole, bench.inbox, CUTS)
    for number in (0, 2):
        assert bench.ingest(segments[number]) == []
    assert bench.products() == []
    claims = newest_segments(read_stored(bench.store).claims)
    assert missing_segments(claims) == [2]
    assert "segment 2 of 3" in describe_missing(claims)
    # And a run that was given these two says what it waits for
    files = [(segments[number], ARCHIVE_ID) for number in (0, 2)]
    entries = exposure_entries(bench.store, files, RunProducts.of(bench.store, []), {}, [])
    assert [(entry.status, entry.check) for entry in entries] == [("waiting", "segments")] * 2
    assert all("segment 2 of 3" in (entry.reason or "") for entry in entries)


def test_the_segments_of_an_exposure_are_one_exposure_of_a_run(bench: Bench) -> None:
    whole = whole_exposure(bench.inbox / NAME, finished=True)
    segments = write_segments(whole, bench.inbox / "s", CUTS)
    manifest = [bench.ingest(path) for path in segments][-1][0].message.content.member.manifest
    files = [(path, ARCHIVE_ID) for path in segments]
    entries = exposure_entries(bench.store, files, RunProducts.of(bench.store, [manifest]), {}, [])
    assert {(entry.id, entry.status, entry.integrations) for entry in entries} == {
        (ARCHIVE_ID, "ingested", sum(CUTS))
    }
    assert all(any("3 segments" in remark for remark in entry.remarks) for entry in entries)


def test_a_segment_that_is_delivered_again_replaces_the_earlier_one(bench: Bench) -> None:
    # Given an exposure in segments, ingested
    whole = whole_exposure(bench.inbox / NAME, finished=True)
    segments = write_segments(whole, bench.inbox, CUTS)
    for path in segments:
        bench.ingest(path)
    # When a segment comes with other pixels
    fresh = whole_exposure(bench.inbox / "again" / NAME, seed=8, finished=True)
    again = write_segments(fresh, bench.inbox / "again", CUTS)[1]
    edit(again, DATE="2027-09-01T00:00:00.000")
    content = bench.content(again)
    # Then the exposure is made anew with it, and its ramp supersedes the other
    ramps = [RampMetadata.model_validate(each.results) for each in find_all(bench.store, "ingest/")]
    assert len(ramps) == 2
    assert sorted(len(ramp.supersedes) for ramp in ramps) == [0, 1]
    ramp = Ramp(bench.store.open(content.member.ramp.key), "ramp")
    with ramp, fits.open(fresh) as hdus, fits.open(whole) as first:
        np.testing.assert_array_equal(ramp.read("SCI", 2), hdus["SCI"].data[2])
        np.testing.assert_array_equal(ramp.read("SCI", 0), first["SCI"].data[0])


def test_a_bad_segment_is_rejected_and_a_good_one_in_its_place_completes_the_exposure(bench: Bench) -> None:
    whole = whole_exposure(bench.inbox / NAME, finished=True)
    segments = write_segments(whole, bench.inbox, CUTS)
    good = segments[1].read_bytes()
    put_nan(segments[1], 0, 1, 2, 3)
    bench.ingest(segments[0])
    assert bench.content(segments[1]).check == "finite data"
    assert bench.ingest(segments[2]) == []
    segments[1].write_bytes(good)
    assert isinstance(bench.content(segments[1]), ExposureIngested)


@pytest.mark.parametrize(
    ("number", "keywords"),
    [
        (1, {"EXPSTART": START_MJD + 1e-6}),
        (1, {"INTSTART": 4, "INTEND": 4}),
        (2, {"EXSEGNUM": 4}),
        (2, {"INTEND": None}),
        (0, {"INTEND": 1}),
    ],
)
def test_segments_that_do_not_fit_together_are_rejected(bench: Bench, number: int, keywords: dict) -> None:
    whole = whole_exposure(bench.inbox / NAME, finished=True)
    segments = write_segments(whole, bench.inbox, CUTS)
    edit(segments[number], **keywords)
    sent = [entry.message.content for path in segments for entry in bench.ingest(path)]
    assert [type(content) for content in sent] == [ExposureRejected]
    assert sent[0].check in ("segments", "shape")


def test_a_segment_that_is_gone_is_named(bench: Bench) -> None:
    whole = whole_exposure(bench.inbox / NAME, finished=True)
    segments = write_segments(whole, bench.inbox, CUTS)
    bench.ingest(segments[0])
    bench.ingest(segments[1])
    kept = segments[0].rename(bench.root / segments[0].name)
    content = bench.content(segments[2])
    assert content.check == "segments"
    assert segments[0].name in content.reason
    # And from its new place the exposure is made
    assert isinstance(bench.content(kept), ExposureIngested)


def test_the_times_of_integrations_are_joined_however_the_segments_list_them(tmp_path: Path) -> None:
    # Given a table that lists the integrations of its segment, and one that lists all in each segment
    rows = np.array([(n + 1, 60000.0 + n) for n in range(4)], dtype=[("number", ">i4"), ("start", ">f8")])
    for name, cuts in (("own", (slice(0, 1), slice(1, 4))), ("all", (slice(0, 4), slice(0, 4)))):
        paths = []
        for number, (integrations, cut) in enumerate(zip((1, 3), cuts, strict=True), 1):
            path = tmp_path / f"{name}{number}.fits"
            primary = fits.PrimaryHDU()
            primary.header["NINTS"] = 4
            data = np.full((integrations, 2, 3, 4), number, np.uint16)
            table = fits.BinTableHDU(rows[cut], name="INT_TIMES")
            fits.HDUList([primary, fits.ImageHDU(data, name="SCI"), table]).writeto(path, checksum=True)
            paths.append(path)
        # When they are joined
        ramps = [Ramp(FileReader(path), path.name) for path in paths]
        join(ramps, tmp_path / f"{name}.fits")
        # Then each integration is there once
        with fits.open(tmp_path / f"{name}.fits", checksum=True) as hdus:
            hdus.verify("exception")
            assert hdus["SCI"].data.dtype == np.uint16
            assert hdus["SCI"].data[:, 0, 0, 0].tolist() == [1, 2, 2, 2]
            assert hdus["INT_TIMES"].data["number"].tolist() == [1, 2, 3, 4]
            assert hdus["INT_TIMES"].data["start"].tolist() == rows["start"].tolist()
            assert "CHECKSUM" not in hdus["SCI"].header


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_the_newest_of_each_segment_counts_in_any_order(order: tuple[int, ...]) -> None:
    def claim(number: int, total: int, date: str) -> Claim:
        segment = Segment(number=number, total=total, first=number, last=number)
        return Claim(
            exposure_id="a",
            uri=f"{number}{date}",
            file="f",
            sha256=f"{number}{date}",
            date=date,
            segment=segment,
        )

    # Given an exposure in two segments of which the first came twice, and that was once cut in three
    claims = [claim(1, 2, "b"), claim(2, 2, "c"), claim(1, 2, "d"), claim(3, 3, "a")]
    newest = newest_segments(claims[number] for number in order)
    assert {number: each.date for number, each in newest.items()} == {1: "d", 2: "c"}
    assert missing_segments(newest) == []


@pytest.mark.parametrize("keywords", [{"EXSEGTOT": 10**9}, {"EXSEGNUM": 0}, {"INTEND": 10**9}])
def test_a_hostile_count_of_segments_is_rejected(bench: Bench, keywords: dict) -> None:
    whole = whole_exposure(bench.inbox / NAME, finished=True)
    segment = edit(write_segments(whole, bench.inbox, CUTS)[0], **keywords)
    assert bench.content(segment).check == "segments"


def test_a_damaged_claim_is_a_fault_of_the_store_and_is_named(bench: Bench) -> None:
    whole = whole_exposure(bench.inbox / NAME, finished=True)
    segments = write_segments(whole, bench.inbox, CUTS)
    bench.ingest(segments[0])
    [key] = [key for key in bench.store.list("exposures/") if key.endswith("claim.json")]
    bench.store.put(key, b"{}")
    with pytest.raises(EnvironmentFault) as caught:
        bench.ingest(segments[1])
    assert caught.value.where == bench.store.uri(key)
