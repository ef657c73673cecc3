"""Matplotlib without pyplot's global state: the style, figures of one width, and what they become in a page."""

from __future__ import annotations

import base64
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO, StringIO
from typing import Any
from xml.etree import ElementTree

import numpy as np
from matplotlib import rc_context, rcParamsDefault
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from consortium.common.terminal import printable
from consortium.report.style import FAINT, GRID, INK

FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', 'DejaVu Sans', sans-serif"
SVG_NAMESPACE = "http://www.w3.org/2000/svg"
WIDTH_IN = 3.7
#: Everything, so that a user's own settings change no picture.
STYLE: Any = {
    **{key: value for key, value in dict.items(rcParamsDefault) if not key.startswith("backend")},
    "svg.fonttype": "none",  # text stays text: small, searchable, and in the page's font
    "svg.hashsalt": "consortium",
    "font.size": 9.5,
    "text.parse_math": False,  # names may hold dollars
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": FAINT,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Drawing:
    """A figure as an SVG element, or as a PNG, or why there is neither."""

    svg: str = ""  # without namespaces, so that a page can hold it
    png: bytes = b""
    failure: str = ""
    size: tuple[float, float] = (0.0, 0.0)  # width and height in points

    @property
    def png_base64(self) -> str:
        """The PNG for an address that holds its data."""
        return base64.b64encode(self.png).decode()


def drawing_of(make: Callable[[], Figure], is_heavy: bool = False) -> Drawing:
    """Draw in the report's style; a page does without any of its pictures, so a failure is told and not raised."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"), rc_context(STYLE):
            warnings.simplefilter("ignore")  # what is odd about a picture is nothing for the terminal
            figure = make()
            width, height = (72 * float(inches) for inches in figure.get_size_inches())
            return Drawing(size=(width, height), **({"png": to_png(figure)} if is_heavy else {"svg": to_svg(figure)}))
    except Exception as error:  # noqa: BLE001 (drawing libraries fail in their own ways on numbers of any size)
        return Drawing(failure=f"{type(error).__name__}: {str(error).strip() or 'no reason was given'}")


def new_figure(height_in: float, width_in: float = WIDTH_IN) -> tuple[Figure, Axes]:
    """A figure with one set of axes."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    return figure, figure.add_subplot()


def legend(figure: Figure, colours: Mapping[str, str]) -> None:
    """Patches with their names above the axes, in as few lines as they fit in."""
    handles: list[Patch] = [Patch(color=colour, label=name) for name, colour in colours.items()]
    width_in = sum(0.45 + 0.075 * len(name) for name in colours)
    num_lines = math.ceil(width_in / figure.get_figwidth())
    columns = math.ceil(len(handles) / num_lines)
    figure.legend(
        handles=handles, loc="outside upper left", ncols=columns, handlelength=0.9, handletextpad=0.4, columnspacing=1.0
    )


def to_svg(figure: Figure) -> str:
    """The figure as an SVG element without header, metadata or anything that names an address.

    What names hold besides letters is no part of XML, or turns their direction: it is shown by its codes.
    """
    text = StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    root = ElementTree.fromstring(printable(text.getvalue()))
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
        if "style" in element.attrib:
            element.attrib["style"] = element.attrib["style"].replace("'DejaVu Sans'", FONTS)
    for name in ("width", "height"):  # as wide as the page has room
        del root.attrib[name]
    return ElementTree.tostring(root, encoding="unicode").strip()


def to_png(figure: Figure) -> bytes:
    """The figure as the bytes of a PNG."""
    data = BytesIO()
    figure.savefig(data, format="png", dpi=130, metadata={"Software": None})
    return data.getvalue()
