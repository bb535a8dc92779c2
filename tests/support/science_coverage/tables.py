"""Tables of the coverage test, as Markdown."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

Result = dict[str, Any]


def tables(results: list[Result]) -> str:
    """Return all tables of docs/science-validation.md."""
    figures = list(dict.fromkeys(name for one in results for name in one["figures"]))
    parts = [_figures(results, figures)]
    for title, group in (
        ("layout", lambda one: one["layout"]),
        ("ramps", lambda one: f"{one['ramps']} ramps"),
        ("detector", lambda one: one["detector"]),
    ):
        parts.append(_by(results, figures, title, group))
    return "\n\n".join([*parts, _hot(results)])


def pulls(results: Iterable[Result], figure: str) -> np.ndarray:
    """Return (measured - truth) / stated error of a figure."""
    found = [one["figures"][figure] for one in results if figure in one["figures"]]
    return np.array([(value - truth) / error for value, error, truth in found])


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
        found = pulls(results, figure)
        (one, one_error), (three, three_error) = within(found, 1), within(found, 3)
        values = np.array([row["figures"][figure] for row in results if figure in row["figures"]])
        relative = float(np.median(values[:, 1] / values[:, 2]))
        rows.append(
            f"| {figure} | {len(found)} | {one:.1%} ± {one_error:.1%} | {three:.1%} ± {three_error:.1%} | "
            f"{found.mean():+.2f} ± {found.std(ddof=1) / math.sqrt(len(found)):.2f} | "
            f"{found.std(ddof=1):.2f} | {found[np.abs(found).argmax()]:+.1f} | {relative:.2%} |"
        )
    return "\n".join(rows)


def _by(results: list[Result], figures: list[str], title: str, group: Callable[[Result], str]) -> str:
    groups = list(dict.fromkeys(group(one) for one in results))
    rows = [f"| figure, by {title} | " + " | ".join(groups) + " |", "|---" * (len(groups) + 1) + "|"]
    for figure in figures:
        cells = []
        for name in groups:
            found = pulls([one for one in results if group(one) == name], figure)
            cells.append(
                f"{within(found, 1)[0]:.0%}, {within(found, 3)[0]:.0%}, {found.mean():+.2f} (n {len(found)})"
                if len(found)
                else "-"
            )
        rows.append(f"| {figure} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _hot(results: list[Result]) -> str:
    rows = [
        "| hot pixels | sets | evidently hot | found | innocent | falsely flagged |",
        "|---|---|---|---|---|---|",
    ]
    names = sorted({(one["layout"], one["ramps"]) for one in results})
    for layout, ramps in names:
        mine = [one["hot"] for one in results if (one["layout"], one["ramps"]) == (layout, ramps)]
        total = {key: sum(one[key] for one in mine) for key in mine[0]}
        part = f"{total['found'] / total['evident']:.1%}" if total["evident"] else "-"
        rows.append(
            f"| {layout}, {ramps} ramps | {len(mine)} | {total['evident']} | {total['found']} ({part}) | "
            f"{total['innocent']} | {total['false']} |"
        )
    return "\n".join(rows)
