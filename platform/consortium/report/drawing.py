"""Matplotlib without pyplot's global state: the style, figures of one size, and figures as HTML."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping
from io import BytesIO, StringIO
from typing import Any

from matplotlib import rcParamsDefault
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from consortium.common.terminal import printable
from consortium.report.style import FAINT, GRID, INK

FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', 'DejaVu Sans', sans-serif"
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


def new_figure(height_in: float) -> tuple[Figure, Axes]:
    """A figure of the common width with one set of axes."""
    figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
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
    """The figure as an SVG element without header, metadata or anything that names an address."""
    text = StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    element = text.getvalue()
    element = element[element.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    element = re.sub(r' xmlns(:\w+)?="[^"]*"', "", element, count=2)
    element = re.sub(r'(<svg[^>]*?) width="[^"]*"| height="[^"]*pt"', r"\1", element, count=2)
    element = element.replace("'DejaVu Sans'", FONTS).replace("xlink:href", "href")
    return printable(element.strip())  # what names hold besides letters is no part of XML, or turns their direction


def to_png(figure: Figure) -> str:
    """The figure as an image that lies in the page itself."""
    data = BytesIO()
    figure.savefig(data, format="png", dpi=130, metadata={"Software": None})
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}">'
