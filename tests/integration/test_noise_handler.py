"""The noise stage on ramps in a store: its figures against numpy, its products, its refusals."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from configurations import configuration
from noise_sets import GAIN, JUMP_DET, ingested, put_ramp, set_ready, white_ramps
from scipy import stats

from services.noise import handler
from services.noise.handler import handle
from services.noise.memory import Windows
from services.noise.products import (
    CDS_MAP,
    NOISE_SPECTRUM,
    PIXEL_RAMPS,
    ExposureNoiseFacts,
    SetNoiseFacts,
)
from services.noise.set_products import NoiseSpectrum
from shared.errors import BadMessage, PermanentError
from shared.messages import Envelope, SetCheck
from shared.settings import StageSettings
from shared.stage import StageContext
from shared.store.local import LocalStore
from shared.store.manifest import find_all


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


def facts_of(context, product):
    model = SetNoiseFacts if product == "set-noise" else ExposureNoiseFacts
    found = [m for m in find_all(context.store, "noise/") if m.product == product]
    return [(manifest, model.model_validate(manifest.facts)) for manifest in found]


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
    curve = facts_of(context, "set-noise")[0][1].curve
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
    manifest, facts = facts_of(context, "set-noise")[0]
    slope = 5 * math.sqrt(12 / (12 * (12**2 - 1)))
    # Then every figure lies within three of its errors of the truth, and no error is idle
    for measured, truth in (
        (facts.cds_noise, 5 * math.sqrt(2) * GAIN),
        (facts.cds_noise_median_removed, 5 * math.sqrt(2) * GAIN),
        (facts.spatial_effective_noise, slope * 11 * GAIN),
        (facts.temporal_effective_noise, slope * 11 * GAIN),
    ):
        assert abs(measured.value - truth) < 3 * measured.error
        assert measured.error < 0.02 * truth
    # And the jumps are the notebook's
    flags = groupdq & JUMP_DET > 0
    assert facts.jump_flags == flags.sum()
    assert facts.jump_pixel_percent.value == pytest.approx(100 * flags.any(axis=1).mean())
    assert 0.7 < facts.jump_flags_error / math.sqrt(2 * flags.sum()) < 1.3
    # And stability has a point an integration, whose dark rate is that of the signal
    rates = np.array(facts.stability.dark_rate_e_per_ks)
    truth = 0.1 * GAIN / key.group_time * 1000
    assert np.all(np.abs(rates - truth) < 4 * np.array(facts.stability.dark_rate_error_e_per_ks))
    assert np.shape(facts.stability.median_dn) == (12, 12)
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
    manifest, facts = facts_of(context, "set-noise")[0]
    # Then each part is its truth within three of its errors
    for measured, truth in (
        (facts.ktc_noise, 20 * GAIN),
        (facts.reference_cds_noise, 5 * math.sqrt(2) * GAIN),
        # Of whole numbers' rounding these have none, but it is taken off as that of raw data
        (facts.white_noise, math.sqrt(25 - 1 / 12) * GAIN),
    ):
        assert abs(measured.value - truth) < 3 * measured.error
        assert measured.error < 0.02 * truth
    for part in (facts.correlated_noise, facts.uncorrelated_noise):
        assert part.value < 3 * part.error + 0.5
    assert len(facts.ktc_noise_by_amplifier_e) == len(facts.uncorrelated_noise_by_amplifier_e) == 4
    # And kTC noise is held against the detector's, and says so in the overall verdict
    assert facts.ktc_noise.expected == pytest.approx(22.1 * GAIN, rel=0.2)
    assert "kTC noise" in facts.verdict
    # And the spectrum of each output is flat, at twice the variance over the clock's rate
    spectrum = NoiseSpectrum.model_validate_json(context.store.get(manifest.object(NOISE_SPECTRUM).key))
    flat = 2 * 25 * GAIN**2 * spectrum.pixel_seconds
    assert np.shape(spectrum.amplifiers) == (4, len(spectrum.frequencies_hz))
    assert np.median(np.array(spectrum.amplifiers)[:, -5:]) == pytest.approx(flat, rel=0.02)
    assert abs(np.median(spectrum.common[-5:])) < 0.02 * flat
    assert spectrum.line_seconds == pytest.approx((64 + 12) * 10e-6)
    assert 10_000 < spectrum.frequencies_hz[-1] < 50_000
    # And the theory's terms are fitted, and the reset's transients looked for
    assert facts.theory_fit.p1 is not None
    assert len(facts.theory_fit.curve) == len(facts.curve.groups)
    first = facts.stability.transients[0]
    assert first.sigmas < 4
    assert "first group of each integration" in first.said
    assert facts.stability.transients[-1].value is not None


def test_groups_of_several_frames_are_not_held_against_the_noise_of_single_ones(context, tmp_path):
    key = configuration(16, 16, 5, readpatt="SHALLOW4", nframes=4, groupgap=1)
    members, _, _ = put_set(context, tmp_path, key, 3)
    handle(set_ready(key, members), context)
    facts = facts_of(context, "set-noise")[0][1]
    for cds in (facts.cds_noise, facts.cds_noise_median_removed):
        assert cds.value > 0
        assert cds.expected is None
        assert cds.verdict.startswith("not enough data (")
        assert "groups of 4 frames" in cds.verdict


def test_facts_of_an_earlier_version_still_load(context, tmp_path):
    key = configuration(16, 16, 5)
    members, _, _ = put_set(context, tmp_path, key, 2)
    handle(set_ready(key, members), context)
    facts = facts_of(context, "set-noise")[0][1]
    # Given a manifest that has none of what version 2 adds
    old = facts.model_dump(mode="json")
    new = [name for name in SetNoiseFacts.model_fields if not SetNoiseFacts.model_fields[name].is_required()]
    for name in new:
        del old[name]
    del old["stability"]["transients"]
    # Then it is read, and says that it has none
    read = SetNoiseFacts.model_validate(old)
    assert read.ktc_noise is None
    assert read.theory_fit is None
    assert read.stability.transients == []
    # And of two integrations kTC noise is refused by name, as the shared part is with one output
    assert "kTC noise is refused" in facts.ktc_noise.verdict
    assert "with one output" in facts.correlated_noise.verdict
    assert facts.uncorrelated_noise.value is not None


def test_below_ten_ramps_temporal_is_refused_by_name_and_the_rest_given(context, tmp_path):
    key = configuration(16, 16, 5)
    members, _, _ = put_set(context, tmp_path, key, 9)
    handle(set_ready(key, members), context)
    facts = facts_of(context, "set-noise")[0][1]
    assert facts.temporal_effective_noise.value is None
    assert "temporal effective noise" in facts.temporal_effective_noise.verdict
    assert "9 ramps" in facts.temporal_effective_noise.verdict
    assert facts.curve.temporal is None
    assert facts.spatial_effective_noise.value > 0
    assert facts.cds_noise.value > 0
    assert facts.curve.reference_pixels is None


def test_result_does_not_depend_on_the_windows(context, tmp_path, monkeypatch):
    members, _, _ = put_set(context, tmp_path, CORNER, 10)
    found = []
    for windows in (Windows(24, 6), Windows(1, 1), Windows(7, 4), Windows(9, 2)):
        monkeypatch.setattr(handler, "plan", lambda *_, windows=windows: windows)
        store = LocalStore(tmp_path / f"store-{windows.rows}")
        for member in members:
            store.put(member.ramp.key, context.store.get(member.ramp.key))
        handle(set_ready(CORNER, members[::-1]), replace(context, store=store))
        found += [m.facts for m in find_all(store, "noise/")]
    assert all(facts == found[0] for facts in found[1:])
    assert len(found) == 4


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
    curves = [facts.model_dump(mode="json") for _, facts in facts_of(context, "set-noise")]
    assert len(curves) == 2
    assert curves[0] == curves[1]


def test_same_message_again_computes_nothing_and_says_the_same(context, tmp_path, monkeypatch):
    key = configuration(16, 16, 5)
    members, _, _ = put_set(context, tmp_path, key, 2)
    said = [handle(m, context) for m in (ingested(key, members[0]), set_ready(key, members))]
    monkeypatch.setattr(handler, "measure_exposure", None)
    monkeypatch.setattr(handler, "measure_planes", None)
    again = [handle(m, context) for m in (ingested(key, members[0]), set_ready(key, members[::-1]))]
    assert said == again
    assert [m.message.schema_name for (m,) in said] == ["noise.measured"] * 2
    assert len(list(find_all(context.store, "noise/"))) == 2


def test_exposure_has_the_notebooks_jumps_a_series_per_integration_and_ramps_to_plot(context, tmp_path):
    key = configuration(32, 32, 8)
    sci = white_ramps(key, 3)
    groupdq = with_hits(key, sci, seed=1)
    member = put_ramp(context.store, tmp_path, key, sci, groupdq)
    handle(ingested(key, member), context)
    manifest, facts = facts_of(context, "exposure-noise")[0]
    flags = groupdq & JUMP_DET > 0
    assert facts.jump_flags == np.sum(flags)
    assert facts.jump_pixel_percent == pytest.approx(100 * flags.any(axis=(0, 1)).sum() / 32**2)
    assert facts.flags_per_group == flags.sum(axis=(0, 2, 3)).tolist()
    assert facts.live_seconds == pytest.approx(3 * 7 * key.group_time)
    hits = [100 * (1 - (1 - limit) ** (facts.live_seconds / 1000)) for limit in (0.05, 0.1)]
    wanted = np.mean(hits) + facts.expected_false_positive_percent
    assert facts.jump_pixels_judged.expected == pytest.approx(wanted)
    assert len(facts.median_dn) == len(facts.cds_noise_e) == len(facts.integration_mjd) == 3
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
    ramps = json.loads(context.store.get(facts_of(context, "exposure-noise")[0][0].object(PIXEL_RAMPS).key))
    assert [(r["x"], r["y"], r["integration"]) for r in ramps[9:]] == [(9, 7, 2), (19, 0, 0)]
    assert [(r["x"], r["y"]) for r in ramps[:9]] == [(x, y) for y in (6, 7, 8) for x in (8, 9, 10)]


def test_bad_input_is_refused_in_one_line(context, tmp_path):
    key = configuration(16, 16, 5)
    sci = white_ramps(key)
    good = put_ramp(context.store, tmp_path, key, sci)
    masked = put_ramp(context.store, tmp_path, key, sci, None, np.ones((16, 16), np.uint32), 2)
    single = configuration(16, 16, 1)
    one = put_ramp(context.store, tmp_path, single, white_ramps(single), number=3)
    gone = good.model_copy(update={"ramp": good.ramp.model_copy(update={"key": "ingest/x/ramp.fits"})})
    outside = replace(context, settings=context.settings.model_copy(update={"pixels": [(16, 0)]}))
    for message, where, words in (
        (ingested(key, masked), context, "every science pixel DO_NOT_USE"),
        (set_ready(key, [good, masked]), context, "every science pixel DO_NOT_USE"),
        (set_ready(single, [one]), context, "NGROUPS = 1"),
        (set_ready(key, [gone]), context, "not in the store"),
        (ingested(configuration(16, 16, 6), good), context, "SCI has shape"),
        (ingested(key, good), outside, "outside its 16 x 16 pixels"),
    ):
        with pytest.raises(PermanentError, match=words) as refused:
            handle(message, where)
        assert "\n" not in str(refused.value)
    assert not list(find_all(context.store, "noise/"))


def test_message_for_another_stage_is_refused(context):
    check = SetCheck(configuration="x", scheduled_at="2022-04-11T00:00:00Z")
    with pytest.raises(BadMessage, match=r"set\.check"):
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
    facts = facts_of(context, "set-noise")[0][1]
    assert math.isnan(facts.curve.spatial[-1])
    assert facts.curve.spatial[1] > 0
    assert facts.spatial_effective_noise.value is None
    assert facts.temporal_effective_noise.verdict.startswith("not enough data")
    assert facts.cds_noise.value > 0


_PEAK = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import numpy as np
from configurations import configuration
from noise_sets import put_ramp, set_ready
from services.noise.handler import handle
from shared.settings import StageSettings
from shared.stage import StageContext
from shared.store.local import LocalStore
folder = Path(sys.argv[2])
store = LocalStore(folder / "store")
key = configuration(2048, 2048, 20)
rng = np.random.default_rng(1)
sci = np.empty((1, 20, 2048, 2048), np.float32)
for plane in sci[0]:
    plane[:] = rng.standard_normal((2048, 2048), np.float32)
members = [put_ramp(store, folder, key, sci, number=1)]
"""


@pytest.mark.slow
def test_full_frame_set_of_ten_ramps_stays_under_two_gibibytes(tmp_path):
    # Given ten full-frame ramps of 20 groups: one file, said to be ten exposures
    prepare = _PEAK + "print(members[0].model_dump_json())"
    arguments = [str(pytest.importorskip("noise_sets").__file__).rsplit("/", 1)[0], str(tmp_path)]
    environment = os.environ | {"NUMBA_NUM_THREADS": "1"}

    def python(code):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            text=True,
            env=environment,
            check=True,
        )
        return done.stdout.strip().splitlines()[-1]

    member = python(prepare)
    # When a fresh process measures the set with the default bound
    measure = _PEAK.split("rng =")[0] + (
        "from shared.messages import SetMember\n"
        f"one = SetMember.model_validate_json({member!r})\n"
        "members = [one.model_copy(update={'exposure_id': f'e{n}'}) for n in range(10)]\n"
        "handle(set_ready(key, members), StageContext(store, StageSettings(store=folder / 'store')))\n"
        "scale = 1 if sys.platform == 'darwin' else 1024\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale)\n"
    )
    peak = int(python(measure))
    # Then it never held 2 GiB
    assert peak < 2 * 1024**3
