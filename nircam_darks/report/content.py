"""The content of the report, independent of its format: pages of chapters of text, tables and plots."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from nircam_darks.report.plots.style import Picture
from nircam_darks.report.text import Tone

#: How a paragraph is set: as body text, as a warning that something is missing or waits for a person, as the
#: statement that something was rejected, or as a small note.
Weight = Literal["plain", "missing", "rejected", "note"]


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of text.

    Attributes
    ----------
    text : str
    lead : str
        Set in bold before the text.
    weight : Weight
    link : (str, str) or None
        Text and address of a link that follows the text.
    """

    text: str
    lead: str = ""
    weight: Weight = "plain"
    link: tuple[str, str] | None = None


@dataclass(frozen=True)
class Properties:
    """Pairs of a name and a value."""

    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes
    ----------
    text : str
        In a cell with a verdict, the last line is the verdict.
    tone : Tone or None
        How the verdict is marked; None for a cell without a verdict.
    file : bool
        Whether the text is a file name, which is set in a fixed-width font and may break anywhere.
    note : str
        Set small below the verdict: what was compared, or why nothing was.
    """

    text: str
    tone: Tone | None = None
    file: bool = False
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Rows under a head; every row is as long as the head.

    Attributes
    ----------
    head : sequence of str
    rows : sequence of sequence of Cell
    widths : sequence of float or None
        Fraction of the page's width that each column takes; by default, columns are as wide as their text.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    widths: Sequence[float] | None = None


@dataclass(frozen=True)
class FigureRow:
    """One measured figure as the page shows it, beside its expected value and the verdict.

    `note` says which value was compared where that is not `value`, or why none was.
    """

    name: str
    value: str
    unit: str
    expected: str
    verdict: str
    tone: Tone
    note: str = ""


@dataclass(frozen=True)
class Pictures:
    """Plots, which the format arranges side by side."""

    pictures: Sequence[Picture]


Block = Paragraph | Properties | Table | Pictures


@dataclass(frozen=True)
class Chapter:
    """Blocks under a heading; a chapter without a title has no heading."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class SetEntry:
    """A set of exposures as the index lists it.

    Attributes
    ----------
    name : str
        Unique within a report, and safe as a file name.
    title : str
    simulated : bool
    figures : list of FigureRow
        The headline figures; the same ones, in the same order, for every set.
    """

    name: str
    title: str
    simulated: bool
    figures: list[FigureRow]


@dataclass(frozen=True)
class SetPage:
    """The page of one set."""

    entry: SetEntry
    configuration: str
    chapters: list[Chapter]


@dataclass(frozen=True)
class Index:
    """The first page: the verdicts of all sets, and what holds for the whole report.

    Attributes
    ----------
    lead : str
        The report in one sentence.
    finished : str
        When the run finished.
    version : str
        Version of nircam-darks.
    warning : str
        Which data are simulated; empty if none are.
    figures : list of str
        Names of the headline figures.
    sets : list of SetEntry
    chapters : list of Chapter
    """

    lead: str
    finished: str
    version: str
    warning: str
    figures: list[str]
    sets: list[SetEntry]
    chapters: list[Chapter] = field(default_factory=list)


def text_rows(*lines: Sequence[str], files: Sequence[int] = ()) -> list[list[Cell]]:
    """Return table rows of plain text; `files` are the columns that hold file names."""
    return [[Cell(text, file=column in files) for column, text in enumerate(line)] for line in lines]


def figures_table(figures: Sequence[FigureRow], name: str = "Figure") -> Table:
    """Return a table of measured figures beside their expected values and verdicts, one figure per row."""
    return Table(
        [name, "Measured", "Expected", "Verdict"],
        [
            [
                Cell(figure.name),
                Cell(f"{figure.value} {figure.unit}".rstrip()),
                Cell(figure.expected),
                Cell(figure.verdict, tone=figure.tone, note=figure.note),
            ]
            for figure in figures
        ],
        widths=(0.3, 0.2, 0.18, 0.32),
    )
