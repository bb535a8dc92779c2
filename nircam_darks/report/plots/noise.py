"""Plots of the noise of one set."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator
from numpy.typing import NDArray

from nircam_darks.report.plots.images import bins_for, draw_gaussian, for_page, robust_limits
from nircam_darks.report.plots.reference import averaged, expected_span, map_of, map_picture
from nircam_darks.report.plots.style import (
    AMPLIFIERS,
    BLUE,
    EXPECTED,
    FULL,
    GREEN,
    INK,
    PURPLE,
    RED,
    Picture,
    axes,
    legend_below,
    nothing_to_draw,
)
from nircam_darks.report.text import count, measured, number
from services.noise.effective.effective_noise import TABLE_SECONDS
from shared.nircam.geometry import amplifiers, science_pixels
from shared.products.noise import EffectiveNoiseCurve, SetNoiseResults

#: Numbers of groups labelled on the upper axis, which is logarithmic.
_GROUPS_SHOWN = (2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500)


def effective_noise(noise: SetNoiseResults) -> Picture:
    """Plot effective noise against the duration of a ramp.

    Parameters
    ----------
    noise : SetNoiseResults
        Its curve has at least one point.
    """
    curve, spatial = noise.curve, noise.spatial_effective_noise
    figure, plot = axes("Effective noise of a ramp, by its duration", 4.2, FULL)
    if not np.isfinite([*curve.spatial, *curve.theory, *(curve.temporal or [])]).any():
        return nothing_to_draw(figure, "Effective noise of a ramp", "no effective noise was measured", "wide")
    plot.set_title(plot.get_title(loc="left"), pad=30.0)
    _draw_theory(plot, noise)
    _draw_measured(plot, curve)
    plot.set_xlabel("Time from first to last group used (s)")
    plot.set_ylabel("Effective noise (e⁻)")
    plot.set_ylim(bottom=0)
    plot.set_xscale("log")
    plot.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    plot.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:g}"))
    plot.xaxis.set_minor_formatter(NullFormatter())
    plot.margins(x=0.03)
    if len(curve.groups) > 1:
        _groups_above(plot, curve)
    legend_below(plot, 5)
    is_fitted = noise.theory_fit is not None and noise.theory_fit.curve is not None
    thin = "; thin lines are single amplifiers" if len(curve.spatial_by_amplifier) > 1 else ""
    fitted = "; the fitted theory has this detector's own terms p0 and p1" if is_fitted else ""
    temporal = "temporal" if curve.temporal is not None else "no temporal"
    return Picture(
        figure,
        f"Effective noise in e⁻ against ramp duration in s: spatial, {temporal}, and theory; at "
        f"{curve.groups[-1]} groups spatial {_e(spatial.value, spatial.error)}, "
        f"theory {number(curve.theory[-1])} e⁻.",
        "Noise of the signal that a line fitted to the first groups of a ramp gives: spatial from pixel to "
        f"pixel in one ramp, temporal from ramp to ramp in one pixel{thin}. The theory is that of the "
        f"channel, not fitted to this detector{fitted}. A spatial curve above "
        "the temporal one is structure that repeats in every ramp.",
        place="wide",
    )


def _draw_theory(plot: Axes, noise: SetNoiseResults) -> None:
    """Draw the channel's theory, the one fitted to this detector, and the expected value."""
    curve, expected = noise.curve, noise.spatial_effective_noise
    plot.plot(
        curve.seconds,
        curve.theory,
        color=INK,
        linewidth=1.2,
        linestyle=(0, (5, 2)),
        label="theory (Rauscher 2007)",
    )
    if noise.theory_fit is not None and noise.theory_fit.curve is not None:
        fitted = "theory fitted to the spatial noise"
        plot.plot(curve.seconds, noise.theory_fit.curve, color=PURPLE, linewidth=1.4, label=fitted)
    if expected.expected is not None:
        plot.errorbar(
            [TABLE_SECONDS],
            [expected.expected],
            [expected.expected_sigma or 0.0],
            color=EXPECTED,
            fmt="D",
            capsize=4,
            label=f"expected {measured(expected.expected, expected.expected_sigma)} e⁻",
        )


def _draw_measured(plot: Axes, curve: EffectiveNoiseCurve) -> None:
    """Draw the measured curves, those of single amplifiers thin."""
    _by_amplifier(plot, curve, curve.spatial_by_amplifier, BLUE)
    _by_amplifier(plot, curve, curve.temporal_by_amplifier, RED)
    plot.plot(curve.seconds, curve.spatial, color=BLUE, marker="o", markersize=3.5, label="spatial")
    if curve.temporal is not None:
        plot.plot(curve.seconds, curve.temporal, color=RED, marker="s", markersize=3.5, label="temporal")
    if curve.reference_pixels is not None:
        plot.plot(
            curve.seconds,
            curve.reference_pixels,
            color=GREEN,
            linewidth=1.2,
            marker="^",
            markersize=3.0,
            label="reference pixels",
        )


