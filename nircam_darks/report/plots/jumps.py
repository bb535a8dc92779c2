"""The pictures of jumps, over the exposures of one set."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from services.noise.products import ExposureNoiseFacts, PixelRamp
from services.report.style import BLUE, EXPECTED, FULL, INK, RED, Picture, axes, legend_below, picture
from services.report.wording import count, number


def flags_per_group(exposures: Sequence[ExposureNoiseFacts]) -> Picture:
    """Draw the jump flags of each group, all exposures together."""
    flags = np.sum([facts.flags_per_group for facts in exposures], axis=0)
    errors = np.sqrt(flags) * _clustering(exposures)
    figure, plot = axes("Jump flags in each group", 3.2)
    groups = np.arange(1, len(flags) + 1)
    plot.bar(groups, flags, width=0.85, color=BLUE, alpha=0.85)
    plot.errorbar(groups[1:], flags[1:], yerr=errors[1:], color=INK, linewidth=0, elinewidth=0.9)
    # The first group has no difference in which a jump could be seen.
    later = max(len(flags) - 1, 1)
    plot.axhline(flags.sum() / later, color=RED, linewidth=1.2, label=f"mean, {number(flags.sum() / later)}")
    alone = sum(facts.expected_false_positive_flags for facts in exposures) / later
    plot.axhline(
        alone,
        color=EXPECTED,
        linewidth=1.4,
        linestyle=(0, (4, 2)),
        label=f"expected from noise alone, {number(alone, 2)}",
    )
    legend_below(plot, 2)
    plot.set_xlabel("Group")
    plot.set_ylabel("Flags")
    plot.xaxis.set_major_locator(MaxNLocator(integer=True))
    plot.set_xlim(0.3, len(flags) + 0.7)
    plot.yaxis.set_major_locator(MaxNLocator(integer=True))
    plot.grid(visible=False, axis="x")
    return picture(
        figure,
        f"Bars of the number of jump flags in each of {count(len(flags), 'group')} over "
        f"{count(len(exposures), 'exposure')}: "
        f"{count(int(flags.sum()), 'flag')} in all, most in group {int(np.argmax(flags)) + 1}.",
        "Flags over all pixels, integrations and exposures of the set; the errors count hits, as a hit flags "
        "its neighbours too. Cosmic rays hit every group alike (the first has no difference to be seen in); "
        "one high bar is a snowball or a disturbed readout.",
    )


def _clustering(exposures: Sequence[ExposureNoiseFacts]) -> float:
    """Return by how much the flags' error is larger than their root; 1 where there are none."""
    flags = sum(facts.jump_flags for facts in exposures)
    variance = sum(facts.jump_flags_error**2 for facts in exposures)
    return float(np.sqrt(variance / flags)) if flags and np.isfinite(variance) else 1.0


def single_ramp(ramp: PixelRamp, exposure: str) -> Picture:
    """Draw one pixel's ramp with its flagged groups and the line of its slope."""
    figure, plot = axes(f"Pixel ({ramp.x}, {ramp.y}), integration {ramp.integration + 1}", 3.4)
    _ramp(plot, ramp, labels=True)
    plot.set_xlabel("Groups")
    plot.set_ylabel("Signal (DN)")
    plot.legend(loc="best")
    return picture(
        figure,
        f"Signal in DN against groups of pixel x {ramp.x}, y {ramp.y} in integration "
        f"{ramp.integration + 1} of {exposure}; {_flagged(ramp)}.",
        f"One pixel of {exposure}. Blue: the straight line through the groups before the first jump. "
        "Red: groups flagged JUMP_DET, which should stand where the signal steps.",
    )


def ramp_grid(ramps: Sequence[PixelRamp], exposure: str) -> Picture:
    """Draw the ramps of up to nine pixels, three in a row."""
    figure = Figure(figsize=(FULL, 7.6), layout="constrained")
    FigureCanvasSVG(figure)
    block = _is_block(ramps)
    figure.suptitle(
        "Ramps of a pixel and its eight neighbours" if block else "Ramps of single pixels",
        x=0.012,
        ha="left",
        fontsize=10,
        fontweight="bold",
    )
    if block:
        ramps = sorted(ramps, key=lambda ramp: (-ramp.y, ramp.x))
    grid = figure.subplots(3, 3, squeeze=False)
    for place, plot in enumerate(grid.flat):
        if place >= len(ramps):
            plot.set_visible(False)
            continue
        ramp = ramps[place]
        _ramp(plot, ramp)
        plot.set_title(
            f"({ramp.x}, {ramp.y}), integration {ramp.integration + 1}",
            fontsize=8.5,
            fontweight="normal",
            pad=4,
        )
    figure.supxlabel("Groups", fontsize=9)
    figure.supylabel("Signal (DN)", fontsize=9)
    flagged = sum(1 for ramp in ramps if ramp.jumps)
    return picture(
        figure,
        f"Grid of the ramps of {count(len(ramps), 'pixel')} of {exposure}, signal in DN against groups; "
        f"{flagged} of them have flagged groups.",
        f"Pixels (x, y) of {exposure}, 0-based{', laid out as on the detector' if block else ''}. Red: "
        "groups flagged JUMP_DET; blue: the line through the groups before the first of them. A step "
        "without red is a jump that was missed, red without a step a false alarm.",
        place="wide",
    )


def _ramp(plot: Axes, ramp: PixelRamp, labels: bool = False) -> None:
    groups = np.arange(1, len(ramp.signal_dn) + 1)
    signal = np.array(ramp.signal_dn, dtype=float)
    plot.plot(
        groups,
        signal,
        color="#7d8892",
        marker="o",
        markersize=3.2,
        linewidth=0.8,
        label="signal" if labels else None,
    )
    if ramp.slope is not None and ramp.intercept is not None:
        plot.plot(
            groups,
            ramp.intercept + ramp.slope * (groups - 1),
            color=BLUE,
            linewidth=1.3,
            label=f"slope, {number(ramp.slope)} DN a group" if labels else None,
        )
    if ramp.jumps:
        flagged = np.array(ramp.jumps)
        plot.plot(
            flagged + 1,
            signal[flagged],
            color=RED,
            marker="o",
            markersize=7,
            linewidth=0,
            label="flagged as a jump" if labels else None,
        )
    plot.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    plot.yaxis.set_major_locator(MaxNLocator(nbins=5))


def _is_block(ramps: Sequence[PixelRamp]) -> bool:
    """Say whether the pixels are three by three neighbours."""
    places = {(ramp.x, ramp.y) for ramp in ramps}
    x, y = min(x for x, _ in places), min(y for _, y in places)
    return len(ramps) == 9 and places == {(x + right, y + up) for right in range(3) for up in range(3)}


def _flagged(ramp: PixelRamp) -> str:
    if not ramp.jumps:
        return "no group is flagged as a jump"
    return f"flagged as a jump: group {', '.join(str(group + 1) for group in ramp.jumps)}"
