"""Both kinds of rule, asked of crds and of stdatamodels themselves."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from services.darkref.reference_file import writer as reference_file
from services.darkref.verification import certify
from shared.errors import TransientError
from support.configurations import configuration


def _dark(path):
    path.parent.mkdir(exist_ok=True)
    key = configuration(ngroups=3)
    about = reference_file.DarkDescription(
        "SIMULATION",
        "2022-04-11T06:00:00",
        "Simulated: a dark",
        "nircam-darks",
        0.03,
        ["DESCRIPTION: a dark"],
    )
    places = reference_file.lay_out_dark(path, key, about)
    with places["SCI"].cube(path, np.float32) as cube:
        cube.write(0, 0, np.arange(3 * 64 * 64, dtype=np.float32).reshape(3, 64, 64))
    return path


def _change(path, change):
    with fits.open(path, mode="update") as hdus:
        change(hdus)
    return path


def test_a_good_dark_breaks_no_rule(tmp_path):
    assert certify.violations(_dark(tmp_path / "dark.fits")) == []


def test_what_is_wrong_is_named_with_its_rule_and_what_to_do(tmp_path):
    # Given a dark with a fault in each kind of thing
    def spoil(hdus):
        del hdus[0].header["DESCRIP"]
        hdus[0].header["PEDIGREE"] = "INFLIGHT"
        hdus[0].header["DETECTOR"] = "NRCA2"
        hdus[0].header["NOUTPUTS"] = 2
        hdus["DQ"].data = np.zeros((3, 64, 64), np.uint32)

    path = _change(_dark(tmp_path / "dark.fits"), spoil)
    # When
    result = certify.violations(path)
    # Then both say what they mind
    by_crds = {each.about: each for each in result if each.by == "CRDS certify"}
    assert set(by_crds) == {"DESCRIP", "PEDIGREE", "NRCA2_AXIS", "DQ"}
    assert str(by_crds["DESCRIP"]) == (
        "DESCRIP: Missing required keyword 'DESCRIP' (CRDS certify); "
        "correct DESCRIP and build the reference again"
    )
    assert "FASTAXIS==1" in by_crds["NRCA2_AXIS"].rule
    assert "ndim(DQ_ARRAY,2)" in by_crds["DQ"].rule
    assert [entry.by for entry in result if entry.by != "CRDS certify"] == ["strict DarkModel"]


def test_a_file_that_does_not_say_what_it_is(tmp_path):
    path = _change(_dark(tmp_path / "dark.fits"), lambda hdus: hdus[0].header.remove("REFTYPE"))
    result = certify.violations(path)
    assert any(each.by == "CRDS certify" and "REFTYPE" in str(each) for each in result)


def test_the_strict_model_minds_a_missing_and_a_wrong_keyword(tmp_path):
    def check(name, change):
        folder = tmp_path / name
        (folder / "copy").mkdir(parents=True)
        return certify.model_violations(_change(_dark(folder / "dark.fits"), change), folder / "copy")

    (missing,) = check("missing", lambda hdus: hdus[0].header.remove("DESCRIP"))
    assert missing.about == "DESCRIP"
    (wrong,) = check("wrong", lambda hdus: hdus[0].header.set("NOUTPUTS", 2))
    assert wrong.about == "NOUTPUTS"
    assert "2 is not one of [1, 4, 5]" in wrong.rule
    assert check("none", lambda hdus: None) == []


def test_the_copy_has_every_header_and_the_first_rows(tmp_path):
    path = _dark(tmp_path / "dark.fits")
    (tmp_path / "copy").mkdir()
    with fits.open(path) as hdus, fits.open(certify.one_row(path, tmp_path / "copy")) as copy:
        for mine, theirs in zip(copy, hdus, strict=True):
            kept = [
                str(card)
                for card in theirs.header.cards
                if card.keyword != "NAXIS2" or theirs.name == "DQ_DEF"
            ]
            assert set(kept) <= {str(card) for card in mine.header.cards}
        for name in ("SCI", "ERR", "DQ"):
            assert copy[name].data.dtype == hdus[name].data.dtype
            np.testing.assert_array_equal(copy[name].data, hdus[name].data[..., :1, :])
        np.testing.assert_array_equal(copy["DQ_DEF"].data, hdus["DQ_DEF"].data)


def test_a_process_that_dies_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(certify.sys, "executable", "/bin/false")
    with pytest.raises(TransientError):
        certify.violations(tmp_path / "dark.fits")


def test_the_rules_of_the_installed_package_are_those_that_were_given(shared_data):
    tables = Path(importlib.util.find_spec("crds").origin).parent / "jwst"

    def rules(path):
        return [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]

    given = sorted((shared_data / "crds_rules").glob("*.tpn"))
    differing = {path.name for path in given if rules(path) != rules(tables.joinpath(*path.name.split("__")))}
    # The package is newer: it lets NIRCam's striped subarrays reach beyond the detector's rows.
    assert differing <= {"tpns__includes__nir_sci_array_both.tpn"}
