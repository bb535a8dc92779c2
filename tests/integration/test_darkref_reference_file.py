"""The file itself: strict DarkModel, CRDS's rules restated, and jwst's dark_current step with it."""

import dataclasses
import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from astropy.io import fits
from configurations import configuration
from darkref_sets import commit_set, dark, write_ramp
from hypothesis import given
from hypothesis import strategies as st
from stdatamodels.jwst.datamodels import DarkModel

from services.darkref import reference_file
from services.darkref.handler import handle
from shared.settings import StageSettings
from shared.stage import StageContext
from shared.store.local import LocalStore

# The keywords that CRDS's rules for a NIRCam dark (all_all, all_dark, nircam_all, nircam_dark and its
# includes) require, with the values they allow; NOUTPUTS because CRDS selects darks by it.
REQUIRED = {
    "TELESCOP": "JWST",
    "INSTRUME": "NIRCAM",
    "DETECTOR": "NRCALONG|NRCBLONG|NRC[AB][1-4]",
    "CHANNEL": "SHORT|LONG",
    "MODULE": "A|B",
    "REFTYPE": "DARK",
    "DATAMODL": "DarkModel",
    "EXP_TYPE": "NRC_DARK",
    "PEDIGREE": r"GROUND|MODEL|DUMMY|SIMULATION|INFLIGHT \d{4}-\d\d-\d\d \d{4}-\d\d-\d\d",
    "USEAFTER": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d",
    "AUTHOR": ".+",
    "DESCRIP": ".{1,65}",
    "SUBARRAY": "(?!GENERIC|N/A).+",
    "SUBSTRT1": r"\d+",
    "SUBSTRT2": r"\d+",
    "SUBSIZE1": r"\d+",
    "SUBSIZE2": r"\d+",
    "FASTAXIS": "-?[12]",
    "SLOWAXIS": "-?[12]",
    "READPATT": "RAPID",
    "NOUTPUTS": "1|4",
    "NFRAMES": "1",
    "NGROUPS": r"\d+",
    "GROUPGAP": "0",
    "CORONMSK": "NONE",
    "TFRAME": r"[\d.]+",
    "TGROUP": r"[\d.]+",
    "AVDRKCUR": r"[\d.e-]+",
}


def _build(folder, key, simulated=False, counts=(2, 2, 2), **settings):
    rng = np.random.default_rng(8)
    folder.mkdir(exist_ok=True)
    files = [
        write_ramp(folder / f"jw{n}_jump.fits", key, *dark(rng, key, count)) for n, count in enumerate(counts)
    ]
    store = LocalStore(folder / "store")
    ready = commit_set(store, files, [key] * len(files), counts, simulated=simulated)
    context = StageContext(store, StageSettings(store=folder / "store", **settings))
    (outgoing,) = handle(ready, context)
    return folder / "store" / outgoing.message.content.reference.key


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return _build(tmp_path_factory.mktemp("built") / "run", configuration())


@pytest.mark.parametrize("detector", ["NRCALONG", "NRCA1", "NRCB3", "NRCBLONG"])
def test_every_keyword_that_crds_requires_is_there_and_allowed(tmp_path, detector):
    path = _build(tmp_path / detector, configuration(detector=detector))
    header = fits.getheader(path)
    for keyword, allowed in REQUIRED.items():
        assert re.fullmatch(allowed, str(header[keyword]).strip()), f"{keyword} = {header.get(keyword)!r}"
    axes = (-1, 2) if detector in {"NRCA1", "NRCA3", "NRCALONG", "NRCB2", "NRCB4"} else (1, -2)
    assert (header["FASTAXIS"], header["SLOWAXIS"]) == axes
    assert path.name == f"{detector.lower()}_sub64p_dark.fits"


def test_history_says_the_rule_the_software_and_the_data(built):
    history = " ".join(str(card) for card in fits.getheader(built)["HISTORY"])
    for part in (
        "ERR is the population standard deviation about that mean",
        "it is not the error of the mean",
        "sigma clip (3 standard deviations about the median, at most 5 rounds)",
        "nircam-darks ",
        "jwst 3",
        "jw0_jump",
        "jw1_jump",
        "jw2_jump",
    ):
        assert part in history, history


def test_dates_come_from_the_data(built):
    header = fits.getheader(built)
    assert header["PEDIGREE"] == "INFLIGHT 2022-04-11 2022-04-11"
    assert header["USEAFTER"] == "2022-04-11T06:00:00"


