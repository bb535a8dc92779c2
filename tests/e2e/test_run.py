"""`nircam-darks run`, as its user has it."""

import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from shared.store.local import LocalStore
from shared.store.manifest import Manifest
from support.running import command, run_darks

#: `finished` is run once for all of them.
pytestmark = pytest.mark.xdist_group("campaign")

EXPOSURE_NAMES = {"id", "file", "configuration", "status", "reason"}
REFERENCE_NAMES = {
    "configuration",
    "path",
    "mode",
    "exposures",
    "integrations",
    "dark_current_e_per_ks",
    "dark_current_error_e_per_ks",
    "expected_e_per_ks",
    "verdict",
}
NOISE_NAMES = {
    "configuration",
    "ramps",
    "cds_noise_e",
    "spatial_effective_noise_e",
    "temporal_effective_noise_e",
    "jump_flags",
    "jump_pixel_percent",
    "verdict",
}


#: When, how fast, at whose asking, and where the attempt put its objects. A FITS file holds when it was
#: made, so its digest is of that too.
OF_THE_MOMENT = {"created", "timings", "time", "correlation_id", "seconds", "sha256", "size", "uri", "ramps"}


def without_times(told):
    """What a product says, apart from what is `OF_THE_MOMENT`."""
    if isinstance(told, dict):
        return {
            name: without_times(value)
            for name, value in told.items()
            # "key" is an object's place where it is text, else a configuration key.
            if name not in OF_THE_MOMENT and not (name == "key" and isinstance(value, str))
        }
    return [without_times(value) for value in told] if isinstance(told, list) else told


def products(run) -> dict:
    return {path: without_times(json.loads(body)) for path, body in run.manifests.items()}


def reference_pixels(run) -> list:
    """The arrays of each dark reference."""
    return [
        (fits.getdata(path, "SCI"), fits.getdata(path, "ERR"))
        for path in sorted(reference["path"] for reference in run.summary["references"])
    ]


def assert_nothing_half_written(out) -> None:
    """Every manifest's objects are whole."""
    store = LocalStore(out)
    for path in out.rglob("manifest.json"):
        for entry in Manifest.model_validate_json(path.read_bytes()).objects:
            data = store.get(entry.key)
            assert (len(data), hashlib.sha256(data).hexdigest()) == (entry.size, entry.sha256), entry.key


def test_a_folder_of_darks_becomes_references_noise_and_a_report(finished, campaign):
    # Given the campaign's fourteen exposures of two configurations, when it has been run
    summary = finished.summary

    # Then all is well, and the summary has the promised names
    assert finished.code == 0, finished.text
    assert [e["status"] for e in summary["exposures"]] == ["ingested"] * 14
    assert all(set(e) >= EXPOSURE_NAMES for e in summary["exposures"])
    assert all(set(r) >= REFERENCE_NAMES for r in summary["references"])
    assert all(set(n) >= NOISE_NAMES for n in summary["noise"])
    assert sorted((r["exposures"], r["integrations"]) for r in summary["references"]) == [(2, 4), (12, 12)]
    # And temporal noise is given for twelve ramps, refused for four
    assert {n["ramps"]: n["temporal_effective_noise_e"] is None for n in summary["noise"]} == {
        12: False,
        4: True,
    }
    # And simulated is called simulated
    assert summary["simulated"] is True
    assert "SIMULATED" in (finished.out / "report.html").read_text()
    assert_nothing_half_written(finished.out)


def test_the_reference_is_one_that_jwst_accepts_and_uses(finished, campaign, monkeypatch):
    from jwst.dark_current import DarkCurrentStep
    from stdatamodels.jwst import datamodels

    from nircam_darks.simulation.simulate import environment

    for name, value in environment(campaign.crds_path).items():
        monkeypatch.setenv(name, value)
    # Given a reference of the run, and a ramp that went into it
    [path] = [r["path"] for r in finished.summary["references"] if r["integrations"] == 12]
    ramp = next(finished.out.glob("ingest/nrcalong_*/**/ramp.fits"))

    # When it is opened strictly, and the dark_current step runs with it
    with datamodels.DarkModel(path, strict_validation=True) as dark:
        assert dark.meta.pedigree == "SIMULATION"
        assert dark.meta.exposure.noutputs == 1
        assert dark.meta.description
        assert dark.data.shape == (12, 64, 64)
        mean_ramp = dark.data.copy()
    result = DarkCurrentStep.call(datamodels.RampModel(ramp), override_dark=str(path), configure_log=False)

    # Then it took the reference's signal away, group by group
    assert result.meta.cal_step.dark_sub == "COMPLETE"
    np.testing.assert_allclose(fits.getdata(ramp, "SCI")[0] - result.data[0], mean_ramp, rtol=1e-5, atol=1e-3)


