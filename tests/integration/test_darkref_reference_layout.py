"""The file as jwst's own data model writes it, byte by byte."""

import re
import textwrap

import numpy as np
import pytest
from stdatamodels.jwst.datamodels import DarkModel

from services.darkref.reference_file import writer as reference_file
from services.darkref.reference_file.history import STANDARD_ERROR
from support.configurations import configuration
from support.darkref_files import write_dark


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
    ours, arrays = write_dark(tmp_path / "ours" / "nrcb3_dark.fits", key, about, flight, rate_map=rate_map)
    # and the same by way of jwst's data model
    theirs = _by_data_model(tmp_path / ours.name, key, about, arrays, flight)
    # Then they are equal but for the time at which they were written
    one, other = ours.read_bytes(), theirs.read_bytes()
    at = one.index(b"DATE    =")
    assert one[:at] + one[at + 80 :] == other[:at] + other[at + 80 :]
    assert re.sub(rb"\d", b"0", one[at : at + 80]) == re.sub(rb"\d", b"0", other[at : at + 80])


def _by_data_model(path, key, about, arrays, flight):
    flags = [
        (bit, 1 << bit, name, text)
        for bit, name, text in (
            (0, "DO_NOT_USE", "Bad pixel. Do not use."),
            *([(10, "DEAD", "Dead pixel")] if flight else []),
            (11, "HOT", "Hot pixel"),
            (12, "WARM", "Warm pixel"),
            (14, "RC", "RC pixel"),
            *([(15, "TELEGRAPH", "Telegraph pixel")] if flight else []),
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