def test_opens_strictly_and_holds_what_a_dark_holds(built):
    with DarkModel(str(built), strict_validation=True) as model:
        assert model.data.shape == model.err.shape == (6, 64, 64)
        assert {model.data.dtype.str[1:], model.err.dtype.str[1:]} == {"f4"}
        assert model.dq.shape == (64, 64)
        assert model.dq.dtype == np.uint32
        assert not model.dq.any()
        assert "UNRELIABLE_DARK" in model.dq_def["NAME"].tolist()
        assert model.err.min() > 0
        model.validate()
    with fits.open(built) as hdus:
        hdus.verify("exception")
        assert [hdu.name for hdu in hdus][:5] == ["PRIMARY", "SCI", "DQ", "ERR", "DQ_DEF"]
        assert hdus["SCI"].header["BUNIT"] == "DN"


@pytest.mark.parametrize("descrip", ["short", "almost as long as DESCRIP may be, which is 65 characters"])
def test_the_file_is_what_stdatamodels_itself_writes(tmp_path, descrip):
    # Given a dark as we write it
    key = configuration(detector="NRCB3", ngroups=5)
    about = reference_file.DarkDescription(
        "SIMULATION",
        "2022-04-11T06:00:00",
        descrip,
        "nircam-darks",
        0.0342,
        ["one line", "a long line " * 20],
    )
    rng = np.random.default_rng(3)
    ours = tmp_path / "ours" / "nrcb3_dark.fits"
    ours.parent.mkdir()
    places = reference_file.lay_out_dark(ours, key, dataclasses.replace(about, dark_current=0.0))
    cubes = {name: rng.normal(0, 5, (5, 64, 64)).astype(np.float32) for name in ("SCI", "ERR")}
    for name, values in cubes.items():
        with places[name].cube(ours, np.float32) as cube:
            cube.write(0, 0, values)
    reference_file.describe(ours, key, about)
    # and the same by way of jwst's data model
    theirs = _by_data_model(tmp_path / ours.name, key, about, cubes)
    # Then they are equal but for the time at which they were written
    one, other = ours.read_bytes(), theirs.read_bytes()
    at = one.index(b"DATE    =")
    assert one[:at] + one[at + 80 :] == other[:at] + other[at + 80 :]
    assert re.sub(rb"\d", b"0", one[at : at + 80]) == re.sub(rb"\d", b"0", other[at : at + 80])


def _by_data_model(path, key, about, cubes):
    flags = [
        (bit, 1 << bit, name, text)
        for bit, name, text in (
            (0, "DO_NOT_USE", "Bad pixel. Do not use."),
            (11, "HOT", "Hot pixel"),
            (12, "WARM", "Warm pixel"),
            (14, "RC", "RC pixel"),
            (23, "UNRELIABLE_DARK", "Dark variance large"),
        )
    ]
    names = [("BIT", "<i4"), ("VALUE", "<u4"), ("NAME", "S40"), ("DESCRIPTION", "S80")]
    model = DarkModel(
        data=cubes["SCI"],
        err=cubes["ERR"],
        dq=np.zeros((key.subsize2, key.subsize1), np.uint32),
        dq_def=np.array(flags, names),
    )
    meta = model.meta
    meta.telescope, meta.reftype = "JWST", "DARK"
    meta.pedigree, meta.useafter, meta.author = about.pedigree, about.useafter, about.author
    meta.description = about.descrip
    meta.instrument.name, meta.instrument.detector = "NIRCAM", key.detector
    exposure = meta.exposure
    exposure.type, exposure.readpatt, exposure.p_readpatt = key.exp_type, key.readpatt, f"{key.readpatt}|"
    exposure.noutputs, exposure.nframes = key.noutputs, key.nframes
    exposure.ngroups, exposure.groupgap = key.ngroups, key.groupgap
    exposure.average_dark_current = about.dark_current
    subarray = meta.subarray
    subarray.name, subarray.p_subarray = key.subarray, f"{key.subarray}|"
    subarray.xstart, subarray.ystart = key.substrt1, key.substrt2
    subarray.xsize, subarray.ysize = key.subsize1, key.subsize2
    subarray.fastaxis, subarray.slowaxis = 1, -2
    for entry in about.history:
        for line in textwrap.wrap(entry, 72):
            model.add_history_entry(line)
    model.extra_fits = {
        "PRIMARY": {
            "header": [
                ["CHANNEL", "SHORT", "wavelength channel"],
                ["MODULE", "B", "NIRCam module"],
                ["CORONMSK", key.coronmsk, "coronagraphic mask"],
                ["TFRAME", key.tframe, "[s] time from frame to frame"],
                ["TGROUP", key.group_time, "[s] time from group to group"],
            ]
        },
        "SCI": {"header": [["BUNIT", "DN", "mean"]]},
        "ERR": {"header": [["BUNIT", "DN", "population standard deviation"]]},
    }
    model.save(str(path), overwrite=True)
    model.close()
    return path


