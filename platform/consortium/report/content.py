"""What a report consists of: sections that hold paragraphs, tables, figures and lists, as values that tests can read.

All texts are plain. What somebody else wrote is marked by :func:`consortium.report.words.own`; the templates turn marks
into elements, and escape everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from consortium.records.directory import RunDirectory
from consortium.report.drawing import Drawing, draw
from consortium.report.results import Results
from consortium.report.style import LaneStyle
from consortium.report.words import own

Titles = Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: what it says.
        notes: further lines in small print.
        is_best: the best of its column.
        style: the lane's line and marker in front of the text.
    """

    text: str
    notes: Sequence[str] = ()
    is_best: bool = False
    style: LaneStyle | None = None


Row = list[str | Cell]
NO_VALUE = Cell("–")


@dataclass(frozen=True)
class Table:
    """Rows under headings.

    Attributes:
        columns: the headings; units, where a column has one, stand in its cells.
        rows: each as long as ``columns``.
        align: a letter for each column: ``h`` the row's own heading, ``t`` text, ``n`` a number, to the right. Columns
            without a letter hold numbers.
        num_faint: so many rows at the end are there for comparison.
    """

    kind: ClassVar = "table"
    columns: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    align: str = "h"
    num_faint: int = 0

    @property
    def alignment(self) -> str:
        """A letter for every column."""
        return self.align.ljust(len(self.columns), "n")

    @property
    def cells(self) -> list[list[Cell]]:
        """The rows, with every cell in full."""
        return [[each if isinstance(each, Cell) else Cell(each) for each in row] for row in self.rows]


@dataclass(frozen=True)
class Figure:
    """A picture, drawn when it is first asked for; the page and ``--pictures`` both take it.

    Attributes:
        title: what is drawn.
        caption: what it means, in a sentence.
        draw: makes matplotlib's figure of ``data``.
        data: the arguments of ``draw``.
        legend: lane → style, where lanes are drawn and the picture does not name them.
        is_wide: it scrolls sideways on a narrow screen.
        is_heavy: it has too many elements for an SVG, and becomes a PNG.
    """

    kind: ClassVar = "figure"
    title: str
    caption: str
    draw: Callable[..., Any]
    data: Sequence[Any]
    legend: Mapping[str, LaneStyle] = field(default_factory=dict)
    is_wide: bool = False
    is_heavy: bool = False

    @cached_property
    def drawing(self) -> Drawing:
        """What matplotlib makes of it."""
        return draw(lambda: self.draw(*self.data), self.is_heavy)


@dataclass(frozen=True)
class Meanings:
    """Words and what they mean."""

    kind: ClassVar = "meanings"
    entries: Mapping[str, str]


@dataclass(frozen=True)
class Figures:
    """Figures side by side.

    Attributes:
        figures: the figures.
        beside: what explains them, to their right.
        legend: what their lines are, above all of them.
    """

    kind: ClassVar = "figures"
    figures: Sequence[Figure]
    beside: Table | Meanings | None = None
    legend: Mapping[str, LaneStyle] = field(default_factory=dict)


@dataclass(frozen=True)
class Notice:
    """A paragraph that must not be overlooked."""

    kind: ClassVar = "notice"
    text: str


@dataclass(frozen=True)
class Verbatim:
    """A text as it stands in a file."""

    kind: ClassVar = "verbatim"
    text: str


@dataclass(frozen=True)
class Folded:
    """Parts that are seen when a reader opens them."""

    kind: ClassVar = "folded"
    summary: str
    parts: Sequence[Part]


Part = str | Table | Figure | Figures | Meanings | Notice | Verbatim | Folded
"""What a section may hold; a string is a paragraph."""


@dataclass(frozen=True)
class Section:
    """A heading, and what is said under it; without a title, it goes on with the one before."""

    title: str
    parts: Sequence[Part]

    @property
    def figures(self) -> Iterator[Figure]:
        """All its figures, in order."""
        for part in self.parts:
            if isinstance(part, Figure):
                yield part
            elif isinstance(part, Figures):
                yield from part.figures

    @property
    def tables(self) -> list[Table]:
        """Its tables that are not folded, in order."""
        beside = [part.beside if isinstance(part, Figures) else part for part in self.parts]
        return [part for part in beside if isinstance(part, Table)]

    @property
    def text(self) -> str:
        """Its paragraphs that are not folded."""
        return "\n".join(part for part in self.parts if isinstance(part, str))


@dataclass(frozen=True)
class Run:
    """What sections are made of.

    Attributes:
        directory: the run.
        results: its tables' numbers.
        styles: lane → how it is drawn.
        titles: lane → (title, reference) of its merge method.
    """

    directory: RunDirectory
    results: Results
    styles: Mapping[str, LaneStyle]
    titles: Titles

    def lane(self, name: str, title: str = "") -> Cell:
        """A cell with a lane's line, marker and name: in small print where it has a title besides."""
        if title and title != name:
            return Cell(own(title), (own(name),), style=self.styles[name])
        return Cell(own(name), style=self.styles[name])
