"""Which CRDS cache a run takes: the one beside simulated exposures, whatever the environment says."""

import os
from pathlib import Path

import pytest
from astropy.io import fits

from nircam_darks.cli.run.crds_choice import choose_crds
from nircam_darks.operations.candidates import Candidate
from nircam_darks.simulation.crds_cache import CONTEXT, environment, references_folder, write_cache
from services.ingest.prefetch import fetch_references
from services.ingest.references import KNOWN_TYPES, override_digests
from shared.errors import EnvironmentFault
from shared.settings.stage import StageSettings
from support.ingest_exposures import write_exposure


def _folder(root: Path, name: str, cache: bool = True) -> Path:
    if cache:
        write_cache(root / name / "crds_cache", {}, "2022-01-01T00:00:00")
    return root / name / "darks"


def _exposure(folder: Path, simulated: bool = True) -> Candidate:
    return Candidate(folder / "a_uncal.fits", "a", configuration="nrca1", simulated=simulated)


@pytest.mark.parametrize("path", ["/an/empty/folder", "/grp/crds"])
def test_the_cache_beside_simulated_exposures_counts_whatever_is_set(tmp_path, path):
    # Given simulated exposures with their cache, and a user's settings for real data
    folder = _folder(tmp_path, "first")
    variables = {"CRDS_PATH": path, "CRDS_CONTEXT": "jwst_1303.pmap", "CRDS_CONFIG_URI": "x", "HOME": "/"}
    # When
    choice = choose_crds([_exposure(folder)], None, None, variables)
    # Then
    assert choice.environment == environment(tmp_path / "first" / "crds_cache")
    assert choice.environment["CRDS_CONTEXT"] == CONTEXT
    assert choice.ignored == ["CRDS_CONFIG_URI"]
    (line,) = choice.lines
    assert str(folder) in line
    assert "CRDS_PATH" in line


def test_crds_path_on_the_command_line_counts_more_than_the_cache_beside(tmp_path):
    folder = _folder(tmp_path, "first")
    choice = choose_crds([_exposure(folder)], tmp_path / "own", "jwst_1322.pmap", {"CRDS_PATH": "/x"})
    assert choice.environment["CRDS_PATH"] == str(tmp_path / "own")
    assert choice.environment["CRDS_CONTEXT"] == "jwst_1322.pmap"
    assert choice.ignored == []


def test_real_exposures_use_what_the_environment_says(tmp_path):
    choice = choose_crds([_exposure(_folder(tmp_path, "first"), simulated=False)], None, None, {})
    assert not {name for name in choice.environment if name.startswith("CRDS_")}


@pytest.mark.parametrize("real", [True, False])
def test_exposures_that_need_different_caches_are_refused(tmp_path, real):
    second = _exposure(_folder(tmp_path, "second", cache=not real), simulated=not real)
    with pytest.raises(EnvironmentFault) as refused:
        choose_crds([_exposure(_folder(tmp_path, "first")), second], None, None, {})
    assert refused.value.setting == "--crds-path"


def test_a_folder_without_a_cache_is_found_before_any_work(tmp_path, monkeypatch):
    # Given no CRDS cache
    for name in [name for name in os.environ if name.startswith("CRDS_")]:
        monkeypatch.delenv(name)
    path = write_exposure(tmp_path / "a_uncal.fits")
    settings = StageSettings(store=tmp_path / "store")
    # When CRDS is asked, Then nothing goes on
    with pytest.raises(EnvironmentFault) as refused:
        fetch_references([("nrca1", path)], settings, {"CRDS_PATH": str(tmp_path)})
    assert refused.value.setting == "CRDS_PATH"
    assert not (tmp_path / "store").exists()


def test_a_reference_that_crds_lacks_is_named_once_for_its_configuration(tmp_path):
    # Given a cache with the references of one detector, and exposures of two
    cache = tmp_path / "crds_cache"
    exposures = {
        detector: write_exposure(tmp_path / f"{detector}_uncal.fits", detector=detector)
        for detector in ("NRCA3", "NRCA1")
    }
    place = ("NRCA3", fits.getval(exposures["NRCA3"], "SUBARRAY"))
    names = {reftype: {place: f"jwst_nircam_{reftype}_0001.fits"} for reftype in KNOWN_TYPES}
    write_cache(cache, names, "2020-01-01T00:00:00")
    folder = references_folder(cache)
    folder.mkdir(parents=True)
    for name in names.values():
        (folder / name[place]).touch()
    # When
    settings = StageSettings(store=tmp_path / "store")
    found = fetch_references(exposures.items(), settings, environment(cache))
    # Then the other is served
    assert found.context == CONTEXT
    assert set(found.missing) == {"NRCA1"}


def test_an_override_of_another_type_is_refused(tmp_path):
    # Given a superbias file that is passed as a mask
    wrong = tmp_path / "superbias.fits"
    header = fits.Header([("REFTYPE", "SUPERBIAS")])
    fits.PrimaryHDU(header=header).writeto(wrong)
    # When, Then
    with pytest.raises(EnvironmentFault) as refused:
        override_digests({"mask": wrong}, ["mask"])
    assert (refused.value.keyword, refused.value.setting) == ("REFTYPE", "--override")
    assert set(override_digests({"superbias": wrong}, ["superbias"])) == {"superbias"}
