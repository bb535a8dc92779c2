"""Files that no telescope writes: each ends as a rejection, or as the ramp of what is good in it."""

import time
from datetime import UTC, datetime

import numpy as np
import pytest

from services.ingest.handler import handle
from shared.contracts.messages import (
    Envelope,
    ExposureAnnounced,
    ExposureIngested,
    ExposureRejected,
    SetCheck,
)
from shared.errors import BadMessage
from support.hostile_files import HOSTILE_FILES
from support.ingest_exposures import bench_on, edit, write_exposure, write_references

#: The check that rejects each; None: what is foreign is left out, and the exposure is good.
REJECTED_BY = {
    "2^63 - 1 axes": "FITS",
    "2^63 - 1 axes behind the end": None,
    "NAXIS is a word": "FITS",
    "zip of zeros": "FITS",
    "broken zip": "FITS",
    "compress": "FITS",
    "broken bzip2": "FITS",
    "axes of 10^60": "FITS",
    "axes of 0 and 10^60": "FITS",
    "10^12 columns": "FITS",
    "flags that are no integers": "DQ types",
    "BZERO is infinite": "FITS",
    "headers of 24 MiB": "FITS",
    "YAML aliases": None,
    "compressed ASDF block": None,
    "external ASDF array": None,
}
MIB = 1024**2


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    return write_references(tmp_path_factory.mktemp("references"))


@pytest.fixture
def bench(tmp_path, references, monkeypatch):
    return bench_on(tmp_path, references, monkeypatch)


@pytest.fixture(scope="module")
def good(tmp_path_factory, references):
    """SCI of the ramp of the exposure that is spoiled below."""
    with pytest.MonkeyPatch.context() as patch:
        bench = bench_on(tmp_path_factory.mktemp("good"), references, patch)
        with bench.open(write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", finished=True)) as model:
            return model.data.copy()


@pytest.mark.parametrize("kind", HOSTILE_FILES)
def test_a_hostile_file_is_rejected_or_its_exposure_is_ingested_without_it(bench, kind, good):
    # Given an exposure that somebody made hostile
    path = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", finished=True)
    HOSTILE_FILES[kind](path)
    # When it is ingested
    started = time.process_time()
    content = bench.content(path)
    # Then it costs little, and leaves nothing behind on scratch
    assert time.process_time() - started < 60
    assert [
        entry for entry in bench.store.scratch().rglob("*") if entry.is_file() and entry.name != "alive"
    ] == []
    # And it ends as one rejection, or as the ramp that it is without what is foreign
    if REJECTED_BY[kind] is not None:
        assert isinstance(content, ExposureRejected)
        assert content.check == REJECTED_BY[kind]
        assert len(content.reason) < 1000
        return
    assert isinstance(content, ExposureIngested)
    assert content.member.ramp.size < 2 * MIB
    with bench.open(path) as model:
        np.testing.assert_array_equal(model.data, good)
        assert not hasattr(model, "extra")


def served(bench, content):
    return handle(Envelope.of(content, identity="x"), bench.context)


@pytest.mark.parametrize(
    "content",
    [
        ExposureAnnounced(exposure_id="a" * 300, uri="/in/a.fits"),
        ExposureAnnounced(exposure_id="a", uri="http://[::1/a.fits"),
        SetCheck(configuration="../../x", scheduled_at=datetime.now(UTC)),
        SetCheck(configuration="x" * 300, scheduled_at=datetime.now(UTC)),
    ],
    ids=["a long id", "half an address", "a way out of the folder", "a long configuration"],
)
def test_a_field_that_no_store_can_hold_is_a_bad_message(bench, content):
    with pytest.raises(BadMessage) as caught:
        served(bench, content)
    assert len(str(caught.value)) < 500


def test_a_name_that_is_too_long_for_a_file_is_rejected(bench):
    content = ExposureAnnounced(exposure_id="a", uri=str(bench.inbox / ("a" * 300 + ".fits")))
    assert served(bench, content)[0].message.content.check == "file"


def test_a_header_of_a_long_string_gives_a_short_reason(bench):
    path = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", finished=True)
    edit(path, READPATT="RAPID" * 2000)
    content = bench.content(path)
    assert content.check == "READPATT"
    assert len(content.reason) < 1100


@pytest.mark.parametrize("kind", ["2^63 - 1 axes", "2^63 - 1 axes behind the end", "NAXIS is a word"])
def test_a_hostile_file_under_the_name_of_a_packed_one_is_rejected(bench, kind):
    path = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", finished=True)
    HOSTILE_FILES[kind](path)
    packed = path.rename(path.with_name("jw1_nrca3_uncal.fits.fz"))
    assert bench.content(packed).check in ("FITS", "truncated")
