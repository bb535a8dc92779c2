"""Plots of the flagged pixels of a dark reference, from its DQ plane.

UNRELIABLE_DARK has a picture of its own. It says that too little was measured in a pixel, which is so of a
whole amplifier or of the rim of a snowball, whereas the other flags say what a pixel is like. In one picture
the first would hide the others.
"""

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter
from numpy.typing import NDArray

from nircam_darks.report.plots.images import for_page, is_strip
from nircam_darks.report.plots.style import (
    BLUE,
    FULL,
    GREEN,
    HALF,
    INK,
    ORANGE,
    PURPLE,
    RED,
    Picture,
    Place,
    axes,
)
from nircam_darks.report.text import count, number
from shared.nircam.dq import PixelFlag
from shared.nircam.geometry import science_pixels
from shared.products.reference import ReferenceResults

#: What a pixel is like: flag, colour and marker; most frequent first, so that rarer ones are drawn over them.
KINDS = (
    ("warm", PixelFlag.WARM, ORANGE, "s"),
    ("telegraph", PixelFlag.TELEGRAPH, INK, "D"),
    ("RC", PixelFlag.RC, GREEN, "^"),
    ("hot", PixelFlag.HOT, RED, "s"),
    ("dead", PixelFlag.DEAD, BLUE, "v"),
)
#: Marker sizes, in points squared: on a full frame, and on a small subarray with its larger pixels.
_SMALL_MARK, _LARGE_MARK = 2.0, 9.0

#: The colour of UNRELIABLE_DARK, from none to all of the pixels that a point of the page stands for.
_SHARE = LinearSegmentedColormap.from_list("unreliable", ["#ffffff", "#d9bdd1", PURPLE, "#3d1f34"], N=128)
_SHARE_TICKS = (0.0, 1.0, 5.0, 20.0, 50.0, 100.0)


def bad_pixels(quality: NDArray[np.uint32], reference: ReferenceResults) -> Picture:
    """Plot the positions of the pixels that a dark reference flags, those merely UNRELIABLE_DARK left out.

    Parameters
    ----------
    quality : ndarray of uint32, 2D (y, x)
        The DQ plane.
    reference : ReferenceResults
    """
    height, width = quality.shape
    figure = _frame("Bad pixels", quality.shape)
    plot = figure.axes[0]
    size = _SMALL_MARK if max(quality.shape) > 700 else _LARGE_MARK
    counts = {}
    for name, flag, colour, marker in KINDS:
        y, x = np.nonzero(quality & flag.mask)
        counts[name] = len(x)
        # Rasterized: thousands of vector markers would make up most of the file.
        plot.scatter(
            x + 0.5,
            y + 0.5,
            s=size,
            marker=marker,
            color=colour,
            linewidths=0,
            rasterized=True,
            label=f"{name}, {len(x):,}",
        )
    figure.legend(
        loc="outside lower center",
        ncols=5 if is_strip(quality.shape) else 3,
        markerscale=1.6 if size == _LARGE_MARK else 3.5,
        labelcolor=INK,
    )
    by_flag = ", ".join(f"{pixels:,} {name}" for name, pixels in counts.items())
    flagged = int(np.count_nonzero(quality & ~PixelFlag.UNRELIABLE_DARK.mask))
    return Picture(
        figure,
        f"Map of the bad pixels of {reference.key.subarray}, {width} by {height} pixels: {by_flag}.",
        f"{count(flagged, 'pixel')} with a DQ flag other than UNRELIABLE_DARK, some with several; markers "
        "are larger than a pixel. Hot and warm pixels occur singly or in small clusters; flagged lines or "
        "corners point to a fault of the readout or of the set.",
        _place(quality.shape),
    )


def unreliable_pixels(quality: NDArray[np.uint32], reference: ReferenceResults) -> Picture:
    """Plot where the pixels are that a dark reference flags as UNRELIABLE_DARK.

    Parameters
    ----------
    quality : ndarray of uint32, 2D (y, x)
        The DQ plane.
    reference : ReferenceResults
    """
    height, width = quality.shape
    science = science_pixels(reference.key)
    unreliable = (quality & PixelFlag.UNRELIABLE_DARK.mask) != 0
    percent = np.where(science, unreliable * np.float32(100), np.float32(np.nan))
    shown, block = for_page(percent.astype(np.float32))
    figure = _frame("Unreliable pixels", quality.shape)
    plot = figure.axes[0]
    # The root makes a single pixel visible among the 25 that a point of a full frame stands for.
    drawn = plot.imshow(
        shown,
        origin="lower",
        cmap=_SHARE.with_extremes(bad="#c9ced3"),
        norm=PowerNorm(0.5, vmin=0.0, vmax=100.0),
        interpolation="nearest",
        aspect=plot.get_aspect(),
        extent=(0, width, 0, height),
    )
    strip = is_strip(quality.shape)
    bar = figure.colorbar(
        drawn,
        ax=plot,
        ticks=FixedLocator(_SHARE_TICKS),
        format=FuncFormatter(lambda share, _: f"{share:g} %"),
        shrink=1.0 if strip else 0.82,
        pad=0.02,
        aspect=12 if strip else 28,
    )
    bar.set_label("UNRELIABLE_DARK")
    bar.outline.set_linewidth(0.5)
    total, pixels = int(np.count_nonzero(science)), int(np.count_nonzero(unreliable & science))
    share = f"{number(100 * pixels / total)} %" if total else "–"
    each = f"the share of {block} × {block} pixels" if block > 1 else "one pixel"
    return Picture(
        figure,
        f"Map of the pixels of {reference.key.subarray}, {width} by {height}, with UNRELIABLE_DARK: "
        f"{pixels:,} of {total:,} science pixels, {share}.",
        f"{count(pixels, 'science pixel')} with UNRELIABLE_DARK, {share} of all{_reasons(reference)}. Each "
        f"point is {each}; reference pixels are grey. Single points are cosmic-ray hits or noisy pixels, "
        "discs are snowballs; a filled amplifier or frame means that the set has too few measurements there.",
        _place(quality.shape),
    )


def _reasons(reference: ReferenceResults) -> str:
    counts = reference.flagged_pixels or {}
    few, noisy = counts.get("few_measurements"), counts.get("noisy")
    if few is None or noisy is None:
        return ""
    return f": {few:,.0f} for too few measurements, {noisy:,.0f} for their noise"


def _frame(title: str, shape: tuple[int, ...]) -> Figure:
    """Return a figure with the axes of a detector of this shape (y, x)."""
    height, width = shape
    strip = is_strip(shape)
    figure, plot = axes(title, 2.6 if strip else 5.0, FULL if strip else HALF)
    plot.set_xlim(0, width)
    plot.set_ylim(0, height)
    plot.set_aspect("auto" if strip else "equal")
    if not strip:
        figure.set_layout_engine("compressed")
    plot.grid(visible=False)
    plot.spines[["top", "right"]].set_visible(True)
    plot.set_xlabel("x (pixel)")
    plot.set_ylabel("y (pixel)")
    return figure


def _place(shape: tuple[int, ...]) -> Place:
    return "wide" if is_strip(shape) else "tall"
