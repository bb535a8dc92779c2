"""The calibrated ramp: equal to the jwst steps called by hand, only what is missing, persistence, sets."""

import dataclasses
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from astropy.io import fits

from services.ingest import handler, persistence
from services.ingest.handler import handle
from services.ingest.steps import STEPS
from shared.contracts.messages import Envelope, ExposureIngested, SetCheck
from shared.errors import EnvironmentFault
from shared.nircam.configuration import ConfigurationKey
from shared.ramps.ramp import Ramp
from shared.store.manifest import find_all
from shared.store.sources import FileReader
from support.ingest_exposures import (
    FRAME_TIME,
    GAIN,
    SECOND,
    START_MJD,
    announce,
    bench_on,
    end_mjd,
    write_exposure,
    write_references,
)

PERSISTENCE = 32


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    return write_references(tmp_path_factory.mktemp("references"))


@pytest.fixture
def bench(tmp_path, references, monkeypatch):
    return bench_on(tmp_path, references, monkeypatch)


def by_hand(path, references, until=None):
    """The steps of jwst, called one by one as a person does."""
    from jwst.dq_init import DQInitStep
    from jwst.jump import JumpStep
    from jwst.linearity import LinearityStep
    from jwst.persistence import PersistenceStep
    from jwst.refpix import RefPixStep
    from jwst.saturation import SaturationStep
    from jwst.superbias import SuperBiasStep

    override = {f"override_{reftype}": str(file) for reftype, file in references.items()}
    chain = [
        (DQInitStep, ["mask"], {}),
        (SaturationStep, ["saturation", "superbias"], {}),
        (SuperBiasStep, ["superbias"], {}),
        (RefPixStep, [], {}),
        (LinearityStep, ["linearity"], {}),
        (JumpStep, ["gain", "readnoise"], {}),
        (PersistenceStep, [], {"skip": False, "persistence_time": 1000}),
    ]
    model = str(path)
    for step, reftypes, other in chain[:until]:
        chosen = {name: override[name] for name in (f"override_{reftype}" for reftype in reftypes)}
        model = step.call(model, configure_log=False, **chosen, **other)
    return model


def test_the_ramp_equals_the_steps_called_by_hand(bench, references):
    # Given a dark with a cosmic ray and a saturated pixel
    path = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", saturated=[(20, 20)], ngroups=8)
    # When it is ingested
    content = bench.content(path)
    # Then the product is bit for bit what the steps give
    expected = by_hand(path, references)
    with bench.open(path) as found:
        np.testing.assert_array_equal(found.data, expected.data)
        np.testing.assert_array_equal(found.groupdq, expected.groupdq)
        np.testing.assert_array_equal(found.pixeldq, expected.pixeldq)
        assert found.meta.model_type == "RampModel"
        for step in STEPS:
            assert getattr(found.meta.cal_step, step) == "COMPLETE"
        assert found.groupdq[0, 3, 30, 30] & 4
    # And its windows can be read without jwst
    file = bench.root / "store" / content.member.ramp.key
    with Ramp(FileReader(file), "ramp") as ramp:
        np.testing.assert_array_equal(ramp.read("SCI", 1), expected.data[1])
        assert ramp.read("SCI", 1).dtype == np.float32
        np.testing.assert_array_equal(ramp.read("GROUPDQ", 0, slice(2, 5)), expected.groupdq[0, 2:5])
        np.testing.assert_array_equal(ramp.read_image("PIXELDQ"), expected.pixeldq)


def test_the_manifest_says_what_was_done_with_what(bench, references):
    path = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", pedigree="SIMULATION")
    results = bench.results(path)
    assert [record.name for record in results.steps] == list(STEPS)
    assert {record.status for record in results.steps} == {"complete"}
    assert all(record.seconds > 0 for record in results.steps)
    assert results.references == {reftype: str(file) for reftype, file in references.items()}
    assert (results.gain, results.gain_source) == (GAIN, "reference")
    assert results.jwst_version == __import__("jwst").__version__
    assert results.crds_context == "jwst_0000.pmap"
    assert results.integrations == 2
    assert results.start_mjd == START_MJD
    assert results.flagged_fraction == pytest.approx(1 / 60**2)
    # What is simulated stays called simulated, in the file too
    assert (results.simulated, results.pedigree) == (True, "SIMULATION")
    file = bench.root / "store" / bench.manifest(path).object("ramp.fits").key
    assert fits.getheader(file)["PEDIGREE"] == "SIMULATION"


