"""What a page of the report holds, whatever it is written as: chapters of words, tables and pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from services.report.style import Picture
from services.report.wording import Tone

#: How a sentence is set: as it is, as what is missing, or small, under what it explains.
Weight = Literal["plain", "missing", "note"]


@dataclass(frozen=True)
class Words:
    """A sentence or some, after a few words in bold if there are any.

    `link` is what a link after them says, and its address relative to the page; paper has none.
    """

    text: str
    lead: str = ""
    weight: Weight = "plain"
    link: tuple[str, str] | None = None


@dataclass(frozen=True)
class Facts:
    """Pairs of a name and what is so."""

    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Cell:
    """One place of a table.

    Attributes
    ----------
    text : str
        Of a verdict with more lines than one the last is marked.
    tone : ``"good"``, ``"off"``, ``"none"`` or None
        How a verdict is marked; None for what is no verdict.
    file : bool
        A file's name, which may be broken anywhere and is set in equal widths.
    """

    text: str
    tone: Tone | None = None
    file: bool = False


@dataclass(frozen=True)
class Table:
    """Rows under a head; every row is as long as the head.

    `widths` are the columns' parts of the page's width; without them they follow what they hold.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    widths: Sequence[float] | None = None


@dataclass(frozen=True)
class Figure:
    """One number as the page shows it, beside what is expected of it."""

    name: str
    value: str
    unit: str
    expected: str
    verdict: str
    tone: Tone


@dataclass(frozen=True)
class Pictures:
    """Pictures side by side."""

    pictures: Sequence[Picture]


Block = Words | Facts | Table | Pictures


@dataclass(frozen=True)
class Chapter:
    """Some blocks under a heading; without a title they stand at the head of the page."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class SetEntry:
    """A set as the index names it.

    Attributes
    ----------
    name : str
        Unique within a report, and safe as the name of a file.
    figures : list of Figure
        The same of every set, in the same order.
    """

    name: str
    title: str
    simulated: bool
    figures: list[Figure]


@dataclass(frozen=True)
class SetPage:
    """The page of one set."""

    entry: SetEntry
    configuration: str
    chapters: list[Chapter]


@dataclass(frozen=True)
class Index:
    """The page that leads to the others: the verdicts of all sets, and what is true of the run.

    Attributes
    ----------
    lead : str
        The report in one sentence.
    warning : str
        What is simulated, if anything.
    figures : list of str
        Names of the sets' figures.
    """

    lead: str
    finished: str
    version: str
    warning: str
    figures: list[str]
    sets: list[SetEntry]
    chapters: list[Chapter] = field(default_factory=list)


def rows(*lines: Sequence[str], files: Sequence[int] = ()) -> list[list[Cell]]:
    """Return a table's rows of plain text; the columns `files` hold names of files."""
    return [[Cell(text, file=at in files) for at, text in enumerate(line)] for line in lines]


def figures_table(figures: Sequence[Figure], name: str = "Figure") -> Table:
    """Return numbers beside their expectations and verdicts, one a row."""
    return Table(
        [name, "Measured", "Expected", "Verdict"],
        [
            [
                Cell(one.name),
                Cell(f"{one.value} {one.unit}".rstrip()),
                Cell(one.expected),
                Cell(one.verdict, tone=one.tone),
            ]
            for one in figures
        ],
        widths=(0.34, 0.22, 0.2, 0.24),
    )
