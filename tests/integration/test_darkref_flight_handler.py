"""The darkref stage in flight mode, from ``set.ready`` to the file and its results."""

import itertools

import numpy as np
import pytest
from astropy.io import fits
from stdatamodels.jwst import datamodels

from services.darkref.combine import combine_set as streaming
from services.darkref.combine.combine_set import combine_set
from services.darkref.handler import handle
from shared.contracts.messages import Envelope
from shared.errors import PermanentError
from shared.products.reference import DIFFERENCE_MAP, ReferenceResults, Verification
from shared.runtime.handler import StageContext
from shared.settings.stage import StageSettings
from shared.store.local import LocalStore
from support.configurations import configuration
from support.darkref_building import built, drawn_ramps, drawn_set, with_settings, write_ramps
from support.darkref_segments import dense
from support.darkref_sets import commit_set

SATURATED, JUMP_DET, UNRELIABLE_DARK = 2, 4, 1 << 23
DARK = "nrcalong_sub64p_dark.fits"


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "store")


@pytest.fixture
def context(tmp_path, store):
    return StageContext(store, StageSettings(store=tmp_path / "store", mode="flight"))


def _first(ready, count):
    """The set of the first exposures only, as it was ready before the others came."""
    content = ready.content.model_copy(
        update={"members": ready.content.members[:count], "set_id": f"of{count}"}
    )
    return Envelope.of(content, identity=content.set_id)


def _file(tmp_path, manifest, name=DARK):
    return tmp_path / "store" / manifest.object(name).key


def test_a_flight_mode_dark_opens_as_one_and_says_what_it_is(tmp_path, store, context):
    # Given
    key = configuration()
    ready = commit_set(store, write_ramps(tmp_path, key, drawn_ramps(1, 6, key)), [key] * 6, [1] * 6)
    # When
    manifest, results = built(context, ready)
    # Then the file
    with datamodels.DarkModel(_file(tmp_path, manifest)) as model:
        model.validate()
        assert model.dq.shape == (64, 64)
        assert not model.data[0].any()
        assert not model.err[0].any()
    history = " ".join(str(line) for line in fits.getheader(_file(tmp_path, manifest))["HISTORY"])
    for said in (
        "flight mode",
        "standard error",
        "MAD",
        "k(6) = 4.58",
        "replaces no earlier file",
        "jw0_jump",
    ):
        assert said in history
    with fits.open(_file(tmp_path, manifest, "dark_current_map.fits")) as hdus:
        assert hdus["AVDRKCUR"].data[30, 30] == pytest.approx(max(results.dark_current_e_per_ks, 0) / 1000)
    # and the results
    assert (results.mode, results.err_is, results.min_measurements) == (
        "flight",
        "standard error of the mean",
        3,
    )
    assert "k(6) = 4.58" in results.clip
    assert results.unreliable_pixels == results.flagged_pixels["unreliable"]
    assert results.flag_thresholds["min_measurements"] == 3
    assert results.replaces is None
    assert results.mean_ramp_dn[0] == 0
    assert manifest.parameters["min_measurements"] == 3
    assert manifest.versions["darkref"] == "4"


def test_the_dark_current_is_measured_and_pedestals_do_not_widen_it(tmp_path, store, context):
    # Given resets of 37 e-, and many hits
    key = configuration(ngroups=10)
    files = write_ramps(tmp_path, key, drawn_ramps(2, 8, key, kick=20.0, hits=0.03))
    ready = commit_set(store, files, [key] * 8, [1] * 8)
    # When
    flight, reference = (built(with_settings(context, mode=mode), ready) for mode in ("flight", "reference"))
    # Then
    truth = 0.02 * 1.84 * 1000
    results = flight[1]
    assert abs(results.dark_current_e_per_ks - truth) < 3 * results.dark_current_error_e_per_ks
    spread = []
    for manifest, _ in (flight, reference):
        image = fits.getdata(_file(tmp_path, manifest, "dark_current_map.fits"), "DARKCURR")
        spread.append(np.nanstd(image))
    assert spread[0] < 0.7 * spread[1]


def test_outliers_of_a_set_of_five_are_gone_as_they_are_not_in_reference_mode(tmp_path, store, context):
    # Given 5 integrations, and in 1 per cent of the pixels an unflagged hit of 300 DN or more in one of them
    key, rng = configuration(), np.random.default_rng(7)
    ramps = drawn_ramps(7, 5, key, hits=0.0)
    struck = np.zeros((64, 64), bool)
    struck.flat[rng.choice(64 * 64, 41, replace=False)] = True
    for y, x in np.argwhere(struck):
        ramps[rng.integers(5)][0][rng.integers(1, 6) :, y, x] += rng.uniform(500, 5000)
    ready = commit_set(store, write_ramps(tmp_path, key, ramps), [key] * 5, [1] * 5)
    # When
    means = {}
    for mode in ("flight", "reference"):
        manifest, _ = built(with_settings(context, mode=mode), ready)
        means[mode] = fits.getdata(_file(tmp_path, manifest), "SCI").astype(float)
    # Then a pixel's last group is off by no more than noise does it (7 DN a difference, over sqrt 5)
    noise = 5 * np.sqrt(2 / 5)
    assert np.abs(means["flight"][:, struck] - 0.02 * 6 * key.group_time).max() < 6 * noise + 1
    assert (np.ptp(means["reference"][:, struck], axis=0) > 80).all()


