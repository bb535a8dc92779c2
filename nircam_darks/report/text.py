"""Numbers and times as a person writes them."""

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

Tone = Literal["good", "off", "none"]

_MJD_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)


def number(value: float | None, digits: int = 3) -> str:
    """Return `value` with `digits` significant digits; an en dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    return _signed(f"{round(value, decimals):,.{max(decimals, 0)}f}")


def measured(value: float | None, error: float | None, digits: int = 3) -> str:
    """Return ``value ± error``, both to the place of the error's second significant digit.

    Without an error, `value` alone to `digits` significant digits.
    """
    if value is None or not math.isfinite(value):
        return "–"
    if error is None or not math.isfinite(error) or error <= 0:
        return number(value, digits)
    decimals = 1 - math.floor(math.log10(error))
    shown = max(decimals, 0)
    return f"{_signed(f'{round(value, decimals):,.{shown}f}')} ± {round(error, decimals):,.{shown}f}"


def plain(value: float | None) -> str:
    """Return a table's number as the table has it: ``27``, ``1.9``, ``0.08``; an en dash for none."""
    return "–" if value is None or not math.isfinite(value) else _signed(f"{value:.4g}")


def expected(value: float | None, sigma: float | None) -> str:
    """Return ``27 ± 5``, as the expected table has it; an en dash where nothing is expected.

    What was worked out from the table, and so has more digits than it means, is rounded like a measurement.
    """
    if value is None or sigma is None or not (math.isfinite(value) and math.isfinite(sigma)):
        return plain(value)
    if sigma <= 0 or float(f"{sigma:.1e}") == sigma:
        return f"{plain(value)} ± {plain(sigma)}"
    return measured(value, sigma)


def count(value: int | None, one: str, many: str | None = None) -> str:
    """Return ``1 exposure``, ``12 exposures``."""
    if value is None:
        return "–"
    return f"{value:,} {one if value == 1 else many or one + 's'}"


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


def tone(verdict: str) -> Tone:
    """Return how a verdict is marked: well, off, or nothing to compare."""
    if re.search(r"\d sigma (off|above|below)", verdict):
        return "off"
    return "good" if verdict.startswith("within") else "none"


def mark(verdict: str, of: Tone) -> str:
    """Return the sign that stands before a verdict, so that colour alone does not say it."""
    if of == "off":
        return "▼ " if "below" in verdict else "▲ " if "above" in verdict else "✗ "
    return "✓ " if of == "good" else ""


def short_verdict(verdict: str) -> str:
    """Return a verdict as it stands in a table that shows the numbers anyway."""
    return verdict.split(" (")[0].split(": ")[0]


def in_words(verdict: str) -> str:
    """Return a verdict with the signs that a page can show."""
    signs = verdict.replace("+-", "±").replace("e- per 1000 s", "e⁻/1000 s").replace("/cm2/s", "/cm²/s")
    signs = re.sub(r"(?<![\w.])-(?=\d)", "−", signs)
    return re.sub(r"\be-(?![\w-])", "e⁻", signs)


def span(first: datetime, last: datetime) -> str:
    """Return ``2022-04-29 13:07 to 14:11 UTC``; the second date only where it is another."""
    same_day = first.astimezone(UTC).date() == last.astimezone(UTC).date()
    end = f"{last.astimezone(UTC):%H:%M UTC}" if same_day else when(last)
    return f"{when(first).removesuffix(' UTC')} to {end}"


def since_first(times: Sequence[float]) -> tuple[list[float], str]:
    """Return MJDs as time since the first, and the axis label that names unit and first."""
    if not times:
        return [], "Time"
    first = min(times)
    span = max(times) - first
    factor, unit = (1440.0, "min") if span < 0.125 else (24.0, "h") if span < 3 else (1.0, "d")
    return [(time - first) * factor for time in times], f"Time since {when(mjd(first))} ({unit})"


def listed(versions: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return versions under the names that people use."""
    names = {"crds_context": "CRDS context", "python": "Python"}
    return [(names.get(name, name), version) for name, version in versions.items()]


def _signed(text: str) -> str:
    return text.replace("-", "−")
