"""The flow of a PDF's text, tables and pictures from page to page."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from matplotlib.backends.backend_pdf import PdfPages

from services.report.content import Cell, Table, Words
from services.report.pdf_page import BOTTOM, HEIGHT, MARGIN, TOP, WIDTH, Face, Sheet, wrapped
from services.report.style import FULL, MUTED, RULE, Picture
from services.report.wording import Tone, mark

_SPAN = WIDTH - 2 * MARGIN
_GUTTER = 18.0
_TEXT = Face()
_BOLD = Face(bold=True)
_SMALL = Face(size=7.6, colour=MUTED)
_CELL = Face(size=7.8)
_FILE = Face(size=7.0, family="file")
_HEAD = Face(size=7.4, colour=MUTED, bold=True)
_HEADING = Face(size=13.0, bold=True)
_TITLE = Face(size=20.0, bold=True)
_WARNING = Face(size=9.0, colour="#5a3d00", bold=True)
_MISSING = Face(colour="#5a3d00")
_TONES: dict[Tone, Face] = {
    "good": Face(size=7.8, colour="#00694e", bold=True),
    "off": Face(size=7.8, colour="#b34700", bold=True),
    "none": Face(size=7.8, colour=MUTED),
}
#: Points from the page's width at which pictures were drawn to that of the PDF.
_SHRINK = _SPAN / (FULL * 72.0)
#: Part of its height to which a picture may be made lower, to fit the room that is left.
_LOWEST = 0.72
#: How much higher than the room beside a tall picture a second one may be.
_STACKED = 1.6
#: Least height that must be left for a heading and what it stands over.
_KEPT_TOGETHER = 90.0

_Lines = list[tuple[str, Face]]


class Flow:
    """Puts one thing under another, and goes on to the next page where the room ends.

    Parameters
    ----------
    document : PdfPages
    foot : str
        Stands under every page.
    simulated : bool
        Whether that says that data are simulated.

    Attributes
    ----------
    pages : int
        Written so far.
    """

    def __init__(self, document: PdfPages, foot: str, simulated: bool) -> None:
        self._document = document
        self._foot = f"{foot} · simulated data" if simulated else foot
        self._sheet = Sheet()
        self._y = TOP
        self.pages = 0

    def finish(self) -> None:
        """Write the page begun."""
        face = Face(size=7.0, colour=MUTED)
        number = str(self.pages + 1)
        self._sheet.text(self._foot, MARGIN, 20.0, face)
        self._sheet.text(number, WIDTH - MARGIN - face.width(number), 20.0, face)
        self._sheet.save(self._document)
        self.pages += 1

    def new_page(self) -> None:
        """Go on at the top of the next page."""
        self.finish()
        self._sheet = Sheet()
        self._y = TOP

    def title(self, title: str, lead: str) -> None:
        """Write the head of a part."""
        self._y = HEIGHT - 62.0
        self._lines([(line, _TITLE) for line in wrapped(title, _TITLE, _SPAN)])
        self._lines([(line, Face(size=9.5, colour=MUTED)) for line in wrapped(lead, Face(size=9.5), _SPAN)])
        self._y -= 8.0

    def banner(self, text: str) -> None:
        """Write a warning across the page."""
        lines = wrapped(text, _WARNING, _SPAN - 20.0)
        height = len(lines) * _WARNING.leading + 10.0
        self._need(height)
        self._sheet.box(MARGIN, self._y - height, _SPAN, height, "#ffd98c")
        self._y -= 5.0
        self._lines([(line, _WARNING) for line in lines], indent=10.0)
        self._y -= 10.0

    def heading(self, text: str, over: float = 0.0) -> None:
        """Write the heading of a chapter, on the page of what it stands `over`, points high."""
        self._need(max(over + 2 * _HEADING.leading, _KEPT_TOGETHER))
        self._y -= 10.0
        self._lines([(text, _HEADING)])
        self._y -= 3.0

    def words(self, words: Words) -> None:
        """Write a sentence or some."""
        face = {"plain": _TEXT, "missing": _MISSING, "note": _SMALL}[words.weight]
        width = min(_SPAN, 620.0)
        lead = f"{words.lead} " if words.lead else ""
        lines = wrapped(lead + words.text, face, width)
        for n, line in enumerate(lines):
            self._need(face.leading)
            if n == 0 and words.lead and line.startswith(words.lead):
                # Bold is wider; a line has that much to spare, as its width is not the page's.
                self._sheet.text(words.lead, MARGIN, self._y - face.size, _BOLD)
                rest = MARGIN + _BOLD.width(words.lead + " ")
                self._sheet.text(line.removeprefix(words.lead).lstrip(), rest, self._y - face.size, face)
            else:
                self._sheet.text(line, MARGIN, self._y - face.size, face)
            self._y -= face.leading
        self._y -= 5.0

    def facts(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Write pairs of a name and what is so, four in a row."""
        columns = 4
        width = (_SPAN - (columns - 1) * _GUTTER) / columns
        for start in range(0, len(pairs), columns):
            row: list[_Lines] = [
                [(line, _SMALL) for line in wrapped(name, _SMALL, width)]
                + [(line, _TEXT) for line in wrapped(value, _TEXT, width)]
                for name, value in pairs[start : start + columns]
            ]
            height = max(_height(lines) for lines in row) + 7.0
            self._need(height)
            for column, lines in enumerate(row):
                left = MARGIN + column * (width + _GUTTER)
                self._sheet.rule(left, left + width, self._y, RULE)
                self._put(lines, left, self._y - 2.0)
            self._y -= height
        self._y -= 6.0

    def table(self, table: Table) -> None:
        """Write a table; its head stands on every page that it runs over."""
        edges = _edges(table)
        widths = [right - left - 8.0 for left, right in pairwise(edges)]
        head = [_said(Cell(name), width, _HEAD) for name, width in zip(table.head, widths, strict=True)]
        rows = [[_said(cell, width) for cell, width in zip(row, widths, strict=True)] for row in table.rows]
        first = _row_height(rows[0]) if rows else 0.0
        self._need(_row_height(head) + first)
        self._row(head, edges, "#b9c3cc", 0.9)
        for row in rows:
            if self._y - _row_height(row) < BOTTOM:
                self.new_page()
                self._row(head, edges, "#b9c3cc", 0.9)
            self._row(row, edges, RULE, 0.5)
        self._y -= 8.0

    def pictures(self, pictures: Sequence[Picture]) -> None:
        """Place pictures, two side by side where they are no wider than half the page.

        Where they nearly fit the room that is left, they are made a little lower.
        """
        for row in _picture_rows(pictures):
            width = _SPAN if row[0][0].place == "wide" else (_SPAN - _GUTTER) / 2
            columns = [[(one, wrapped(one.caption, _SMALL, width)) for one in column] for column in row]
            under = max(_captions(column) for column in columns)
            wanted = max(sum(_drawn_height(one) for one, _ in column) for column in columns)
            if self._y - BOTTOM < under + _LOWEST * wanted:
                self._need(under + wanted)
            height = min(wanted, self._y - BOTTOM - under)
            for at, column in enumerate(columns):
                left, top = MARGIN + at * (width + _GUTTER), self._y
                for one, lines in column:
                    own = min(_drawn_height(one), height * _drawn_height(one) / wanted)
                    self._sheet.picture(one.figure, left, top - own, width, own)
                    self._put([(line, _SMALL) for line in lines], left, top - own - 2.0)
                    top -= own + _caption(lines)
            self._y -= height + under

    def _need(self, height: float) -> None:
        if self._y - height < BOTTOM and self._y < TOP:
            self.new_page()

    def _lines(self, lines: _Lines, indent: float = 0.0) -> None:
        self._put(lines, MARGIN + indent, self._y)
        self._y -= _height(lines)

    def _put(self, lines: _Lines, left: float, top: float) -> None:
        for line, face in lines:
            self._sheet.text(line, left, top - face.size, face)
            top -= face.leading

    def _row(self, cells: Sequence[_Lines], edges: Sequence[float], rule: str, weight: float) -> None:
        for lines, left in zip(cells, edges, strict=False):
            self._put(lines, left, self._y - 2.5)
        self._y -= _row_height(cells)
        self._sheet.rule(MARGIN, WIDTH - MARGIN, self._y, rule, weight)


