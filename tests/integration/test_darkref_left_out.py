"""Exposures and integrations that do not belong to their set: left out, and said everywhere alike."""

import numpy as np
import pytest
from astropy.io import fits

from services.darkref.handler import handle
from shared.errors import PermanentError
from shared.products.ramp import LostTelemetry
from shared.runtime.handler import StageContext
from shared.settings.stage import StageSettings
from shared.store.local import LocalStore
from shared.store.manifest import find
from support.configurations import configuration
from support.darkref_building import built, drawn_ramps, with_settings, write_ramps
from support.darkref_sets import commit_set

DARK = "nrcalong_sub64p_dark.fits"


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "store")


@pytest.fixture
def context(tmp_path, store):
    return StageContext(store, StageSettings(store=tmp_path / "store", mode="flight", verify=False))


def header_of(store, manifest):
    return fits.getheader(store.root / manifest.object(DARK).key)


def lamp_in(ramps, *which, key):
    """Light of 20 DN a group in some exposures."""
    for number in which:
        data, _ = ramps[number]
        data += 20 * np.arange(key.ngroups, dtype=np.float32)[:, None, None]
    return ramps


def test_the_dark_with_a_lamp_in_one_exposure_is_that_of_the_others(tmp_path, store, context):
    # Given six exposures, one with a lamp on; and the other five alone
    key = configuration()
    files = write_ramps(tmp_path, key, lamp_in(drawn_ramps(1, 6, key), 2, key=key))
    others = [file for file in files if file.stem != "jw2_jump"]
    # When darks are built of both
    manifest, results = built(context, commit_set(store, files, [key] * 6, [1] * 6))
    second = LocalStore(tmp_path / "second")
    _, expected = built(
        StageContext(second, context.settings), commit_set(second, others, [key] * 5, [1] * 5)
    )
    # Then they are the same
    assert results.dark_current_e_per_ks == expected.dark_current_e_per_ks
    assert results.mean_ramp_dn == expected.mean_ramp_dn
    # And the number in use is said everywhere alike
    assert (results.integrations, results.integrations_in_use) == (6, 5)
    [entry] = results.left_out_exposures
    assert (entry.exposure, entry.quantity, entry.left_out) == ("jw2_jump", "dark rate", True)
    assert entry.value == pytest.approx(20 * 1.84 / key.group_time * 1000, rel=0.05)
    header = header_of(store, manifest)
    history = "".join(f"{line!s:72}" for line in header["HISTORY"])
    assert "5 integrations" in header["DESCRIP"]
    assert "mean dark ramp of 5 integrations" in history
    assert "DATA USED: jw2_jump" not in history
    assert "LEFT OUT: jw2_jump" in history
    assert results.comparison.condition is not None
    # And no rate of the lamp is in the series
    assert len(results.dark_current_by_integration) == len(results.integration_mjd) == 5
    assert max(results.dark_current_by_integration) < 1000


def test_where_more_than_a_fifth_stands_apart_all_is_kept_and_named(tmp_path, store, context):
    key = configuration()
    files = write_ramps(tmp_path, key, lamp_in(drawn_ramps(1, 8, key), 2, 5, key=key))
    _, results = built(context, commit_set(store, files, [key] * 8, [1] * 8))
    assert {entry.exposure for entry in results.left_out_exposures} == {"jw2_jump", "jw5_jump"}
    assert not any(entry.left_out for entry in results.left_out_exposures)
    assert (results.integrations, results.integrations_in_use) == (8, 8)


def test_notebook_mode_leaves_nothing_out(tmp_path, store, context):
    key = configuration()
    files = write_ramps(tmp_path, key, lamp_in(drawn_ramps(1, 6, key), 2, key=key))
    _, results = built(with_settings(context, mode="notebook"), commit_set(store, files, [key] * 6, [1] * 6))
    assert (results.integrations_in_use, results.left_out_exposures) == (6, [])


def commit_with_lost(store, files, key, lost):
    """Commit a set of exposures of one integration, some of which ingest found to be never read."""
    ready = commit_set(store, files, [key] * len(files), [1] * len(files))
    for member in ready.content.members:
        if member.exposure_id in lost:
            path = store.root / member.manifest
            manifest = find(store, member.manifest.removesuffix("/manifest.json"))
            results = {**manifest.results, "lost_integrations": [0]}
            results["lost_telemetry"] = [
                LostTelemetry(
                    kind="frame", integration=0, first_group=0, last_group=key.ngroups - 1, value=0
                ).model_dump()
            ]
            path.chmod(0o644)
            path.write_text(manifest.model_copy(update={"results": results}).model_dump_json())
    return ready


def test_an_integration_that_was_never_read_is_not_counted(tmp_path, store, context):
    key = configuration()
    ramps = drawn_ramps(1, 4, key)
    ramps[1][0][:] = np.nan
    ramps[1][1][:] = 1
    ready = commit_with_lost(store, write_ramps(tmp_path, key, ramps), key, {"jw1_jump"})
    manifest, results = built(context, ready)
    assert (results.integrations, results.integrations_in_use) == (4, 3)
    [entry] = results.left_out_exposures
    assert (entry.exposure, entry.quantity) == ("jw1_jump", "telemetry")
    assert results.too_few_to_compare
    assert "3 integrations" in header_of(store, manifest)["DESCRIP"]


def test_a_set_with_too_few_integrations_in_use_is_refused(tmp_path, store, context):
    key = configuration()
    ready = commit_with_lost(
        store, write_ramps(tmp_path, key, drawn_ramps(1, 3, key)), key, {"jw0_jump", "jw1_jump"}
    )
    with pytest.raises(PermanentError) as refused:
        handle(ready, context)
    assert refused.value.setting == "--min-integrations"


def test_integrations_that_flags_leave_no_pixel_of_are_not_counted(tmp_path, store, context):
    # Given three of eight integrations inside a persistence window from group 0 on
    key = configuration()
    ramps = drawn_ramps(1, 8, key)
    for number in (2, 3, 4):
        ramps[number][1][:] |= 32
    _, results = built(context, commit_set(store, write_ramps(tmp_path, key, ramps), [key] * 8, [1] * 8))
    assert (results.integrations, results.integrations_in_use) == (8, 5)
    assert {entry.quantity for entry in results.left_out_exposures} == {"usable pixels"}


def test_notebook_mode_averages_what_was_read(tmp_path, store, context):
    # Given four exposures without a hit, one of them never read: NaN, as ingest leaves it
    key = configuration()
    ramps = drawn_ramps(1, 4, key, hits=0.0)
    others = np.mean([data for number, (data, _) in enumerate(ramps) if number != 1], axis=0, dtype=float)
    ramps[1][0][:] = np.nan
    ramps[1][1][:] = 1
    ready = commit_with_lost(store, write_ramps(tmp_path, key, ramps), key, {"jw1_jump"})
    manifest, results = built(with_settings(context, mode="notebook"), ready)
    assert (results.integrations, results.integrations_in_use) == (4, 3)
    # Then the dark is the mean of the other three: of so few, a clip at 3 sigma leaves out none
    sci = fits.getdata(store.root / manifest.object(DARK).key, "SCI")
    np.testing.assert_allclose(sci, others, rtol=1e-5, atol=1e-3)
