"""Numbers, times and verdicts as text for people."""

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

from shared.statistics.verdicts import HasVerdict, Measured, Verdict, VerdictState

Tone = Literal["good", "above", "below", "off", "held", "none"]
_TONES: dict[VerdictState, Tone] = {
    VerdictState.WITHIN: "good",
    VerdictState.ABOVE: "above",
    VerdictState.BELOW: "below",
}
_MARKS: dict[Tone, str] = {"good": "✓ ", "above": "▲ ", "below": "▼ ", "off": "✗ ", "held": "◆ ", "none": ""}

_MJD_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)


def number(value: float | None, digits: int = 3) -> str:
    """Return `value` to `digits` significant digits, or an en dash if there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    return _signed(f"{round(value, decimals):,.{max(decimals, 0)}f}")


def measured(value: float | None, error: float | None, digits: int = 3) -> str:
    """Return ``value ± error``, both rounded to the error's second significant digit.

    Without an error, return `value` alone to `digits` significant digits.
    """
    if value is None or not math.isfinite(value):
        return "–"
    if error is None or not math.isfinite(error) or error <= 0:
        return number(value, digits)
    decimals = 1 - math.floor(math.log10(error))
    shown = max(decimals, 0)
    return f"{_signed(f'{round(value, decimals):,.{shown}f}')} ± {round(error, decimals):,.{shown}f}"


def figure_or_limit(value: float | None, error: float | None, upper_limit: float | None) -> str:
    """Return ``value ± error``, or ``< limit`` where a verdict has an upper limit."""
    return measured(value, error) if upper_limit is None else f"< {number(upper_limit, 2)}"


def tabulated(value: float | None) -> str:
    """Return a number of a table without padding: ``27``, ``1.9``, ``0.08``; an en dash for None."""
    return "–" if value is None or not math.isfinite(value) else _signed(f"{value:.4g}")


def expected(value: float | None, sigma: float | None) -> str:
    """Return ``27 ± 5``, with the digits of the table of expected values; an en dash if there is none.

    A value computed from the table has more digits than are significant, and is rounded like a measurement.
    """
    if value is None or sigma is None or not (math.isfinite(value) and math.isfinite(sigma)):
        return tabulated(value)
    if sigma <= 0 or float(f"{sigma:.1e}") == sigma:
        return f"{tabulated(value)} ± {tabulated(sigma)}"
    return measured(value, sigma)


def count(value: int | None, singular: str, plural: str | None = None) -> str:
    """Return ``1 exposure``, ``12 exposures``."""
    if value is None:
        return "–"
    return f"{value:,} {singular if value == 1 else plural or singular + 's'}"


def seconds(value: float) -> str:
    """Return a duration: ``0.4 s``, ``13 s``, ``2 min 05 s``."""
    if value < 10:
        return f"{value:.1f} s"
    if value < 120:
        return f"{value:.0f} s"
    whole = round(value)
    if whole < 7200:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def mjd(value: float) -> datetime:
    """Return the UTC time of a modified Julian date."""
    return _MJD_EPOCH + timedelta(days=value)


def when(value: datetime) -> str:
    """Return ``2022-04-29 13:07 UTC``."""
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def verdict_tone(verdict: Verdict) -> Tone:
    """Return how a verdict is marked: good, above or below its expected value, or not compared."""
    return _TONES.get(verdict.state, "none")


def short_verdict(figure: HasVerdict) -> str:
    """Return a verdict without its numbers, for a table that shows them anyway.

    A product of an early version has no typed verdict: the start of its sentence is shown, unmarked.
    """
    if figure.comparison.reason == figure.verdict:
        return figure.verdict.split(" (")[0].split(": ")[0]
    return figure.comparison.short


def verdict_note(figure: Measured) -> str:
    """Return what was compared where that is not the figure itself, or why nothing was; empty otherwise.

    Parameters
    ----------
    figure : Measured

    Returns
    -------
    str
        Such as ``compared: 8.85 ± 0.04 after 997 s``, or the reason.
    """
    verdict = figure.comparison
    if verdict.compared is None:
        # A product of an early version has its sentence as the reason, which is shown as the verdict.
        return with_signs(verdict.reason) if verdict.reason and verdict.reason != figure.verdict else ""
    compared, aim = verdict.compared, verdict.expected
    if verdict.condition or figure.value is None or not math.isclose(compared.value, figure.value):
        after = f" {verdict.condition}" if verdict.condition else ""
        return with_signs(f"compared: {measured(compared.value, compared.error)}{after}")
    if verdict.state == VerdictState.NOT_ENOUGH and aim is not None:
        return f"error of {number(compared.error, 2)} too large to tell from {expected(aim.value, aim.error)}"
    return ""


def mark(tone: Tone) -> str:
    """Return the sign before a verdict, so that it does not rest on colour alone."""
    return _MARKS[tone]


def with_signs(text: str) -> str:
    """Return a sentence of ASCII with typographic signs: ``±``, ``−``, ``e⁻``, ``cm²``."""
    signs = text.replace("+-", "±").replace("e- per 1000 s", "e⁻/1000 s").replace("/cm2/s", "/cm²/s")
    signs = re.sub(r"(?<![\w.])-(?=\d)", "−", signs)
    return re.sub(r"\be-(?![\w-])", "e⁻", signs)


def span(first: datetime, last: datetime) -> str:
    """Return ``2022-04-29 13:07 to 14:11 UTC``; the second date only if it differs."""
    same_day = first.astimezone(UTC).date() == last.astimezone(UTC).date()
    end = f"{last.astimezone(UTC):%H:%M UTC}" if same_day else when(last)
    return f"{when(first).removesuffix(' UTC')} to {end}"


def since_first(times: Sequence[float]) -> tuple[list[float], str]:
    """Return MJDs as times since the first, and an axis label with their unit and the first time."""
    if not times:
        return [], "Time"
    first = min(times)
    span = max(times) - first
    factor, unit = (1440.0, "min") if span < 0.125 else (24.0, "h") if span < 3 else (1.0, "d")
    return [(time - first) * factor for time in times], f"Time since {when(mjd(first))} ({unit})"


def listed(versions: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return pairs of the usual name of each piece of software and its version."""
    names = {"crds_context": "CRDS context", "python": "Python"}
    return [(names.get(name, name), version) for name, version in versions.items()]


def _signed(text: str) -> str:
    return text.replace("-", "−")
