"""The report's pictures as files of their own, each with its title and, where it needs one, a legend."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from consortium.common.errors import RunDirectoryError
from consortium.common.files import make_folders, write_bytes, write_text
from consortium.report.content import Figure
from consortium.report.drawing import FONTS
from consortium.report.page import Report
from consortium.report.render import render
from consortium.report.style import FAINT, INK, ArmStyle
from consortium.report.words import plain

_LINE = 16.0
_LETTER = 5.6
_TOP = _LINE + 6
_Entry = tuple[str, ArmStyle, float, float]


def write_pictures(report: Report, folder: Path) -> list[Path]:
    """Write every picture of a report into a folder, made if need be; files of the same names are replaced.

    Returns:
        The files: SVG with title (and legend), or PNG as it is in the page where an SVG would be heavy.

    Raises:
        RunDirectoryError: the folder cannot be written.
    """
    try:
        make_folders(folder)
        return [_write(folder / name, figure) for name, figure in named_figures(report).items()]
    except OSError as error:
        raise RunDirectoryError(
            f"The folder {folder} cannot be written: {error}", "a folder for pictures.", "name another one."
        ) from error


def named_figures(report: Report) -> dict[str, Figure]:
    """The report's figures that could be drawn, in order; names are unique, and say what is seen."""
    named: dict[str, Figure] = {}
    for section in report.sections:
        for figure in section.figures:
            name = first = _slug(f"{section.title} {plain(figure.title)}")
            number = 2
            while name in named:
                name, number = f"{first}-{number}", number + 1
            if not figure.drawing.failure:
                named[name] = figure
    return named


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _write(path: Path, figure: Figure) -> Path:
    if figure.drawing.png:
        path = path.with_name(f"{path.name}.png")
        write_bytes(path, figure.drawing.png)
    else:
        path = path.with_name(f"{path.name}.svg")
        write_text(path, _with_legend(figure))
    return path


def _with_legend(figure: Figure) -> str:
    width, height = figure.drawing.size
    legend_at = _TOP + height + 4
    legend = _legend(figure.legend, width, legend_at)
    return render(
        "picture.svg",
        title=plain(figure.title),
        drawing=figure.drawing,
        width=width,
        height=legend[-1][3] + _LINE if legend else legend_at,
        shown_width=round(1.4 * width),
        legend=legend,
        fonts=FONTS,
        ink=INK,
        faint=FAINT,
    )


def _legend(styles: Mapping[str, ArmStyle], width: float, top: float) -> list[_Entry]:
    """Each arm with its style and the upper left corner of its entry, as many to a line as fit in."""
    entries: list[_Entry] = []
    x, y = 2.0, top
    for arm, style in styles.items():
        needed = 40 + _LETTER * len(arm)
        if x > 2 and x + needed > width:
            x, y = 2.0, y + _LINE
        entries.append((arm, style, x, y))
        x += needed
    return entries