def test_results_do_not_depend_on_windows_or_threads(tmp_path, store, context, monkeypatch):
    # Given
    key = configuration(ngroups=7)
    ready = commit_set(store, write_ramps(tmp_path, key, drawn_ramps(3, 9, key)), [key] * 9, [1] * 9)
    found = []
    # When
    for threads, bound in itertools.product((1, 3), (None, 1)):

        def combine(*arguments, threads=threads):
            combine_set(*arguments, threads=threads)

        monkeypatch.setattr("services.darkref.build.combine_set", combine)
        if bound:
            monkeypatch.setattr(
                "services.darkref.build.plan_combine", lambda *_: streaming.WindowPlan(2, 13, 7, 64)
            )
        manifest, _ = built(with_settings(context, author=f"{threads} {bound}"), ready)
        with fits.open(_file(tmp_path, manifest)) as hdus:
            found.append([hdus[name].data.tobytes() for name in ("SCI", "ERR", "DQ")])
        for name in ("contributions.fits", "dark_current_map.fits"):
            found[-1].append(_file(tmp_path, manifest, name).read_bytes())
    # Then
    assert all(each == found[0] for each in found)


def test_few_measurements_are_unreliable_and_one_has_the_usual_error(tmp_path, store, context):
    # Given 4 integrations; one pixel that saturates in two of them, one in three, one in all from group 3 on,
    # and one from the first group on
    key = configuration()
    ramps = drawn_ramps(4, 4, key, hits=0.0)
    for n, (_, groupdq) in enumerate(ramps):
        for x, lost in ((1, 2), (2, 3), (3, 4)):
            groupdq[3:, 10, x] = SATURATED if n < lost else 0
        groupdq[0, 10, 4] = SATURATED
    ready = commit_set(store, write_ramps(tmp_path, key, ramps), [key] * 4, [1] * 4)
    # When
    manifest, results = built(context, ready)
    # Then
    with fits.open(_file(tmp_path, manifest)) as hdus:
        sci, err, quality = (hdus[name].data for name in ("SCI", "ERR", "DQ"))
    counts = fits.getdata(_file(tmp_path, manifest, "contributions.fits"), "NMEAS")
    assert counts[5, 10, :6].tolist() == [4, 2, 1, 0, 0, 4]
    unreliable = quality & UNRELIABLE_DARK != 0
    assert unreliable[10, :6].tolist() == [False, True, True, True, True, False]
    assert results.unreliable_pixels >= 4
    # One measurement: what three others say of groups 0 to 2 helps to know its level. 14 degrees of freedom
    # know the 5 DN of a read to 20 per cent
    data, groupdq = (np.stack([ramp[part][:, 10, 2] for ramp in ramps]) for part in (0, 1))
    expected = dense(data, groupdq)
    assert sci[5, 10, 2] == pytest.approx(expected.mean[5], abs=1e-3)
    assert err[5, 10, 2] == pytest.approx(5 * np.sqrt(expected.variance[5]), rel=0.4)
    # None at all: 0 in both
    assert not sci[3:, 10, 3].any()
    assert not err[3:, 10, 3].any()
    assert not sci[:, 10, 4].any()


def test_more_measurements_may_be_asked_for(tmp_path, store, context):
    key = configuration()
    ready = drawn_set(context, tmp_path, key, 5, 4)
    _, results = built(with_settings(context, min_valid=5), ready)
    assert results.unreliable_pixels == 64 * 64
    _, results = built(context, ready)
    assert results.unreliable_pixels < 10


def test_a_single_integration_is_a_dark_of_which_no_error_is_known(tmp_path, store, context):
    key = configuration()
    ready = commit_set(store, write_ramps(tmp_path, key, drawn_ramps(6, 1, key, hits=0.0)), [key], [1])
    manifest, results = built(with_settings(context, min_integrations=1), ready)
    assert results.unreliable_pixels == 64 * 64
    assert not fits.getdata(_file(tmp_path, manifest), "ERR").any()


