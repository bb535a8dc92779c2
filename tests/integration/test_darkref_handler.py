"""The darkref stage from ``set.ready`` to ``reference.built``: the product, its second call, its refusals."""

import numpy as np
import pytest
from astropy.io import fits

from services.darkref import build as building
from services.darkref.handler import handle
from shared.errors import ConfigurationMismatch, PermanentError
from shared.products.ramp import SupersededRamp
from shared.products.reference import ReferenceResults
from shared.runtime.handler import StageContext
from shared.settings.stage import StageSettings
from shared.store.local import LocalStore
from shared.store.manifest import find, find_all
from support.configurations import configuration
from support.darkref_sets import START_MJD, commit_set, dark, write_ramp


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "store")


@pytest.fixture
def context(tmp_path, store):
    return StageContext(store, StageSettings(store=tmp_path / "store"))


def _with(context, **settings):
    return StageContext(context.store, context.settings.model_copy(update=settings), context.progress)


def _set(tmp_path, store, counts=(2, 2, 2), keys=None, rate=0.02, seed=1, simulated=False, **dark_options):
    rng = np.random.default_rng(seed)
    keys = keys or [configuration()] * len(counts)
    files = [
        write_ramp(tmp_path / f"jw{seed}-{n}_jump.fits", key, *dark(rng, key, count, rate, **dark_options))
        for n, (key, count) in enumerate(zip(keys, counts, strict=True))
    ]
    return commit_set(store, files, keys, list(counts), simulated=simulated)


def _products(store):
    return list(find_all(store, "darkref/"))


def _one_line(caught):
    return "\n" not in str(caught.value)


def test_a_set_becomes_one_reference_and_one_message(tmp_path, store, context):
    # Given
    ready = _set(tmp_path, store)
    seen = []
    # When
    outgoing = handle(ready, StageContext(store, context.settings, lambda *said: seen.append(said)))
    # Then
    (manifest,) = _products(store)
    results = ReferenceResults.model_validate(manifest.results)
    (message,) = [each.message for each in outgoing]
    built = message.content
    assert message.schema_name == "reference.built"
    assert message.correlation_id == ready.correlation_id
    assert built.manifest == f"{manifest.path}/manifest.json"
    assert built.reference.sha256 == manifest.object("nrcalong_sub64p_dark.fits").sha256
    assert built.verdict == results.verdict
    assert built.dark_current_e_per_ks == results.dark_current_e_per_ks
    assert built.dark_current_error_e_per_ks == results.dark_current_error_e_per_ks
    assert {entry.name for entry in manifest.objects} == {
        "nrcalong_sub64p_dark.fits",
        "contributions.fits",
        "dark_current_map.fits",
    }
    assert [one.sha256 for one in manifest.inputs] == [m.ramp.sha256 for m in ready.content.members]
    assert set(manifest.timings) == {
        "combine",
        "segments",
        "dark current",
        "bad pixels",
        "model ramps",
        "comparison",
        "write",
        "store",
    }
    assert seen[-1][:2] == (0, 1)
    assert [done for done, _, _ in seen[:2]] == [0, 1]


def test_the_facts_say_what_the_data_say(tmp_path, store, context):
    # Given a dark of 0.02 DN/s
    ready = _set(tmp_path, store, counts=(3, 1, 2), hits=0.01)
    # When
    handle(ready, context)
    # Then
    results = ReferenceResults.model_validate(_products(store)[0].results)
    truth = 0.02 * 1.84 * 1000
    assert abs(results.dark_current_e_per_ks - truth) < 3 * results.dark_current_error_e_per_ks
    assert results.integrations == 6
    assert len(results.dark_current_by_integration) == len(results.integration_mjd) == 6
    assert results.integration_mjd[:4] == pytest.approx(
        [START_MJD, START_MJD + 0.005, START_MJD + 0.01, START_MJD + 0.02]
    )
    assert results.expected_e_per_ks == 27.0
    assert results.unmeasured == 0
    assert 0 <= results.clipped_fraction < 0.02
    assert len(results.mean_ramp_dn) == len(results.mean_ramp_error_dn) == 6
    with fits.open(tmp_path / "store" / _products(store)[0].object(results.file).key) as hdus:
        assert results.mean_ramp_dn[2] == pytest.approx(float(np.median(hdus["SCI"].data[2])), rel=1e-6)
    with fits.open(tmp_path / "store" / _products(store)[0].object("dark_current_map.fits").key) as hdus:
        assert float(np.median(hdus["DARKCURR"].data)) == pytest.approx(results.dark_current_e_per_ks, abs=8)
        assert hdus["DARKCURR"].data.dtype == np.dtype(">f4")


def test_the_second_call_computes_nothing_and_says_the_same(tmp_path, store, context, monkeypatch):
    # Given a built reference
    ready = _set(tmp_path, store)
    first = handle(ready, context)

    def computed(*_args, **_kwargs):
        raise AssertionError("computed again")

    monkeypatch.setattr(building, "combine_set", computed)
    # When
    second = handle(ready, context)
    # Then
    assert second == first
    assert len(_products(store)) == 1


def test_how_fast_it_is_made_does_not_make_another_product(tmp_path, store, context):
    ready = _set(tmp_path, store)
    handle(ready, context)
    handle(ready, _with(context, max_memory=64 * 1024**2, max_fullframe_groups=1))
    assert len(_products(store)) == 1


def test_another_author_makes_another_product(tmp_path, store, context):
    ready = _set(tmp_path, store)
    handle(ready, context)
    handle(ready, _with(context, author="somebody"))
    assert len(_products(store)) == 2