@pytest.mark.parametrize("done", [1, 3, 6, 7])
def test_only_the_missing_steps_run(bench, references, done):
    # Given a file that has some of its steps behind it
    raw = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", saturated=[(20, 20)])
    part = bench.inbox / "jw2_nrca3_ramp.fits"
    by_hand(raw, references, until=done).save(part)
    # When it is ingested
    results = bench.results(part)
    # Then the others run, and the result is that of all of them
    assert [record.status for record in results.steps] == ["already"] * done + ["complete"] * (7 - done)
    assert [what for what in bench.progress if what in STEPS] == list(STEPS)[done:]
    expected = by_hand(raw, references)
    with bench.open(part) as found:
        np.testing.assert_array_equal(found.data, expected.data)
        np.testing.assert_array_equal(found.groupdq, expected.groupdq)
    # And references of steps that were done before are known from the header
    assert set(results.references) == set(references)


def test_a_finished_ramp_needs_no_crds_and_takes_the_gain_of_the_table(
    bench, references, tmp_path, monkeypatch
):
    raw = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits")
    finished = bench.inbox / "jw2_nrca3_jump.fits"
    by_hand(raw, references).save(finished)
    monkeypatch.setenv("CRDS_PATH", str(tmp_path / "nothing"))
    bench.settings = bench.settings.model_copy(update={"overrides": {}})
    results = bench.results(finished)
    assert results.gain_source == "table"
    assert 1.5 < results.gain < 2.6
    assert results.crds_context == "none"
    assert {record.status for record in results.steps} == {"already"}


