"""The picture of a dark's bad pixels, from its DQ plane."""

import numpy as np
from numpy.typing import NDArray

from services.darkref.pixel_flags import DEAD, HOT, RC, UNRELIABLE_DARK, WARM
from services.darkref.products import ReferenceFacts
from services.report.images import is_strip
from services.report.style import (
    BLUE,
    FULL,
    GREEN,
    HALF,
    INK,
    ORANGE,
    PURPLE,
    RED,
    Picture,
    axes,
    picture,
)
from services.report.wording import count

#: The flags that a dark may carry, the commonest first so that the rarer are drawn over it.
FLAGS = (
    ("unreliable", UNRELIABLE_DARK, PURPLE),
    ("warm", WARM, ORANGE),
    ("RC", RC, GREEN),
    ("hot", HOT, RED),
    ("dead", DEAD, BLUE),
)
#: Points of a mark on a small subarray, and on a full frame, where single pixels would not be seen.
_SMALL_MARK, _LARGE_MARK = 2.0, 9.0


def bad_pixels(quality: NDArray[np.uint32], facts: ReferenceFacts) -> Picture:
    """Draw where the pixels lie that a dark flags.

    Parameters
    ----------
    quality : ndarray of uint32, 2D (y, x)
        DQ.
    facts : ReferenceFacts
    """
    height, width = quality.shape
    strip = is_strip(quality.shape)
    figure, plot = axes("Bad pixels", 2.6 if strip else 5.0, FULL if strip else HALF)
    size = _SMALL_MARK if max(quality.shape) > 700 else _LARGE_MARK
    found = {}
    for name, bit, colour in FLAGS:
        y, x = np.nonzero(quality & bit)
        found[name] = len(x)
        # Thousands of marks as vectors would outweigh the rest of the page.
        label = f"{name}, {len(x):,}"
        plot.scatter(
            x + 0.5, y + 0.5, s=size, marker="s", color=colour, linewidths=0, rasterized=True, label=label
        )
    plot.set_xlim(0, width)
    plot.set_ylim(0, height)
    plot.set_aspect("auto" if strip else "equal")
    plot.grid(visible=False)
    plot.spines[["top", "right"]].set_visible(True)
    plot.set_xlabel("x (pixel)")
    plot.set_ylabel("y (pixel)")
    figure.legend(
        loc="outside lower center",
        ncols=5 if strip else 3,
        markerscale=1.6 if size == _LARGE_MARK else 3.5,
        labelcolor=INK,
    )
    said = ", ".join(f"{number:,} {name}" for name, number in found.items())
    return picture(
        figure,
        f"Map of the flagged pixels of {facts.key.subarray}, {width} by {height} pixels: {said}.",
        f"{count(int(np.count_nonzero(quality)), 'pixel')} with a flag in DQ, some with several; marks are "
        "larger than a pixel. Hot and warm pixels lie singly or in small clusters; lines and corners are a "
        "fault of the readout or of the set.",
        "wide" if strip else "tall",
    )
