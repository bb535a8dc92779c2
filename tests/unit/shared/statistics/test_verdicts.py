"""Verdicts: their state against the arithmetic, their way through JSON, and what earlier versions wrote."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.messages import ReferenceBuilt
from shared.products.reference import VerificationCheck, verification_verdict
from shared.statistics.verdicts import (
    Acceptance,
    Measured,
    Value,
    Verdict,
    VerdictState,
    compare,
    measured_against,
    not_measured,
    overall,
)

numbers = st.floats(-1e6, 1e6)
errors = st.floats(1e-3, 1e4)


@given(value=numbers, error=errors, expected=numbers, width=errors)
def test_the_state_is_what_the_deviation_says(value, error, expected, width):
    verdict = compare(Value(value, error), Value(expected, width), relative_error=math.inf)
    # The deviation of two independent values, in units of the error of their difference
    deviation = (value - expected) / (error**2 + width**2) ** 0.5
    assert verdict.sigma == pytest.approx(deviation, rel=1e-9, abs=1e-12)
    if abs(abs(deviation) - 2) > 1e-6:
        wanted = "within" if abs(deviation) < 2 else "above" if value > expected else "below"
        assert verdict.state == wanted
    assert verdict.is_off == (verdict.state in ("above", "below"))


@given(value=numbers, error=errors, expected=numbers, width=errors)
def test_a_figure_of_large_error_is_never_called_within(value, error, expected, width):
    verdict = compare(Value(value, error), Value(expected, width), relative_error=0)
    if verdict.state == VerdictState.WITHIN:
        assert error <= 2 * width
    if verdict.state == VerdictState.NOT_ENOUGH:
        assert error > 2 * width


@given(value=numbers, error=errors, expected=numbers, width=errors)
def test_a_figure_keeps_its_verdict_through_json(value, error, expected, width):
    figure = measured_against(Value(value, error), Value(expected, width), "what flight has")
    again = Measured.model_validate_json(figure.model_dump_json())
    assert again == figure
    assert again.verdict == str(again.comparison)


@pytest.mark.parametrize(
    ("value", "error"), [(math.nan, 1.0), (1.0, math.nan), (math.inf, 1.0), (1.0, math.inf)]
)
def test_what_is_not_finite_is_not_enough_data(value, error):
    assert compare(Value(value, error), Value(1.0, 1.0)).state == VerdictState.NOT_ENOUGH


@pytest.mark.parametrize("sentence", ["within (1 ± 2, expected 1 ± 1)", "9 sigma above expected", "refused"])
def test_a_sentence_of_an_earlier_version_is_kept_and_not_interpreted(sentence):
    old = Measured.model_validate({"value": 1.0, "error": 2.0, "verdict": sentence})
    assert old.comparison == Verdict(state=VerdictState.NOT_COMPARED, reason=sentence)
    assert old.verdict == sentence
    assert not old.comparison.is_off


def test_an_earlier_message_has_its_sentence_and_no_comparison():
    message = ReferenceBuilt.model_validate(
        {
            "configuration": "c",
            "set_id": "s",
            "reference": {"key": "k", "size": 1, "sha256": "0"},
            "manifest": "m",
            "mode": "flight",
            "dark_current_e_per_ks": 27.0,
            "verdict": "9.0 sigma above expected (72 ± 1, expected 27 ± 5)",
        }
    )
    assert message.comparison.state == VerdictState.NOT_COMPARED
    assert message.comparison.reason == message.verdict
    assert message.verification_outcome is None


def test_what_was_not_measured_says_what_was_expected_and_why_it_is_not_there():
    figure = not_measured("5 ramps", Value(9.28, 0.12))
    assert (figure.value, figure.error, figure.expected) == (None, None, 9.28)
    assert (figure.comparison.state, figure.comparison.reason) == (VerdictState.NOT_ENOUGH, "5 ramps")


def test_figures_of_one_verdict_are_said_together():
    good, few = compare(Value(15.9, 0.1), Value(15.77, 0.94)), Verdict(state=VerdictState.NOT_ENOUGH)
    assert overall({"a": good, "b": few, "c": good}) == "a, c within; b not enough data"


def test_a_verification_counts_its_checks():
    checks = [
        VerificationCheck(name="rise", where="amplifier 1", passed=True),
        VerificationCheck(name="rise", where="amplifier 2", passed=False, value=3.0, limit=2.0, unit="e-"),
        VerificationCheck(name="hot", where="detector", passed=False, required=False),
        VerificationCheck(name="noise", where="detector", passed=None),
    ]
    outcome = verification_verdict(checks, Acceptance.REJECTED)
    assert (outcome.accepted, outcome.passed, outcome.checks) == (False, 1, 4)
    assert len(outcome.failures) == 1
    assert outcome.undecided == ["noise"]


@pytest.mark.parametrize(
    ("value", "error", "verdict"),
    [
        (15.9, 0.1, "within (15.90 ± 0.10, expected 15.77 ± 0.94)"),
        (18.77, 0.1, "3.2 sigma above expected (18.77 ± 0.10, expected 15.77 ± 0.94)"),
        (12.77, 0.1, "3.2 sigma below expected (12.77 ± 0.10, expected 15.77 ± 0.94)"),
        (15.9, 4.0, "not enough data (15.9 ± 4.0, expected 15.77 ± 0.94)"),
        (math.nan, 0.1, "not enough data"),
    ],
)
def test_verdict_in_words(value, error, verdict):
    assert str(compare(Value(value, error), Value(15.77, 0.94))) == verdict
