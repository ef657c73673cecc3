"""What is left of each round's edits after each later round: one heat map a lane."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import MaxNLocator

from consortium.report import html
from consortium.report.drawing import STYLE, new_figure, to_png, to_svg
from consortium.report.results import Results
from consortium.report.style import INK

#: From nothing to all; light to dark, so that it is read without colour as well.
_SHADES = LinearSegmentedColormap.from_list("held", ["#f3ede6", "#b9cfe2", "#4a7fb0", "#12355b"])
_MOST_NUMBERS = 10
_MOST_SVG_CELLS = 400

_MEANING = (
    "Of the edits of each round (across), the percentage that holds after each round that was measured (down): "
    "first a round’s own edits, then what later rounds left of them. A column that fades is forgotten; the curves of "
    "retention above are the means of the rows, without a round’s own edits."
)


def section(results: Results) -> str:
    """A heat map for each lane; empty where no earlier round was looked back at."""
    shown = {lane: held for lane, held in results.held.items() if any(of < after for after, of in held)}
    if not shown:
        return ""
    maps = "".join(
        f"<figure><figcaption><b>{html.text(lane)}</b></figcaption>{html.picture(partial(heat_map, held))}</figure>"
        for lane, held in shown.items()
    )
    return f'<h2>What holds of each round</h2><p>{_MEANING}</p><div class="charts">{maps}</div>'


def heat_map(held: Mapping[tuple[int, int], float]) -> str:
    """Percent by (after which round, of which round's edits); cells carry their numbers where there is room.

    Rounds after which nothing was measured have no row; an SVG up to 400 cells, else a PNG.
    """
    rows = sorted({after for after, _ in held})
    columns = range(1, max(of for _, of in held) + 1)
    with rc_context(STYLE):
        figure, axes = new_figure(0.75 + min(3.2, max(0.24 * len(rows), 1.0)))
        cells = [[held.get((after, of), float("nan")) for of in columns] for after in rows]
        mesh = axes.pcolormesh(cells, cmap=_SHADES, vmin=0, vmax=100, edgecolors="white", linewidth=0.6)
        figure.colorbar(mesh, ax=axes, ticks=[0, 50, 100], format="%d %%", aspect=14, pad=0.02)
        if len(columns) <= _MOST_NUMBERS and len(rows) <= _MOST_NUMBERS:
            _write_numbers(axes, cells)
        _label(axes, rows, len(columns))
        is_heavy = len(rows) * len(columns) > _MOST_SVG_CELLS
        return to_png(figure) if is_heavy else to_svg(figure)


def _write_numbers(axes: Axes, cells: list[list[float]]) -> None:
    for row, values in enumerate(cells):
        for column, value in enumerate(values):
            if value == value:  # a number
                colour = "white" if value > 60 else INK
                axes.text(column + 0.5, row + 0.5, f"{value:.0f}", ha="center", va="center", color=colour, fontsize=8)


def _label(axes: Axes, rows: list[int], num_columns: int) -> None:
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    every = -(-len(rows) // 10)
    axes.set_yticks([place + 0.5 for place in range(len(rows))][::every], [str(row) for row in rows][::every])
    shown = [int(tick) for tick in MaxNLocator(8, integer=True).tick_values(1, num_columns) if 1 <= tick <= num_columns]
    axes.set_xticks([tick - 0.5 for tick in shown], [str(tick) for tick in shown])
    axes.set_ylabel("after round")
    axes.set_xlabel("round in which the edits were made")
