"""The pictures of one dark reference."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from services.darkref.products import ReferenceFacts
from services.report.histograms import bins_for, draw_gaussian, robust_gaussian
from services.report.images import for_page, is_strip, robust_limits
from services.report.style import (
    BLUE,
    EXPECTED,
    FULL,
    HALF,
    INK,
    RED,
    SEQUENTIAL,
    Picture,
    axes,
    picture,
)
from services.report.wording import count, expected, measured, number
from shared.geometry import science_pixels

RATE_UNIT = "e⁻/1000 s"


def mean_ramp(facts: ReferenceFacts) -> Picture:
    """Draw the mean ramp of the reference against time beside what is expected of it, its ERR below."""
    times = np.arange(len(facts.mean_ramp_dn)) * facts.group_time
    first = facts.mean_ramp_dn[0]
    said = expected(facts.expected_e_per_ks, facts.expected_sigma_e_per_ks)
    figure = Figure(figsize=(HALF, 4.4), layout="constrained")
    FigureCanvasSVG(figure)
    plot, below = figure.subplots(2, 1, sharex=True, height_ratios=(2.6, 1))
    plot.set_title("Mean ramp of the dark reference")
    low, high = (
        first + times * (facts.expected_e_per_ks + side * facts.expected_sigma_e_per_ks) / (1000 * facts.gain)
        for side in (-1, 1)
    )
    plot.fill_between(times, low, high, color=EXPECTED, alpha=0.25, linewidth=0, label=f"expected, {said}")
    plot.plot(
        times,
        first + times * facts.dark_current_e_per_ks / (1000 * facts.gain),
        color=RED,
        linewidth=1.2,
        linestyle=(0, (5, 2)),
        label=f"measured, {_current(facts)} {RATE_UNIT}",
    )
    plot.plot(times, facts.mean_ramp_dn, color=BLUE, marker="o", markersize=4, linewidth=0, label="SCI")
    plot.set_ylabel("Signal (DN)")
    plot.margins(y=0.15)
    plot.legend(loc="best")
    if facts.mean_ramp_error_dn:
        below.plot(times, facts.mean_ramp_error_dn, color=BLUE, marker="o", markersize=3, linewidth=0.8)
        below.set_ylim(0, 1.3 * max((e for e in facts.mean_ramp_error_dn if e > 0), default=1.0))
    below.set_ylabel("ERR (DN)")
    below.set_xlabel("Time since first group (s)")
    return picture(
        figure,
        f"Signal in DN against time in s: the mean ramp of the dark reference, {len(times)} groups, from "
        f"{number(first)} to {number(facts.mean_ramp_dn[-1])} DN, with its slope of {_current(facts)} "
        f"{RATE_UNIT} and the expected {said}; below it ERR.",
        "Points: median over science pixels of SCI, one a group. Dashed: the measured dark current; grey: "
        f"the expected one; both from the first point on. Below: median of ERR, {_err_is(facts)}.",
    )


def dark_current_map(pixels: NDArray[np.float32], facts: ReferenceFacts) -> Picture:
    """Draw the dark current of each science pixel."""
    shown, block = for_page(np.where(science_pixels(facts.key), pixels, np.float32(np.nan)))
    low, high = robust_limits(shown)
    label = f"Dark current ({RATE_UNIT})"
    aim = facts.expected_e_per_ks, facts.expected_sigma_e_per_ks
    figure = map_of(shown, pixels.shape, "Dark current of each pixel", label, low, high, aim=aim)
    return map_picture(
        figure,
        f"Map of the dark current over {facts.key.subarray}, {pixels.shape[1]} by {pixels.shape[0]} pixels, "
        f"shown from {number(low)} to {number(high)} {RATE_UNIT}.",
        f"Slope of the mean ramp in each pixel{averaged(block)}; the colours leave out the farthest "
        "outliers, reference pixels are grey; the mark on the bar is the expected value. A uniform field is "
        "good; edges between amplifiers, glow at the borders and clusters of hot pixels show here.",
        pixels.shape,
    )


def dark_current_histogram(pixels: NDArray[np.float32], facts: ReferenceFacts) -> Picture:
    """Draw how the dark current is spread over pixels."""
    science = pixels[science_pixels(facts.key)]
    low, high = robust_limits(science)
    low = min(low, facts.expected_e_per_ks - 2 * facts.expected_sigma_e_per_ks)
    high = max(high, facts.expected_e_per_ks + 2 * facts.expected_sigma_e_per_ks)
    figure, plot = axes("Dark current: spread over pixels", 4.4)
    expected_span(plot, facts.expected_e_per_ks, facts.expected_sigma_e_per_ks, upright=True)
    finite = science[np.isfinite(science)]
    plot.hist(finite, bins=bins_for(finite), range=(low, high), color=BLUE, alpha=0.75)
    _, width = robust_gaussian(finite) if finite.size else (0.0, 0.0)
    draw_gaussian(plot, finite, low, high, INK, f"Gaussian, sigma {number(width)} (robust)")
    plot.axvline(facts.dark_current_e_per_ks, color=RED, linewidth=1.6, label=f"measured, {_current(facts)}")
    plot.set_xlabel(f"Dark current ({RATE_UNIT})")
    plot.set_ylabel("Pixels")
    plot.set_xlim(low, high)
    plot.set_ylim(0, plot.get_ylim()[1] * 1.18)
    plot.legend(loc="upper right")
    outside = int(np.count_nonzero((finite < low) | (finite > high)))
    return picture(
        figure,
        f"Histogram of the dark current of {finite.size:,} science pixels; measured {_current(facts)}, "
        f"expected {expected(facts.expected_e_per_ks, facts.expected_sigma_e_per_ks)} {RATE_UNIT}; "
        f"robust sigma over pixels {number(width)} {RATE_UNIT}.",
        f"Every science pixel, hot ones too, though the measured value leaves those out; "
        f"{count(outside, 'pixel')} lie outside the range drawn. The Gaussian has the pixels' median and "
        "1.4826 times their median absolute deviation, the read noise of one pixel's slope; what stands out "
        "to its right is warm and hot pixels. It is the place of the peak that is compared.",
    )


def contributions(pixels: NDArray[np.float32], facts: ReferenceFacts) -> Picture:
    """Draw how many measurements are left in the last group."""
    shown, block = for_page(pixels)
    low, high = float(np.nanmin(shown)), max(float(np.nanmax(shown)), 1.0)
    low = min(low, high - 1.0)
    label = "Measurements (integrations)"
    figure = map_of(shown, pixels.shape, "Measurements left in the last group", label, low, high, counts=True)
    fewest, most = (number(float(bound)) for bound in (np.nanmin(pixels), np.nanmax(pixels)))
    return map_picture(
        figure,
        f"Map of how many of {count(facts.integrations, 'integration')} are used in the last group of each "
        f"pixel, from {fewest} to {most}.",
        f"Of {count(facts.integrations, 'integration')}, those that no jump had taken out of the mean before "
        f"the last group{averaged(block)}: cosmic-ray hits are dark specks, snowballs dark discs.",
        pixels.shape,
    )


def map_of(
    shown: NDArray[np.float32],
    full: tuple[int, ...],
    title: str,
    label: str,
    low: float,
    high: float,
    counts: bool = False,
    aim: tuple[float | None, float | None] = (None, None),
) -> Figure:
    """Return a map with its colour bar in named units.

    `shown` covers the `full` (y, x) pixels. A strip is drawn over the whole width and stretched in y.
    `counts`: whole numbers, none of them outside the limits. `aim`: what is expected and its width, which
    are marked on the bar.
    """
    height, width = full
    strip = is_strip(full)
    figure, plot = axes(title, 2.1 if strip else 5.0, FULL if strip else HALF)
    drawn = plot.imshow(
        shown,
        origin="lower",
        cmap=SEQUENTIAL,
        vmin=low,
        vmax=high,
        interpolation="nearest",
        aspect="auto" if strip else "equal",
        extent=(0, width, 0, height),
    )
    plot.grid(visible=False)
    plot.spines[["top", "right"]].set_visible(True)
    plot.set_xlabel("x (pixel)")
    plot.set_ylabel("y (pixel)")
    bar = figure.colorbar(
        drawn,
        ax=plot,
        extend="neither" if counts else "both",
        ticks=MaxNLocator(integer=True) if counts else None,
        shrink=1.0 if strip else 0.82,
        pad=0.02,
        aspect=12 if strip else 28,
    )
    bar.set_label(label)
    bar.outline.set_linewidth(0.5)
    value, sigma = aim
    if value is not None and low < value < high:
        bar.ax.axhline(value, color=RED, linewidth=1.6)
        for side in (-1, 1):
            edge = value + side * (sigma or 0.0)
            if low < edge < high:
                bar.ax.axhline(edge, color=RED, linewidth=0.7, linestyle=(0, (2, 1)))
    return figure


def map_picture(figure: Figure, alt: str, caption: str, full: tuple[int, ...]) -> Picture:
    """Draw a map of `full` (y, x) pixels at the place that its shape needs."""
    return picture(figure, alt, caption, "wide" if is_strip(full) else "tall")


def averaged(block: int) -> str:
    """Return what a caption says of an image that was averaged for the page."""
    return "" if block == 1 else f" (averaged here over {block} × {block} pixels)"


def expected_span(plot: Axes, value: float | None, sigma: float | None, upright: bool = False) -> None:
    """Draw the expected value and its width across a plot; nothing where nothing is expected."""
    if value is None or not np.isfinite(value):
        return
    span, line = (plot.axvspan, plot.axvline) if upright else (plot.axhspan, plot.axhline)
    width = sigma if sigma is not None and np.isfinite(sigma) else 0.0
    if width:
        span(value - width, value + width, color=EXPECTED, alpha=0.22, linewidth=0)
    line(value, color=EXPECTED, linewidth=1.4, label=f"expected, {expected(value, sigma)}")


def _err_is(facts: ReferenceFacts) -> str:
    if facts.mode == "reference":
        return "the scatter of single integrations in a pixel, reset noise (kTC) included"
    return f"the {facts.err_is}; the first group is 0 by construction"


def _current(facts: ReferenceFacts) -> str:
    return measured(facts.dark_current_e_per_ks, facts.dark_current_error_e_per_ks)
