"""The noise stage on ramps in a store: its figures against numpy, its products, its refusals."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from scipy import stats

from services.noise import handler
from services.noise.handler import handle
from services.noise.jumps.rates import compare_jumps
from shared.contracts.messages import Envelope, SetCheck
from shared.errors import BadMessage, PermanentError
from shared.nircam.dq import GroupFlag
from shared.products.figures import figures_of
from shared.products.noise import (
    CDS_MAP,
    NOISE_SPECTRUM,
    PIXEL_RAMPS,
    ExposureNoiseResults,
    NoiseSpectrum,
    SetNoiseResults,
)
from shared.ramps.window_plan import WindowPlan
from shared.runtime.handler import StageContext
from shared.settings.stage import StageSettings
from shared.statistics.verdicts import VerdictState
from shared.store.local import LocalStore
from shared.store.manifest import find_all
from support.configurations import configuration
from support.noise_sets import GAIN, JUMP_DET, ingested, put_ramp, set_ready, white_ramps


@pytest.fixture
def context(tmp_path):
    store = LocalStore(tmp_path / "store")
    yield StageContext(store, StageSettings(store=tmp_path / "store"))
    store.close()


def with_hits(key, sci, seed, hits=40):
    """Add jumps of 500 DN, each flagging two pixels, to SCI in place; return GROUPDQ."""
    rng = np.random.default_rng(seed)
    groupdq = np.zeros(sci.shape, np.uint8)
    for _ in range(hits):
        nint, group = rng.integers(len(sci)), rng.integers(1, key.ngroups)
        y, x = rng.integers(key.subsize2), rng.integers(key.subsize1 - 1)
        sci[nint, group:, y, x : x + 2] += 500
        groupdq[nint, group, y, x : x + 2] |= JUMP_DET
    return groupdq


def put_set(context, tmp_path, key, exposures, nints=1, pixeldq=None):
    members, cubes = [], []
    for number in range(1, exposures + 1):
        sci = white_ramps(key, nints, seed=number)
        groupdq = with_hits(key, sci, seed=number)
        members.append(put_ramp(context.store, tmp_path, key, sci, groupdq, pixeldq, number))
        cubes.append((sci, groupdq))
    return members, np.concatenate([s for s, _ in cubes]), np.concatenate([d for _, d in cubes])


def results_of(context, product):
    model = SetNoiseResults if product == "set-noise" else ExposureNoiseResults
    results = [m for m in find_all(context.store, "noise/") if m.product == product]
    return [(manifest, model.model_validate(manifest.results)) for manifest in results]


# A corner of the detector: reference pixels on two sides, and four outputs.
CORNER = configuration(24, 48, 7, noutputs=4, substrt1=1, substrt2=1)


def direct(sci, groupdq, science, columns):
    """Effective noise by polyfit per group count: (spatial, temporal, reference), DN."""
    ngroups = sci.shape[1]
    bad = np.maximum.accumulate(groupdq & JUMP_DET > 0, axis=1)
    spatial, temporal, reference = [], [], []
    for n in range(2, ngroups + 1):
        flat = sci[:, :n].astype(float).transpose(1, 0, 2, 3).reshape(n, -1)
        slopes = np.polyfit(np.arange(n), flat, 1)[0].reshape(len(sci), *sci.shape[2:])
        slopes[bad[:, n - 1]] = np.nan

        def mad(values):
            values = values[np.isfinite(values)]
            return stats.median_abs_deviation(values, scale="normal")

        count = np.isfinite(slopes).sum(axis=0)
        variance = np.nanvar(slopes, axis=0, ddof=1) / (stats.chi2.median(count - 1) / (count - 1))
        spatial.append([np.median([mad(s[:, c][science[:, c]]) for s in slopes]) for c in columns])
        temporal.append([np.sqrt(np.median(variance[:, c][science[:, c]])) for c in columns])
        reference.append(np.median([mad(s[~science]) for s in slopes]))
    rise = np.arange(1, ngroups)
    return np.array(spatial) * rise[:, None], np.array(temporal) * rise[:, None], np.array(reference) * rise


def test_effective_noise_is_that_of_a_polyfit_per_group_count(context, tmp_path):
    # Given twelve ramps in six exposures with hits, reference pixels and four outputs
    members, sci, groupdq = put_set(context, tmp_path, CORNER, exposures=6, nints=2)
    # When the set is measured
    handle(set_ready(CORNER, members), context)
    curve = results_of(context, "set-noise")[0][1].curve
    # Then every number of groups has the noise of the direct computation
    science = np.zeros((24, 48), bool)
    science[4:, 4:] = True
    columns = [slice(12 * n, 12 * n + 12) for n in range(4)]
    spatial, temporal, reference = direct(sci, groupdq, science, columns)
    np.testing.assert_allclose(np.transpose(curve.spatial_by_amplifier), spatial * GAIN, rtol=1e-6)
    np.testing.assert_allclose(np.transpose(curve.temporal_by_amplifier), temporal * GAIN, rtol=1e-6)
    np.testing.assert_allclose(curve.reference_pixels, reference * GAIN, rtol=1e-6)
    np.testing.assert_allclose(curve.spatial, np.sqrt(np.mean(spatial**2, axis=1)) * GAIN, rtol=1e-6)
    np.testing.assert_allclose(curve.temporal, np.sqrt(np.mean(temporal**2, axis=1)) * GAIN, rtol=1e-6)
    assert curve.groups == [2, 3, 4, 5, 6, 7]
    assert curve.temporal_refusal is None


def test_figures_of_white_noise_are_its_closed_form_within_their_errors(context, tmp_path):
    # Given twelve ramps of white noise of 5 DN on a dark signal of 0.1 DN a group
    key = configuration(64, 64, 12)
    members, sci, groupdq = put_set(context, tmp_path, key, 12)
    handle(set_ready(key, members), context)
    manifest, results = results_of(context, "set-noise")[0]
    slope = 5 * math.sqrt(12 / (12 * (12**2 - 1)))
    # Then every figure lies within three of its errors of the truth, and no error is idle
    for measured, truth in (
        (results.cds_noise, 5 * math.sqrt(2) * GAIN),
        (results.cds_noise_median_removed, 5 * math.sqrt(2) * GAIN),
        (results.spatial_effective_noise, slope * 11 * GAIN),
        (results.temporal_effective_noise, slope * 11 * GAIN),
    ):
        assert abs(measured.value - truth) < 3 * measured.error
        assert measured.error < 0.02 * truth
    # And the jumps are the notebook's
    flags = groupdq & JUMP_DET > 0
    assert results.jump_flags == flags.sum()
    assert results.jump_pixel_percent.value == pytest.approx(100 * flags.any(axis=1).mean())
    assert 0.7 < results.jump_flags_error / math.sqrt(2 * flags.sum()) < 1.3
    # And stability has a point an integration, whose dark rate is that of the signal
    rates = np.array(results.stability.dark_rate_e_per_ks)
    truth = 0.1 * GAIN / key.group_time * 1000
    assert np.all(np.abs(rates - truth) < 4 * np.array(results.stability.dark_rate_error_e_per_ks))
    assert np.shape(results.stability.median_dn) == (12, 12)
    # And the map holds each pixel's CDS noise
    with fits.open(tmp_path / "store" / manifest.object(CDS_MAP).key) as file:
        image = file["CDSNOISE"].data
        assert file[0].header["PEDIGREE"] == "SIMULATION"
    alive = ~np.maximum.accumulate(flags, axis=1)[:, 1::2]
    difference = np.where(alive, sci[:, 1::2].astype(float) - sci[:, 0::2], np.nan)
    np.testing.assert_allclose(image, np.nanstd(difference, axis=(0, 1), ddof=1) * GAIN, rtol=1e-5)


def test_what_noise_is_made_of_comes_back_as_it_was_drawn(context, tmp_path):
    # Given twelve ramps in six exposures: white noise of 5 DN, kTC of 20 DN, no 1/f noise, four outputs,
    # and a reference border that reads like the rest
    key = configuration(64, 256, 10, noutputs=4, substrt1=1, substrt2=1)
    members, _, _ = put_set(context, tmp_path, key, exposures=6, nints=2)
    handle(set_ready(key, members), context)
    manifest, results = results_of(context, "set-noise")[0]
    # Then each part is its truth within three of its errors
    for measured, truth in (
        (results.ktc_noise, 20 * GAIN),
        (results.reference_cds_noise, 5 * math.sqrt(2) * GAIN),
        # Of whole numbers' rounding these have none, but it is taken off as that of raw data
        (results.white_noise, math.sqrt(25 - 1 / 12) * GAIN),
    ):
        assert abs(measured.value - truth) < 3 * measured.error
        assert measured.error < 0.02 * truth
    for part in (results.correlated_noise, results.uncorrelated_noise):
        assert part.value < 3 * part.error + 0.5
    assert len(results.ktc_noise_by_amplifier_e) == len(results.uncorrelated_noise_by_amplifier_e) == 4
    # And kTC noise is held against the detector's, and says so in the overall verdict
    assert results.ktc_noise.expected == pytest.approx(22.1 * GAIN, rel=0.2)
    assert "kTC noise" in results.verdict
    # And the spectrum of each output is flat, at twice the variance over the clock's rate
    spectrum = NoiseSpectrum.model_validate_json(context.store.get(manifest.object(NOISE_SPECTRUM).key))
    flat = 2 * 25 * GAIN**2 * spectrum.pixel_seconds
    assert np.shape(spectrum.amplifiers) == (4, len(spectrum.frequencies_hz))
    assert np.median(np.array(spectrum.amplifiers)[:, -5:]) == pytest.approx(flat, rel=0.02)
    assert abs(np.median(spectrum.common[-5:])) < 0.02 * flat
    assert spectrum.line_seconds == pytest.approx((64 + 12) * 10e-6)
    assert 10_000 < spectrum.frequencies_hz[-1] < 50_000
    # And the theory's terms are fitted, and the reset's transients looked for
    assert results.theory_fit.p1 is not None
    assert len(results.theory_fit.curve) == len(results.curve.groups)
    first = results.stability.transients[0]
    assert first.sigmas < 4
    assert "first group of each integration" in first.said
    assert results.stability.transients[-1].value is not None


def test_groups_of_several_frames_are_not_held_against_the_noise_of_single_ones(context, tmp_path):
    key = configuration(16, 16, 5, readpatt="SHALLOW4", nframes=4, groupgap=1)
    members, _, _ = put_set(context, tmp_path, key, 3)
    handle(set_ready(key, members), context)
    results = results_of(context, "set-noise")[0][1]
    for cds in (results.cds_noise, results.cds_noise_median_removed):
        assert cds.value > 0
        assert cds.expected is None
        assert cds.comparison.state is VerdictState.NOT_ENOUGH
        assert "groups of 4 frames" in cds.verdict


def test_facts_of_an_earlier_version_still_load(context, tmp_path):
    key = configuration(16, 16, 5)
    members, _, _ = put_set(context, tmp_path, key, 2)
    handle(set_ready(key, members), context)
    results = results_of(context, "set-noise")[0][1]
    # Given a manifest that has none of what version 2 adds
    old = results.model_dump(mode="json")
    new = [
        name for name in SetNoiseResults.model_fields if not SetNoiseResults.model_fields[name].is_required()
    ]
    for name in new:
        del old[name]
    del old["stability"]["transients"]
    # Then it is read, and says that it has none
    read = SetNoiseResults.model_validate(old)
    assert read.ktc_noise is None
    assert read.theory_fit is None
    assert read.stability.transients == []
    # And two integrations have no kTC noise, nor has one output a part that is shared
    for figure in (results.ktc_noise, results.correlated_noise):
        assert (figure.value, figure.comparison.state) == (None, VerdictState.NOT_ENOUGH)
    assert results.uncorrelated_noise.value is not None


def test_below_ten_ramps_temporal_noise_is_not_measured_and_the_rest_is(context, tmp_path):
    key = configuration(16, 16, 5)
    members, _, _ = put_set(context, tmp_path, key, 9)
    handle(set_ready(key, members), context)
    results = results_of(context, "set-noise")[0][1]
    assert results.temporal_effective_noise.value is None
    assert results.temporal_effective_noise.comparison.state == VerdictState.NOT_ENOUGH
    assert results.temporal_effective_noise.comparison.reason == results.curve.temporal_refusal
    assert results.curve.temporal is None
    assert results.spatial_effective_noise.value > 0
    assert results.cds_noise.value > 0
    assert results.curve.reference_pixels is None


def test_result_does_not_depend_on_the_windows(context, tmp_path, monkeypatch):
    members, _, _ = put_set(context, tmp_path, CORNER, 10)
    by_plan = []
    for rows, groups in ((24, 6), (1, 1), (7, 4), (9, 2)):
        plan = WindowPlan(groups, rows, CORNER.ngroups, CORNER.subsize2)
        monkeypatch.setattr(handler, "plan_noise", lambda *_, plan=plan: plan)
        store = LocalStore(tmp_path / f"store-{rows}")
        for key in context.store.list("ingest/"):
            store.put(key, context.store.get(key))
        handle(set_ready(CORNER, members[::-1]), replace(context, store=store))
        by_plan += [m.results for m in find_all(store, "noise/")]
    assert all(results == by_plan[0] for results in by_plan[1:])
    assert len(by_plan) == 4


def test_flagged_and_masked_values_are_left_out_whatever_they_are(context, tmp_path):
    # Given two sets that differ only where a pixel is flagged, saturated, masked, or after that
    key = configuration(16, 16, 6)
    mask = np.zeros((16, 16), np.uint32)
    mask[3, 4] = 1
    curves = []
    for wild in (0.0, 1e5):
        members = []
        for number in range(1, 11):
            sci = white_ramps(key, seed=number)
            groupdq = np.zeros(sci.shape, np.uint8)
            groupdq[0, 3, 5, 5] = JUMP_DET
            groupdq[0, 2:, 6, 6] = 2
            sci[0, :, 3, 4] += wild * np.arange(6)
            sci[0, 3:, 5, 5] += wild
            sci[0, 2:, 6, 6] += wild
            members.append(put_ramp(context.store, tmp_path, key, sci, groupdq, mask, number))
        handle(set_ready(key, members), context)
    curves = [results.model_dump(mode="json") for _, results in results_of(context, "set-noise")]
    assert len(curves) == 2
    assert curves[0] == curves[1]


def test_same_message_again_computes_nothing_and_says_the_same(context, tmp_path, monkeypatch):
    key = configuration(16, 16, 5)
    members, _, _ = put_set(context, tmp_path, key, 2)
    output = [handle(m, context) for m in (ingested(key, members[0]), set_ready(key, members))]
    monkeypatch.setattr(handler, "measure_exposure", None)
    monkeypatch.setattr(handler, "measure_first_pass", None)
    again = [handle(m, context) for m in (ingested(key, members[0]), set_ready(key, members[::-1]))]
    assert output == again
    assert [m.message.schema_name for (m,) in output] == ["noise.measured"] * 2
    assert len(list(find_all(context.store, "noise/"))) == 2


def test_exposure_has_the_notebooks_jumps_a_series_per_integration_and_ramps_to_plot(context, tmp_path):
    key = configuration(32, 32, 8)
    sci = white_ramps(key, 3)
    groupdq = with_hits(key, sci, seed=1)
    member = put_ramp(context.store, tmp_path, key, sci, groupdq)
    handle(ingested(key, member), context)
    manifest, results = results_of(context, "exposure-noise")[0]
    flags = groupdq & JUMP_DET > 0
    assert results.jump_flags == np.sum(flags)
    assert results.jump_pixel_percent == pytest.approx(100 * flags.any(axis=(0, 1)).sum() / 32**2)
    assert results.flags_per_group == flags.sum(axis=(0, 2, 3)).tolist()
    assert results.live_seconds == pytest.approx(3 * 7 * key.group_time)
    hits = [100 * (1 - (1 - limit) ** (results.live_seconds / 1000)) for limit in (0.05, 0.1)]
    wanted = np.mean(hits) + results.expected_false_positive_percent
    assert results.jump_pixels_judged.expected == pytest.approx(wanted)
    assert len(results.median_dn) == len(results.cds_noise_e) == len(results.integration_mjd) == 3
    # The grid is nine neighbours; the single pixel is in its middle, and hit
    ramps = json.loads(context.store.get(manifest.object(PIXEL_RAMPS).key))
    assert len(ramps) == 10
    assert ramps[9] == ramps[4]
    assert ramps[9]["jumps"]
    nint, x, y = (ramps[9][name] for name in ("integration", "x", "y"))
    assert ramps[9]["signal_dn"] == sci[nint, :, y, x].tolist()
    assert ramps[9]["jumps"] == np.flatnonzero(flags[nint, :, y, x]).tolist()


def test_listed_pixels_are_shown_each_in_the_integration_that_hit_it(context, tmp_path):
    key = configuration(16, 20, 5)
    sci = white_ramps(key, 3)
    groupdq = np.zeros(sci.shape, np.uint8)
    groupdq[2, 3, 7, 9] = JUMP_DET
    member = put_ramp(context.store, tmp_path, key, sci, groupdq)
    chosen = replace(context, settings=context.settings.model_copy(update={"pixels": [(9, 7), (19, 0)]}))
    handle(ingested(key, member), chosen)
    ramps = json.loads(context.store.get(results_of(context, "exposure-noise")[0][0].object(PIXEL_RAMPS).key))
    assert [(r["x"], r["y"], r["integration"]) for r in ramps[9:]] == [(9, 7, 2), (19, 0, 0)]
    assert [(r["x"], r["y"]) for r in ramps[:9]] == [(x, y) for y in (6, 7, 8) for x in (8, 9, 10)]


def test_bad_input_is_refused_in_one_line(context, tmp_path):
    key = configuration(16, 16, 5)
    sci = white_ramps(key)
    good = put_ramp(context.store, tmp_path, key, sci)
    masked = put_ramp(context.store, tmp_path, key, sci, None, np.ones((16, 16), np.uint32), 2)
    gone = good.model_copy(update={"ramp": good.ramp.model_copy(update={"key": "ingest/x/ramp.fits"})})
    outside = replace(context, settings=context.settings.model_copy(update={"pixels": [(16, 0)]}))
    for message, where, expected in (
        (ingested(key, masked), context, {"keyword": "PIXELDQ"}),
        (set_ready(key, [good, masked]), context, {"keyword": "PIXELDQ"}),
        (set_ready(key, [gone]), context, {"keyword": "key"}),
        (ingested(configuration(16, 16, 6), good), context, {"keyword": "SCI", "where": good.ramp.key}),
        (ingested(key, good), outside, {"setting": "--pixel"}),
    ):
        with pytest.raises(PermanentError) as refused:
            handle(message, where)
        assert expected.items() <= vars(refused.value).items()
        assert "\n" not in str(refused.value)
    assert not list(find_all(context.store, "noise/"))


@pytest.mark.parametrize(
    ("groups", "nints", "exposures"), [(1, 1, 1), (1, 3, 4), (2, 1, 1), (2, 3, 4), (3, 1, 1)]
)
def test_few_groups_have_the_figures_that_can_be_had_and_reasons_for_the_rest(
    context, tmp_path, groups, nints, exposures
):
    # Given ramps of one to three groups, also of a single integration
    key = configuration(48, 48, groups)
    members = [
        put_ramp(context.store, tmp_path, key, white_ramps(key, nints, seed=n, sigma=5.0), number=n + 1)
        for n in range(exposures)
    ]
    handle(ingested(key, members[0]), context)
    handle(set_ready(key, members), context)
    # Then every figure has a value with a finite verdict, or none and the reason
    [(_, of_set)] = results_of(context, "set-noise")
    [(_, of_exposure), *_] = results_of(context, "exposure-noise")
    for results in (of_set, of_exposure):
        for name, figure in figures_of(results).items():
            state = figure.comparison.state
            if figure.value is None:
                assert state is VerdictState.NOT_ENOUGH, name
                assert figure.comparison.reason, name
            else:
                assert math.isfinite(figure.value), name
                assert not figure.comparison.is_off, name
    # And what can be had is there
    measured = {name for name, figure in figures_of(of_set).items() if figure.value is not None}
    assert ("spatial_effective_noise_e" in measured) == (groups > 1)
    assert ("jump_pixel_percent" in measured) == (groups > 2)
    assert ("cds_noise_e" in measured) == (groups > 1 and nints * exposures > 1)
    assert ("ktc_noise_e" in measured) == (groups > 1 and nints * exposures > 2)
    assert len(of_set.stability.median_dn) == nints * exposures
    assert of_set.curve.groups == list(range(2, groups + 1))


def test_integration_that_was_never_read_leaves_all_figures_as_they_are_without_it(context, tmp_path):
    # Given twelve integrations in four exposures, and the same with one more in each of two, never read
    key = configuration(32, 32, 6)
    other = configuration(32, 32, 6, detector="NRCBLONG")
    members, longer = [], []
    for number in range(1, 5):
        sci = white_ramps(key, 3, seed=number)
        groupdq = with_hits(key, sci, seed=number)
        members.append(put_ramp(context.store, tmp_path, key, sci, groupdq, number=number))
        if number < 3:
            sci = np.insert(sci, 1, np.nan, axis=0)
            groupdq = np.insert(groupdq, 1, GroupFlag.DO_NOT_USE.mask, axis=0)
        longer.append(put_ramp(context.store, tmp_path, other, sci, groupdq, number=number))
    for these, configured in ((members, key), (longer, other)):
        handle(ingested(configured, these[0]), context)
        handle(set_ready(configured, these), context)
    # Then sets and exposures have the same figures, of the integrations that were read
    sets = {results.configuration: results for _, results in results_of(context, "set-noise")}
    plain, with_lost = sets[key.slug], sets[other.slug]
    assert plain.ramps == with_lost.ramps == 12
    places = [(entry.exposure, entry.integration) for entry in with_lost.left_out_exposures]
    assert places == [(member.exposure_id, 1) for member in longer[:2]]
    assert plain.left_out_exposures == []
    for name, figure in figures_of(plain).items():
        # kTC noise of each detector has an expectation of its own.
        again = figures_of(with_lost)[name]
        assert (again.value, again.error) == pytest.approx((figure.value, figure.error), nan_ok=True), name
    assert with_lost.stability.cds_noise_e == plain.stability.cds_noise_e
    assert with_lost.stability.exposure_ids == plain.stability.exposure_ids
    exposures = {results.configuration: results for _, results in results_of(context, "exposure-noise")}
    plain, with_lost = exposures[key.slug], exposures[other.slug]
    assert with_lost.lost_integrations == [1]
    assert with_lost.live_seconds == plain.live_seconds
    assert with_lost.cds_noise_e == plain.cds_noise_e
    assert len(with_lost.integration_mjd) == 3


def test_group_that_was_never_read_leaves_out_what_follows_it_in_its_integration(context, tmp_path):
    # Given ten integrations, of which one lacks a group
    key = configuration(32, 32, 8)
    members = []
    for number in range(1, 11):
        sci, groupdq = white_ramps(key, seed=number), np.zeros((1, 8, 32, 32), np.uint8)
        if number == 4:
            sci[:, 5], groupdq[:, 5] = np.nan, GroupFlag.DO_NOT_USE.mask
        members.append(put_ramp(context.store, tmp_path, key, sci, groupdq, number=number))
    handle(set_ready(key, members), context)
    # Then every figure is there, with the error of the nine others
    [(_, results)] = results_of(context, "set-noise")
    noise = results.spatial_effective_noise
    assert noise.error < 0.05 * noise.value
    assert results.temporal_effective_noise.error < 0.1 * results.temporal_effective_noise.value
    assert math.isfinite(results.stability.dark_rate_error_e_per_ks[0])
    assert all(line is not None for line in results.stability.amplifier_ramp_per_second)


def test_exposure_of_which_nothing_was_read_is_refused(context, tmp_path):
    key = configuration(16, 16, 5)
    groupdq = np.full((2, 5, 16, 16), GroupFlag.DO_NOT_USE.mask, np.uint8)
    member = put_ramp(context.store, tmp_path, key, np.full(groupdq.shape, np.nan, np.float32), groupdq)
    for message in (ingested(key, member), set_ready(key, [member])):
        with pytest.raises(PermanentError) as refused:
            handle(message, context)
        assert refused.value.keyword == "GROUPDQ"


def test_no_hit_where_a_tenth_of_one_is_expected_is_as_expected(context, tmp_path):
    # Given three groups of 48 x 48 pixels, in which no hit is likely, and none is
    key = configuration(48, 48, 3)
    judged = compare_jumps(0.0, 0.0, key, 1)
    assert not judged.comparison.is_off
    assert judged.error > judged.expected
    # And where hundreds are expected, none is below
    assert compare_jumps(0.0, 0.0, configuration(2048, 2048, 90), 1).comparison.state is VerdictState.BELOW


def test_percent_of_integration_0_is_the_notebooks_and_that_of_all_is_larger(context, tmp_path):
    # Given three integrations, each with hits of its own
    key = configuration(32, 32, 8)
    sci = white_ramps(key, 3)
    groupdq = with_hits(key, sci, seed=4)
    member = put_ramp(context.store, tmp_path, key, sci, groupdq)
    handle(ingested(key, member), context)
    [(_, results)] = results_of(context, "exposure-noise")
    flags = groupdq & JUMP_DET > 0
    first = figures_of(results)["jump_pixel_percent_integration_0"]
    assert first.value == pytest.approx(100 * flags[0].any(axis=0).mean())
    assert 0 < first.error < first.value
    assert results.jump_pixel_percent == pytest.approx(100 * flags.any(axis=(0, 1)).mean())
    assert first.value < results.jump_pixel_percent
    handle(set_ready(key, [member]), context)
    [(_, of_set)] = results_of(context, "set-noise")
    assert figures_of(of_set)["jump_pixel_percent_integration_0"].value == pytest.approx(first.value)


@pytest.mark.parametrize("outputs", [1, 4])
def test_errors_of_rates_hold_the_drift_of_whole_amplifiers(context, tmp_path, outputs):
    # Given thirty ramps of which whole frames drift by 1/f noise, as white noise of pixels does not show
    key = configuration(40, 64, 12, noutputs=outputs)
    rng = np.random.default_rng(outputs)
    frames = 30 * 12
    spectrum = np.zeros(frames // 2 + 1, complex)
    spectrum[1:] = rng.standard_normal((2, frames // 2)).T.copy().view(complex)[:, 0]
    spectrum[1:] /= np.sqrt(np.arange(1, frames // 2 + 1))
    offsets = 2.0 * np.fft.irfft(spectrum, frames, norm="forward").reshape(30, 12, 1, 1)
    members = []
    for number in range(30):
        sci = white_ramps(key, seed=number, sigma=4.0) + offsets[number].astype(np.float32)
        members.append(put_ramp(context.store, tmp_path, key, sci, number=number + 1))
    handle(set_ready(key, members), context)
    # Then the rates scatter as their errors say, which independent pixels alone do not
    [(_, results)] = results_of(context, "set-noise")
    rates = np.array(results.stability.dark_rate_e_per_ks)
    errors = np.array(results.stability.dark_rate_error_e_per_ks)
    assert 0.6 < rates.std(ddof=1) / errors.mean() < 1.5
    assert results.stability.dark_rate_per_hour.visible > 3 * results.stability.dark_rate_per_hour.slope_error


def test_message_for_another_stage_is_refused(context):
    check = SetCheck(configuration="x", scheduled_at="2022-04-11T00:00:00Z")
    with pytest.raises(BadMessage):
        handle(Envelope.of(check, identity="x"), context)


def test_figure_that_nothing_is_left_for_is_null_and_reads_back(context, tmp_path):
    # Given ramps of which every pixel is hit in group 3
    key = configuration(16, 16, 6)
    groupdq = np.zeros((1, 6, 16, 16), np.uint8)
    groupdq[:, 3] = JUMP_DET
    members = [
        put_ramp(context.store, tmp_path, key, white_ramps(key, seed=n), groupdq, number=n) for n in range(10)
    ]
    handle(set_ready(key, members), context)
    results = results_of(context, "set-noise")[0][1]
    assert math.isnan(results.curve.spatial[-1])
    assert results.curve.spatial[1] > 0
    assert results.spatial_effective_noise.value is None
    assert results.temporal_effective_noise.comparison.state is VerdictState.NOT_ENOUGH
    assert results.cds_noise.value > 0
