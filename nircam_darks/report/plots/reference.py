"""Plots of one dark reference, and the parts that other plots share: maps and expected values."""

import math
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter
from numpy.typing import NDArray
from scipy import special

from nircam_darks.report.plots.images import for_page, is_strip, robust_limits
from nircam_darks.report.plots.style import (
    AMPLIFIERS,
    BLUE,
    DIVERGING,
    EXPECTED,
    FULL,
    HALF,
    INK,
    RED,
    SEQUENTIAL,
    Picture,
    axes,
    legend_below,
    nothing_to_draw,
)
from nircam_darks.report.text import count, expected, measured, number
from shared.nircam.geometry import science_pixels
from shared.products.reference import ReferenceResults
from shared.statistics.robust import median_and_sigma

RATE_UNIT = "e⁻/1000 s"

#: Bins of the histogram of the dark current.
_BINS = 90
#: Room beyond the first and the last bin, in units of the axis.
_MARGIN = 0.15
#: From here on a tick is a power of ten.
_LONGEST_TICK = 1e5
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def mean_ramp(dark: ReferenceResults) -> Picture:
    """Plot the mean ramp of the reference against time over the expected one, and its ERR below."""
    times = np.arange(len(dark.mean_ramp_dn)) * dark.group_time
    first = dark.mean_ramp_dn[0]
    expected_rate = expected(dark.expected_e_per_ks, dark.expected_sigma_e_per_ks)
    figure = Figure(figsize=(HALF, 4.4), layout="constrained")
    FigureCanvasSVG(figure)
    plot, below = figure.subplots(2, 1, sharex=True, height_ratios=(2.6, 1))
    plot.set_title("Mean ramp of the dark reference")
    low, high = (
        first + times * (dark.expected_e_per_ks + side * dark.expected_sigma_e_per_ks) / (1000 * dark.gain)
        for side in (-1, 1)
    )
    plot.fill_between(
        times, low, high, color=EXPECTED, alpha=0.25, linewidth=0, label=f"expected, {expected_rate}"
    )
    plot.plot(
        times,
        first + times * dark.dark_current_e_per_ks / (1000 * dark.gain),
        color=RED,
        linewidth=1.2,
        linestyle=(0, (5, 2)),
        label=f"measured, {_current(dark)} {RATE_UNIT}",
    )
    plot.plot(times, dark.mean_ramp_dn, color=BLUE, marker="o", markersize=4, linewidth=0, label="SCI")
    plot.set_ylabel("Signal (DN)")
    plot.margins(y=0.15)
    legend_below(plot, 3)
    if dark.mean_ramp_error_dn:
        below.plot(times, dark.mean_ramp_error_dn, color=BLUE, marker="o", markersize=3, linewidth=0.8)
        below.set_ylim(0, 1.3 * max((e for e in dark.mean_ramp_error_dn if e > 0), default=1.0))
    below.set_ylabel("ERR (DN)")
    below.set_xlabel("Time since first group (s)")
    return Picture(
        figure,
        f"Signal in DN against time in s: the mean ramp of the dark reference, {len(times)} groups, from "
        f"{number(first)} to {number(dark.mean_ramp_dn[-1])} DN, with its slope of {_current(dark)} "
        f"{RATE_UNIT} and the expected {expected_rate}; below it ERR.",
        "Points: median of SCI over science pixels, one per group. Dashed: the measured dark current. Grey: "
        f"the expected dark current. Both start at the first point. Below: median of ERR, {_err_is(dark)}.",
    )


def dark_current_map(pixels: NDArray[np.float32], dark: ReferenceResults) -> Picture:
    """Plot a map of the dark current of the science pixels."""
    shown, block = for_page(np.where(science_pixels(dark.key), pixels, np.float32(np.nan)))
    low, high = robust_limits(shown)
    label = f"Dark current ({RATE_UNIT})"
    marked = dark.expected_e_per_ks, dark.expected_sigma_e_per_ks
    figure = map_of(shown, pixels.shape, "Dark current of each pixel", label, (low, high), marked=marked)
    return map_picture(
        figure,
        f"Map of the dark current over {dark.key.subarray}, {pixels.shape[1]} by {pixels.shape[0]} pixels, "
        f"shown from {number(low)} to {number(high)} {RATE_UNIT}.",
        f"Slope of the mean ramp in each pixel{averaged(block)}. The colour scale excludes "
        "extreme outliers; reference pixels are grey; the mark on the colour bar is the expected value. The "
        "map should be uniform: look for steps between amplifiers, glow at the edges, and clusters of hot "
        "pixels.",
        pixels.shape,
    )


