"""What is left of each round's edits after each later round: one heat map an arm."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure as Drawn
from matplotlib.ticker import MaxNLocator

from consortium.report.content import Figure, Figures, Run, Section
from consortium.report.drawing import new_figure
from consortium.report.style import INK
from consortium.report.words import own

_Held = Mapping[tuple[int, int], float]

#: From nothing to all; light to dark, so that it is read without colour as well.
_SHADES = LinearSegmentedColormap.from_list("held", ["#f3ede6", "#b9cfe2", "#4a7fb0", "#12355b"])
_MOST_NUMBERS = 10
_MOST_SVG_CELLS = 400
_INTRO = (
    "Of the edits of each round (across), the percentage that holds after each round that was measured (down): "
    "first a round’s own edits, then what later rounds left of them. A column that fades is forgotten; the curves of "
    "retention above are the means of the rows, without a round’s own edits."
)


def section(run: Run) -> Section | None:
    """A heat map for each arm; None where no earlier round was looked back at."""
    held = {arm: held for arm, held in run.results.held.items() if any(of < after for after, of in held)}
    maps = Figures([_figure(arm, of_arm) for arm, of_arm in held.items()])
    return Section("What holds of each round", [_INTRO, maps]) if held else None


def _figure(arm: str, held: _Held) -> Figure:
    rows, columns = _axes_of(held)
    return Figure(own(arm), "", heat_map, (held,), is_heavy=len(rows) * len(columns) > _MOST_SVG_CELLS)


def _axes_of(held: _Held) -> tuple[list[int], range]:
    """Rounds after which was measured, and rounds of edits up to the last."""
    return sorted({after for after, _ in held}), range(1, max(of for _, of in held) + 1)


def heat_map(held: _Held) -> Drawn:
    """Percent by (after which round, of which round's edits); cells carry their numbers where there is room.

    Rounds after which nothing was measured have no row.
    """
    rows, columns = _axes_of(held)
    figure, axes = new_figure(0.75 + min(3.2, max(0.24 * len(rows), 1.0)))
    cells = [[held.get((after, of), float("nan")) for of in columns] for after in rows]
    mesh = axes.pcolormesh(cells, cmap=_SHADES, vmin=0, vmax=100, edgecolors="white", linewidth=0.6)
    figure.colorbar(mesh, ax=axes, ticks=[0, 50, 100], format="%d %%", aspect=14, pad=0.02)
    if len(columns) <= _MOST_NUMBERS and len(rows) <= _MOST_NUMBERS:
        _write_numbers(axes, cells)
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    every = -(-len(rows) // 10)
    axes.set_yticks([place + 0.5 for place in range(len(rows))][::every], [str(row) for row in rows][::every])
    ticks = [int(tick) for tick in MaxNLocator(8, integer=True).tick_values(1, len(columns)) if tick in columns]
    axes.set_xticks([tick - 0.5 for tick in ticks], [str(tick) for tick in ticks])
    axes.set_ylabel("after round")
    axes.set_xlabel("round in which the edits were made")
    return figure


def _write_numbers(axes: Axes, cells: list[list[float]]) -> None:
    for row, values in enumerate(cells):
        for column, value in enumerate(values):
            if value == value:  # a number
                colour = "white" if value > 60 else INK
                axes.text(column + 0.5, row + 0.5, f"{value:.0f}", ha="center", va="center", color=colour, fontsize=8)
