"""The checks on an exposure, on headers and shapes alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest import steps
from services.ingest.checks import Check, Evidence, NotFinite, first_failure
from services.ingest.evidence import plain, unusable
from services.ingest.validation import REQUIRED, finite_check, header_checks, usable_check
from shared.detectors import READ_PATTERNS, detectors
from shared.errors import BadInput

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


def evidence(shapes=SHAPES, without=(), **changes) -> Evidence:
    header = {k: v for k, v in {**GOOD, **changes}.items() if k not in without}
    return Evidence(where="dark_uncal.fits", primary=header, shapes=shapes)


def failed(found: Evidence) -> list[Check]:
    return [check for check in header_checks(found) if check.passed is False]


def test_a_good_header_fails_no_check():
    assert failed(evidence()) == []


@pytest.mark.parametrize("keyword", [*REQUIRED, "EXP_TYPE", "DETECTOR"])
def test_each_required_keyword_is_missed_by_name(keyword):
    # When a keyword is taken away
    found = first_failure(header_checks(evidence(without=(keyword,))), "dark_uncal.fits")
    # Then one line names the file and the keyword
    assert keyword in found.message
    assert found.message.startswith("dark_uncal.fits: ")
    assert "\n" not in found.message


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
        ({"DATE-OBS": "14/05/2022"}, "times", "DATE-OBS"),
        ({"S_LINEAR": "COMPLETE"}, "step order", "dq_init"),
        ({"S_DARK": "COMPLETE"}, "other steps", "dark_current"),
        ({"S_NEWSTP": "COMPLETE"}, "other steps", "S_NEWSTP"),
    ],
)
def test_each_contradiction_is_one_line_with_keyword_and_value(changes, check, words):
    found = first_failure(header_checks(evidence(**changes)), "dark_uncal.fits")
    assert found.check == check
    assert words in found.message
    assert found.message.startswith("dark_uncal.fits: ")
    assert "\n" not in found.message


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
    assert words in first_failure(header_checks(evidence(shapes=shapes)), "f").message


def test_size_and_checksum_are_compared_with_the_announcement():
    base = evidence()
    wrong_size = Evidence(base.where, base.primary, base.shapes, size=10, announced_size=11)
    wrong_sum = Evidence(base.where, base.primary, base.shapes, sha256="ab", announced_sha256="cd")
    right = Evidence(
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
    found = Evidence("f", fault=BadInput(fault, "f: broken"))
    first = first_failure(header_checks(found), "f")
    assert first.check == fault
    assert first.message == "f: broken"


@given(st.sampled_from(sorted(READ_PATTERNS)), st.floats(0.1, 20.0))
def test_every_pattern_of_the_table_passes_with_its_own_group_time(pattern, frame):
    nframes, gap = READ_PATTERNS[pattern]
    changes = {"READPATT": pattern, "NFRAMES": nframes, "GROUPGAP": gap}
    assert failed(evidence(TFRAME=frame, TGROUP=round(frame * (nframes + gap), 5), **changes)) == []


@pytest.mark.parametrize("name", sorted(detectors()))
def test_axes_of_every_detector_are_those_of_science_md(name):
    flipped = name in {"NRCA1", "NRCA3", "NRCALONG", "NRCB2", "NRCB4"}
    axes = {"FASTAXIS": -1, "SLOWAXIS": 2} if flipped else {"FASTAXIS": 1, "SLOWAXIS": -2}
    assert failed(evidence(DETECTOR=name, **axes)) == []
    swapped = {"FASTAXIS": -axes["FASTAXIS"], "SLOWAXIS": -axes["SLOWAXIS"]}
    assert [check.name for check in failed(evidence(DETECTOR=name, **swapped))] == ["FASTAXIS/SLOWAXIS"]


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
    assert failed(evidence(S_GRPSCL="COMPLETE", S_REGION="POLYGON")) == []


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
        header = plain(fits.getheader(path))
        found = Evidence(path.name, header, {"SCI": (1, 10, 2048, 2048)})
        assert [check.name for check in failed(found)] == ["EXP_TYPE"]
        stub = Evidence(path.name, {**header, "EXP_TYPE": "NRC_DARK"}, {"SCI": (1, 1, 1, 1)})
        assert [check.name for check in failed(stub)] == ["shape"]
