"""Headers that need a decision: problems that the observatory reports, dates before the launch."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.time import Time

from services.darkref.handler import handle as build_reference
from services.noise.handler import handle as measure_noise
from shared.contracts.messages import ExposureIngested, ExposureRejected
from shared.products.noise import CDS_MAP
from shared.runtime.handler import StageContext
from shared.settings.stage import StageSettings
from shared.store.local import LocalStore
from shared.store.manifest import find_all
from support.configurations import configuration
from support.darkref_sets import commit_set, dark, write_ramp
from support.ingest_exposures import START_MJD, bench_on, edit, write_exposure, write_references


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    return write_references(tmp_path_factory.mktemp("references"))


@pytest.fixture
def bench(tmp_path, references, monkeypatch):
    return bench_on(tmp_path, references, monkeypatch)


def allow(bench, **settings):
    bench.settings = bench.settings.model_copy(update=settings)


OPTICS = {"FILTER": "F150W", "PUPIL": "FLAT"}


@pytest.mark.parametrize(
    ("cards", "named"),
    [
        ({"DATAPROB": True}, ["DATAPROB"]),
        ({"VISITSTA": "UNSUCCESSFUL"}, ["VISITSTA"]),
        ({"DATAPROB": True, "VISITSTA": "UNSUCCESSFUL"}, ["DATAPROB", "VISITSTA"]),
    ],
)
def test_a_reported_problem_takes_an_exposure_out_unless_a_person_wants_it(bench, cards, named):
    # Given an exposure of which the archive says that something went wrong
    path = edit(write_exposure(bench.inbox / "jw1_nrca3_uncal.fits"), **OPTICS, **cards)
    # When it is ingested
    content = bench.content(path)
    # Then it is rejected for that, with the option that takes it
    assert isinstance(content, ExposureRejected)
    assert content.check == "data quality"
    assert all(keyword in content.reason for keyword in [*named, "--use-problem-data"])
    # And when a person wants it, it becomes a ramp that says what the archive said
    allow(bench, use_problem_data=True)
    assert isinstance(bench.content(path), ExposureIngested)
    results = bench.results(path)
    assert len(results.header_remarks) == len(named)
    assert all(keyword in remark for keyword, remark in zip(named, results.header_remarks, strict=True))
    assert set(results.header_remarks) <= set(results.remarks)


@pytest.mark.parametrize(
    ("cards", "named"),
    [
        ({"FILTER": None, "PUPIL": "FLAT"}, ["FILTER"]),
        ({"FILTER": "F150W", "PUPIL": None}, ["PUPIL"]),
        ({"FILTER": "F150W", "PUPIL": "CLEAR"}, ["PUPIL = CLEAR"]),
        ({**OPTICS, "VISITSTA": "PARTIAL"}, ["VISITSTA = PARTIAL"]),
        ({**OPTICS, "VISITSTA": "SUCCESSFUL", "DATAPROB": False}, []),
    ],
)
def test_what_is_only_odd_is_taken_and_recorded(bench, cards, named):
    path = edit(write_exposure(bench.inbox / "jw1_nrca3_uncal.fits"), **cards)
    results = bench.results(path)
    assert len(results.header_remarks) == len(named)
    assert all(words in remark for words, remark in zip(named, results.header_remarks, strict=True))


@pytest.mark.parametrize(
    ("day", "pedigree", "expected"),
    [
        ("2017-08-15", None, "GROUND"),
        ("2021-12-24", None, "GROUND"),
        ("2021-12-26", None, "INFLIGHT"),
        ("2017-08-15", "SIMULATION", "SIMULATION"),
    ],
)
def test_what_was_exposed_before_the_launch_is_from_the_ground(bench, day, pedigree, expected):
    # Given an exposure of a day
    start = Time(day, scale="utc").mjd + 0.25
    path = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", start_mjd=start, pedigree=pedigree)
    edit(path, DATE__OBS=day)
    # When it is ingested, then its ramp is from where JWST was
    results = bench.results(path)
    assert (results.pedigree, results.simulated) == (expected, expected == "SIMULATION")


@pytest.mark.parametrize(
    ("day", "expected"), [("2017-08-15", "GROUND"), ("2022-04-11", "INFLIGHT 2022-04-11 2022-04-11")]
)
def test_dark_and_noise_of_ground_exposures_are_called_so(tmp_path, day, expected):
    # Given a set of that day
    store = LocalStore(tmp_path / "store")
    context = StageContext(store, StageSettings(store=tmp_path / "store"))
    key, rng = configuration(), np.random.default_rng(3)
    files = [write_ramp(tmp_path / f"jw{n}_jump.fits", key, *dark(rng, key, 2)) for n in range(3)]
    ready = commit_set(store, files, [key] * 3, [2, 2, 2], start_mjd=Time(day, scale="utc").mjd)
    # When
    build_reference(ready, context)
    measure_noise(ready, context)
    # Then both files carry it
    [reference], [noise] = (list(find_all(store, prefix)) for prefix in ("darkref/", "noise/"))
    files = [reference.object(reference.results["file"]), noise.object(CDS_MAP)]
    dark_file, cds_map = (tmp_path / "store" / each.key for each in files)
    assert fits.getval(dark_file, "PEDIGREE") == reference.results["pedigree"] == expected
    assert fits.getval(cds_map, "PEDIGREE") == expected.split()[0]


def cut_by_hand(path, groups):
    """The file with its first groups only, as astropy writes it."""
    with fits.open(path, memmap=False) as hdus:
        for hdu in hdus[1:]:
            if hdu.name in ("SCI", "GROUPDQ"):
                hdu.data = hdu.data[:, :groups]
        hdus[0].header["NGROUPS"] = groups
        if "ASDF" in hdus:
            del hdus["ASDF"]
        hdus.writeto(path, overwrite=True)
    return path


def test_a_truncated_exposure_is_that_of_a_file_with_only_these_groups(bench):
    # Given an exposure of six groups, and the same cut to four by hand
    long = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", saturated=[(20, 20)])
    short = cut_by_hand(write_exposure(bench.inbox / "jw2_nrca3_uncal.fits", saturated=[(20, 20)]), 4)
    # When both are ingested, truncated to four groups
    allow(bench, truncate=4)
    truncated, whole = bench.results(long), bench.results(short)
    # Then they are of one configuration, with equal pixels and flags
    assert truncated.key == whole.key
    assert truncated.key.ngroups == 4
    with bench.open(long) as one, bench.open(short) as other:
        assert one.data.shape == (2, 4, 64, 64)
        assert one.meta.exposure.ngroups == 4
        np.testing.assert_array_equal(one.data, other.data)
        np.testing.assert_array_equal(one.groupdq, other.groupdq)
        np.testing.assert_array_equal(one.pixeldq, other.pixeldq)
    file = bench.root / "store" / bench.manifest(long).object("ramp.fits").key
    history = list(fits.getheader(file)["HISTORY"])
    # And only the first is called truncated: in its parameters, its HISTORY and its remarks
    assert bench.manifest(long).parameters["truncated_to"] == 4
    assert "truncated_to" not in bench.manifest(short).parameters
    assert any("first 4 of 6 groups" in line for line in history)
    assert any("first 4 of 6 groups" in remark for remark in truncated.remarks)
    assert not any("truncated" in remark for remark in whole.remarks)


def test_lengths_that_differ_become_one_set_when_truncated(bench):
    # Given four exposures, of which one lost its last group
    paths = []
    for number in range(4):
        start = START_MJD + 0.01 * number
        path = bench.inbox / f"jw{number}_nrca3_uncal.fits"
        paths.append(write_exposure(path, seed=number, start_mjd=start, ngroups=5 if number == 3 else 6))
    # When they are ingested without and with truncation
    by_length = {bench.results(path).key.ngroups for path in paths}
    allow(bench, truncate=5)
    outgoing = [bench.ingest(path, expected_exposures=4) for path in paths]
    # Then they were two sets, and are one
    assert by_length == {5, 6}
    [ready] = [each.message.content for each in outgoing[-1] if each.message.schema_name == "set.ready"]
    assert (len(ready.members), ready.key.ngroups) == (4, 5)


GROUND = {"NOUTPUTS": None, "EFFINTTM": None, "EXPEND": None, "PEDIGREE": None}


def test_a_ground_dark_names_what_it_lacks_and_the_option_that_derives_it(bench):
    path = edit(write_exposure(bench.inbox / "jw1_nrca3_uncal.fits"), **GROUND)
    content = bench.content(path)
    assert isinstance(content, ExposureRejected)
    assert content.check == "keywords"
    assert all(word in content.reason for word in ("NOUTPUTS", "EFFINTTM", "EXPEND", "--derive-keywords"))


def test_derived_keywords_give_the_ramp_of_the_complete_file(bench):
    # Given a complete exposure of the ground test, and the same without keywords that follow from others
    start = Time("2017-08-15", scale="utc").mjd + 0.25
    whole = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", start_mjd=start)
    lacking = write_exposure(bench.inbox / "jw2_nrca3_uncal.fits", start_mjd=start)
    for path in (whole, lacking):
        # The frame time of 64 x 64 pixels by one output.
        edit(path, TFRAME=0.05016, TGROUP=0.05016, DATE__OBS="2017-08-15")
    expected = fits.getheader(whole)
    edit(lacking, **GROUND)
    # When both are ingested, with the derivation
    allow(bench, derive_keywords=True)
    complete, derived = bench.results(whole), bench.results(lacking)
    # Then the second has the key, the pixels and the outputs of the first
    assert derived.key == complete.key
    assert (derived.pedigree, complete.pedigree) == ("GROUND", "GROUND")
    # (two integrations of a reset and six groups)
    assert derived.end_mjd == pytest.approx(start + 2 * 7 * 0.05016 / 86400, abs=1e-9)
    with bench.open(whole) as one, bench.open(lacking) as other:
        np.testing.assert_array_equal(one.data, other.data)
        np.testing.assert_array_equal(one.groupdq, other.groupdq)
        assert other.meta.exposure.noutputs == expected["NOUTPUTS"]
    # And what was derived is on record, of the second alone
    assert set(bench.manifest(lacking).parameters["derived_keywords"]) == {"NOUTPUTS", "EFFINTTM", "EXPEND"}
    assert any("NOUTPUTS = 1, derived" in remark for remark in derived.remarks)
    assert "derived_keywords" not in bench.manifest(whole).parameters
