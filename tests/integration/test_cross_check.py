"""cross-check: the reference that was built against jwst_reffiles, run as a user would."""

import json
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from nircam_darks.cli.cross_check import cross_check, equivalent_groups
from services.darkref.handler import handle
from shared.errors import PermanentError
from shared.products.reference import ReferenceResults
from shared.runtime.handler import StageContext
from shared.settings.stage import StageSettings
from shared.store.local import LocalStore
from shared.store.manifest import find_all
from support.configurations import configuration
from support.darkref_sets import commit_set, dark, write_ramp


def _build(tmp_path, counts, ny=64, ngroups=5):
    """A set with hits and a place of no measurement, and the reference made from it."""
    rng = np.random.default_rng(12)
    key = configuration(ny, ny, ngroups)
    files = []
    for n, count in enumerate(counts):
        data, groupdq = dark(rng, key, count)
        groupdq[:, -1, 7, 7] = 4
        files.append(write_ramp(tmp_path / f"jw{n}_jump.fits", key, data, groupdq))
    store = LocalStore(tmp_path / "store")
    ready = commit_set(store, files, [key] * len(files), counts)
    (outgoing,) = handle(
        ready, StageContext(store, StageSettings(store=tmp_path / "store", mode="reference"))
    )
    return tmp_path / "store" / outgoing.message.content.reference.key


def test_agrees_on_the_very_ramps_and_leaves_nothing_behind(tmp_path, monkeypatch):
    # Given
    reference = _build(tmp_path, [2, 2, 2])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    # When
    result = cross_check(reference)
    # Then
    assert result.agrees
    assert [difference.name for difference in result.differences] == ["SCI", "ERR"]
    assert all(each.largest <= 1e-5 and each.above == 0 for each in result.differences)
    assert all(entry.places == 5 * 64 * 64 for entry in result.differences)
    assert result.contributions_differ == 0
    for words in ("agree", "nrcalong_sub64p_dark.fits", "jwst_reffiles 1.0.1", "1 value without"):
        assert words in result.text()
    assert json.loads(json.dumps(result.to_dict()))["agrees"] is True
    assert not list(elsewhere.iterdir())


def test_says_that_nints_of_the_first_file_is_used_for_all(tmp_path):
    # Given exposures of different numbers of integrations
    reference = _build(tmp_path, [3, 1, 2])
    # When
    result = cross_check(reference)
    # Then
    assert not result.agrees
    assert "3 of 6 integrations" in result.text()
    assert "defect" not in result.text()


def test_finds_a_place_that_was_changed(tmp_path):
    # Given
    reference = _build(tmp_path, [2, 2])
    with fits.open(reference, mode="update") as hdus:
        hdus["SCI"].data[3, 20, 30] += 1
    # When
    result = cross_check(reference)
    # Then
    assert not result.agrees
    assert result.differences[0].worst == (3, 20, 30)
    assert result.differences[0].above == 1
    assert result.differences[0].ours - result.differences[0].theirs == pytest.approx(1, rel=1e-4)
    for words in ("DIFFER", "sha256", "1 value with a difference", "defect"):
        assert words in result.text()


def test_refuses_a_ramp_that_is_not_the_one_it_was_made_from(tmp_path):
    reference = _build(tmp_path, [2, 2])
    ramps = [tmp_path / "jw0_jump.fits", tmp_path / "jw1_jump.fits"]
    with fits.open(ramps[1], mode="update") as hdus:
        hdus["SCI"].data[0, 0, 0, 0] += 1
    with pytest.raises(PermanentError) as caught:
        cross_check(reference, ramps)
    assert caught.value.where == str(ramps[1])
    with pytest.raises(PermanentError):
        cross_check(reference, ramps[:1])


def test_takes_the_ramps_from_where_the_user_has_them(tmp_path):
    reference = _build(tmp_path, [2, 2])
    (tmp_path / "store" / "ingest").rename(tmp_path / "gone")
    with pytest.raises(PermanentError) as caught:
        cross_check(reference)
    assert not Path(caught.value.where).exists()
    assert cross_check(reference, [tmp_path / "jw0_jump.fits", tmp_path / "jw1_jump.fits"]).agrees


def test_says_what_to_give_where_no_manifest_is(tmp_path):
    lonely = tmp_path / "dark.fits"
    with pytest.raises(PermanentError) as missing:
        cross_check(lonely)
    lonely.write_bytes(b"")
    with pytest.raises(PermanentError) as strange:
        cross_check(lonely)
    assert missing.value.where == strange.value.where == str(lonely)
    assert str(missing.value) != str(strange.value)


@pytest.mark.parametrize(("ny", "files", "integrations"), [(64, 10, 10), (640, 10, 10), (2048, 10, 50)])
def test_the_bound_keeps_jwst_reffiles_from_raising(tmp_path, ny, files, integrations):
    # Given a set's results
    reference = _build(tmp_path, [1, 1])
    manifest = next(find_all(LocalStore(tmp_path / "store"), "darkref/"))
    results = ReferenceResults.model_validate(manifest.results)
    key = configuration(ny, ny, 20)
    results = results.model_copy(update={"key": key})
    assert reference.is_file()
    # When
    bound = equivalent_groups(results, files, integrations)
    # Then its own expression gives a group or more, and never much more than fits
    groups = int(bound / int(2048 * 2048 / (ny * ny)) / files)
    assert 1 <= groups <= 20
    assert groups == 1 or groups * integrations * ny * ny * 4 <= 1 << 28
