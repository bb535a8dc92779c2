"""Measured values, what is expected of them, and how the two compare.

`Verdict` is the one type that says how a figure compares with its expectation. It travels as such in
manifests, messages, metrics and ``summary.json``; the sentence for people is ``str(verdict)``. Programs look
at `Verdict.state`; nothing outside of this module reads the sentence.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

#: Deviation, in sigmas of figure and expectation together, up to which a figure is within.
WITHIN = 2.0
#: An error above this many widths of the expectation, and a tenth of the figure, says nothing about it.
TOO_UNCERTAIN = 2.0
_RELATIVE_ERROR = 0.1
#: Sigmas below which 95 per cent of a normal distribution lie.
ONE_SIDED_95 = 1.645


@dataclass(frozen=True)
class Value:
    """A value and its 1-sigma error, in one unit. NaN where it is not known."""

    value: float
    error: float

    def __str__(self) -> str:
        return f"{rounded(self.value, self.error)} ± {rounded(self.error, self.error)}"

    def times(self, factor: float) -> "Value":
        """Return value and error in a unit that is `factor` times smaller."""
        return Value(self.value * factor, self.error * abs(factor))


class VerdictState(StrEnum):
    """How a figure compares with its expectation."""

    WITHIN = "within"
    ABOVE = "above"
    BELOW = "below"
    NOT_ENOUGH = "not enough data"
    NOT_COMPARED = "not compared"


class Verdict(BaseModel):
    """How a figure compares with its expectation; ``str()`` gives the sentence for people.

    Attributes
    ----------
    state : VerdictState
    sigma : float or None
        Signed deviation from the expectation in units of both errors added in quadrature, positive above it;
        None where nothing was compared.
    compared, expected : Value or None
        The two sides of the comparison. The first is not always the figure that is reported: the effective
        noise is compared at the exposure time of the expectation.
    expectation : str or None
        The expectation in words, where ``expected ± sigma`` does not say it.
    condition : str or None
        Under which condition the two were compared, such as ``after 997 s``.
    reason : str or None
        Why there is no comparison.
    upper_limit : float or None
        The figure lies below this with 95 per cent confidence: of a rate or a power whose estimate is not
        above 0, so that it is no value to be shown.
    """

    model_config = ConfigDict(frozen=True)

    state: VerdictState = VerdictState.NOT_COMPARED
    sigma: float | None = None
    compared: Value | None = None
    expected: Value | None = None
    expectation: str | None = None
    condition: str | None = None
    reason: str | None = None
    upper_limit: float | None = None

    @model_serializer(mode="wrap")
    def _without_nulls(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Most verdicts have few of the fields, and a product holds dozens of verdicts.
        return {name: value for name, value in handler(self).items() if value is not None}

    @property
    def is_off(self) -> bool:
        """True if the figure is above or below its expectation."""
        return self.state in (VerdictState.ABOVE, VerdictState.BELOW)

    @property
    def short(self) -> str:
        """The verdict without its numbers, for a table that shows them anyway."""
        if self.is_off:
            return f"{abs(self.sigma or 0.0):.1f} sigma {self.state} expected"
        return str(self.state)

    def __str__(self) -> str:
        if self.compared is not None and self.expected is not None:
            aim = self.expectation or expected_words(self.expected)
            after = f" {self.condition}" if self.condition else ""
            figure = f"below {self.upper_limit:.2g}" if self.upper_limit is not None else self.compared
            return f"{self.short} ({figure}, expected {aim}){after}"
        return f"{self.short}: {self.reason}" if self.reason else self.short


def compare(
    figure: Value,
    expected: Value,
    expectation: str | None = None,
    condition: str | None = None,
    surely_off: float = WITHIN,
    relative_error: float = _RELATIVE_ERROR,
) -> Verdict:
    """Compare a figure with its expectation.

    Parameters
    ----------
    figure, expected : Value
        In one unit. A figure or error that is not finite is not enough data.
    expectation, condition : str, optional
        As `Verdict` has them.
    surely_off : float
        Deviation from which a figure is off whatever its error; below it, a figure with too large an error is
        not enough data.
    relative_error : float
        An error that is no larger than this part of the figure is never too large.

    Returns
    -------
    Verdict
        ``within`` up to `WITHIN` sigma of both errors together; ``above`` or ``below`` beyond; ``not enough
        data`` where the error is more than `TOO_UNCERTAIN` widths of the expectation.
    """
    both = math.hypot(figure.error, expected.error)
    if not (math.isfinite(figure.value) and math.isfinite(both)):
        return Verdict(state=VerdictState.NOT_ENOUGH)
    off = figure.value - expected.value
    sigma = off / both if both > 0 else math.copysign(0.0 if off == 0 else math.inf, off)
    uncertain = (
        figure.error > TOO_UNCERTAIN * expected.error and figure.error > abs(figure.value) * relative_error
    )
    if uncertain and abs(sigma) <= surely_off:
        state = VerdictState.NOT_ENOUGH
    elif abs(sigma) <= WITHIN:
        state = VerdictState.WITHIN
    else:
        state = VerdictState.ABOVE if sigma > 0 else VerdictState.BELOW
    return Verdict(
        state=state,
        sigma=sigma,
        compared=figure,
        expected=expected,
        expectation=expectation,
        condition=condition,
    )


class HasVerdict(BaseModel):
    """What carries a verdict: `comparison` for programs, and `verdict`, the same as a sentence, for people.

    Products and messages written before there was a typed verdict hold the sentence only. It is not
    interpreted: they are read as ``not compared``, with the sentence as the reason.
    """

    verdict: str
    comparison: Verdict = Verdict()

    @model_validator(mode="before")
    @classmethod
    def _sentence_only(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and "comparison" not in data and isinstance(data.get("verdict"), str):
            return {**data, "comparison": {"state": VerdictState.NOT_COMPARED, "reason": data["verdict"]}}
        return data


class Measured(HasVerdict):
    """A figure of a product: its value and 1-sigma error, what is expected of it, and the verdict.

    `value` and `error` are None where the figure could not be measured.
    """

    value: float | None
    error: float | None
    expected: float | None = None
    expected_sigma: float | None = None

    @classmethod
    def of(cls, figure: Value, verdict: Verdict) -> "Measured":
        """Return a figure with its verdict; the expectation is that of the verdict, NaN becomes None."""
        return cls(
            value=finite(figure.value),
            error=finite(figure.error),
            expected=None if verdict.expected is None else verdict.expected.value,
            expected_sigma=None if verdict.expected is None else verdict.expected.error,
            verdict=str(verdict),
            comparison=verdict,
        )


def measured_against(figure: Value, expected: Value, expectation: str | None = None) -> Measured:
    """Return a figure compared with its expectation; see `compare`."""
    if not math.isfinite(figure.value):
        return not_measured(None, expected)
    return Measured.of(figure, compare(figure, expected, expectation))


def rate_against(rate: Value, expected: Value, expectation: str | None = None) -> Measured:
    """Return a rate that cannot be negative, compared with its expectation.

    An estimate that is not above 0, because what was subtracted happened to be more, is given as 0, with the
    one-sided 95 % limit of `Verdict.upper_limit`.
    """
    if not rate.value <= 0:
        return measured_against(rate, expected, expectation)
    figure = Value(0.0, rate.error)
    verdict = compare(figure, expected, expectation)
    return Measured.of(figure, verdict.model_copy(update={"upper_limit": ONE_SIDED_95 * rate.error}))


def not_compared(figure: Value, reason: str, state: VerdictState = VerdictState.NOT_COMPARED) -> Measured:
    """Return a figure that has no expectation to be compared with, or none that holds for it."""
    return Measured.of(figure, Verdict(state=state, reason=reason))


def not_measured(reason: str | None, expected: Value | None = None) -> Measured:
    """Return a figure that could not be measured, and why."""
    verdict = Verdict(state=VerdictState.NOT_ENOUGH, reason=reason)
    return Measured(
        value=None,
        error=None,
        expected=None if expected is None else expected.value,
        expected_sigma=None if expected is None else expected.error,
        verdict=str(verdict),
        comparison=verdict,
    )


def overall(verdicts: Mapping[str, Verdict]) -> str:
    """Return one line on several figures by name, those of one verdict together.

    Such as ``CDS noise, jumps within; effective noise not enough data``.
    """
    by_verdict: dict[str, list[str]] = {}
    for name, verdict in verdicts.items():
        by_verdict.setdefault(verdict.short, []).append(name)
    return "; ".join(f"{', '.join(names)} {verdict}" for verdict, names in by_verdict.items())


class Acceptance(StrEnum):
    """What the verification of a dark reference came to.

    ``held`` is for what a program cannot decide: a rate, an image or an exposure that is unlike what is
    expected may be a fault, or a discovery. A held reference supersedes none until a person accepts it
    (``nircam-darks accept``). A rejected one cannot be used, whoever looks at it.
    """

    ACCEPTED = "accepted"
    HELD = "held"
    REJECTED = "rejected"


def with_acceptance(data: Any) -> Any:
    """Return data of a model with its `acceptance`, from `accepted` where an earlier version wrote it."""
    if isinstance(data, Mapping) and data.get("acceptance") is None and data.get("accepted") is not None:
        known = Acceptance.ACCEPTED if data["accepted"] else Acceptance.REJECTED
        return {**data, "acceptance": known}
    return data


class VerificationVerdict(BaseModel):
    """What the checks of a dark reference came to; ``str()`` gives the sentence for people.

    Attributes
    ----------
    accepted : bool
        Whether `acceptance` is accepted: what readers of version 1.1 ask for.
    acceptance : Acceptance or None
        Since 1.2; `decision` has it for verdicts of every version.
    passed, checks : int
        Checks that passed, and all there were.
    failures : list of str
        What failed, with its number and limit, of the checks that decide: those that reject first.
    undecided : list of str
        Names of the checks without enough data.
    """

    model_config = ConfigDict(frozen=True)

    accepted: bool
    acceptance: Acceptance | None = None
    passed: int
    checks: int
    failures: list[str] = []
    undecided: list[str] = []

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A verdict of 1.1 is written again as it was.
        return {name: value for name, value in handler(self).items() if value is not None}

    @property
    def decision(self) -> Acceptance:
        """Accepted, held or rejected."""
        return self.acceptance or (Acceptance.ACCEPTED if self.accepted else Acceptance.REJECTED)

    def __str__(self) -> str:
        rest = f"; not enough data for {', '.join(self.undecided)}" if self.undecided else ""
        if self.decision == Acceptance.ACCEPTED:
            return f"accepted: {self.passed} of {self.checks} checks passed{rest}"
        word = "held for review" if self.decision == Acceptance.HELD else "rejected"
        return f"{word}: {'; '.join(self.failures)}{rest}"


def finite(value: float | None) -> float | None:
    """Return a number, or None in place of what JSON does not have."""
    return value if value is not None and math.isfinite(value) else None


def expected_words(expected: Value) -> str:
    """Return ``27 ± 5``, as a table of expectations has it; one that was computed is rounded."""
    if expected.error <= 0 or float(f"{expected.error:.1e}") == expected.error:
        return f"{expected.value:.4g} ± {expected.error:.4g}"
    return str(expected)


def rounded(value: float, error: float) -> str:
    """Write a number to the place of its error's second significant digit."""
    if not (math.isfinite(error) and error > 0):
        return f"{value:.4g}"
    return f"{value:.{min(max(1 - math.floor(math.log10(error)), 0), 6)}f}"
