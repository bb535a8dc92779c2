"""HISTORY of a reference file: what flight mode says in it, and the room that is kept for it."""

import dataclasses
import textwrap

import numpy as np
import pytest
from astropy.io import fits
from stdatamodels.jwst.datamodels import DarkModel

from services.darkref.measure.bad_pixels import PixelCounts, Thresholds
from services.darkref.measure.difference import DarkDifference, describe_difference
from services.darkref.reference_file import writer as reference_file
from services.darkref.reference_file.history import (
    SPARE_LINES,
    STANDARD_ERROR,
    HistoryInput,
    flagged_pixels,
    flight_history,
    settling_line,
)
from shared.products.reference import ResetSettling
from support.configurations import configuration
from support.darkref_files import write_dark


def test_history_that_grew_fits_into_the_room_kept_for_it(tmp_path):
    # Given a dark whose HISTORY gains 25 lines once it was measured, with room for 40
    key = configuration(ngroups=3)
    about = reference_file.DarkDescription(
        "SIMULATION", "2022-04-11T06:00:00", "x", "y", 0.0342, ["first", "all that was found " * 90]
    )
    path, arrays = write_dark(tmp_path / "a" / "dark.fits", key, about, True, 40, rate_map=True)
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
    path, _ = write_dark(tmp_path / "a" / "dark.fits", key, about, True)
    before = path.read_bytes()
    with pytest.raises(ValueError):
        reference_file.complete_header(path, key, dataclasses.replace(about, history=["much more " * 400]))
    assert path.read_bytes() == before


def test_flight_modes_history_says_method_thresholds_differences_and_data():
    # Given what a flight-mode dark is made by and of
    thresholds = Thresholds(hot_sigma=5.5)
    counts = PixelCounts(4161600, 1234, 56, 7, None, 8, 9, 17, 0.21, 0.14, float("nan"), 5)
    output = flight_history(
        HistoryInput(
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
    together = " ".join(output)
    for part in (
        "SATURATED, DO_NOT_USE or PERSISTENCE",
        "JUMP_DET in the same early group of 75 % of the integrations is no hit",
        "SETTLING: none",
        "group 0 of each integration and pixel was subtracted",
        "(10). Fewer than 16: median and MAD.",
        "ERR is the standard error of the mean",
        "fewer than 3 measurements",
        "HOT: 1234 (0.030 %). Rate above the median by more than 5.5 sigma (above 0.21 e-/s) in 75 %",
        "WARM: 56",
        "RC: not looked for",
        "DEAD: 7",
        "UNRELIABLE_DARK: 17",
        "TELEGRAPH: 5",
        "nircam-darks ",
        "jwst ",
        "DIFFERENCES: replaces old.fits",
        "DATA USED: jw1_nrcalong",
        "DATA USED: jw2_nrcalong",
    ):
        assert part in together, part
    assert all(line.isascii() for line in output)


@pytest.mark.parametrize("pixels", [0, 4161600])
def test_room_is_kept_for_all_that_history_may_gain(tmp_path, pixels):
    # Given a HISTORY without bad pixels and differences, and one with as many digits as there may be
    key = configuration(ngroups=3)
    n = pixels
    counts = PixelCounts(n, n, n, n, n, n, n, n, 0.123e-5, 0.123e-5, 0.123e5, n)
    result = DarkDifference(
        "nrcalong_full_dark_" + "2022-04-11_" * 8 + ".fits", 1000, n, n, n, False, -n / 3, n / 3, [n / 3] * 4,
        [n / 3] * 4, "population standard deviation", STANDARD_ERROR,
        [],
        np.zeros((1, 1), np.float32),
    )  # fmt: skip
    clip = "Fewer than 16 measurements: median and MAD. " * 3
    late = (flagged_pixels(counts, Thresholds()), describe_difference(result))
    settled = settling_line(
        ResetSettling(
            amplitude_e=-n / 3, time_constant_s=n / 3, removed_e_per_ks=n / 3, removed_error_e_per_ks=n / 3
        )
    )
    before, after = (
        flight_history(HistoryInput(key, ["jw1"], 10, 3.0, clip, 3, *more, **line))
        for more, line in (((), {}), (late, {"settling": settled}))
    )
    about = reference_file.DarkDescription("SIMULATION", "2022-04-11T06:00:00", "x", "y", 0.0, before)
    path = tmp_path / "dark.fits"
    # When
    reference_file.lay_out_dark(path, key, about, True, SPARE_LINES)
    size = path.stat().st_size
    reference_file.complete_header(path, key, dataclasses.replace(about, history=after))
    # Then
    assert path.stat().st_size == size
    assert "UNRELIABLE_DARK" in " ".join(fits.getheader(path)["HISTORY"])
    lines = [sum(len(textwrap.wrap(entry, 72)) for entry in said) for said in (before, after)]
    assert lines[1] - lines[0] < SPARE_LINES
