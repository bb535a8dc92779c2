"""Tables of the coverage test, as Markdown."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

Result = dict[str, Any]


def tables(results: list[Result]) -> str:
    """Return all tables of docs/science-validation.md."""
    figures = list(dict.fromkeys(name for result in results for name in result["figures"]))
    parts = [_figures(results, figures)]
    for title, group in (
        ("layout", lambda each: each["layout"]),
        ("ramps", lambda entry: f"{entry['ramps']} ramps"),
        ("detector", lambda one: one["detector"]),
    ):
        parts.append(_by(results, figures, title, group))
    return "\n\n".join([*parts, _hot(results)])


def pulls(results: Iterable[Result], figure: str) -> np.ndarray:
    """Return (measured - truth) / stated error of a figure."""
    match = [result["figures"][figure] for result in results if figure in result["figures"]]
    return np.array([(value - truth) / error for value, error, truth in match])


def within(found: np.ndarray, sigmas: float) -> tuple[float, float]:
    """Return the fraction within so many sigmas and its binomial 1-sigma error (Agresti and Coull 1998)."""
    count = len(found)
    inside = int(np.sum(np.abs(found) <= sigmas))
    adjusted = (inside + 0.5) / (count + 1)
    return inside / count, math.sqrt(adjusted * (1 - adjusted) / (count + 1))


def _figures(results: list[Result], figures: list[str]) -> str:
    rows = [
        "| figure | n | within 1 sigma | within 3 sigma | pull mean | pull std | worst | "
        "median relative error |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for figure in figures:
        result = pulls(results, figure)
        (one, one_error), (three, three_error) = within(result, 1), within(result, 3)
        values = np.array([row["figures"][figure] for row in results if figure in row["figures"]])
        relative = float(np.median(values[:, 1] / values[:, 2]))
        rows.append(
            f"| {figure} | {len(result)} | {one:.1%} ± {one_error:.1%} | {three:.1%} ± {three_error:.1%} | "
            f"{result.mean():+.2f} ± {result.std(ddof=1) / math.sqrt(len(result)):.2f} | "
            f"{result.std(ddof=1):.2f} | {result[np.abs(result).argmax()]:+.1f} | {relative:.2%} |"
        )
    return "\n".join(rows)


def _by(results: list[Result], figures: list[str], title: str, group: Callable[[Result], str]) -> str:
    groups = list(dict.fromkeys(group(result) for result in results))
    rows = [f"| figure, by {title} | " + " | ".join(groups) + " |", "|---" * (len(groups) + 1) + "|"]
    for figure in figures:
        cells = []
        for name in groups:
            match = pulls([each for each in results if group(each) == name], figure)
            cells.append(
                f"{within(match, 1)[0]:.0%}, {within(match, 3)[0]:.0%}, {match.mean():+.2f} (n {len(match)})"
                if len(match)
                else "-"
            )
        rows.append(f"| {figure} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _hot(results: list[Result]) -> str:
    rows = [
        "| hot pixels | sets | evidently hot | found | innocent | falsely flagged |",
        "|---|---|---|---|---|---|",
    ]
    names = sorted({(result["layout"], result["ramps"]) for result in results})
    for layout, ramps in names:
        mine = [each["hot"] for each in results if (each["layout"], each["ramps"]) == (layout, ramps)]
        total = {key: sum(entry[key] for entry in mine) for key in mine[0]}
        part = f"{total['found'] / total['evident']:.1%}" if total["evident"] else "-"
        rows.append(
            f"| {layout}, {ramps} ramps | {len(mine)} | {total['evident']} | {total['found']} ({part}) | "
            f"{total['innocent']} | {total['false']} |"
        )
    return "\n".join(rows)