def difference_map(pixels: NDArray[np.float32], dark: ReferenceResults) -> Picture:
    """Plot a map of the change of the dark current against the reference that is replaced.

    Parameters
    ----------
    pixels : ndarray of float32, 2D (y, x)
        New minus earlier, e- per 1000 s; NaN where either has no rate.
    dark : ReferenceResults
    """
    shown, block = for_page(np.where(science_pixels(dark.key), pixels, np.float32(np.nan)))
    low, high = robust_limits(shown)
    # Zero in the middle of the scale, so that either sign has its colour.
    width = max(abs(low), abs(high))
    figure = map_of(
        shown,
        pixels.shape,
        "Change against the replaced reference",
        f"New minus earlier ({RATE_UNIT})",
        (-width, width),
        colours=DIVERGING,
    )
    change = next((row for row in dark.changes if row.figure == "dark current"), None)
    rate = "" if change is None else f" The median changes by {measured(change.change, change.change_error)}."
    return map_picture(
        figure,
        f"Map of the change of the dark current over {dark.key.subarray} against the reference that is "
        f"replaced, shown from {number(-width)} to {number(width)} {RATE_UNIT}.",
        f"Rate of each pixel in the new reference less that in the earlier one{averaged(block)}: red is "
        f"brighter now, blue was brighter then; grey has no rate in one of them.{rate} The map should be "
        "noise without structure: look for amplifiers, glow, and pixels that became hot or recovered.",
        pixels.shape,
    )


def dark_current_by_amplifier(dark: ReferenceResults) -> Picture:
    """Plot the dark current of each amplifier with its error over the expected value."""
    values = np.array([_known(rate) for rate in dark.amplifier_dark_current_e_per_ks])
    errors = np.array(
        [_known(error) for error in dark.amplifier_dark_current_error_e_per_ks] or [0.0] * len(values)
    )
    places = np.arange(1, len(values) + 1)
    figure, plot = axes("Dark current by amplifier", 3.4)
    expected_span(plot, dark.expected_e_per_ks, dark.expected_sigma_e_per_ks)
    plot.axhline(
        dark.dark_current_e_per_ks,
        color=RED,
        linewidth=1.2,
        linestyle=(0, (5, 2)),
        label=f"all, {_current(dark)}",
    )
    for place, value, error, colour in zip(places, values, errors, cycle(AMPLIFIERS), strict=False):
        plot.errorbar(
            [place], [value], yerr=[np.nan_to_num(error)], color=colour, marker="o", markersize=7, capsize=3
        )
    plot.set_xlabel("Amplifier")
    plot.set_ylabel(f"Dark current ({RATE_UNIT})")
    plot.set_xlim(0.5, len(values) + 0.5)
    plot.set_xticks(places)
    plot.margins(y=0.25)
    plot.grid(visible=False, axis="x")
    legend_below(plot, 2)
    rates = ", ".join(measured(value, error) for value, error in zip(values, errors, strict=True))
    return Picture(
        figure,
        f"Dark current of {count(len(values), 'amplifier')} in {RATE_UNIT}: {rates}.",
        "Median slope of the pixels of each amplifier, with the error from these pixels alone, in which the "
        "amplifier's own drifts are. Amplifiers of one detector should agree within their errors; one that "
        "does not has a drift, a glow or a fault of its own.",
    )


def _known(value: float | None) -> float:
    return math.nan if value is None else value


