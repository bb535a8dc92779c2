"""How every picture of the report looks, defined once."""

import base64
import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from PIL import Image

INK = "#17212b"
MUTED = "#5d6b78"
RULE = "#d5dbe1"
# Okabe and Ito's set, which keeps apart for every kind of colour vision.
BLUE = "#0072b2"
RED = "#d55e00"
GREEN = "#009e73"
ORANGE = "#e69f00"
PURPLE = "#9a5b86"
#: One a amplifier, in this order.
AMPLIFIERS = (BLUE, ORANGE, GREEN, PURPLE)
#: What is expected, wherever it is drawn.
EXPECTED = "#8a949e"

#: Lightness rises from end to end, so it also reads in grey and in print.
SEQUENTIAL = LinearSegmentedColormap.from_list(
    "darks",
    ["#0c1a2b", "#173f63", "#1f6f8b", "#4f9d94", "#a3c59b", "#eadfae", "#fff3d6"],
    # As many steps as an eye tells apart in noise: more would only make the page's file larger.
    N=128,
    bad="#c9ced3",
)

_RC = {
    "font.family": "sans-serif",
    # The page's own fonts: text stays text in the SVG, so it can be searched and read aloud.
    "font.sans-serif": ["Helvetica Neue", "Arial", "Liberation Sans", "DejaVu Sans"],
    "svg.fonttype": "none",
    "svg.hashsalt": "nircam-darks",
    "font.size": 9.0,
    "text.color": INK,
    "axes.edgecolor": "#9aa5af",
    "axes.labelcolor": INK,
    "axes.labelsize": 9.0,
    "axes.linewidth": 0.8,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "axes.unicode_minus": True,
    "grid.color": "#e8ecef",
    "grid.linewidth": 0.7,
    "xtick.color": "#9aa5af",
    "ytick.color": "#9aa5af",
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "xtick.major.size": 3.0,
    "ytick.major.size": 3.0,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}

#: A PNG inside an SVG, as matplotlib writes it.
_EMBEDDED = re.compile(rb"(data:image/png;base64,)\s*([A-Za-z0-9+/=]+)")

#: Inches: half the page's width, and all of it.
HALF = 5.6
FULL = 11.4
#: Rasters inside an SVG are resampled to this many dots an inch.
RASTER_DPI = 96


Place = Literal["", "wide", "tall"]


@dataclass(frozen=True)
class Picture:
    """One picture of the report, drawn when a page asks for it.

    Attributes
    ----------
    figure : matplotlib.figure.Figure
    alt : str
        What it shows, for who cannot see it.
    caption : str
        One sentence on how to read it.
    place : ``""``, ``"wide"`` or ``"tall"``
        Half the page's width, all of it, or half of it beside two others.
    """

    figure: Figure
    alt: str
    caption: str
    place: Place = ""

    @property
    def svg(self) -> str:
        """Base64 of the picture as an SVG file; call inside `styled`."""
        drawn = io.BytesIO()
        self.figure.savefig(drawn, format="svg", dpi=RASTER_DPI, metadata={"Date": None})
        return base64.b64encode(_EMBEDDED.sub(_with_palette, drawn.getvalue())).decode()


@contextmanager
def styled(changes: Mapping[str, object] | None = None) -> Iterator[None]:
    """Make figures inside this ``with`` in the report's style, whatever the user's matplotlibrc says.

    Parameters
    ----------
    changes : mapping of str to object, optional
        Further rcParams, over the report's own.
    """
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_RC)
        mpl.rcParams.update(changes or {})
        yield


def axes(title: str, height: float, width: float = HALF) -> tuple[Figure, Axes]:
    """Return a figure with one pair of axes, titled; call inside `styled`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    plot: Axes = figure.add_subplot()
    plot.set_title(title)
    return figure, plot


def legend_below(plot: Axes, columns: int) -> None:
    """Put the legend under the axis label, where it hides no data, however low the picture is made."""
    handles, labels = plot.get_legend_handles_labels()
    plot.figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def picture(figure: Figure, alt: str, caption: str, place: Place = "") -> Picture:
    """Return a finished figure with its words."""
    return Picture(figure, alt, caption, place)


def _with_palette(embedded: re.Match[bytes]) -> bytes:
    """Write an embedded PNG with a palette, which for a map of noise takes a quarter of the bytes."""
    with Image.open(io.BytesIO(base64.b64decode(embedded[2]))) as full:
        if full.getchannel("A").getextrema() != (255, 255):
            return embedded[0]
        opaque = full.convert("RGB")
    if opaque.getcolors(256) is None:
        return embedded[0]
    small = io.BytesIO()
    opaque.quantize(256, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return embedded[1] + base64.b64encode(small.getvalue())
