"""The flags and the verification of a dark reference, as tables of the report."""

from collections.abc import Iterator, Sequence
from typing import Any

from nircam_darks.report.content import Block, Cell, Paragraph, Properties, Table, text_rows
from nircam_darks.report.text import Tone, count, mark, measured, number, tabulated, when, with_signs
from shared.products.reference import FigureChange, ReferenceResults
from shared.products.sign_off import SignOff
from shared.statistics.verdicts import Acceptance

#: Each flag, its name in the counts of the product, and its rule; braces hold names of thresholds.
_FLAGS = (
    ("HOT", "hot", "at least {hot_e_per_s} e⁻/s, at {hot_sigma} sigma in {fraction} of the integrations"),
    (
        "WARM",
        "warm",
        "at least {warm_e_per_s} e⁻/s, at {warm_sigma} sigma in {fraction} of the integrations",
    ),
    ("RC", "rc", "first difference above the later slope by {rc_sigma} sigma and by {rc_excess} of it"),
    ("DEAD", "dead", "noise below {dead_noise} times that of the median pixel"),
    (
        "TELEGRAPH",
        "telegraph",
        "two steps down or more, or rates of two kinds; such a pixel is UNRELIABLE_DARK, too",
    ),
    ("UNRELIABLE_DARK", "unreliable", "TELEGRAPH, or one of the reasons below"),
    ("– few measurements", "few_measurements", "fewer than {min_measurements} measurements in a group"),
    ("– noisy", "noisy", "noise above {noisy_noise} times that of the median pixel"),
)
#: Counts that products of earlier versions do not have.
_LATER = frozenset({"telegraph", "few_measurements", "noisy"})


#: How an acceptance is marked; a held reference waits for a person, and is not simply off.
TONES: dict[Acceptance | None, Tone] = {
    Acceptance.ACCEPTED: "good",
    Acceptance.HELD: "held",
    Acceptance.REJECTED: "off",
    None: "none",
}


def status(reference: ReferenceResults, sign_off: SignOff | None = None) -> Iterator[Block]:
    """Yield what the page of a set begins with: why its reference cannot be used yet, and what it is made of.

    Parameters
    ----------
    reference : ReferenceResults
    sign_off : SignOff, optional
        Who accepted it after it was held.
    """
    verification = reference.verification
    failures = "; ".join(with_signs(each) for each in verification.outcome.failures) if verification else ""
    acceptance = acceptance_of_reference(reference)
    if sign_off is not None:
        held = "; ".join(with_signs(each) for each in sign_off.held_for) or failures
        yield Paragraph(
            f"by {sign_off.by} on {when(sign_off.time)}: {sign_off.reason}. It had been held for: {held}.",
            "Accepted after review",
            "missing",
        )
    elif acceptance == Acceptance.HELD:
        yield Paragraph(
            f"{failures}. Nothing uses it until a person has looked at it and accepts it: "
            f"nircam-darks accept {reference.set_id} --reason …",
            "Held for review:",
            "missing",
        )
    elif acceptance == Acceptance.REJECTED:
        yield Paragraph(f"{failures}.", "Rejected:", "rejected")
    yield Paragraph(_in_use(reference), "Dark reference:")


def _in_use(reference: ReferenceResults) -> str:
    """Return which integrations are in the mean, in one sentence, with those left out and why."""
    of = f"{count(reference.integrations, 'integration')} of {count(len(reference.exposures), 'exposure')}"
    out = [with_signs(str(each)) for each in reference.left_out_exposures if each.left_out]
    apart = [with_signs(str(each)) for each in reference.left_out_exposures if not each.left_out]
    if reference.in_use == reference.integrations:
        sentence = f"all {of} are in the mean" if reference.integrations > 1 else f"made from {of}"
    else:
        sentence = f"{reference.in_use} of {of} are in the mean"
    if out:
        sentence += f"; left out: {'; '.join(out)}"
    if apart:
        sentence += f"; in the mean, although they stand apart: {'; '.join(apart)}"
    return f"{sentence}."


