"""Noise in readout patterns that were emulated from RAPID, as the report's table and picture have it."""

from collections.abc import Sequence

import numpy as np

from services.noise.emulated_products import EmulatedPattern
from services.noise.products import SetNoiseFacts
from services.report.content import Table, rows
from services.report.style import AMPLIFIERS, FULL, INK, Picture, axes, legend_below, picture
from services.report.wording import count, measured, number


def emulated_table(patterns: Sequence[EmulatedPattern]) -> Table:
    """Return the table of the patterns, each with its longest ramp, or why it could not be made."""
    lines = []
    for one in patterns:
        how = f"{count(one.nframes, 'frame')}, gap {one.groupgap}"
        if one.groups:
            lines.append(
                [
                    one.pattern,
                    how,
                    str(one.groups[-1]),
                    f"{number(one.seconds[-1])} s",
                    f"{measured(one.spatial[-1], one.error)} e⁻",
                    f"{number(one.theory[-1])} e⁻",
                ]
            )
        else:
            lines.append([one.pattern, how, "–", "–", one.refusal or "–", "–"])
    head = ["Emulated from RAPID", "A group", "Groups", "Time", "Spatial effective noise", "Theory"]
    return Table(head, rows(*lines), widths=(0.16, 0.14, 0.08, 0.1, 0.36, 0.16))


def emulated_curves(patterns: Sequence[EmulatedPattern], facts: SetNoiseFacts) -> Picture | None:
    """Draw effective noise against time in the emulated patterns beside the set's own; None without any."""
    made = [one for one in patterns if one.groups]
    if not made:
        return None
    figure, plot = axes("Effective noise in other readout patterns, emulated from RAPID", 4.2, FULL)
    plot.plot(
        facts.curve.seconds, facts.curve.spatial, color=INK, marker="o", markersize=3, label="RAPID, measured"
    )
    # There are more patterns than colours.
    for number_of, one in enumerate(made):
        colour = AMPLIFIERS[number_of % len(AMPLIFIERS)]
        marker = "s^"[number_of // len(AMPLIFIERS) % 2]
        plot.plot(one.seconds, one.spatial, color=colour, marker=marker, markersize=4, label=one.pattern)
        plot.plot(one.seconds, one.theory, color=colour, linewidth=1.0, linestyle=(0, (5, 2)))
    plot.set_xlabel("Time from first to last group used (s)")
    plot.set_ylabel("Spatial effective noise (e⁻)")
    tallest = [np.nanmax([*one.spatial, *one.theory]) for one in made if np.isfinite(one.spatial).any()]
    plot.set_ylim(0, 1.08 * max([*tallest, np.nanmax(facts.curve.spatial)]))
    plot.set_xlim(left=0)
    legend_below(plot, 5)
    said = "; ".join(
        f"{one.pattern} {measured(one.spatial[-1], one.error)} e⁻ in {count(one.groups[-1], 'group')}"
        for one in made
    )
    return picture(
        figure,
        f"Spatial effective noise in e⁻ against ramp length in s, emulated from RAPID: {said}.",
        "Groups of each pattern are means of this set's own calibrated RAPID frames, so their noise is what "
        "averaging on board would leave of it, but for the rounding to whole DN and for hits that the jump "
        "step finds less well in fewer groups. Dashed: the channel's theory for so many frames a group.",
        place="wide",
    )
