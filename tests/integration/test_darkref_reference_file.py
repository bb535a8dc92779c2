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
from services.darkref.difference import Difference, describe
from services.darkref.handler import handle
from services.darkref.pixel_flags import PixelCounts, Thresholds
from services.darkref.reference_history import (
    SPARE_LINES,
    STANDARD_ERROR,
    Making,
    flagged_pixels,
    flight_history,
)
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


def _build(folder, key, simulated=False, counts=(2, 2, 2), mode="reference", **settings):
    rng = np.random.default_rng(8)
    folder.mkdir(exist_ok=True)
    files = [
        write_ramp(folder / f"jw{n}_jump.fits", key, *dark(rng, key, count)) for n, count in enumerate(counts)
    ]
    store = LocalStore(folder / "store")
    ready = commit_set(store, files, [key] * len(files), counts, simulated=simulated)
    context = StageContext(store, StageSettings(store=folder / "store", mode=mode, **settings))
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


@pytest.mark.parametrize(("flight", "rate_map"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("descrip", ["short", "almost as long as DESCRIP may be, which is 65 characters"])
def test_the_file_is_what_stdatamodels_itself_writes(tmp_path, descrip, flight, rate_map):
    # Given a dark as we write it
    key = configuration(detector="NRCB3", ngroups=5)
    about = reference_file.DarkDescription(
        "SIMULATION",
        "2022-04-11T06:00:00",
        descrip,
        "nircam-darks",
        0.0342,
        ["one line", "a long line " * 20],
        STANDARD_ERROR if flight else "population standard deviation",
    )
    ours, arrays = _ours(tmp_path / "ours" / "nrcb3_dark.fits", key, about, flight, rate_map=rate_map)
    # and the same by way of jwst's data model
    theirs = _by_data_model(tmp_path / ours.name, key, about, arrays, flight)
    # Then they are equal but for the time at which they were written
    one, other = ours.read_bytes(), theirs.read_bytes()
    at = one.index(b"DATE    =")
    assert one[:at] + one[at + 80 :] == other[:at] + other[at + 80 :]
    assert re.sub(rb"\d", b"0", one[at : at + 80]) == re.sub(rb"\d", b"0", other[at : at + 80])


def _ours(path, key, about, flight, spare_history=0, rate_map=False):
    """Write a dark of random arrays, its dark current and last line of HISTORY last; return it and them."""
    rng = np.random.default_rng(3)
    cube, plane = (key.ngroups, key.subsize2, key.subsize1), (key.subsize2, key.subsize1)
    arrays = {name: rng.normal(0, 5, cube).astype(np.float32) for name in ("SCI", "ERR")}
    if flight:
        arrays["DQ"] = rng.choice(np.array([0, 1 << 11, 1 << 23 | 1 << 14], np.uint32), plane)
    if rate_map:
        arrays["AVDRKCUR"] = rng.uniform(0, 1, plane).astype(np.float32)
    path.parent.mkdir(exist_ok=True)
    early = dataclasses.replace(
        about, dark_current=0.0, history=about.history[:-1] if spare_history else about.history
    )
    places = reference_file.lay_out_dark(path, key, early, flight, spare_history, rate_map)
    for name, values in arrays.items():
        with places[name].cube(path, values.dtype) as file:
            file.write(0, 0, values.reshape(-1, *plane))
    reference_file.describe(path, key, about)
    return path, arrays


def test_history_that_grew_fits_into_the_room_kept_for_it(tmp_path):
    # Given a dark whose HISTORY gains 25 lines once it was measured, with room for 40
    key = configuration(ngroups=3)
    about = reference_file.DarkDescription(
        "SIMULATION", "2022-04-11T06:00:00", "x", "y", 0.0342, ["first", "all that was found " * 90]
    )
    path, arrays = _ours(tmp_path / "a" / "dark.fits", key, about, True, 40, rate_map=True)
    # Then it is a standard file with all of it, and nothing moved
    with fits.open(path) as hdus:
        hdus.verify("exception")
        assert " ".join(hdus[0].header["HISTORY"]).count("all that was found") == 90
        assert hdus[0].header["AVDRKCUR"] == 0.0342
        np.testing.assert_array_equal(hdus["AVDRKCUR"].data, arrays["AVDRKCUR"])
        np.testing.assert_array_equal(hdus["DQ"].data, arrays["DQ"])
    with DarkModel(str(path), strict_validation=True) as model:
        model.validate()
        np.testing.assert_array_equal(model.data, arrays["SCI"])
        np.testing.assert_array_equal(model.average_dark_current, arrays["AVDRKCUR"])


def test_history_that_does_not_fit_is_refused_and_the_file_stays(tmp_path):
    key = configuration(ngroups=3)
    about = reference_file.DarkDescription("SIMULATION", "2022-04-11T06:00:00", "x", "y", 0.0, ["first"])
    path, _ = _ours(tmp_path / "a" / "dark.fits", key, about, True)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="lines more in spare_history"):
        reference_file.describe(path, key, dataclasses.replace(about, history=["much more " * 400]))
    assert path.read_bytes() == before


def test_flight_modes_history_says_method_thresholds_differences_and_data():
    # Given what a flight-mode dark is made by and of
    thresholds = Thresholds(hot_sigma=5.5)
    counts = PixelCounts(4161600, 1234, 56, 7, None, 8, 9, 17, 0.21, 0.14, float("nan"))
    said = flight_history(
        Making(
            configuration(),
            ["jw1_nrcalong", "jw2_nrcalong"],
            10,
            3.0,
            "Fewer than 16: median and MAD.",
            3,
            flagged_pixels(counts, thresholds),
            ["DIFFERENCES: replaces old.fits"],
        )
    )
    together = " ".join(said)
    for part in (
        "JUMP_DET, SATURATED, DO_NOT_USE or PERSISTENCE",
        "group 0 of each integration and pixel was subtracted",
        "(10). Fewer than 16: median and MAD.",
        "ERR is the standard error of the mean",
        "fewer than 3 measurements",
        "HOT: 1234 (0.030 %). Rate above the median by more than 5.5 sigma (above 0.21 e-/s) in 75 %",
        "WARM: 56",
        "RC: not looked for",
        "DEAD: 7",
        "UNRELIABLE_DARK: 17",
        "nircam-darks ",
        "jwst ",
        "DIFFERENCES: replaces old.fits",
        "DATA USED: jw1_nrcalong",
        "DATA USED: jw2_nrcalong",
    ):
        assert part in together, part
    assert all(line.isascii() for line in said)


@pytest.mark.parametrize("pixels", [0, 4161600])
def test_room_is_kept_for_all_that_history_may_gain(tmp_path, pixels):
    # Given a HISTORY without bad pixels and differences, and one with as many digits as there may be
    key = configuration(ngroups=3)
    n = pixels
    counts = PixelCounts(n, n, n, n, n, n, n, n, 0.123e-5, 0.123e-5, 0.123e5)
    found = Difference(
        "nrcalong_full_dark_" + "2022-04-11_" * 8 + ".fits", 1000, n, n, n, False, -n / 3, n / 3, [n / 3] * 4,
        [n / 3] * 4, "population standard deviation", STANDARD_ERROR,
    )  # fmt: skip
    clip = "Fewer than 16 measurements: median and MAD. " * 3
    late = (flagged_pixels(counts, Thresholds()), describe(found))
    before, after = (flight_history(Making(key, ["jw1"], 10, 3.0, clip, 3, *more)) for more in ((), late))
    about = reference_file.DarkDescription("SIMULATION", "2022-04-11T06:00:00", "x", "y", 0.0, before)
    path = tmp_path / "dark.fits"
    # When
    reference_file.lay_out_dark(path, key, about, True, SPARE_LINES)
    size = path.stat().st_size
    reference_file.describe(path, key, dataclasses.replace(about, history=after))
    # Then
    assert path.stat().st_size == size
    assert "UNRELIABLE_DARK" in " ".join(fits.getheader(path)["HISTORY"])
    lines = [sum(len(textwrap.wrap(entry, 72)) for entry in said) for said in (before, after)]
    assert lines[1] - lines[0] < SPARE_LINES


def _by_data_model(path, key, about, arrays, flight):
    flags = [
        (bit, 1 << bit, name, text)
        for bit, name, text in (
            (0, "DO_NOT_USE", "Bad pixel. Do not use."),
            *([(10, "DEAD", "Dead pixel")] if flight else []),
            (11, "HOT", "Hot pixel"),
            (12, "WARM", "Warm pixel"),
            (14, "RC", "RC pixel"),
            (23, "UNRELIABLE_DARK", "Dark variance large"),
        )
    ]
    names = [("BIT", "<i4"), ("VALUE", "<u4"), ("NAME", "S40"), ("DESCRIPTION", "S80")]
    model = DarkModel(
        data=arrays["SCI"],
        err=arrays["ERR"],
        dq=arrays.get("DQ", np.zeros((key.subsize2, key.subsize1), np.uint32)),
        dq_def=np.array(flags, names),
    )
    if "AVDRKCUR" in arrays:
        model.average_dark_current = arrays["AVDRKCUR"]
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
        "ERR": {"header": [["BUNIT", "DN", about.errors]]},
    }
    if "AVDRKCUR" in arrays:
        model.extra_fits.AVDRKCUR = {"header": [["BUNIT", "electron/s", "average dark current"]]}
    model.save(str(path), overwrite=True)
    model.close()
    return path


