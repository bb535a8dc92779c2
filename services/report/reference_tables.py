"""What flight mode and the verification say of a dark reference, as the report's tables have it."""

from collections.abc import Iterator
from typing import Any

from services.darkref.products import ReferenceFacts
from services.report.content import Block, Cell, Facts, Table, Words, rows
from services.report.wording import Tone, in_words, number, plain

#: Name of each flag, of its count and of its thresholds in the product, and what they are said as.
_FLAGS = (
    ("HOT", "hot", "at least {hot_e_per_s} e⁻/s, and {hot_sigma} sigma in {fraction} of the integrations"),
    (
        "WARM",
        "warm",
        "at least {warm_e_per_s} e⁻/s, and {warm_sigma} sigma in {fraction} of the integrations",
    ),
    ("RC", "rc", "first difference {rc_sigma} sigma, and {rc_excess} of the later slope, above it"),
    ("DEAD", "dead", "noise below {dead_noise} of the median pixel's"),
    (
        "UNRELIABLE_DARK",
        "unreliable",
        "fewer than {min_measurements} measurements in a group, or noise above {noisy_noise} of the median's",
    ),
)


def blocks(facts: ReferenceFacts) -> Iterator[Block]:
    """Yield what stands in the product beyond its dark current; nothing for one that has no more."""
    yield from _verification(facts)
    made = [
        ("Clip", facts.clip),
        ("ERR is", facts.err_is if facts.clip else None),
        ("Fewest measurements of a reliable pixel", facts.min_measurements),
        ("Unreliable science pixels", facts.unreliable_pixels),
    ]
    pairs = [
        (name, f"{value:,}" if isinstance(value, int) else value) for name, value in made if value is not None
    ]
    if pairs:
        yield Facts(pairs)
    if facts.flagged_pixels is not None:
        yield _flags(facts.flagged_pixels, facts.flag_thresholds or {})
    if facts.differences:
        said = " ".join(in_words(line.removeprefix("DIFFERENCES: ")) for line in facts.differences)
        yield Words(said, "Against the reference it replaces:")


def _flags(counts: dict[str, Any], thresholds: dict[str, Any]) -> Table:
    science = counts.get("science") or 0
    told = {name: plain(value) for name, value in thresholds.items()}
    lines = []
    for flag, name, rule in _FLAGS:
        found = counts.get(name)
        part = f"{number(100 * found / science, 2)} %" if found is not None and science else "–"
        said = f"{found:,}" if found is not None else "not looked for"
        lines.append((flag, said, part, rule.format_map(_Known(told))))
    return Table(
        ["Flag in DQ", "Pixels", "Of the science pixels", "Threshold"], rows(*lines), (0.18, 0.12, 0.16, 0.54)
    )


class _Known(dict[str, str]):
    """Thresholds by name; one that a product does not hold is a dash."""

    def __missing__(self, key: str) -> str:
        return "–"


def accepted(facts: ReferenceFacts) -> bool | None:
    """Return whether a reference passed its verification; None if nobody verified it."""
    # Products of earlier versions were never verified, and hold no such field.
    found = getattr(facts, "verification", None)
    return bool(found.accepted) if found is not None else None


def _verification(facts: ReferenceFacts) -> Iterator[Block]:
    found = getattr(facts, "verification", None)
    if found is None:
        return
    said, toned = ("accepted", "✓ ") if found.accepted else ("rejected", "✗ ")
    yield Words(f"{toned}{said}: {in_words(found.verdict)}.", "Verification:")
    lines = []
    for check in found.checks:
        came_to, tone = _passed(check)
        lines.append(
            [
                Cell(in_words(check.name)),
                Cell(in_words(check.where)),
                Cell(_with_unit(check.value, check.unit)),
                Cell(_with_unit(check.limit, check.unit)),
                Cell(came_to, tone=tone),
                Cell(in_words(check.detail)),
            ]
        )
    widths = (0.19, 0.12, 0.13, 0.12, 0.12, 0.32)
    yield Table(["Check", "Of", "Measured", "Limit", "Verdict", "Detail"], lines, widths)


def _passed(check: Any) -> tuple[str, Tone]:
    """Return what a check came to; one that is not required decides nothing."""
    if check.passed is None:
        return "not enough data", "none"
    if check.passed:
        return "passed", "good"
    return ("failed", "off") if check.required else ("beyond the limit, recorded only", "none")


def _with_unit(value: float | str | None, unit: str) -> str:
    if value is None or isinstance(value, str):
        return value or "–"
    return f"{number(value)} {in_words(unit)}".rstrip()
