"""The table of subarrays against the instrument's own definitions."""

import csv
import gzip
import re
from importlib import resources
from xml.etree import ElementTree

import pytest
from stdatamodels.jwst.datamodels import RampModel

from shared.nircam.detectors import FULL_FRAME, detectors
from shared.nircam.subarrays import frame_time, stripe_keywords, subarrays
from support.paths import SHARED_DATA

SIAF = SHARED_DATA / "nircam_config/NIRCam_SIAF_PRDOPSSOC-075.xml.gz"


@pytest.mark.parametrize(
    ("columns", "rows", "outputs", "seconds"),
    # JWST user documentation, "NIRCam Detector Subarrays".
    [
        (2048, 2048, 4, 10.73677),
        (2048, 256, 4, 1.34669),
        (640, 640, 1, 4.18584),
        (400, 400, 1, 1.65624),
        (320, 320, 1, 1.06904),
        (160, 160, 1, 0.27864),
        (64, 64, 1, 0.05016),
    ],
)
def test_frame_times_are_those_of_the_documentation(columns, rows, outputs, seconds):
    assert frame_time(columns, rows, outputs) == pytest.approx(seconds, abs=1e-9)


def test_every_detector_has_the_full_frame_and_every_subarray_lies_on_its_detector():
    for name in detectors():
        assert subarrays()[name, "FULL"].noutputs == 4
    for subarray in subarrays().values():
        assert 1 <= subarray.substrt1 <= FULL_FRAME + 1 - subarray.subsize1
        assert 1 <= subarray.substrt2 <= FULL_FRAME + 1 - subarray.subsize2


@pytest.mark.parametrize(
    ("detector", "name", "corner", "size"),
    # The places of the SIAF, worked out by hand: science x = 2049 - detector x where FASTAXIS is -1.
    [
        ("NRCALONG", "SUB400X256ALWB", (1475, 1540), (400, 256)),
        ("NRCA3", "SUB8FP1A", (458, 1407), (8, 8)),
        ("NRCB4", "SUB64FP1B", (1789, 1786), (64, 64)),
        ("NRCBLONG", "SUB32TATS", (2009, 1817), (32, 32)),
        ("NRCALONG", "SUB32TATSGRISM", (1213, 95), (32, 32)),
    ],
)
def test_the_subarrays_of_today_have_the_places_of_the_siaf(detector, name, corner, size):
    subarray = subarrays()[detector, name]
    assert (subarray.substrt1, subarray.substrt2) == corner
    assert (subarray.subsize1, subarray.subsize2) == size
    assert subarray.noutputs == 1


def nircam_names():
    """The names that stdatamodels allows for NIRCam's SUBARRAY, obsolete ones apart."""
    subarray = RampModel().schema["properties"]["meta"]["properties"]["subarray"]
    enums = [set(each.get("enum", ())) for each in subarray["properties"]["name"]["anyOf"]]
    [names] = [enum for enum in enums if "SUB64P" in enum]
    return names


def test_every_name_that_the_data_models_allow_is_known_or_striped():
    known = {name for _, name in subarrays()}
    striped = {name for name in nircam_names() if stripe_keywords({"SUBARRAY": name})}
    # The names of the masks alone were never those of an aperture with a place of its own.
    masks = {"MASK210R", "MASK335R", "MASK430R", "MASKLWB", "MASKSWB"}
    assert nircam_names() - known - striped == masks
    assert {"SUB260STRIPE4_DHS", "FULL_SUPSTP024P", "SUB64P_SUPSTP002"} <= striped
    assert not any(stripe_keywords({"SUBARRAY": name}) for name in known)


@pytest.mark.skipif(not SIAF.exists(), reason=f"{SIAF} is absent: it comes with the shared data")
def test_places_are_those_of_the_siaf_where_the_table_says_so():
    # Given the apertures of the SIAF
    with gzip.open(SIAF) as file:
        apertures = {
            entry.findtext("AperName"): {each.tag: each.text for each in entry}
            for entry in ElementTree.parse(file).getroot().iter("SiafEntry")
        }
    table = resources.files("shared.nircam").joinpath("nircam_subarrays.csv").read_text()
    rows = [row for row in csv.DictReader(table.splitlines()) if row["source"].startswith("SIAF ")]
    assert len(rows) == 38
    for row in rows:
        aperture = apertures[row["source"].removeprefix("SIAF ")]
        # When the place of its reference pixel on the detector is turned into science orientation
        axes = detectors()[row["detector"]]
        for axis, letter, direction in ((1, "X", axes.fastaxis), (2, "Y", axes.slowaxis)):
            on_detector = float(aperture[f"{letter}DetRef"])
            in_science = on_detector if direction > 0 else FULL_FRAME + 1 - on_detector
            first = in_science - float(aperture[f"{letter}SciRef"]) + 1
            # Then first pixel and size are those of the table
            assert int(row[f"substrt{axis}"]) == pytest.approx(first, abs=1e-3), row
            assert row[f"subsize{axis}"] == aperture[f"{letter}SciSize"], row


@pytest.mark.skipif(not SIAF.exists(), reason=f"{SIAF} is absent: it comes with the shared data")
def test_subarray_sizes_are_those_of_the_siaf():
    # Given the sizes of the SIAF's apertures, by detector and subarray name
    with gzip.open(SIAF) as file:
        entries = ElementTree.parse(file).getroot().iter("SiafEntry")
        sizes = {
            entry.findtext("AperName"): (int(entry.findtext("XSciSize")), int(entry.findtext("YSciSize")))
            for entry in entries
            if entry.findtext("XSciSize")
        }
    checked = 0
    for (detector, name), subarray in subarrays().items():
        aperture = re.sub("LONG$", "5", detector) + f"_{name}"
        if aperture in sizes:
            # Then ours are the same
            assert sizes[aperture] == (subarray.subsize1, subarray.subsize2), aperture
            checked += 1
    assert checked > 20