def test_what_changes_against_the_reference_it_replaces_is_said(tmp_path, store, context):
    # Given a set and its reference, and a late exposure with which a new set is ready; a pixel went hot
    key = configuration()
    ramps = drawn_ramps(8, 6, key, hits=0.0)
    for data, _ in ramps:
        data[:, 20, 30] += 40 * np.arange(6)
    larger = commit_set(store, write_ramps(tmp_path, key, ramps), [key] * 6, [1] * 6)
    first, _ = built(context, _first(larger, 4))
    # When
    manifest, results = built(context, larger)
    # Then
    assert results.replaces == first.object(DARK).key
    assert results.differences[0].startswith(f"DIFFERENCES: replaces {DARK} of set ")
    assert any("0 pixels newly hot, 0 no longer hot, 1 hot in both" in said for said in results.differences)
    header = fits.getheader(_file(tmp_path, manifest))
    assert "replaces " + DARK in " ".join(str(line) for line in header["HISTORY"])
    # The figures of both are in the product, and the change of every pixel is that of numpy's own straight
    # lines through both files
    by_name = {row.figure: row for row in results.changes}
    assert (by_name["HOT"].before, by_name["HOT"].after) == (1, 1)
    assert by_name["dark current"].change_error > 0
    change = fits.getdata(_file(tmp_path, manifest, DIFFERENCE_MAP), "DIFFRATE")
    cubes = [fits.getdata(_file(tmp_path, each), "SCI").reshape(6, -1) for each in (manifest, first)]
    seconds = np.arange(6) * key.group_time
    slopes = [np.polyfit(seconds, cube.astype(float), 1)[0] * results.gain * 1000 for cube in cubes]
    known = np.isfinite(change)
    assert known.mean() > 0.5
    np.testing.assert_allclose(
        change[known], (slopes[0] - slopes[1]).reshape(64, 64)[known], rtol=1e-3, atol=0.01
    )
    assert DIFFERENCE_MAP not in {entry.name for entry in first.objects}
    # and the earlier set, built again with other words, does not replace the later one
    _, again = built(with_settings(context, descrip="again"), _first(larger, 4))
    assert again.replaces == first.object(DARK).key


def test_a_reference_mode_dark_and_one_of_an_earlier_epoch_are_replaced_too(tmp_path, store, context):
    # Given a reference of the exposures before, in notebook mode
    key = configuration()
    whole = drawn_set(context, tmp_path, key, 11, 8)
    first, _ = built(with_settings(context, mode="reference"), _first(whole, 4))
    later = whole.content.model_copy(update={"members": whole.content.members[4:], "set_id": "later"})
    # When
    _, results = built(context, Envelope.of(later, identity="later"))
    # Then
    assert results.replaces == first.object(DARK).key
    assert "this is no change of noise" in results.differences[-1]
    # and a set of exposures that came before them replaces neither
    _, early = built(context, _first(whole, 3))
    assert early.replaces is None


@pytest.mark.parametrize("fault", ["gone", "cut", "garbage"])
def test_an_earlier_reference_that_cannot_be_read_is_named_and_does_not_stop_the_new_one(
    tmp_path, store, context, fault
):
    key = configuration()
    larger = commit_set(store, write_ramps(tmp_path, key, drawn_ramps(9, 5, key)), [key] * 5, [1] * 5)
    first, _ = built(context, _first(larger, 4))
    path = _file(tmp_path, first)
    stored = path.read_bytes()
    path.unlink()
    if fault != "gone":
        path.write_bytes(stored[: len(stored) // 2] if fault == "cut" else bytes(len(stored)))
    _, results = built(context, larger)
    assert results.replaces == first.object(DARK).key
    assert "cannot be compared" in results.differences[0]


def test_all_pixels_flagged_names_the_flags(tmp_path, store, context):
    key = configuration()
    ramps = drawn_ramps(10, 3, key)
    for _, groupdq in ramps:
        groupdq[0] = SATURATED
    with pytest.raises(PermanentError) as refused:
        handle(commit_set(store, write_ramps(tmp_path, key, ramps), [key] * 3, [1] * 3), context)
    assert refused.value.keyword == "GROUPDQ"
    assert "SATURATED" in str(refused.value)


def test_a_dark_is_verified_before_it_is_announced(tmp_path, store, context):
    # Given a good set of enough integrations
    key = configuration(ngroups=8)
    ready = commit_set(store, write_ramps(tmp_path, key, drawn_ramps(5, 6, key)), [key] * 6, [1] * 6)
    # When
    (outgoing,) = handle(ready, with_settings(context, verify=True))
    # Then an exposure was left out, and message and manifest say what came of it
    content = outgoing.message.content
    manifest = built(with_settings(context, verify=True), ready)[0]
    verification = ReferenceResults.model_validate(manifest.results).verification
    assert verification.left_out.exposure == ready.content.members[3].exposure_id
    assert 3 < verification.left_out.measurements <= 5
    assert {check.name: check.passed for check in verification.checks}["CRDS certify"]
    assert (content.accepted, content.verification) == (verification.accepted, verification.verdict)
    # And nothing of the trial is left
    assert not list((tmp_path / "store").rglob("without-*"))


def test_what_the_next_dark_replaces_is_never_a_rejected_one(tmp_path, store, context, monkeypatch):
    # Given an accepted dark of four exposures, and a rejected one of five
    key = configuration()
    whole = commit_set(store, write_ramps(tmp_path, key, drawn_ramps(6, 6, key)), [key] * 6, [1] * 6)
    accepted, _ = built(context, _first(whole, 4))
    outcome = Verification(
        accepted=False, verdict="rejected: x", amplifiers=[], detector=False, checks=[], measurements=4
    )
    monkeypatch.setattr("services.darkref.verification.verify.verify_reference", lambda *_: outcome)
    _, results = built(with_settings(context, verify=True), _first(whole, 5))
    assert results.verification.accepted is False
    # When
    _, results = built(context, whole)
    # Then
    assert results.replaces == accepted.object(DARK).key
