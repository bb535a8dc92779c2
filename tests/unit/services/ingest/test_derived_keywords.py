"""Which keywords follow from the others, and which do not."""

from itertools import pairwise

import pytest

from services.ingest.adapted import Adaptation, _first_of_each, parameters_today
from services.ingest.checks import ExposureProbe
from services.ingest.derived_keywords import derived_keywords
from shared.settings.stage import StageSettings

# A full frame and a subarray, with the times of the JWST user documentation.
FULL = {
    "TELESCOP": "JWST",
    "INSTRUME": "NIRCAM",
    "DETECTOR": "NRCBLONG",
    "SUBARRAY": "FULL",
    "SUBSTRT1": 1,
    "SUBSTRT2": 1,
    "SUBSIZE1": 2048,
    "SUBSIZE2": 2048,
    "FASTAXIS": 1,
    "SLOWAXIS": -2,
    "READPATT": "RAPID",
    "NFRAMES": 1,
    "GROUPGAP": 0,
    "NOUTPUTS": 4,
    "NINTS": 1,
    "NGROUPS": 108,
    "TFRAME": 10.73677,
    "TGROUP": 10.73677,
    "EFFINTTM": 1159.57116,
    "DATE-OBS": "2017-08-15",
    "TIME-OBS": "06:00:00.000",
    "EXPSTART": 57980.25,
    "EXPEND": 57980.25 + 109 * 10.73677 / 86400,
}
SHAPE = (1, 108, 2048, 2048)


@pytest.mark.parametrize("keyword", [k for k in FULL if k not in ("DETECTOR", "DATE-OBS", "TIME-OBS")])
def test_each_keyword_alone_follows_from_the_others(keyword):
    lacking = {name: value for name, value in FULL.items() if name != keyword}
    derived = derived_keywords(lacking, SHAPE)
    assert list(derived) == [keyword]
    assert derived[keyword] == pytest.approx(FULL[keyword], abs=1e-9) or derived[keyword] == FULL[keyword]


def test_nothing_is_derived_where_nothing_is_missing_or_the_detector_is_unknown():
    assert derived_keywords(FULL, SHAPE) == {}
    assert derived_keywords({"SUBARRAY": "FULL"}, SHAPE) == {}
    assert derived_keywords({"DETECTOR": "MIRIMAGE"}, SHAPE) == {}


@pytest.mark.parametrize(
    ("changes", "outputs"),
    [
        # 2048 x 256 is read by four outputs in 1.34669 s, by one in 5.31480 s (2060 x 258 pixels).
        ({"SUBSIZE2": 256, "TFRAME": 1.34669, "TGROUP": 1.34669}, 4),
        ({"SUBSIZE2": 256, "TFRAME": 5.3148, "TGROUP": 5.3148}, 1),
        # An older value of the full frame's time, 10 us less.
        ({"TFRAME": 10.73676, "TGROUP": 10.73676}, 4),
        ({"SUBARRAY": "SUB64P", "SUBSIZE1": 64, "SUBSIZE2": 64, "TFRAME": None, "TGROUP": None}, 1),
        # Neither the time nor the name tells.
        ({"SUBSIZE2": 256, "SUBARRAY": "SUBGRISM256", "TFRAME": None, "TGROUP": None}, None),
        ({"TFRAME": 3.0, "TGROUP": 3.0}, None),
    ],
)
def test_outputs_follow_from_the_frame_time_or_from_the_name(changes, outputs):
    header = {k: v for k, v in {**FULL, **changes, "NOUTPUTS": None}.items() if v is not None}
    assert derived_keywords(header, SHAPE).get("NOUTPUTS") == outputs


def test_the_place_of_a_subarray_stays_missing():
    subarray = {**FULL, "SUBARRAY": "SUB64P", "SUBSIZE1": 64, "SUBSIZE2": 64, "SUBSTRT1": None}
    assert "SUBSTRT1" not in derived_keywords(subarray, (1, 108, 64, 64))


def test_deep_patterns_give_group_and_integration_times():
    deep = {**FULL, "READPATT": "DEEP8", "NFRAMES": None, "GROUPGAP": None, "TGROUP": None, "EFFINTTM": None}
    derived = derived_keywords({**deep, "NGROUPS": 5}, SHAPE)
    assert (derived["NFRAMES"], derived["GROUPGAP"]) == (8, 12)
    assert derived["TGROUP"] == pytest.approx(20 * 10.73677)
    assert derived["EFFINTTM"] == pytest.approx((4 * 20 + 8) * 10.73677)


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_the_first_bytes_of_each_stretch_whatever_the_pieces(size):
    data = bytes(range(60))
    edges = [*range(0, 60, size), 60]
    pieces = [data[a:b] for a, b in pairwise(edges)]
    expected = b"".join(data[start : start + 4] for start in range(0, 60, 10))
    assert b"".join(_first_of_each(pieces, 4, 10)) == expected


def test_a_ramp_made_with_a_change_counts_only_while_the_settings_ask_for_it(tmp_path):
    # Given a ramp of a truncated exposure with a derived keyword
    probe = ExposureProbe("x", {k: v for k, v in FULL.items() if k != "NOUTPUTS"}, {"SCI": SHAPE})
    asked = StageSettings(store=tmp_path, truncate=100, derive_keywords=True)
    made = Adaptation.of(probe, asked).parameters
    assert made == {"truncated_to": 100, "derived_keywords": {"NOUTPUTS": 4}}
    # When the settings stay, change or go, then the ramp is as today's, or not
    assert parameters_today(made, asked) == made
    assert parameters_today(made, asked.model_copy(update={"truncate": 90}))["truncated_to"] == 90
    assert parameters_today(made, StageSettings(store=tmp_path)) == {}
    assert parameters_today({}, asked) == {}


def test_an_exposure_that_is_short_enough_is_not_truncated(tmp_path):
    settings = StageSettings(store=tmp_path, truncate=108)
    assert Adaptation.of(ExposureProbe("x", FULL, {"SCI": SHAPE}), settings).parameters == {}
