"""Pages of a PDF as matplotlib writes them: text that stays text, rules, and pictures at their places."""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from matplotlib.artist import Artist
from matplotlib.backends.backend_pdf import FigureCanvasPdf, Op, PdfPages
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.textpath import text_to_path

from services.report.style import INK

#: Points: A4, lying; half-width pictures then keep the size at which they were drawn.
WIDTH, HEIGHT = 841.9, 595.3
MARGIN = 40.0
#: The first line under the head of a page, and the last above its foot.
TOP, BOTTOM = HEIGHT - 46.0, 40.0

_INCH = 72.0
_FAMILIES = {"text": "DejaVu Sans", "file": "DejaVu Sans Mono"}

Family = Literal["text", "file"]

#: What the pictures of a PDF need: matplotlib's own font, whole TrueType characters that can be searched.
STYLE = {"pdf.fonttype": 42, "font.sans-serif": ["DejaVu Sans"], "pdf.compression": 6}


@dataclass(frozen=True)
class Face:
    """How text looks: its size in points, colour and font."""

    size: float = 9.0
    colour: str = INK
    bold: bool = False
    family: Family = "text"

    @property
    def leading(self) -> float:
        """Points from one line to the next."""
        return self.size * 1.38

    def width(self, text: str) -> float:
        """Return how wide `text` is, in points."""
        return _width(text, self.size, self.bold, self.family)

    @property
    def font(self) -> FontProperties:
        """The font as matplotlib names it."""
        return _font(self.size, self.bold, self.family)


@lru_cache(maxsize=64)
def _font(size: float, bold: bool, family: Family) -> FontProperties:
    return FontProperties(family=_FAMILIES[family], size=size, weight="bold" if bold else "normal")


@lru_cache(maxsize=20_000)
def _width(text: str, size: float, bold: bool, family: Family) -> float:
    # Widths grow with the size, so one measurement serves all sizes of a font.
    width, _, _ = text_to_path.get_text_width_height_descent(text, _font(100.0, bold, family), ismath=False)
    return float(width) * size / 100.0


def wrapped(text: str, face: Face, width: float) -> list[str]:
    """Return `text` in lines no wider than `width` points.

    Lines break between words; a word that is too wide, such as a file's name, breaks anywhere.
    """
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split():
            grown = f"{line} {word}" if line else word
            if face.width(grown) <= width:
                line = grown
                continue
            if line:
                lines.append(line)
            line = word
            while face.width(line) > width and len(line) > 1:
                fits = next((n for n in range(len(line) - 1, 1, -1) if face.width(line[:n]) <= width), 1)
                lines.append(line[:fits])
                line = line[fits:]
        lines.append(line)
    return lines


class _Placed(Artist):
    """A finished figure, drawn with its lower left corner at a place of the page."""

    def __init__(self, figure: Figure, left: float, bottom: float) -> None:
        super().__init__()
        self._drawn, self._left, self._bottom = figure, left, bottom

    def draw(self, renderer: Any) -> None:
        # The page's own graphics state is closed first, so that the shift below holds for nothing else.
        renderer.finalize()
        file = renderer.file
        file.output(Op.gsave, 1, 0, 0, 1, self._left, self._bottom, Op.concat_matrix)
        self._drawn.dpi = _INCH
        self._drawn.draw(renderer)
        renderer.finalize()
        file.output(Op.grestore)


@dataclass
class Sheet:
    """One page, filled from the top; every measure is in points from its lower left corner."""

    figure: Figure = field(
        default_factory=lambda: Figure(figsize=(WIDTH / _INCH, HEIGHT / _INCH), dpi=_INCH, layout=None)
    )

    def __post_init__(self) -> None:
        FigureCanvasPdf(self.figure)

    def text(self, text: str, left: float, baseline: float, face: Face) -> None:
        """Write one line."""
        self.figure.text(
            left / WIDTH,
            baseline / HEIGHT,
            text,
            color=face.colour,
            fontproperties=face.font,
            va="baseline",
            parse_math=False,
        )

    def rule(self, left: float, right: float, y: float, colour: str, width: float = 0.6) -> None:
        """Draw a line across."""
        self.figure.add_artist(
            Line2D([left / WIDTH, right / WIDTH], [y / HEIGHT] * 2, color=colour, linewidth=width)
        )

    def box(self, left: float, bottom: float, width: float, height: float, colour: str) -> None:
        """Fill a rectangle."""
        place = (left / WIDTH, bottom / HEIGHT)
        self.figure.add_artist(
            Rectangle(
                place,
                width / WIDTH,
                height / HEIGHT,
                facecolor=colour,
                linewidth=0,
                transform=self.figure.transFigure,
                zorder=-1,
            )
        )

    def picture(self, figure: Figure, left: float, bottom: float, width: float, height: float) -> None:
        """Place a picture, laid out anew for its size; its text keeps its size."""
        figure.set_size_inches(width / _INCH, height / _INCH)
        self.figure.add_artist(_Placed(figure, left, bottom))

    def save(self, pages: PdfPages) -> None:
        """Append the page to a document."""
        pages.savefig(self.figure)
