"""The table of detectors, against the published numbers and real headers."""

import csv

import pytest
from astropy.io import fits

from shared.nircam.detectors import EXPECTED, READ_PATTERNS, detectors
from support.paths import SHARED_DATA


def test_there_are_ten() -> None:
    assert set(detectors()) == {f"NRC{m}{n}" for m in "AB" for n in ("1", "2", "3", "4", "LONG")}
    for name, detector in detectors().items():
        assert detector.name == name
        assert detector.module == name[3]
        assert detector.channel == ("LW" if "LONG" in name else "SW")
        assert detector.expected is EXPECTED[detector.channel]


@pytest.mark.parametrize(
    ("names", "axes"),
    [
        (["NRCA1", "NRCA3", "NRCALONG", "NRCB2", "NRCB4"], (-1, 2)),
        (["NRCA2", "NRCA4", "NRCB1", "NRCB3", "NRCBLONG"], (1, -2)),
    ],
)
def test_axes_are_those_of_each_detector(names: list[str], axes: tuple[int, int]) -> None:
    for name in names:
        assert (detectors()[name].fastaxis, detectors()[name].slowaxis) == axes


def test_axes_are_those_of_real_headers() -> None:
    paths = sorted(SHARED_DATA.glob("nircam_headers/*.fits"))
    if not paths:
        pytest.skip(f"no real NIRCam headers in {SHARED_DATA}")
    for path in paths:
        header = fits.getheader(path)
        detector = detectors()[header["DETECTOR"]]
        assert (detector.fastaxis, detector.slowaxis) == (header["FASTAXIS"], header["SLOWAXIS"])


def test_the_table_is_the_one_that_was_collected() -> None:
    path = SHARED_DATA / "tables/nircam_detectors.csv"
    if not path.is_file():
        pytest.skip(f"the collected table is not at {path}")
    for row in csv.DictReader(path.read_text().splitlines()):
        detector = detectors()[row["detector"]]
        assert detector.gain == float(row["gain_jdox_e_per_dn"])
        assert detector.ktc_dn == float(row["ktc_cv3_dn"])
        assert abs(detector.gain - detector.expected.gain.value) < 3 * detector.expected.gain.error


def test_patterns_are_those_of_the_readout() -> None:
    assert READ_PATTERNS["RAPID"] == (1, 0)
    assert READ_PATTERNS["DEEP8"] == (8, 12)
    # NAMEn averages n frames (RAPID and BRIGHT1 one, BRIGHT2 two); a group lasts whole frames.
    for name, (frames, gap) in READ_PATTERNS.items():
        assert frames == (int(name[-1]) if name[-1].isdigit() else 1)
        assert gap >= 0
    lengths = {name.rstrip("248"): sum(pattern) for name, pattern in READ_PATTERNS.items() if name != "RAPID"}
    assert lengths == {"BRIGHT1": 2, "BRIGHT": 2, "SHALLOW": 5, "MEDIUM": 10, "DEEP": 20}


@pytest.mark.parametrize(
    ("channel", "dark", "cds", "effective"),
    [("SW", (1.9, 1.1), (15.77, 0.94), (7.79, 0.68)), ("LW", (27.0, 5.0), (13.25, 0.08), (9.28, 0.12))],
)
def test_what_is_expected_is_nrc_09_s_table(
    channel: str, dark: tuple[float, float], cds: tuple[float, float], effective: tuple[float, float]
) -> None:
    expected = EXPECTED["SW" if channel == "SW" else "LW"]
    assert (expected.dark_current_nrc09.value, expected.dark_current_nrc09.error) == dark
    assert (expected.cds_noise.value, expected.cds_noise.error) == cds
    assert (expected.effective_noise.value, expected.effective_noise.error) == effective