def test_map_of_single_pixels_may_carry_the_rates_of_a_dark_model(tmp_path):
    image = np.arange(12, dtype=np.float32).reshape(3, 4)
    for rates in (None, image / 1000):
        reference_file.write_dark_current_map(tmp_path / "map.fits", image, configuration(), rates)
        with fits.open(tmp_path / "map.fits") as hdus:
            np.testing.assert_array_equal(hdus["DARKCURR"].data, image)
            assert ("AVDRKCUR" in hdus) == (rates is not None)
            if rates is not None:
                np.testing.assert_array_equal(hdus["AVDRKCUR"].data, rates)
                assert hdus["AVDRKCUR"].header["BUNIT"] == "electron/s"


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
sci, quality = fits.getdata(dark, "SCI"), fits.getdata(dark, "DQ")
assert after.meta.cal_step.dark_sub == "COMPLETE", after.meta.cal_step.dark_sub
np.testing.assert_allclose(after.data, raw - sci[None], rtol=1e-5, atol=1e-4)
with fits.open(dark) as hdus:
    has_map = "AVDRKCUR" in hdus
if has_map:
    # jwst 3.0.0 applies neither map nor keyword; once it does apply the map, references should have it.
    assert after.average_dark_current is None
else:
    np.testing.assert_allclose(after.average_dark_current, fits.getval(dark, "AVDRKCUR"), atol=1e-6)
np.testing.assert_array_equal(after.pixeldq, quality)
print("subtracted")
"""


@pytest.mark.parametrize("made", ["reference mode", "flight mode", "flight mode, map of rates"])
def test_jwsts_dark_current_step_runs_with_it(built, tmp_path, made):
    # Given an exposure that was left out, and a CRDS cache without a server
    key = configuration()
    left_out = write_ramp(
        tmp_path / "jw9_jump.fits", key, *dark(np.random.default_rng(99), key, 2), EFFEXPTM=1.0
    )
    if made != "reference mode":
        about = reference_file.DarkDescription("SIMULATION", "2022-04-11T06:00:00", "x", "y", 0.1, ["z"])
        built, _ = _ours(tmp_path / "flight" / "dark.fits", key, about, True, 100, made != "flight mode")
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