def test_a_second_run_computes_nothing(finished, campaign, tmp_path):
    # Given the results of a run
    out = tmp_path / "results"
    shutil.copytree(finished.out, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("manifest.json")}

    # When it is run again over the same folder
    again = run_darks(campaign.files[0].parent, out=out)

    # Then every product is the one that stood, and the summary says the same
    assert again.code == 0, again.text
    assert {path: path.stat().st_mtime_ns for path in out.rglob("manifest.json")} == before
    for name in ("exposures", "noise"):
        assert again.summary[name] == finished.summary[name]


def test_killed_at_any_moment_and_run_again_it_finishes(finished, campaign, tmp_path):
    # Given a run that is killed again and again, at moments nobody chose
    out = tmp_path / "results"
    moments = random.Random(2).sample(range(20, 90), 4)
    for tenths in moments:
        process = subprocess.Popen(
            command("run", campaign.files[0].parent, "--out", out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(tenths / 10)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if out.exists():
            assert_nothing_half_written(out)

    # When it is run once more
    last = run_darks(campaign.files[0].parent, out=out)

    # Then it ends as the undisturbed one did, product by product
    assert last.code == 0, last.text
    assert_nothing_half_written(out)
    assert products(last) == products(finished)
    for mine, theirs in zip(reference_pixels(last), reference_pixels(finished), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert not [path for path in (out / ".scratch").rglob("*") if path.is_file() and path.suffix == ".fits"]


def test_an_exposure_taken_out_of_the_folder_is_not_in_the_reference(campaign, finished, tmp_path):
    # Given results of twelve exposures, when the run is repeated with one fewer
    out = tmp_path / "results"
    shutil.copytree(finished.out, out)
    fewer = [path for path in campaign.files if "nrcalong" in path.name][:-1]
    again = run_darks(*fewer, out=out)

    # Then the reference holds eleven
    assert again.code == 0, again.text
    assert [r["exposures"] for r in again.summary["references"]] == [11]


@pytest.fixture(scope="module")
def spoilt(campaign, tmp_path_factory):
    """Good and bad files in one folder: {file name: what its reason must say}."""
    folder = tmp_path_factory.mktemp("spoilt") / "darks"
    folder.mkdir()
    good = [path for path in campaign.files if "nrcb1" in path.name]
    for path in good:
        shutil.copy(path, folder)

    def spoil(name, change):
        with fits.open(campaign.files[0], mode="readonly") as hdus:
            hdus[0].header["FILENAME"] = name
            change(hdus)
            hdus.writeto(folder / name)

    def put(keyword, value):
        return lambda hdus: hdus[0].header.set(keyword, value)

    def three_axes(hdus):
        hdus["SCI"].data = hdus["SCI"].data[0]

    (folder / "cut_uncal.fits").write_bytes(good[0].read_bytes()[:100_000])
    (folder / "words_uncal.fits").write_text("not a FITS file at all\n" * 200)
    (folder / "nothing_uncal.fits").write_bytes(b"")
    spoil("exptype_uncal.fits", put("EXP_TYPE", "NRC_IMAGE"))
    spoil("unknown_uncal.fits", put("DETECTOR", "NRCZ9"))
    spoil("groups_uncal.fits", put("NGROUPS", 99))
    spoil("pattern_uncal.fits", put("NFRAMES", 4))
    spoil("axes_uncal.fits", three_axes)
    spoil("missing_uncal.fits", lambda hdus: hdus[0].header.remove("READPATT"))
    spoil("order_uncal.fits", put("S_JUMP", "COMPLETE"))
    shutil.copy(good[0], folder / "renamed_copy.fits")
    return folder, {
        "cut_uncal.fits": "truncated",
        "words_uncal.fits": "not a FITS file",
        "nothing_uncal.fits": "not a FITS file",
        "unknown_uncal.fits": "NRCZ9",
        "groups_uncal.fits": "NGROUPS",
        "pattern_uncal.fits": "NFRAMES",
        "axes_uncal.fits": "axes",
        "missing_uncal.fits": "READPATT",
        "order_uncal.fits": "S_",
    }


def test_each_bad_file_gets_one_clear_line_and_the_rest_goes_on(spoilt, campaign, tmp_path):
    # Given a folder with two good files, a copy of the first under another name, nine bad ones,
    # and one that is no dark
    folder, output = spoilt

    # When it is run
    done = run_darks(folder, "--crds-path", campaign.crds_path, out=tmp_path / "results")

    # Then it says so in its exit code, and each bad file has one line that names it
    assert done.code == 3, done.text
    rejected = {
        e["file"].rsplit("/")[-1]: e["reason"] for e in done.summary["exposures"] if e["status"] == "rejected"
    }
    assert set(rejected) == set(output)
    for name, words in output.items():
        assert words in rejected[name], rejected[name]
        assert "\n" not in rejected[name]
        assert name in rejected[name]
    # And the exposure of the sky that lies beside them is passed over
    assert done.summary["passed_over"] == {"not NIRCam darks": 1}
    # And the copy is the exposure that it is a copy of, which counts once
    [copied] = [e for e in done.summary["exposures"] if e["file"].endswith("renamed_copy.fits")]
    assert copied["status"] in ("ingested", "not needed")
    assert copied["id"] in {
        Path(e["file"]).name.removesuffix("_uncal.fits") for e in done.summary["exposures"]
    }
    # And the good ones became a reference, and the report names what was rejected
    assert [r["exposures"] for r in done.summary["references"]] == [2]
    report = (done.out / "report.html").read_text()
    assert all(name in report for name in output)


def test_a_single_integration_gives_noise_and_says_why_there_is_no_reference(campaign, tmp_path):
    [one] = [path for path in campaign.files if "nrcalong" in path.name][:1]
    done = run_darks(one, out=tmp_path / "results")
    assert done.code == 3, done.text
    [reference] = done.summary["references"]
    assert reference["path"] is None
    assert "--min-integrations" in reference["verdict"]
    assert done.summary["noise"][0]["spatial_effective_noise_e"] > 0

    # And with leave to do so, it is built
    allowed = run_darks(one, "--min-integrations", 1, out=tmp_path / "results")
    assert allowed.code == 0, allowed.text
    assert allowed.summary["references"][0]["integrations"] == 1


def test_without_a_crds_cache_it_says_what_to_set(campaign, tmp_path):
    # Given exposures away from the cache that was simulated with them, and no CRDS settings
    alone = tmp_path / "alone" / "darks"
    alone.mkdir(parents=True)
    shutil.copy(campaign.files[0], alone)
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}

    # When it is run, Then nothing is done, and one line says what to set
    done = run_darks(alone, out=tmp_path / "results", environment=environment)
    assert done.code == 2
    (line,) = done.text.strip().splitlines()
    assert "CRDS_PATH" in line
    assert not (tmp_path / "results").exists()

    # And once the machine is set up, the same results folder takes it
    cured = run_darks(alone, "--crds-path", campaign.crds_path, out=tmp_path / "results")
    assert cured.summary["exposures"][0]["status"] == "ingested", cured.text


def test_options_say_what_the_header_holds_what_is_compared_and_emulated(campaign, finished, tmp_path):
    # Given the short-wave exposures of the campaign, and their reference as an earlier run made it
    files = [path for path in campaign.files if "nrcb1" in path.name]
    (earlier,) = [each["path"] for each in finished.summary["references"] if "nrcb1" in each["path"]]
    options = ["--min-measurements", 2, "--emulate", "bright2", "--compare-with", earlier]
    options += ["--useafter", "2022-01-01T00:00:00"]
    # When they are run with all that can be said of them
    out = tmp_path / "results"
    done = run_darks(*files, *options, "--pedigree", "SIMULATION", out=out)
    # Then the reference says it
    assert done.code == 0, done.text
    [reference] = done.summary["references"]
    header = fits.getheader(reference["path"])
    assert (header["PEDIGREE"], header["USEAFTER"]) == ("SIMULATION", "2022-01-01T00:00:00")
    text = " ".join(str(line) for line in header["HISTORY"])
    assert "fewer than 2 measurements" in text
    assert "DIFFERENCES: replaces nrcb1_sub64p_dark.fits (given, sha256" in text
    # and so do the noise and the report
    [noise] = done.summary["noise"]
    assert noise["hits_per_cm2_s_error"] > 0
    assert list(out.rglob("emulated_noise.json"))
    [page] = [path for path in (out / "report").glob("*.html") if "nrcb1" in path.name]
    assert "emulated from RAPID" in page.read_text()
    # and simulated exposures are not passed off as measured ones: what was built stands, nothing new is
    lied = run_darks(*files, *options, "--pedigree", "GROUND", out=out)
    assert lied.code == 3
    assert "DARKS_PEDIGREE" in lied.text.replace("\n", " ")
    assert {fits.getval(path, "PEDIGREE") for path in out.rglob("*_dark.fits")} == {"SIMULATION"}


def test_nothing_is_imported_from_the_working_directory(campaign, tmp_path):
    # Given a folder with a user's own "services", "shared" and "signal" in it
    for package in ("services", "shared"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise RuntimeError('not this one')\n")
    (tmp_path / "signal.py").write_text("raise RuntimeError('not this one')\n")
    files = [path for path in campaign.files if "nrcb1" in path.name]
    # When exposures are run from there, Then a reference is built
    done = subprocess.run(
        [Path(sys.executable).with_name("nircam-darks"), "run", *files, "--out", "results"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [reference] = json.loads((tmp_path / "results" / "summary.json").read_text())["references"]
    assert (tmp_path / reference["path"]).is_file()


def test_the_real_fgs_ramp_is_rejected_for_its_exposure_type(shared_data, tmp_path):
    done = run_darks(shared_data / "jw01019001001_gs-acq1_2022117003102_uncal.fits", out=tmp_path / "results")
    assert done.code == 3, done.text
    [exposure] = done.summary["exposures"]
    assert exposure["status"] == "rejected"
    assert "EXP_TYPE" in exposure["reason"]
    assert "FGS_ACQ1" in exposure["reason"]