def test_two_groups_are_taken_without_jump_flags(bench):
    results = bench.results(write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", ngroups=2))
    assert {record.name: record.status for record in results.steps}["jump"] == "skipped"


def test_persistence_time_0_skips_the_step(bench):
    bench.settings = bench.settings.model_copy(update={"persistence_time": 0})
    path = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", saturated=[(20, 20)])
    results = bench.results(path)
    assert results.steps[-1].status == "skipped"
    assert bench.manifest(path).parameters["persistence_time"] == 0
    assert not list(bench.store.list("persistence/"))


def test_a_second_run_computes_nothing_and_says_the_same(bench):
    path = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits")
    first = bench.ingest(path)
    keys = list(bench.store.list(""))
    bench.progress.clear()
    second = bench.ingest(path)
    assert [each.message for each in second] == [entry.message for entry in first]
    assert "dq_init" not in bench.progress
    assert list(bench.store.list("")) == keys


def test_other_settings_and_references_make_another_product(bench, references, tmp_path):
    path = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits")
    first = bench.content(path).member.manifest
    other = tmp_path / "readnoise.fits"
    other.write_bytes(references["readnoise"].read_bytes())
    bench.settings = bench.settings.model_copy(update={"overrides": {**references, "readnoise": other}})
    assert bench.content(path).member.manifest == first
    with fits.open(other, mode="update") as hdus:
        hdus["SCI"].data[:] = 13
    assert bench.content(path).member.manifest != first


def test_a_parameter_that_was_given_is_in_manifest_history_and_pixels(bench, references):
    # Given a dark with a cosmic ray
    path = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", ngroups=8)
    plain = bench.content(path)
    # When it is ingested with a jump threshold that nothing exceeds
    bench.settings = bench.settings.model_copy(update={"steps": {"jump.rejection_threshold": "1e6"}})
    content = bench.content(path)
    # Then it is another product, whose jump step found nothing
    assert content.member.manifest != plain.member.manifest
    with bench.open(path) as ramp:
        assert not np.any(ramp.groupdq & 4)
        lines = [entry["description"] for entry in ramp.history]
    # and all parameters are told: those given, and jwst's defaults
    parameters = bench.results(path).step_parameters["jump"]
    assert parameters["rejection_threshold"] == 1e6
    assert parameters["flag_4_neighbors"] is True
    (line,) = [line for line in lines if line.startswith("Parameters of jump")]
    assert "rejection_threshold = 1000000.0" in line


def test_a_parameter_that_would_hold_too_much_in_memory_is_refused_before_any_step(bench, monkeypatch):
    # Given a dark that does not fit as a whole, and a parameter with which jwst's step holds it so
    path = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", ngroups=8)
    steps = {"jump.find_showers": "true"}
    bench.settings = bench.settings.model_copy(update={"steps": steps, "max_memory": 128 * 1024**2})
    monkeypatch.setattr(handler, "make_ramp_file", None)
    # When it is ingested, Then the machine's owner is told which parameter it is, and nothing is recorded
    with pytest.raises(EnvironmentFault) as refused:
        bench.content(path)
    assert (refused.value.setting, refused.value.where) == ("--step", path.name)
    assert not [key for key in bench.store.list("ingest/") if key.endswith("manifest.json")]


# ---- persistence from one exposure to the next


def saturated_then(bench, gap_seconds, **second):
    first = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", saturated=[(20, 20)])
    start = end_mjd() + gap_seconds * SECOND
    other = write_exposure(bench.inbox / "jw2_nrca3_uncal.fits", seed=1, start_mjd=start, **second)
    return first, other


def test_a_saturated_pixel_glows_in_the_next_exposure_within_the_window(bench):
    first, second = saturated_then(bench, 30)
    bench.ingest(first)
    results = bench.results(second)
    assert results.persistence_from == "jw1_nrca3"
    assert results.persistence_pixels == 9  # the saturation step grows by one pixel
    assert "persistence" in {each.role for each in bench.manifest(second).inputs}
    with bench.open(second) as ramp:
        assert np.all(ramp.groupdq[:, :, 20, 20] & PERSISTENCE)
        assert not np.any(ramp.groupdq[:, :, 40, 40] & PERSISTENCE)


def test_the_state_is_asked_for_when_all_other_steps_are_done(bench):
    # Given an exposure whose predecessor is ingested while its own calibration runs
    first, second = saturated_then(bench, 30)
    done_before = []

    def wait_turn():
        done_before.extend(bench.progress)
        bench.ingest(first)

    # When it is ingested, Then it begins with the state that was left meanwhile
    context = dataclasses.replace(bench.context, wait_turn=wait_turn)
    [outgoing] = handle(announce(second), context)
    assert bench.results(second).persistence_from == "jw1_nrca3"
    assert bench.manifest(second).path == outgoing.message.content.member.manifest.rpartition("/")[0]
    # And nothing but the persistence step was left to do
    assert set(STEPS) <= set(done_before)


@pytest.mark.parametrize("case", ["outside the window", "state not there", "another detector"])
def test_no_state_is_recorded_as_none(bench, references, tmp_path, case):
    first, second = saturated_then(bench, 5000 if case == "outside the window" else 30)
    if case != "state not there":
        bench.ingest(first)
    if case == "another detector":
        bench.settings = bench.settings.model_copy(
            update={"overrides": write_references(tmp_path / "b2", "NRCB2")}
        )
        second = write_exposure(
            bench.inbox / "jw3_nrcb2_uncal.fits", start_mjd=end_mjd() + SECOND, detector="NRCB2"
        )
    results = bench.results(second)
    assert (results.persistence_from, results.persistence_pixels) == (None, 0)
    with bench.open(second) as ramp:
        assert not np.any(ramp.groupdq & PERSISTENCE)


def test_the_window_ends_in_the_middle_of_an_exposure(bench):
    bench.settings = bench.settings.model_copy(update={"persistence_time": 40})
    # Given a pixel saturated from group 3 of both integrations on, for the last time at 20 s
    first, second = saturated_then(bench, 10)
    bench.ingest(first)
    # When the next exposure begins at 34 s, and its groups end every 2 s
    with bench.open(second) as ramp:
        flagged = (ramp.groupdq[:, :, 20, 20] & PERSISTENCE) != 0
    # Then the flags end 40 s after saturation was first seen in the last integration
    last_integration = FRAME_TIME * 6
    saturation = last_integration + 4 * FRAME_TIME
    times = 24 + 10 + np.arange(2)[:, None] * last_integration + FRAME_TIME * np.arange(1, 7)
    np.testing.assert_array_equal(flagged, times <= saturation + 40 + 1e-3)


def test_without_saturation_the_order_of_ingest_does_not_matter(bench):
    first = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits")
    second = write_exposure(bench.inbox / "jw2_nrca3_uncal.fits", seed=1, start_mjd=end_mjd() + 5 * SECOND)
    alone = bench.manifest(second).path
    bench.ingest(first)
    assert bench.manifest(second).path == alone
    assert "persistence" not in {each.role for each in bench.manifest(second).inputs}


def test_a_ramp_that_stands_is_not_made_again_for_a_state_that_came_later(bench):
    first, second = saturated_then(bench, 30)
    alone = bench.manifest(second).path
    bench.ingest(first)
    assert bench.manifest(second).path == alone


def test_states_sort_by_time_and_the_newest_counts():
    paths = [
        persistence.state_folder("NRCA3", mjd, "e") + "/k" for mjd in (59000.5, 60000.1, 9999.0, 60000.1)
    ]
    assert sorted(paths)[0].split("/")[2].startswith("00009999")
    result = persistence.newest_first(
        [*paths, persistence.state_folder("NRCA3", 60000.3, "e") + "/k"], 60000.2, 86400
    )
    assert [persistence.end_of(together[0]) for together in result] == [60000.1]


def test_a_state_goes_through_a_subarray_in_detector_pixels(tmp_path):
    # Given a state of the whole detector
    header = fits.getheader(write_exposure(tmp_path / "jw1_nrca3_uncal.fits", xstart=101, ystart=201))
    key = ConfigurationKey.from_header(header, "jw1")
    at = START_MJD
    ends = persistence.unix_seconds(at) + np.array([100.0, 100.0, -5.0])
    detector = persistence.PersistenceState(np.array([200, 10, 210]), np.array([100, 20, 110]), ends)
    # When a subarray from x 101, y 201 takes its part
    mine = persistence.to_subarray(detector, key, at)
    # Then it has the pixel that it reads and that still glows, in its own pixels
    assert (mine.rows.tolist(), mine.columns.tolist()) == ([0], [0])
    # And hands on the rest with what it leaves itself
    left = persistence.PersistenceState(np.array([3]), np.array([4]), ends[:1] + 50)
    after = persistence.to_detector(left, detector, key, at)
    assert sorted(zip(after.rows.tolist(), after.columns.tolist(), strict=True)) == [(10, 20), (203, 104)]


# ---- sets


def ready(outgoing):
    return [message.message.content for message in outgoing if message.message.schema_name == "set.ready"]


def check(configuration, **said) -> Envelope:
    content = SetCheck(configuration=configuration, **{"scheduled_at": datetime.now(UTC), **said})
    return Envelope.of(content, identity="check")


def test_the_announced_count_completes_a_set_rejected_ones_count_too(bench):
    good = [write_exposure(bench.inbox / f"jw{n}_nrca3_uncal.fits", seed=n, finished=True) for n in (1, 2)]
    bad = write_exposure(bench.inbox / "jw3_nrca3_uncal.fits", seed=3, finished=True)
    with fits.open(bad, mode="update") as hdus:
        hdus[0].header["FASTAXIS"] = 1
    assert not ready(bench.ingest(good[0], expected_exposures=3))
    assert not ready(bench.ingest(bad, expected_exposures=3))
    [result] = ready(bench.ingest(good[1], expected_exposures=3))
    assert {member.exposure_id for member in result.members} == {"jw1_nrca3", "jw2_nrca3"}
    assert (result.gain, result.simulated) == (GAIN, False)
    # And of the rejected one it is kept when it began, which says to which campaign it belongs
    refused = [manifest for manifest in find_all(bench.store, "ingest/") if manifest.product == "rejection"]
    assert [each.results["start_mjd"] for each in refused] == [fits.getval(bad, "EXPSTART")]
    # A redelivery names the same set
    assert ready(bench.ingest(good[1], expected_exposures=3)) == [result]


def test_of_an_exposure_whose_times_contradict_each_other_no_start_is_kept(bench):
    bad = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", finished=True)
    with fits.open(bad, mode="update") as hdus:
        hdus[0].header["EXPEND"] = hdus[0].header["EXPSTART"] - 1
    bench.ingest(bad)
    [refused] = find_all(bench.store, "ingest/")
    assert (refused.results["check"], refused.results["start_mjd"]) == ("times", None)


@pytest.mark.parametrize("keyword", ["EXPSTART", "EXPEND"])
def test_an_odd_time_in_a_header_holds_no_campaigns_together(bench, keyword):
    # Given an exposure that is said to last for ever, or to have begun then
    bad = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", finished=True)
    with fits.open(bad, mode="update") as hdus:
        hdus[0].header[keyword] = 9999999
    bench.ingest(bad, expected_exposures=2)
    # When the exposures of two later campaigns arrive
    for n, days in ((2, 100.0), (3, 200.0)):
        path = bench.inbox / f"jw{n}_nrca3_uncal.fits"
        write_exposure(path, seed=n, finished=True, start_mjd=START_MJD + days)
        bench.ingest(path)
    # Then each is a campaign of its own, and the first exposure is refused for its time
    configuration = bench.content(path).configuration
    results = [
        ready_set.members for ready_set in ready(handle(check(configuration, final=True), bench.context))
    ]
    assert [[member.exposure_id for member in members] for members in results] == [
        ["jw2_nrca3"],
        ["jw3_nrca3"],
    ]
    refused = [manifest for manifest in find_all(bench.store, "ingest/") if manifest.product == "rejection"]
    assert [(each.results["check"], each.results["start_mjd"]) for each in refused] == [("times", None)]


def test_a_set_check_settles_only_what_nothing_was_added_to(bench):
    bench.settings = bench.settings.model_copy(update={"settle_seconds": 7.0})
    path = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", finished=True)
    before = datetime.now(UTC) - timedelta(seconds=1)
    output, later = bench.ingest(path)
    assert isinstance(output.message.content, ExposureIngested)
    assert (later.message.schema_name, later.delay) == ("set.check", 7.0)
    assert len(ready(handle(later.message, bench.context))) == 1
    configuration = output.message.content.configuration
    assert not ready(handle(check(configuration, scheduled_at=before), bench.context))


def test_a_final_check_can_be_limited_to_some_exposures(bench):
    for n in (1, 2):
        bench.ingest(write_exposure(bench.inbox / f"jw{n}_nrca3_uncal.fits", seed=n, finished=True))
    configuration = bench.content(bench.inbox / "jw1_nrca3_uncal.fits").configuration
    [both] = ready(handle(check(configuration, final=True), bench.context))
    [one] = ready(handle(check(configuration, final=True, exposure_ids=["jw2_nrca3"]), bench.context))
    assert (len(both.members), len(one.members)) == (2, 1)


def test_ramps_made_with_other_settings_are_no_part_of_a_set(bench, tmp_path):
    other = write_references(tmp_path / "other")["gain"]
    with fits.open(other, mode="update") as hdus:
        hdus["SCI"].data[:] = 3
    path = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", finished=True)
    configuration = bench.content(path).configuration
    bench.settings = bench.settings.model_copy(update={"overrides": {"gain": other}})
    assert not ready(handle(check(configuration, final=True), bench.context))
    now = bench.content(path).member
    [result] = ready(handle(check(configuration, final=True), bench.context))
    assert [member.manifest for member in result.members] == [now.manifest]
    assert len([m for m in find_all(bench.store, "ingest/") if m.product == "ramp"]) == 2


def test_mixed_configurations_become_separate_sets(bench):
    short = write_exposure(bench.inbox / "jw1_nrca3_uncal.fits", ngroups=5, finished=True)
    long = write_exposure(bench.inbox / "jw2_nrca3_uncal.fits", ngroups=6, finished=True)
    names = {bench.content(short).configuration, bench.content(long).configuration}
    assert len(names) == 2
    for name in names:
        [result] = ready(handle(check(name, final=True), bench.context))
        assert len(result.members) == 1


def test_nothing_of_the_pipeline_is_on_the_console(bench, capfd):
    bench.ingest(write_exposure(bench.inbox / "jw1_nrca3_uncal.fits"))
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
    assert announce(bench.inbox / "jw1_nrca3_uncal.fits").content.exposure_id == "jw1_nrca3"
