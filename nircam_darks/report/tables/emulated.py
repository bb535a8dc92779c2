"""The noise in readout patterns emulated from RAPID, as a table and a plot of the report."""

from collections.abc import Sequence

import numpy as np

from nircam_darks.report.content import Table, text_rows
from nircam_darks.report.plots.style import AMPLIFIERS, FULL, INK, Picture, axes, legend_below
from nircam_darks.report.text import count, measured, number
from shared.products.noise import EmulatedPattern, SetNoiseResults


def emulated_table(patterns: Sequence[EmulatedPattern]) -> Table:
    """Return one row per pattern: the noise of its longest ramp, or why the pattern could not be emulated."""
    rows = []
    for pattern in patterns:
        sampling = f"{count(pattern.nframes, 'frame')}, gap {pattern.groupgap}"
        if not pattern.groups:
            rows.append([pattern.pattern, sampling, "–", "–", pattern.refusal or "–", "–"])
            continue
        rows.append(
            [
                pattern.pattern,
                sampling,
                str(pattern.groups[-1]),
                f"{number(pattern.seconds[-1])} s",
                f"{measured(pattern.spatial[-1], pattern.error)} e⁻",
                f"{number(pattern.theory[-1])} e⁻",
            ]
        )
    head = ["Pattern, emulated from RAPID", "Group", "Groups", "Time", "Spatial effective noise", "Theory"]
    return Table(head, text_rows(*rows), widths=(0.2, 0.14, 0.08, 0.1, 0.32, 0.16))


def emulated_curves(patterns: Sequence[EmulatedPattern], noise: SetNoiseResults) -> Picture | None:
    """Plot effective noise against time in the emulated patterns and in RAPID; None without any pattern."""
    emulated = [pattern for pattern in patterns if pattern.groups]
    if not emulated:
        return None
    curve = noise.curve
    figure, plot = axes("Effective noise in other readout patterns, emulated from RAPID", 4.2, FULL)
    plot.plot(curve.seconds, curve.spatial, color=INK, marker="o", markersize=3, label="RAPID, measured")
    for at, pattern in enumerate(emulated):
        # There are more patterns than colours, so the marker changes with each round of colours.
        colour = AMPLIFIERS[at % len(AMPLIFIERS)]
        marker = "s^"[at // len(AMPLIFIERS) % 2]
        plot.plot(
            pattern.seconds, pattern.spatial, color=colour, marker=marker, markersize=4, label=pattern.pattern
        )
        plot.plot(pattern.seconds, pattern.theory, color=colour, linewidth=1.0, linestyle=(0, (5, 2)))
    plot.set_xlabel("Time from first to last group used (s)")
    plot.set_ylabel("Spatial effective noise (e⁻)")
    drawn = [curve.spatial, *(values for pattern in emulated for values in (pattern.spatial, pattern.theory))]
    highest = max((value for values in drawn for value in values if np.isfinite(value)), default=0.0)
    plot.set_ylim(0, 1.08 * highest or 1.0)
    plot.set_xlim(left=0)
    legend_below(plot, 5)
    values = "; ".join(
        f"{pattern.pattern} {measured(pattern.spatial[-1], pattern.error)} e⁻ in "
        f"{count(pattern.groups[-1], 'group')}"
        for pattern in emulated
    )
    return Picture(
        figure,
        f"Spatial effective noise in e⁻ against ramp length in s, emulated from RAPID: {values}.",
        "Each group is the mean of this set's own calibrated RAPID frames, so the noise is what averaging on "
        "board would leave, except for the rounding to whole DN and for hits that the jump step misses in "
        "fewer groups. Dashed: the channel's theory for the same number of frames per group.",
        place="wide",
    )