def cds_map(pixels: NDArray[np.float32], noise: SetNoiseResults) -> Picture:
    """Plot a map of the CDS noise."""
    shown, block = for_page(pixels)
    low, high = robust_limits(shown)
    marked = noise.cds_noise.expected, noise.cds_noise.expected_sigma
    figure = map_of(
        shown, pixels.shape, "CDS noise of each pixel", "CDS noise (e⁻)", (low, high), marked=marked
    )
    return map_picture(
        figure,
        f"Map of the CDS noise over {noise.key.subarray}, {pixels.shape[1]} by {pixels.shape[0]} pixels, "
        f"shown from {number(low)} to {number(high)} e⁻.",
        f"Standard deviation of the difference of two successive groups in each pixel{averaged(block)}. The "
        "colour scale excludes extreme outliers; the mark on the colour bar is the expected value. Bright "
        "columns or stripes come from noisy readout; single bright pixels are themselves noisy.",
        pixels.shape,
    )


def cds_histogram(pixels: NDArray[np.float32], noise: SetNoiseResults) -> Picture:
    """Plot the distribution of CDS noise over the pixels of each amplifier."""
    science = science_pixels(noise.key)
    stripes = amplifiers(noise.key)
    low, high = robust_limits(np.where(science, pixels, np.nan))
    # Beside the map, it stands alone or above the plot of the amplifiers.
    several = len(stripes) > 1
    title = "CDS noise over pixels, by amplifier" if several else "CDS noise over pixels"
    figure, plot = axes(title, 2.9 if several else 4.9)
    expected_span(plot, noise.cds_noise.expected, noise.cds_noise.expected_sigma, upright=True)
    for amplifier, (columns, colour) in enumerate(zip(stripes, AMPLIFIERS, strict=False), start=1):
        inside = pixels[:, columns][science[:, columns]]
        finite = inside[np.isfinite(inside)]
        plot.hist(
            finite,
            bins=bins_for(finite),
            range=(low, high),
            histtype="step",
            color=colour,
            linewidth=1.4,
            label=f"amplifier {amplifier}",
        )
        draw_gaussian(plot, finite, low, high, colour)
    plot.set_xlabel("CDS noise (e⁻)")
    plot.set_ylabel("Pixels")
    plot.set_xlim(low, high)
    legend_below(plot, 2)
    return Picture(
        figure,
        "Histogram of the CDS noise of science pixels, one line for each of "
        f"{count(len(stripes), 'amplifier')}; in all {_e(noise.cds_noise.value, noise.cds_noise.error)}.",
        ("Amplifiers whose peaks do not coincide differ in gain or noise. " if several else "")
        + "Dashed: the Gaussian with the median of the pixels and 1.4826 times their median absolute "
        "deviation. The tail to its right is pixels noisier than most.",
    )


def cds_by_amplifier(noise: SetNoiseResults) -> Picture:
    """Plot the CDS noise of each amplifier over the expected value."""
    values = noise.cds_noise_by_amplifier_e
    places = np.arange(1, len(values) + 1)
    figure, plot = axes("CDS noise by amplifier", 2.9)
    expected_span(plot, noise.cds_noise.expected, noise.cds_noise.expected_sigma)
    plot.scatter(places, values, s=70, color=AMPLIFIERS[: len(values)], zorder=3)
    for place, value in zip(places, values, strict=True):
        plot.annotate(number(value, 4), (place, value), (9, 0), textcoords="offset points", va="center")
    plot.set_xlabel("Amplifier")
    plot.set_ylabel("CDS noise (e⁻)")
    plot.set_xlim(0.5, len(values) + 0.7)
    plot.set_xticks(places)
    plot.margins(y=0.3)
    plot.grid(visible=False, axis="x")
    legend_below(plot, 1)
    return Picture(
        figure,
        f"CDS noise in e⁻ of {count(len(values), 'amplifier')}: {', '.join(number(v, 4) for v in values)}.",
        "The amplifiers of one detector should agree with each other and lie in the grey band. The axis does "
        "not start at zero.",
    )


def _groups_above(plot: Axes, curve: EffectiveNoiseCurve) -> None:
    shown = [at for at, n in enumerate(curve.groups) if n in _GROUPS_SHOWN or n == curve.groups[-1]]
    if len(shown) > 1 and curve.groups[shown[-1]] < 1.2 * curve.groups[shown[-2]]:
        del shown[-2]
    above = plot.secondary_xaxis("top")
    above.set_xticks([curve.seconds[at] for at in shown], labels=[str(curve.groups[at]) for at in shown])
    above.xaxis.set_minor_locator(NullLocator())
    above.set_xlabel("Groups used")


def _by_amplifier(
    plot: Axes, curve: EffectiveNoiseCurve, lines: list[list[float]] | None, colour: str
) -> None:
    if lines is None or len(lines) < 2:
        return
    for line in lines:
        plot.plot(curve.seconds, line, color=colour, linewidth=0.7, alpha=0.35)


def _e(value: float | None, error: float | None) -> str:
    return f"{measured(value, error)} e⁻"