def blocks(reference: ReferenceResults, sign_off: SignOff | None = None) -> Iterator[Block]:
    """Yield verification, combination, flags and differences, as far as the product has them."""
    yield from _verification(reference, sign_off)
    combination = [
        ("Pixels with a model ramp", reference.model_ramp_pixels),
        ("Steps that nobody had flagged", reference.unflagged_steps),
        ("Pixels with a mean of each group, not of segments between hits", reference.clipped_mean_pixels),
        ("Sigma clip", reference.clip if reference.clipped_mean_pixels != 0 else None),
        ("ERR is", reference.err_is if reference.clip else None),
        ("Minimum number of measurements of a reliable pixel", reference.min_measurements),
        ("Unreliable science pixels", reference.unreliable_pixels),
    ]
    pairs = [
        (name, f"{value:,}" if isinstance(value, int) else value)
        for name, value in combination
        if value is not None
    ]
    if pairs:
        yield Properties(pairs)
    if reference.flagged_pixels is not None:
        yield _flags_table(reference.flagged_pixels, reference.flag_thresholds or {})
    if reference.differences:
        differences = (with_signs(line.removeprefix("DIFFERENCES: ")) for line in reference.differences)
        yield Paragraph(" ".join(differences), "Compared with the previous reference:")
    if reference.changes:
        yield _changes_table(reference.changes)
        yield Paragraph(
            "Both are compared over the groups that both have. ERR, a standard error of the mean, falls with "
            "the square root of the number of integrations; flags may change because there are more of them.",
            weight="note",
        )


def _changes_table(changes: Sequence[FigureChange]) -> Table:
    """Return rate, noise and flags beside those of the reference that is replaced."""
    rows = []
    for row in changes:
        if row.newly is not None and row.no_longer is not None:
            before, after = (f"{value or 0:,.0f}" for value in (row.before, row.after))
            change = f"{row.newly:,} newly, {row.no_longer:,} no longer"
        else:
            before, after = measured(row.before, row.before_error), measured(row.after, row.after_error)
            change = measured(row.change, row.change_error)
        sigma = "–"
        if row.change is not None and row.change_error:
            sigma = f"{number(abs(row.change) / row.change_error, 2)} sigma"
        rows.append(
            (f"{row.figure[:1].upper()}{row.figure[1:]}", with_signs(row.unit), before, after, change, sigma)
        )
    return Table(
        ["Figure", "Unit", "Replaced reference", "This reference", "Change", "Significance"],
        text_rows(*rows),
        (0.24, 0.12, 0.17, 0.17, 0.2, 0.1),
    )


def _flags_table(counts: dict[str, Any], thresholds: dict[str, Any]) -> Table:
    science = counts.get("science") or 0
    known = _Thresholds({name: tabulated(value) for name, value in thresholds.items()})
    rows = []
    for flag, name, rule in _FLAGS:
        if name in _LATER and name not in counts:
            continue
        pixels = counts.get(name)
        fraction = f"{number(100 * pixels / science, 2)} %" if pixels is not None and science else "–"
        rows.append(
            (flag, "not measured" if pixels is None else f"{pixels:,}", fraction, rule.format_map(known))
        )
    return Table(
        ["DQ flag", "Pixels", "Fraction of science pixels", "Threshold"],
        text_rows(*rows),
        (0.18, 0.12, 0.18, 0.52),
    )


class _Thresholds(dict[str, str]):
    """Thresholds by name; a dash stands for one that the product does not hold."""

    def __missing__(self, key: str) -> str:
        return "–"


def acceptance_of_reference(reference: ReferenceResults) -> Acceptance | None:
    """Return what the verification of a reference came to; None if it was not verified."""
    return None if reference.verification is None else reference.verification.outcome.decision


def _verification(reference: ReferenceResults, sign_off: SignOff | None) -> Iterator[Block]:
    verification = reference.verification
    if verification is None:
        return
    sentence = with_signs(verification.verdict)
    sign = mark(TONES[acceptance_of_reference(reference)])
    yield Paragraph(f"{sign}{sentence[:1].upper()}{sentence[1:]}.", "Verification:")
    if sign_off is not None:
        yield Paragraph(f"{mark('good')}A{str(sign_off)[1:]}", "Review:")
    rows = []
    for check in verification.checks:
        outcome, tone = _outcome(check)
        rows.append(
            [
                Cell(with_signs(check.name)),
                Cell(with_signs(check.where)),
                Cell(_with_unit(check.value, check.unit)),
                Cell(_with_unit(check.limit, check.unit)),
                Cell(outcome, tone=tone),
                Cell(with_signs(check.detail)),
            ]
        )
    widths = (0.19, 0.12, 0.13, 0.12, 0.12, 0.32)
    yield Table(["Check", "Applies to", "Measured", "Limit", "Outcome", "Detail"], rows, widths)


def _outcome(check: Any) -> tuple[str, Tone]:
    """Return the outcome of a check and its tone; a check that is not required does not decide."""
    if check.passed is None:
        return "not enough data", "none"
    if check.passed:
        return "passed", "good"
    if not check.required:
        return "above its limit, not required", "none"
    return ("failed: to be reviewed", "off") if check.on_failure == Acceptance.HELD else ("failed", "off")


def _with_unit(value: float | str | None, unit: str) -> str:
    if value is None or isinstance(value, str):
        return value or "–"
    return f"{number(value)} {with_signs(unit)}".rstrip()
