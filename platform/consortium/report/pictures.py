"""The report's pictures as files of their own, each with its title and, where it needs one, a legend."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from xml.sax.saxutils import escape

from consortium.common.errors import RunDirectoryError
from consortium.common.files import make_folders, write_bytes, write_text
from consortium.records.directory import RunDirectory
from consortium.report.drawing import FONTS
from consortium.report.html import swatch
from consortium.report.page import default_titles, render
from consortium.report.results import read_results
from consortium.report.style import FAINT, INK, LaneStyle, lane_styles

_FIGURE = re.compile(
    r"<h2>(?P<section>.*?)</h2>|<figure><figcaption><b>(?P<title>.*?)</b>.*?</figcaption>(?:<div[^>]*>)?"
    r"(?P<picture><svg .*?</svg>|<img [^>]*>)(?:</div>)?</figure>",
    re.DOTALL,
)
_ISOLATION = re.compile("</?bdi>")
_VIEW_BOX = re.compile(r'viewBox="0 0 ([\d.]+) ([\d.]+)"')
_LINE = 16.0
_LETTER = 5.6


@dataclass(frozen=True)
class _Picture:
    name: str
    title: str
    element: str


def write_pictures(directory: RunDirectory, folder: Path) -> list[Path]:
    """Write every picture of a run's report into a folder, made if need be; files of the same names are replaced.

    Returns:
        The files: SVG with title (and legend), or PNG as it is in the page where an SVG would be heavy.

    Raises:
        RunDirectoryError: the folder cannot be written.
    """
    styles = lane_styles([(lane.lane, lane.method) for lane in read_results(directory).lanes])
    page = render(directory, default_titles(directory.scenario))
    try:
        make_folders(folder)
        return [_write(folder, picture, styles) for picture in _pictures(page)]
    except OSError as error:
        raise RunDirectoryError(
            f"The folder {folder} cannot be written: {error}", "a folder for pictures.", "name another one."
        ) from error


def _pictures(page: str) -> Iterator[_Picture]:
    """The page's figures in order; names are unique, and say what is seen."""
    section, taken = "", set[str]()
    for found in _FIGURE.finditer(page):
        if found["section"] is not None:
            section = unescape(found["section"])
            continue
        title = unescape(_ISOLATION.sub("", found["title"]))
        name = first = _slug(f"{section} {title}")
        number = 2
        while name in taken:
            name, number = f"{first}-{number}", number + 1
        taken.add(name)
        yield _Picture(name, title, found["picture"])


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _write(folder: Path, picture: _Picture, styles: Mapping[str, LaneStyle]) -> Path:
    box = _VIEW_BOX.search(picture.element)
    if box is None:
        data = picture.element.partition("base64,")[2].partition('"')[0]
        write_bytes(folder / f"{picture.name}.png", base64.b64decode(data))
        return folder / f"{picture.name}.png"
    element = _with_legend(picture, float(box[1]), float(box[2]), styles if _needs_legend(picture, styles) else {})
    write_text(folder / f"{picture.name}.svg", element + "\n")
    return folder / f"{picture.name}.svg"


def _needs_legend(picture: _Picture, styles: Mapping[str, LaneStyle]) -> bool:
    """Whether lanes are drawn, and nothing says which is which: most of their colours are seen, none of their names."""
    colours = {style.colour.lower() for style in styles.values()}
    num_seen = sum(colour in picture.element.lower() for colour in colours)
    return 2 * num_seen > len(colours) and not any(f">{escape(lane)}<" in picture.element for lane in styles)


def _with_legend(picture: _Picture, width: float, height: float, styles: Mapping[str, LaneStyle]) -> str:
    places = _legend_places(list(styles), width)
    top = _LINE + 6
    legend_at = top + height + 4
    bottom = legend_at + (places[-1][1] + 1) * _LINE if places else legend_at
    legend = "".join(
        f'<svg x="{x:.1f}" y="{legend_at + line * _LINE:.1f}"{swatch(style)[4:]}'
        f'<text x="{x + 30:.1f}" y="{legend_at + line * _LINE + 11:.1f}" fill="{FAINT}">{escape(lane)}</text>'
        for (lane, style), (x, line) in zip(styles.items(), places, strict=True)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {bottom:g}" '
        f'width="{1.4 * width:.0f}" font-family="{FONTS}" font-size="10">'
        f'<rect width="100%" height="100%" fill="white"/>'
        f'<text x="2" y="{_LINE - 2}" fill="{INK}" font-weight="bold" font-size="11">{escape(picture.title)}</text>'
        f'<svg y="{top:g}" width="{width:g}" height="{height:g}"{picture.element[4:]}{legend}</svg>'
    )


def _legend_places(lanes: list[str], width: float) -> list[tuple[float, int]]:
    """Left edge and line of each lane's entry, as many to a line as fit in."""
    places: list[tuple[float, int]] = []
    x, line = 2.0, 0
    for lane in lanes:
        needed = 40 + _LETTER * len(lane)
        if x > 2 and x + needed > width:
            x, line = 2.0, line + 1
        places.append((x, line))
        x += needed
    return places
