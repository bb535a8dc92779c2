"""Plots of the jumps, over the exposures of one set."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nircam_darks.report.plots.style import (
    BLUE,
    EXPECTED,
    FULL,
    INK,
    RED,
    Picture,
    axes,
    legend_below,
)
from nircam_darks.report.text import count, number
from shared.products.noise import ExposureNoiseResults, PixelRamp


def flags_per_group(exposures: Sequence[ExposureNoiseResults]) -> Picture:
    """Plot the number of jump flags in each group, over all exposures."""
    flags = np.sum([results.flags_per_group for results in exposures], axis=0)
    errors = np.sqrt(flags) * _clustering(exposures)
    figure, plot = axes("Jump flags in each group", 3.2)
    groups = np.arange(1, len(flags) + 1)
    plot.bar(groups, flags, width=0.85, color=BLUE, alpha=0.85)
    plot.errorbar(groups[1:], flags[1:], yerr=errors[1:], color=INK, linewidth=0, elinewidth=0.9)
    # A jump is seen in the difference from the previous group, and the first group has none.
    later = max(len(flags) - 1, 1)
    plot.axhline(flags.sum() / later, color=RED, linewidth=1.2, label=f"mean, {number(flags.sum() / later)}")
    from_noise = sum(results.expected_false_positive_flags for results in exposures) / later
    plot.axhline(
        from_noise,
        color=EXPECTED,
        linewidth=1.4,
        linestyle=(0, (4, 2)),
        label=f"expected from noise alone, {number(from_noise, 2)}",
    )
    legend_below(plot, 2)
    plot.set_xlabel("Group")
    plot.set_ylabel("Flags")
    plot.xaxis.set_major_locator(MaxNLocator(integer=True))
    plot.set_xlim(0.3, len(flags) + 0.7)
    plot.yaxis.set_major_locator(MaxNLocator(integer=True))
    plot.grid(visible=False, axis="x")
    return Picture(
        figure,
        f"Bars of the number of jump flags in each of {count(len(flags), 'group')} over "
        f"{count(len(exposures), 'exposure')}: "
        f"{count(int(flags.sum()), 'flag')} in all, most in group {int(np.argmax(flags)) + 1}.",
        "Flags over all pixels, integrations and exposures of the set. The errors allow for hits that flag "
        "several neighbouring pixels. Cosmic rays hit all groups equally, though jumps in the first cannot "
        "be detected; a single high bar is a snowball or a disturbed readout.",
    )


def _clustering(exposures: Sequence[ExposureNoiseResults]) -> float:
    """Return the error of the flags over the square root of their number; 1 if there are none."""
    flags = sum(results.jump_flags for results in exposures)
    variance = sum(results.jump_flags_error**2 for results in exposures)
    return float(np.sqrt(variance / flags)) if flags and np.isfinite(variance) else 1.0


def single_ramp(ramp: PixelRamp, exposure: str) -> Picture:
    """Plot the ramp of one pixel with its flagged groups and the fitted line."""
    figure, plot = axes(f"Pixel ({ramp.x}, {ramp.y}), integration {ramp.integration + 1}", 3.4)
    _ramp(plot, ramp, labels=True)
    plot.set_xlabel("Groups")
    plot.set_ylabel("Signal (DN)")
    plot.legend(loc="best")
    return Picture(
        figure,
        f"Signal in DN against groups of pixel x {ramp.x}, y {ramp.y} in integration "
        f"{ramp.integration + 1} of {exposure}; {_flagged(ramp)}.",
        f"One pixel of {exposure}. Blue: the line fitted to the groups before the first jump. "
        "Red: groups flagged JUMP_DET, which should be where the signal steps.",
    )


def ramp_grid(ramps: Sequence[PixelRamp], exposure: str) -> Picture:
    """Plot the ramps of up to nine pixels, three in a row."""
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
    return Picture(
        figure,
        f"Grid of the ramps of {count(len(ramps), 'pixel')} of {exposure}, signal in DN against groups; "
        f"{flagged} of them have flagged groups.",
        f"Pixels (x, y) of {exposure}, 0-based{', arranged as on the detector' if block else ''}. Red: "
        "groups flagged JUMP_DET. Blue: the line fitted to the groups before the first jump. A step without "
        "red is a missed jump; red without a step is a false alarm.",
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
            label=f"slope, {number(ramp.slope)} DN per group" if labels else None,
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
    """Return whether the pixels form a block of three by three neighbours."""
    places = {(ramp.x, ramp.y) for ramp in ramps}
    x, y = min(x for x, _ in places), min(y for _, y in places)
    return len(ramps) == 9 and places == {(x + right, y + up) for right in range(3) for up in range(3)}


def _flagged(ramp: PixelRamp) -> str:
    if not ramp.jumps:
        return "no group is flagged as a jump"
    return f"flagged as a jump: group {', '.join(str(group + 1) for group in ramp.jumps)}"
