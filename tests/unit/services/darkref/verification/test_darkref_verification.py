"""Checks, their limits, and the verdict they roll up to."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.darkref.reference_file.reader import ReferencePlanes
from services.darkref.verification.certify import Violation
from services.darkref.verification.checks import ReferenceBasis, Verification, run_checks
from services.darkref.verification.expectations import expected_read_noise
from services.darkref.verification.leave_one_out import AmplifierResidual, LeaveOneOutResult
from shared.nircam.configuration import KEYWORDS
from shared.nircam.detectors import detectors
from support.configurations import configuration

GAIN = 1.84
#: CDS noise of the long-wave channel, e-: NRC-09's table.
CDS = 13.25
N = 10


def _header(key):
    header = {KEYWORDS[field]: value for field, value in key}
    detector = detectors()[key.detector]
    return header | {"FASTAXIS": detector.fastaxis, "SLOWAXIS": detector.slowaxis}


def _planes(key, **other):
    rng = np.random.default_rng(2)
    shape = (key.subsize2, key.subsize1)
    own = CDS / GAIN / math.sqrt(N)
    pairs = key.ngroups // 2
    values = {
        "rate": rng.normal(0.05, 0.01, shape).astype(np.float32),
        "pair_variance": (own**2 * rng.chisquare(pairs - 1, shape) / (pairs - 1)).astype(np.float32),
        "pairs": pairs,
        "groups": key.ngroups,
        "modelled": np.zeros(shape, bool),
        "first": np.zeros(shape, np.float32),
        "error": (own * np.sqrt(rng.chisquare(N - 1, shape) / (N - 1))).astype(np.float32),
        "dq": np.zeros(shape, np.uint32),
        "not_finite": 0,
    }
    return ReferencePlanes(**(values | other))


def _residual(number, **other):
    noise = CDS / GAIN
    values = {
        "amplifier": number,
        "pixels": 1024,
        "mean_residual_dn": 0.3,
        "rise_dn": -0.4,
        "read_noise_dn": noise / math.sqrt(2),
        "cds_before_dn": noise,
        "cds_after_dn": noise * math.sqrt(1 + 1 / N),
        "scatter_dn": 20.0,
        "rise_scatter_dn": noise * math.sqrt(1 + 1 / N),
    }
    return AmplifierResidual(**(values | other))


def _left_out(*residuals, **other):
    values = {"exposure": "jw1", "readpatt": "RAPID", "nframes": 1, "integrations": 1, "measurements": N}
    return LeaveOneOutResult(
        **(values | other), amplifiers=list(residuals) or [_residual(n) for n in range(1, 5)]
    )


def _assess(key=None, header=None, violations=(), planes=None, left_out=None, standard_error=True):
    key = key or configuration(ngroups=20, noutputs=4)
    return run_checks(
        key,
        _header(key) if header is None else header,
        violations,
        _planes(key) if planes is None else planes,
        _left_out() if left_out is None else left_out,
        ReferenceBasis(GAIN, N, standard_error, expected_read_noise(key, GAIN, None)),
    )


def test_what_is_as_it_should_be_is_accepted():
    verification = _assess()
    assert verification.accepted, verification.verdict
    assert (
        verification.verdict
        == f"accepted: {len(verification.checks)} of {len(verification.checks)} checks passed"
    )
    assert Verification.model_validate_json(verification.model_dump_json()) == verification


@pytest.mark.parametrize(
    ("other", "name", "said"),
    [
        ({"mean_residual_dn": -6.0}, "mean residual", "mean residual of amplifier 3 -11.04 e- (limit 9.369)"),
        ({"rise_dn": 6.0}, "residual rise", "residual rise of amplifier 3 11.04 e- (limit 9.369)"),
        ({"cds_after_dn": CDS / GAIN * 1.2}, "noise after subtraction", "14.42 % (limit 5)"),
        ({"rise_scatter_dn": CDS / GAIN / 2}, "ERR", "% (limit 25)"),
    ],
)
def test_one_amplifier_fails_the_detector_and_the_file(other, name, said):
    residuals = [_residual(n, **(other if n == 3 else {})) for n in range(1, 5)]
    verification = _assess(left_out=_left_out(*residuals))
    assert verification.amplifiers == [True, True, False, True]
    assert not verification.detector
    assert not verification.accepted
    assert verification.verdict.startswith("rejected: ")
    assert said in verification.verdict
    (failed,) = [check for check in verification.checks if check.passed is False]
    assert (failed.name, failed.where) == (name, "amplifier 3")


@given(st.floats(0, 20), st.sampled_from([-1, 1]))
def test_the_limit_of_a_residual_is_the_noise_of_a_read(size, sign):
    noise = CDS / GAIN / math.sqrt(2)
    verification = _assess(
        left_out=_left_out(*[_residual(n, mean_residual_dn=sign * size) for n in range(1, 5)])
    )
    assert verification.accepted == (size * GAIN < noise * GAIN)


@pytest.mark.parametrize("keyword", [name for name in KEYWORDS.values() if name != "TFRAME"] + ["FASTAXIS"])
def test_a_keyword_that_is_another_or_none_is_named(keyword):
    key = configuration(ngroups=20, noutputs=4)
    for header in (
        _header(key) | {keyword: "other"},
        {k: v for k, v in _header(key).items() if k != keyword},
    ):
        verification = _assess(key, header)
        assert not verification.accepted
        assert verification.detector
        assert f"keyword {keyword} " in verification.verdict or f"keyword {keyword}" in verification.verdict
        (failed,) = [check for check in verification.checks if check.passed is False]
        assert "correct the keyword" in failed.detail


def test_a_broken_rule_is_a_check_of_its_own():
    verification = _assess(violations=[Violation(by="CRDS certify", about="DESCRIP", rule="Missing")])
    assert not verification.accepted
    assert verification.verdict == "rejected: CRDS certify: DESCRIP"
    assert {check.name for check in verification.checks if check.name.startswith("strict")} == {
        "strict DarkModel"
    }


def test_arrays_that_are_not_there_fail_and_the_rest_is_still_looked_at():
    verification = _assess(planes="SCI has shape None, but ...; build the reference again")
    assert not verification.accepted
    assert verification.detector
    assert verification.verdict == "rejected: arrays"


def test_what_cannot_be_measured_decides_nothing():
    nothing = dict.fromkeys(("mean_residual_dn", "rise_dn", "read_noise_dn", "cds_before_dn", "cds_after_dn"))
    residuals = [_residual(n, **nothing, rise_scatter_dn=None) for n in range(1, 5)]
    verification = _assess(left_out=_left_out(*residuals))
    assert verification.accepted
    assert verification.amplifiers == [None] * 4
    assert "not enough data for mean residual, residual rise, " in verification.verdict


def test_averaged_frames_are_not_compared_with_single_ones():
    verification = _assess(left_out=_left_out(nframes=8, readpatt="DEEP8"))
    assert {check.name for check in verification.checks if check.where == "amplifier 1"} == {
        "mean residual", "residual rise", "noise after subtraction",
    }  # fmt: skip


@pytest.mark.parametrize("flagged", [False, True])
def test_a_hot_pixel_needs_its_flag(flagged):
    key = configuration(ngroups=20, noutputs=4)
    planes = _planes(key)
    planes.rate[3, 4] = 5 * key.group_time
    planes.dq[3, 4] = flagged << 11
    verification = _assess(key, planes=planes)
    assert verification.accepted == flagged
    (check,) = [each for each in verification.checks if each.name == "unflagged hot pixels"]
    assert check.value == 1 - flagged
    # In notebook mode, whose ERR is a scatter with kTC in it, it is told and does not decide.
    planes.error[:] = 20 * np.sqrt((N - 1) / N)
    again = _assess(key, planes=planes, standard_error=False, left_out=_left_out(
        *[_residual(n, scatter_dn=20 * math.sqrt(1 + 1 / N)) for n in range(1, 5)]
    ))  # fmt: skip
    assert again.accepted, again.verdict
