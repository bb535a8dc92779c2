"""The file itself: strict DarkModel, and CRDS's rules restated."""

import re

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from stdatamodels.jwst.datamodels import DarkModel

from services.darkref.reference_file import writer as reference_file
from support.configurations import configuration
from support.darkref_files import build_dark

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


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build_dark(tmp_path_factory.mktemp("built") / "run", configuration())


@pytest.mark.parametrize("detector", ["NRCALONG", "NRCA1", "NRCB3", "NRCBLONG"])
def test_every_keyword_that_crds_requires_is_there_and_allowed(tmp_path, detector):
    path = build_dark(tmp_path / detector, configuration(detector=detector))
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
    path = build_dark(tmp_path / "run", configuration(), simulated=True, descrip="Our best dark " * 4)
    header = fits.getheader(path)
    assert header["PEDIGREE"] == "SIMULATION"
    assert header["DESCRIP"].startswith("Simulated: Our best dark")
    assert len(header["DESCRIP"]) <= 65


@given(st.booleans(), st.integers(1, 9999), st.one_of(st.none(), st.text(min_size=1, max_size=65)))
def test_descrip_is_never_too_long_and_never_hides_a_simulation(simulated, integrations, given_text):
    key = configuration(subarray="SUB320A335R", detector="NRCBLONG", readpatt="SHALLOW4")
    output = reference_file.descrip(key, integrations, simulated, given_text)
    assert len(output) <= 65
    assert not simulated or "simulat" in output.lower()


def test_contributions_are_a_standard_unsigned_image(built):
    with fits.open(built.with_name("contributions.fits")) as hdus:
        hdus.verify("exception")
        assert hdus["NMEAS"].data.dtype == np.uint16
        assert hdus["NMEAS"].data.shape == (6, 64, 64)
        assert hdus["NMEAS"].data.max() == 6
        assert hdus["NMEAS"].header["BUNIT"] == "count"