def test_nothing_is_left_in_the_scratch_folder(tmp_path, store, context):
    handle(_set(tmp_path, store), context)
    assert not [path for path in store.scratch().iterdir() if path.name.startswith("darkref-")]


@pytest.mark.parametrize(
    ("change", "keyword"), [({"coronmsk": "MASKA335R"}, "CORONMSK"), ({"ngroups": 5}, "NGROUPS")]
)
def test_different_configurations_are_refused_by_name(tmp_path, store, context, change, keyword):
    keys = [configuration(), configuration(**change)]
    ready = _set(tmp_path, store, counts=(2, 2), keys=keys)
    with pytest.raises(ConfigurationMismatch) as caught:
        handle(ready, context)
    message = str(caught.value)
    assert _one_line(caught)
    for part in (keyword, "jw1-0_jump", "jw1-1_jump", *map(repr, change.values())):
        assert part in message
    assert not _products(store)


def test_too_few_integrations_are_refused_with_what_to_do(tmp_path, store, context):
    ready = _set(tmp_path, store, counts=(1,))
    with pytest.raises(PermanentError) as caught:
        handle(ready, context)
    assert caught.value.setting == "--min-integrations"
    assert _one_line(caught)
    # Then what to do does it
    assert handle(ready, _with(context, min_integrations=1))
    results = ReferenceResults.model_validate(_products(store)[0].results)
    assert np.isfinite(results.dark_current_error_e_per_ks)
    assert results.dark_current_error_e_per_ks > 0


def test_all_pixels_flagged_is_refused(tmp_path, store, context):
    ready = _set(tmp_path, store, hits=1.0)
    with pytest.raises(PermanentError) as caught:
        handle(ready, context)
    assert caught.value.keyword == "GROUPDQ"
    assert _one_line(caught)
    assert not _products(store)


def test_a_set_measured_in_one_group_only_has_no_dark_current(tmp_path, store, context):
    rng = np.random.default_rng(3)
    key = configuration()
    files = []
    for n in range(2):
        data, groupdq = dark(rng, key, 1, hits=0)
        groupdq[:, 1] = 4
        files.append(write_ramp(tmp_path / f"jw{n}_jump.fits", key, data, groupdq))
    with pytest.raises(PermanentError) as caught:
        handle(commit_set(store, files, [key] * 2, [1, 1]), context)
    assert caught.value.keyword == "GROUPDQ"


def test_a_ramp_of_another_shape_than_its_configuration_is_refused(tmp_path, store, context):
    # Given a ramp that says 3 integrations and has 2
    rng = np.random.default_rng(1)
    key = configuration()
    files = [write_ramp(tmp_path / f"jw{n}_jump.fits", key, *dark(rng, key, 2)) for n in range(2)]
    ready = commit_set(store, files, [key] * 2, [2, 3])
    # When, Then
    with pytest.raises(PermanentError) as caught:
        handle(ready, context)
    assert _one_line(caught)
    assert (caught.value.where, caught.value.keyword) == (ready.content.members[1].ramp.key, "SCI")


def test_one_group_has_no_slope(tmp_path, store, context):
    ready = _set(tmp_path, store, counts=(2, 2), keys=[configuration(ngroups=1)] * 2)
    with pytest.raises(PermanentError) as caught:
        handle(ready, context)
    assert caught.value.keyword == "NGROUPS"


def test_a_ramp_that_is_gone_is_named(tmp_path, store, context):
    ready = _set(tmp_path, store)
    key = ready.content.members[1].ramp.key
    (tmp_path / "store" / key).unlink()
    with pytest.raises(PermanentError) as caught:
        handle(ready, context)
    assert caught.value.where == key


def test_reference_pixels_do_not_enter_the_dark_current(tmp_path, store, context):
    # Given a corner subarray whose border drifts
    rng = np.random.default_rng(6)
    key = configuration(substrt1=1, substrt2=1)
    files = []
    for n in range(4):
        data, groupdq = dark(rng, key, 1, hits=0)
        border = np.ones((64, 64), bool)
        border[4:, 4:] = False
        data[:, :, border] += 50 * np.arange(6)[None, :, None]
        files.append(write_ramp(tmp_path / f"jw{n}_jump.fits", key, data, groupdq))
    # When
    handle(commit_set(store, files, [key] * 4, [1] * 4), context)
    # Then
    results = ReferenceResults.model_validate(_products(store)[0].results)
    assert abs(results.dark_current_e_per_ks - 36.8) < 3 * results.dark_current_error_e_per_ks
    assert results.hot_pixels < 5


@pytest.mark.parametrize("mode", ["flight", "notebook"])
def test_history_says_which_exposure_was_delivered_again(tmp_path, store, context, mode):
    # Given a set of which one ramp supersedes an earlier one of its exposure
    ready = _set(tmp_path, store)
    member = ready.content.members[1]
    manifest = find(store, member.manifest.removesuffix("/manifest.json"))
    earlier = SupersededRamp(product="0" * 32, file="a_uncal.fits", file_date="2026-01-01", reason="newer")
    manifest.results["supersedes"] = [earlier.model_dump()]
    store.put(member.manifest, manifest.model_dump_json(by_alias=True).encode())
    # When
    handle(ready, _with(context, mode=mode))
    # Then HISTORY names that exposure and the ramp that is not in the dark, and no other
    (product,) = _products(store)
    results = ReferenceResults.model_validate(product.results)
    with fits.open(tmp_path / "store" / product.object(results.file).key) as hdus:
        history = "".join(hdus[0].header["HISTORY"]).replace("\n", "")
    assert history.count("REDELIVERED") == 1
    assert f"REDELIVERED: {member.exposure_id}" in history
    assert "a_uncal.fits" in history
