"""The checks on an exposure, on headers and shapes alone."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest import steps
from services.ingest.checks import Check, ExposureProbe, NotFinite, first_failure
from services.ingest.header_checks import REQUIRED, finite_check, header_checks, usable_check
from services.ingest.probe import header_values, unusable
from shared.errors import BadInput
from shared.nircam.detectors import READ_PATTERNS, detectors

GOOD = {
    "TELESCOP": "JWST",
    "INSTRUME": "NIRCAM",
    "DETECTOR": "NRCA3",
    "EXP_TYPE": "NRC_DARK",
    "SUBARRAY": "SUB64P",
    "SUBSTRT1": 1,
    "SUBSTRT2": 1,
    "SUBSIZE1": 64,
    "SUBSIZE2": 32,
    "NOUTPUTS": 1,
    "READPATT": "RAPID",
    "NFRAMES": 1,
    "GROUPGAP": 0,
    "NINTS": 2,
    "NGROUPS": 5,
    "TFRAME": 10.73677,
    "TGROUP": 10.73677,
    "EFFINTTM": 53.68385,
    "EXPSTART": 59713.76,
    "EXPEND": 59713.77,
    "DATE-OBS": "2022-05-14",
    "TIME-OBS": "18:15:25.425",
    "FASTAXIS": -1,
    "SLOWAXIS": 2,
}
SHAPES = {"SCI": (2, 5, 32, 64)}


def probe(shapes=SHAPES, without=(), **changes) -> ExposureProbe:
    header = {k: v for k, v in {**GOOD, **changes}.items() if k not in without}
    return ExposureProbe(where="dark_uncal.fits", primary=header, shapes=shapes)


def failed(found: ExposureProbe) -> list[Check]:
    return [check for check in header_checks(found) if check.passed is False]


def test_a_good_header_fails_no_check():
    assert failed(probe()) == []


@pytest.mark.parametrize("keyword", [*REQUIRED, "EXP_TYPE", "DETECTOR"])
def test_each_required_keyword_is_missed_by_name(keyword):
    # When a keyword is taken away
    result = first_failure(header_checks(probe(without=(keyword,))), "dark_uncal.fits")
    # Then one line names the file and the keyword
    assert keyword in result.message
    assert result.message.startswith("dark_uncal.fits: ")
    assert "\n" not in result.message


@pytest.mark.parametrize(
    ("changes", "check", "words"),
    [
        ({"EXP_TYPE": "NRC_IMAGE"}, "EXP_TYPE", "NRC_DARK"),
        ({"DETECTOR": "NRCA7"}, "DETECTOR", "NRCALONG"),
        ({"NGROUPS": 6}, "shape", "NGROUPS = 6"),
        ({"NINTS": 1}, "shape", "NINTS = 1"),
        ({"SUBSIZE1": 32}, "shape", "SUBSIZE1 = 32"),
        ({"NGROUPS": "5"}, "keywords", "NGROUPS = '5' is not an integer"),
        ({"TFRAME": "fast"}, "keywords", "TFRAME = 'fast' is not a number"),
        ({"READPATT": "RAPID", "NFRAMES": 2, "TGROUP": 21.47354}, "READPATT", "NFRAMES = 1"),
        ({"READPATT": "BRIGHT3"}, "READPATT", "unknown"),
        ({"TGROUP": 21.0}, "TGROUP", "contradict"),
        ({"TFRAME": 0.0}, "TGROUP", "greater than 0"),
        ({"FASTAXIS": 1, "SLOWAXIS": -2}, "FASTAXIS/SLOWAXIS", "NRCA3 is read with -1, 2"),
        ({"SUBSTRT1": 2000}, "SUBSTRT/SUBSIZE", "SUBSTRT1 = 2000"),
        ({"SUBSTRT2": 0}, "SUBSTRT/SUBSIZE", "SUBSTRT2 = 0"),
        ({"NOUTPUTS": 0}, "NOUTPUTS", "NOUTPUTS = 0"),
        ({"NOUTPUTS": 2}, "NOUTPUTS", "1 or 4"),
        ({"EXPEND": 59713.0}, "times", "EXPEND = 59713.0"),
        ({"EXPEND": 9999999}, "times", "EXPEND = 9999999"),
        ({"EXPEND": 59753.77}, "times", "NINTS = 2"),
        ({"EXPEND": 59713.7600001}, "times", "NGROUPS = 5"),
        ({"EXPSTART": 0.75, "EXPEND": 0.77}, "times", "EXPSTART = 0.75"),
        ({"EXPSTART": math.nan}, "times", "EXPSTART = nan"),
        ({"DATE-OBS": "14/05/2022"}, "times", "DATE-OBS"),
        ({"DATE-OBS": "1902-05-14"}, "times", "1902-05-14"),
        ({"DATE-OBS": "9999-12-31"}, "times", "9999-12-31"),
        ({"S_LINEAR": "COMPLETE"}, "step order", "dq_init"),
        ({"S_DARK": "COMPLETE"}, "other steps", "dark_current"),
        ({"S_NEWSTP": "COMPLETE"}, "other steps", "S_NEWSTP"),
    ],
)
def test_each_contradiction_is_one_line_with_keyword_and_value(changes, check, words):
    result = first_failure(header_checks(probe(**changes)), "dark_uncal.fits")
    assert result.check == check
    assert words in result.message
    assert result.message.startswith("dark_uncal.fits: ")
    assert "\n" not in result.message


STRIPES = {"MSTR_RD1": 1, "MSTR_SK1": 0, "MSTR_RD2": 40, "MSTR_SK2": 60, "MSTR_RPT": 1, "MSTR_ILV": 1}
SUPERSTRIPES = {"MSTR_RD1": 0, "MSTR_RD2": 0, "SSTR_NST": 17, "SSTR_STP": 120}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({**STRIPES, "SUBARRAY": "SUB164STRIPE4_DHS"}, {"MSTR_RD1", "MSTR_RD2", "MSTR_SK2", "SUBARRAY"}),
        (SUPERSTRIPES, {"SSTR_NST", "SSTR_STP"}),
        ({"SUBARRAY": "FULL_SUPSTP024P"}, {"SUBARRAY"}),
        ({"SUBARRAY": "SUB41STRIPE1_DHS"}, {"SUBARRAY"}),
    ],
)
def test_a_readout_in_stripes_is_refused_for_that_and_names_its_keywords(changes, named):
    # Given a header of a striped readout, whose SCI and SUBSIZE need not fit either
    striped = probe(shapes={"SCI": (34, 5, 120, 2048)}, **changes)
    # When
    result = first_failure(header_checks(striped), "f")
    # Then that is the reason, with the keywords that say so, and no others
    assert result.check == "stripes"
    for keyword in (*STRIPES, *SUPERSTRIPES):
        assert (f"{keyword} = " in result.message) == (keyword in named or bool(striped.primary.get(keyword)))
    assert all(f"{keyword} = " in result.message for keyword in named)


def test_stripe_keywords_of_an_ordinary_readout_do_not_count():
    assert failed(probe(**dict.fromkeys((*STRIPES, *SUPERSTRIPES), 0))) == []


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"SCI": (5, 32, 64)}, "3-D"),
        ({}, "no SCI extension"),
        ({"SCI": (2, 5, 32, 64), "PIXELDQ": (64, 32)}, "PIXELDQ is (64, 32)"),
        ({"SCI": (2, 5, 32, 64), "GROUPDQ": (2, 4, 32, 64)}, "GROUPDQ is (2, 4, 32, 64)"),
    ],
)
def test_shapes_that_do_not_fit(shapes, words):
    assert words in first_failure(header_checks(probe(shapes=shapes)), "f").message


def test_size_and_checksum_are_compared_with_the_announcement():
    base = probe()
    wrong_size = ExposureProbe(base.where, base.primary, base.shapes, size=10, announced_size=11)
    wrong_sum = ExposureProbe(base.where, base.primary, base.shapes, sha256="ab", announced_sha256="cd")
    right = ExposureProbe(
        base.where,
        base.primary,
        base.shapes,
        size=10,
        announced_size=10,
        sha256="ab",
        announced_sha256="AB",
    )
    assert [check.name for check in failed(wrong_size)] == ["size"]
    assert [check.name for check in failed(wrong_sum)] == ["sha256"]
    assert failed(right) == []


@pytest.mark.parametrize("fault", ["FITS", "truncated", "SCI"])
def test_an_unreadable_file_fails_by_its_own_fault_first(fault):
    result = ExposureProbe("f", fault=BadInput(fault, "f: broken"))
    first = first_failure(header_checks(result), "f")
    assert first.check == fault
    assert first.message == "f: broken"


@given(st.sampled_from(sorted(READ_PATTERNS)), st.floats(0.1, 20.0))
def test_every_pattern_of_the_table_passes_with_its_own_group_time(pattern, frame):
    nframes, gap = READ_PATTERNS[pattern]
    group = round(frame * (nframes + gap), 5)
    end = GOOD["EXPSTART"] + GOOD["NINTS"] * GOOD["NGROUPS"] * group / 86400
    changes = {"READPATT": pattern, "NFRAMES": nframes, "GROUPGAP": gap, "EXPEND": end}
    assert failed(probe(TFRAME=frame, TGROUP=group, **changes)) == []


@pytest.mark.parametrize("name", sorted(detectors()))
def test_axes_of_every_detector_are_those_of_science_md(name):
    flipped = name in {"NRCA1", "NRCA3", "NRCALONG", "NRCB2", "NRCB4"}
    axes = {"FASTAXIS": -1, "SLOWAXIS": 2} if flipped else {"FASTAXIS": 1, "SLOWAXIS": -2}
    assert failed(probe(DETECTOR=name, **axes)) == []
    swapped = {"FASTAXIS": -axes["FASTAXIS"], "SLOWAXIS": -axes["SLOWAXIS"]}
    assert [check.name for check in failed(probe(DETECTOR=name, **swapped))] == ["FASTAXIS/SLOWAXIS"]


KEYWORDS = list(steps.STEPS.values())


@given(st.lists(st.booleans(), min_size=7, max_size=7))
def test_steps_are_in_order_exactly_if_none_is_missing_before_a_complete_one(done):
    header = {k: "COMPLETE" for k, on in zip(KEYWORDS, done, strict=True) if on} | {"NGROUPS": 5}
    in_order = sorted(done, reverse=True) == done
    assert (steps.out_of_order(header) is None) == in_order
    if in_order:
        assert steps.to_run(header, persistence=True) == list(steps.STEPS)[sum(done) :]


def test_refpix_that_jwst_skipped_and_jump_with_two_groups_are_not_missing():
    header = dict.fromkeys(KEYWORDS, "COMPLETE") | {"S_REFPIX": "SKIPPED", "NGROUPS": 5}
    assert steps.out_of_order(header) is None
    assert steps.to_run(header, persistence=True) == []
    two_groups = {"NGROUPS": 2}
    assert "jump" not in steps.to_run(two_groups, persistence=True)
    assert steps.out_of_order(dict.fromkeys(KEYWORDS, "COMPLETE") | {"S_SUPERB": "SKIPPED"}) is not None


def test_a_step_skipped_at_the_end_is_run_and_persistence_only_if_wanted():
    header = dict.fromkeys(KEYWORDS, "COMPLETE") | {"S_PERSIS": "SKIPPED", "NGROUPS": 5}
    assert steps.to_run(header, persistence=True) == ["persistence"]
    assert steps.to_run(header, persistence=False) == []


def test_group_scale_is_allowed():
    assert failed(probe(S_GRPSCL="COMPLETE", S_REGION="POLYGON")) == []


def test_nan_is_reported_with_count_and_first_place():
    check = finite_check(NotFinite(3, (0, 2, 5, 7)))
    assert check.passed is False
    assert "3 NaN" in check.detail
    assert "group 3, x 8, y 6" in check.detail
    assert finite_check(NotFinite(0)).passed
    assert finite_check(None).passed is None


def test_all_pixels_flagged():
    assert usable_check(9, 9).passed is False
    assert usable_check(8, 9).passed
    assert usable_check(None, 9).passed is None


def test_unusable_pixels_count_do_not_use_and_first_groups_of_every_integration():
    pixeldq = np.zeros((2, 3), np.uint32)
    pixeldq[0, 0] = 1 | 1024
    pixeldq[0, 1] = 1024
    first = np.zeros((2, 2, 3), np.uint8)
    first[:, 1, 1] = (2, 1)  # saturated in one integration, do not use in the other
    first[0, 1, 2] = 2  # usable in the second integration
    science = np.ones((2, 3), bool)
    assert unusable(pixeldq, first, science) == 2
    science[0, 0] = False
    assert unusable(pixeldq, first, science) == 1


def test_real_nircam_headers_fail_only_by_exposure_type_and_stub_pixels(shared_data):
    from astropy.io import fits

    for path in sorted((shared_data / "nircam_headers").glob("*.fits")):
        header = header_values(fits.getheader(path))
        result = ExposureProbe(path.name, header, {"SCI": (1, 10, 2048, 2048)})
        assert [check.name for check in failed(result)] == ["EXP_TYPE"]
        stub = ExposureProbe(path.name, {**header, "EXP_TYPE": "NRC_DARK"}, {"SCI": (1, 1, 1, 1)})
        assert [check.name for check in failed(stub)] == ["shape"]
