"""What a report consists of: sections that hold paragraphs, tables, figures and lists, as values that tests can read.

All texts are plain. What somebody else wrote is marked by :func:`consortium.report.words.own`; the templates turn marks
into elements, and escape everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from consortium.records.directory import RunDirectory
from consortium.report.drawing import Drawing, drawing_of
from consortium.report.results import Results
from consortium.report.style import ArmStyle
from consortium.report.words import own

Titles = Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class Cell:
    """A cell of a table."""

    text: str
    notes: Sequence[str] = ()  # further lines in small print
    is_best: bool = False  # of its column
    style: ArmStyle | None = None  # the arm's line and marker, in front of the text


Cells = list[str | Cell]
NO_VALUE = Cell("–")


@dataclass(frozen=True)
class Table:
    """Rows under headings; where a column has a unit, its cells have it.

    ``align`` has a letter for each column: ``h`` heads its row, ``t`` is text, ``n`` a number, to the right; columns
    without a letter hold numbers.
    """

    kind: ClassVar = "table"
    columns: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    align: str = "h"
    num_faint: int = 0  # rows at the end, there for comparison

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
    """A picture, drawn when it is first asked for; the page and ``--pictures`` both take it."""

    kind: ClassVar = "figure"
    title: str
    caption: str  # what it means, in a sentence
    draw: Callable[..., Any]  # makes matplotlib's figure of ``data``
    data: Sequence[Any]
    legend: Mapping[str, ArmStyle] = field(default_factory=dict)  # of arms that the picture itself does not name
    is_wide: bool = False  # scrolls sideways on a narrow screen
    is_heavy: bool = False  # has too many elements for an SVG, and becomes a PNG

    @cached_property
    def drawing(self) -> Drawing:
        """What matplotlib makes of it."""
        return drawing_of(lambda: self.draw(*self.data), self.is_heavy)


@dataclass(frozen=True)
class Meanings:
    """Words and what they mean."""

    kind: ClassVar = "meanings"
    entries: Mapping[str, str]


@dataclass(frozen=True)
class Figures:
    """Figures side by side."""

    kind: ClassVar = "figures"
    figures: Sequence[Figure]
    beside: Table | Meanings | None = None  # to their right
    legend: Mapping[str, ArmStyle] = field(default_factory=dict)  # above all of them


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
    parts: Sequence[Block]


Block = str | Table | Figure | Figures | Meanings | Notice | Verbatim | Folded
"""What a section may hold; a string is a paragraph."""


@dataclass(frozen=True)
class Section:
    """A heading, and what is said under it; without a title, it goes on with the one before."""

    title: str
    parts: Sequence[Block]

    @property
    def figures(self) -> list[Figure]:
        """All its figures, in order."""
        groups = [part.figures if isinstance(part, Figures) else [part] for part in self.parts]
        return [each for group in groups for each in group if isinstance(each, Figure)]

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
    """What sections are made of."""

    directory: RunDirectory
    results: Results
    styles: Mapping[str, ArmStyle]  # of each arm
    titles: Titles  # arm → (title, reference) of its merge method

    def arm(self, name: str, title: str = "") -> Cell:
        """A cell with an arm's line, marker and name: in small print where it has a title besides."""
        notes = (own(name),) if title and title != name else ()
        return Cell(own(title or name), notes, style=self.styles[name])