def test_simulated_data_say_so_whatever_the_user_says(tmp_path):
    path = _build(tmp_path / "run", configuration(), simulated=True, descrip="Our best dark " * 4)
    header = fits.getheader(path)
    assert header["PEDIGREE"] == "SIMULATION"
    assert header["DESCRIP"].startswith("Simulated: Our best dark")
    assert len(header["DESCRIP"]) <= 65


@given(st.booleans(), st.integers(1, 9999), st.one_of(st.none(), st.text(min_size=1, max_size=65)))
def test_descrip_is_never_too_long_and_never_hides_a_simulation(simulated, integrations, given_text):
    key = configuration(subarray="SUB320A335R", detector="NRCBLONG", readpatt="SHALLOW4")
    said = reference_file.descrip(key, integrations, simulated, given_text)
    assert len(said) <= 65
    assert not simulated or "simulat" in said.lower()


def test_contributions_are_a_standard_unsigned_image(built):
    with fits.open(built.with_name("contributions.fits")) as hdus:
        hdus.verify("exception")
        assert hdus["NMEAS"].data.dtype == np.uint16
        assert hdus["NMEAS"].data.shape == (6, 64, 64)
        assert hdus["NMEAS"].data.max() == 6
        assert hdus["NMEAS"].header["BUNIT"] == "count"


_STEP = """
import os, sys
ramp, dark, cache = sys.argv[1:]
os.environ.update(CRDS_PATH=cache, CRDS_CONTEXT="jwst_0000.pmap", STPIPE_DISABLE_CRDS_STEPPARS="true",
                  CRDS_SERVER_URL="https://crds-serverless-mode.stsci.edu")
import numpy as np
from jwst.dark_current import DarkCurrentStep
from stdatamodels.jwst.datamodels import RampModel
before = RampModel(ramp)
raw = before.data.copy()
after = DarkCurrentStep.call(before, override_dark=dark, configure_log=False)
from astropy.io import fits
sci = fits.getdata(dark, "SCI")
assert after.meta.cal_step.dark_sub == "COMPLETE", after.meta.cal_step.dark_sub
np.testing.assert_allclose(after.data, raw - sci[None], rtol=1e-5, atol=1e-4)
assert abs(float(np.ravel(after.average_dark_current)[0]) - fits.getval(dark, "AVDRKCUR")) < 1e-6
print("subtracted")
"""


def test_jwsts_dark_current_step_runs_with_it(built, tmp_path):
    # Given an exposure that was left out, and a CRDS cache without a server
    key = configuration()
    left_out = write_ramp(
        tmp_path / "jw9_jump.fits", key, *dark(np.random.default_rng(99), key, 2), EFFEXPTM=1.0
    )
    settings = tmp_path / "crds" / "config" / "jwst"
    settings.mkdir(parents=True)
    said = dict.fromkeys(("operational_context", "edit_context", "latest_context"), "jwst_0000.pmap")
    said |= dict.fromkeys(("reference_url", "mapping_url", "checksum_url"), "none")
    said |= {
        "observatory": "jwst",
        "bad_files": "",
        "bad_files_set": [],
        "bad_files_list": [],
        "crds_version": {"str": "14.0.3"},
        "server_version": "14.0.3",
        "effective_mode": "local",
        "force_remote_mode": False,
        "last_synced": "never",
        "status": "s3",
        "connected": False,
    }
    (settings / "server_config").write_text(repr(said))
    # When
    done = subprocess.run(
        [sys.executable, "-c", _STEP, left_out, built, tmp_path / "crds"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    # Then
    assert done.returncode == 0, done.stderr
    assert "subtracted" in done.stdout
