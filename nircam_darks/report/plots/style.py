"""The look of every plot of the report: colours, fonts and sizes."""

import base64
import io
import logging
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

_logger = logging.getLogger(__name__)

INK = "#17212b"
MUTED = "#5d6b78"
RULE = "#d5dbe1"
# The palette of Okabe and Ito (2008), distinguishable with any kind of colour vision.
BLUE = "#0072b2"
RED = "#d55e00"
GREEN = "#009e73"
ORANGE = "#e69f00"
PURPLE = "#9a5b86"
#: One colour per amplifier, in this order.
AMPLIFIERS = (BLUE, ORANGE, GREEN, PURPLE)
#: Expected values, in every plot.
EXPECTED = "#8a949e"

#: Lightness rises monotonically, so the map can also be read in grey and in print.
SEQUENTIAL = LinearSegmentedColormap.from_list(
    "darks",
    ["#0c1a2b", "#173f63", "#1f6f8b", "#4f9d94", "#a3c59b", "#eadfae", "#fff3d6"],
    # More steps than the eye distinguishes in noise would only make the file larger.
    N=128,
    bad="#c9ced3",
)

#: Blue through white to red, the ends of the same lightness: distinguishable with any kind of colour vision.
DIVERGING = LinearSegmentedColormap.from_list(
    "change", ["#00406b", BLUE, "#9cc9e4", "#f7f7f5", "#f2b48c", RED, "#6e2f00"], N=128, bad="#c9ced3"
)

_RC = {
    "font.family": "sans-serif",
    # The fonts of the page. Text stays text in the SVG, so it can be searched and read aloud.
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

#: Inches: half the width of the page, and its full width.
HALF = 5.6
FULL = 11.4
#: Images inside an SVG are resampled to this many dots per inch.
RASTER_DPI = 96


Place = Literal["", "wide", "tall"]


@dataclass(frozen=True)
class Picture:
    """One plot of the report, which is rendered when a page needs it.

    Attributes
    ----------
    figure : matplotlib.figure.Figure
    alt : str
        Description of the plot, for those who cannot see it.
    caption : str
        How to read the plot.
    place : ``""``, ``"wide"`` or ``"tall"``
        Half the width of the page, all of it, or half of it and as high as two others.
    """

    figure: Figure
    alt: str
    caption: str
    place: Place = ""

    @property
    def svg(self) -> str:
        """Base64 of the picture as an SVG file; call inside `styled`.

        A plot that cannot be drawn is replaced by an empty one that says so: pages are rendered one after
        the other, and the other plots are still of use.
        """
        try:
            drawn = _as_svg(self.figure)
        except Exception:
            _logger.exception("a plot of the report could not be drawn: %s", self.alt)
            empty = Figure(figsize=tuple(self.figure.get_size_inches()))
            FigureCanvasSVG(empty)
            empty.text(0.5, 0.5, "This plot could not be drawn", ha="center", va="center", color=MUTED)
            drawn = _as_svg(empty)
        return base64.b64encode(_EMBEDDED.sub(_with_palette, drawn)).decode()


def _as_svg(figure: Figure) -> bytes:
    drawn = io.BytesIO()
    figure.savefig(drawn, format="svg", dpi=RASTER_DPI, metadata={"Date": None})
    return drawn.getvalue()


@contextmanager
def styled(changes: Mapping[str, object] | None = None) -> Iterator[None]:
    """Give figures made inside this ``with`` the style of the report, whatever the user's matplotlibrc says.

    Parameters
    ----------
    changes : mapping of str to object, optional
        Further rcParams, which override those of the report.
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
    """Put the legend below the axis label, where it hides no data, however flat the plot is."""
    handles, labels = plot.get_legend_handles_labels()
    plot.figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def nothing_to_draw(figure: Figure, what: str, reason: str, place: Place = "") -> Picture:
    """Return a plot without data as a picture that says why it is empty.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        With its title and the labels of its axes.
    what : str
        What the plot would show.
    reason : str
    place : Place
        As of the plot.
    """
    for plot in figure.axes:
        plot.set_xticks([])
        plot.set_yticks([])
    sentence = f"{reason[:1].upper()}{reason[1:]}"
    figure.text(0.5, 0.5, sentence, ha="center", va="center", color=MUTED)
    return Picture(figure, f"{what}: {reason}.", f"{sentence}, so there is nothing to draw.", place)


def _with_palette(embedded: re.Match[bytes]) -> bytes:
    """Return an embedded PNG with a palette, which for a map of noise takes a quarter of the bytes."""
    with Image.open(io.BytesIO(base64.b64decode(embedded[2]))) as full:
        if full.getchannel("A").getextrema() != (255, 255):
            return embedded[0]
        opaque = full.convert("RGB")
    if opaque.getcolors(256) is None:
        return embedded[0]
    small = io.BytesIO()
    opaque.quantize(256, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return embedded[1] + base64.b64encode(small.getvalue())