def dark_current_histogram(pixels: NDArray[np.float32], dark: ReferenceResults) -> Picture:
    """Plot the distribution of the dark current over pixels, from the lowest to the highest.

    Most pixels show their read noise, which is negative as often as positive; hot ones reach over decades.
    The axis is therefore an inverse hyperbolic sine: linear up to about one sigma of the pixels, logarithmic
    beyond it on both sides. The bins are equally wide on it, and the Gaussian is drawn as the number of
    pixels that it puts into each of them.

    Parameters
    ----------
    pixels : ndarray of float32, 2D (y, x)
        e- per 1000 s; NaN where nothing was measured.
    dark : ReferenceResults
    """
    science = pixels[science_pixels(dark.key)]
    finite = np.sort(science[np.isfinite(science)]).astype(np.float64)
    figure, plot = axes("Dark current over pixels", 4.4)
    plot.set_ylabel("Pixels")
    if not finite.size:
        return nothing_to_draw(figure, "Histogram of the dark current", "no pixel has a dark current")
    centre, sigma = median_and_sigma(finite)
    lowest, highest = float(finite[0]), float(finite[-1])
    plot.set_xlabel(f"Dark current, {number(lowest)} to {number(highest)} ({RATE_UNIT})")
    # Without any scatter, as of constant frames, the axis still needs a scale.
    scale = sigma or max(abs(centre), 1.0)
    aim, aim_sigma = dark.expected_e_per_ks, dark.expected_sigma_e_per_ks
    low, high = (
        min(lowest, centre - 4 * scale, aim - aim_sigma),
        max(highest, centre + 4 * scale, aim + aim_sigma),
    )
    plot.set_xscale("asinh", linear_width=scale)
    expected_span(plot, aim, aim_sigma, upright=True)
    edges = scale * np.sinh(np.linspace(np.arcsinh(low / scale), np.arcsinh(high / scale), _BINS + 1))
    edges[0], edges[-1] = min(edges[0], low), max(edges[-1], high)
    counts, _ = np.histogram(finite, edges)
    plot.stairs(counts, edges, color=BLUE, fill=True, alpha=0.75)
    if sigma > 0:
        normal = np.diff(special.ndtr((edges - centre) / sigma)) * finite.size
        middle = scale * np.sinh((np.arcsinh(edges[1:] / scale) + np.arcsinh(edges[:-1] / scale)) / 2)
        label = f"Gaussian, sigma {number(sigma)} (robust)"
        plot.plot(middle, normal, color=INK, linewidth=1.2, linestyle=(0, (4, 2)), label=label)
    plot.axvline(dark.dark_current_e_per_ks, color=RED, linewidth=1.6, label=f"measured, {_current(dark)}")
    plot.set_yscale("log")
    plot.set_ylim(0.6, max(float(counts.max()), 1.0) * 2)
    beyond = scale * np.sinh(np.arcsinh(np.array([low, high]) / scale) + np.array([-_MARGIN, _MARGIN]))
    plot.set_xlim(*(float(end) for end in beyond))
    _signed_decades(plot, scale, low, high)
    legend_below(plot, 2)
    return Picture(
        figure,
        f"Histogram of the dark current of {finite.size:,} science pixels from {number(lowest)} to "
        f"{number(highest)} {RATE_UNIT}, both axes logarithmic; measured {_current(dark)}, expected "
        f"{expected(aim, aim_sigma)} {RATE_UNIT}; robust sigma over pixels {number(sigma)} {RATE_UNIT}.",
        "All science pixels, including hot ones, which the measured value excludes. The axis is linear up to "
        f"about {number(scale, 2)} {RATE_UNIT} and logarithmic beyond, and the bins are equally wide on it. "
        "The Gaussian has the median of the pixels and 1.4826 times their median absolute deviation, the "
        "read noise of a single pixel's slope. Above it on the right lie warm and hot pixels, on the "
        "left pixels that are noisy or were hit. The measured value is compared with the expected one.",
    )


def _signed_decades(plot: Axes, scale: float, low: float, high: float) -> None:
    """Label zero and the powers of ten of either sign from the linear part of the axis on."""
    first = math.ceil(math.log10(scale))
    decades = [10.0**power for power in range(first, first + 16)]
    ticks = [-tick for tick in decades if -tick >= low] + [0.0] + [tick for tick in decades if tick <= high]
    plot.xaxis.set_major_locator(FixedLocator(sorted(ticks)))
    minor = [side * step * tick for tick in decades for step in range(2, 10) for side in (-1, 1)]
    plot.xaxis.set_minor_locator(FixedLocator([tick for tick in sorted(minor) if low <= tick <= high]))
    plot.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: _decade(rate)))
    plot.xaxis.set_minor_formatter(NullFormatter())


def _decade(rate: float) -> str:
    """Return a power of ten as a tick: ``−100``, ``1,000``, ``10⁶``."""
    if abs(rate) < _LONGEST_TICK and (rate == 0 or abs(rate) >= 1e-3):
        return f"{rate:,g}".replace("-", "−")
    power = round(math.log10(abs(rate)))
    return f"{'−' if rate < 0 else ''}10{str(power).translate(_SUPERSCRIPT)}"