def _height(lines: _Lines) -> float:
    return sum(face.leading for _, face in lines)


def _row_height(cells: Sequence[_Lines]) -> float:
    return max(_height(lines) for lines in cells) + 5.0


def _said(cell: Cell, width: float, face: Face | None = None) -> _Lines:
    """Return a cell's lines; of a verdict the last paragraph is marked, what stands above it is not."""
    *above, last = cell.text.split("\n")
    plain = face or (_FILE if cell.file else _CELL)
    lines = [(line, plain) for text in above for line in wrapped(text, plain, width)]
    if cell.tone is None:
        return lines + [(line, plain) for line in wrapped(last, plain, width)]
    toned = _TONES[cell.tone]
    return lines + [(line, toned) for line in wrapped(mark(last, cell.tone) + last, toned, width)]


def _edges(table: Table) -> list[float]:
    """Return the left edge of each column and the right one of the last."""
    parts = table.widths or _parts(table)
    edges = [MARGIN]
    for part in parts:
        edges.append(edges[-1] + _SPAN * part / sum(parts))
    return edges


def _parts(table: Table) -> list[float]:
    """Share the width out by what the columns hold, bounded so that none starves."""
    columns = zip(table.head, *([cell.text for cell in row] for row in table.rows), strict=True)
    return [min(max(max(len(text) for text in column), 8), 48) ** 0.8 for column in columns]


def first_picture_height(pictures: Sequence[Picture]) -> float:
    """Return how much room a heading must find under itself where pictures follow."""
    return _LOWEST * _drawn_height(pictures[0]) + 60.0 if pictures else 0.0


def _drawn_height(one: Picture) -> float:
    return float(one.figure.get_figheight()) * 72.0 * _SHRINK


def _caption(lines: Sequence[str]) -> float:
    return len(lines) * _SMALL.leading + 12.0


def _captions(column: Sequence[tuple[Picture, list[str]]]) -> float:
    return sum(_caption(lines) for _, lines in column)


def _picture_rows(pictures: Sequence[Picture]) -> Iterator[list[list[Picture]]]:
    """Yield rows of one or two columns: a wide picture alone, others in pairs; the order stays.

    Beside a tall one, two low ones stand under each other, as on the HTML page.
    """
    left = list(pictures)
    while left:
        first = left.pop(0)
        if first.place == "wide" or not left or left[0].place == "wide":
            yield [[first]]
            continue
        beside = [left.pop(0)]
        room = _drawn_height(first) - _drawn_height(beside[0])
        if left and not left[0].place and first.place == "tall" and _drawn_height(left[0]) <= _STACKED * room:
            beside.append(left.pop(0))
        yield [[first], beside]