def contributions(pixels: NDArray[np.float32], dark: ReferenceResults) -> Picture:
    """Plot a map of the number of measurements in the last group."""
    shown, block = for_page(pixels)
    known = shown[np.isfinite(shown)]
    low, high = (float(known.min()), max(float(known.max()), 1.0)) if known.size else (0.0, 1.0)
    low = min(low, high - 1.0)
    label = "Measurements (integrations)"
    figure = map_of(shown, pixels.shape, "Measurements in the last group", label, (low, high), counts=True)
    inside = pixels[np.isfinite(pixels)]
    fewest, most = (number(float(bound)) for bound in (inside.min(), inside.max())) if inside.size else "––"
    return map_picture(
        figure,
        f"Map of how many of {count(dark.in_use, 'integration')} are used in the last group of each "
        f"pixel, from {fewest} to {most}.",
        f"Of {count(dark.in_use, 'integration')}, the number that {_measures_last_group(dark)}"
        f"{averaged(block)}. Dark specks are pixels that lost measurements, dark discs snowballs.",
        pixels.shape,
    )


def _measures_last_group(dark: ReferenceResults) -> str:
    # A dark that is made of segments goes on after a hit.
    if dark.clipped_mean_pixels is None:
        return "no jump had removed from the mean before the last group"
    return "measure the last group against the group before it"


def map_of(
    shown: NDArray[np.float32],
    full: tuple[int, ...],
    title: str,
    label: str,
    limits: tuple[float, float],
    counts: bool = False,
    marked: tuple[float | None, float | None] = (None, None),
    colours: Colormap = SEQUENTIAL,
) -> Figure:
    """Return a map with its colour bar.

    Parameters
    ----------
    shown : ndarray, 2D (y, x)
        The pixels, averaged for the page.
    full : tuple of int
        Number of pixels (y, x) that `shown` covers. A strip takes the whole width and is stretched in y.
    title, label : str
        Title of the map, and the quantity and unit of the colour bar.
    limits : (float, float)
        Of the colour scale.
    counts : bool
        Whether the values are whole numbers, none of them outside the limits.
    marked : (float, float), optional
        Expected value and its sigma, marked on the colour bar.
    colours : Colormap
    """
    height, width = full
    low, high = limits
    strip = is_strip(full)
    figure, plot = axes(title, 2.1 if strip else 5.0, FULL if strip else HALF)
    drawn = plot.imshow(
        shown,
        origin="lower",
        cmap=colours,
        vmin=low,
        vmax=high,
        interpolation="nearest",
        aspect="auto" if strip else "equal",
        extent=(0, width, 0, height),
    )
    if not strip:
        figure.set_layout_engine("compressed")
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
    value, sigma = marked
    if value is not None and low < value < high:
        bar.ax.axhline(value, color=RED, linewidth=1.6)
        for side in (-1, 1):
            edge = value + side * (sigma or 0.0)
            if low < edge < high:
                bar.ax.axhline(edge, color=RED, linewidth=0.7, linestyle=(0, (2, 1)))
    return figure


def map_picture(figure: Figure, alt: str, caption: str, full: tuple[int, ...]) -> Picture:
    """Return a map as a picture; one of `full` (y, x) pixels that is a strip takes the whole width."""
    return Picture(figure, alt, caption, "wide" if is_strip(full) else "tall")


def averaged(block: int) -> str:
    """Return the note in a caption that an image was averaged for the page; empty if it was not."""
    return "" if block == 1 else f" (averaged here over {block} × {block} pixels)"


def expected_span(plot: Axes, value: float | None, sigma: float | None, upright: bool = False) -> None:
    """Draw the expected value and its sigma across a plot; nothing if no value is expected."""
    if value is None or not np.isfinite(value):
        return
    span, line = (plot.axvspan, plot.axvline) if upright else (plot.axhspan, plot.axhline)
    width = sigma if sigma is not None and np.isfinite(sigma) else 0.0
    if width:
        span(value - width, value + width, color=EXPECTED, alpha=0.22, linewidth=0)
    line(value, color=EXPECTED, linewidth=1.4, label=f"expected, {expected(value, sigma)}")


def _err_is(dark: ReferenceResults) -> str:
    # Products of early versions call notebook mode "reference".
    if dark.mode_name == "notebook":
        return "the scatter of single integrations in a pixel, including reset noise (kTC)"
    return f"the {dark.err_is}; the first group is 0 by construction"


def _current(dark: ReferenceResults) -> str:
    return measured(dark.dark_current_e_per_ks, dark.dark_current_error_e_per_ks)
