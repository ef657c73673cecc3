"""The cluster: demand, nodes and workers over time, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure as Drawn
from matplotlib.ticker import MaxNLocator

from consortium.records.rows import EventRow, NodeRow
from consortium.report import words
from consortium.report.content import Figure, Run, Section, Table
from consortium.report.drawing import WIDTH_IN, new_figure
from consortium.report.figures import form
from consortium.report.sections.cluster_use import THRASH_S, ClusterUse, Moment, cluster_use, cost, moments
from consortium.report.style import FAINT, INK

_WORKERS_COLOUR, _NODES_COLOUR = "#0072B2", "#E69F00"


def section(run: Run) -> Section | None:
    """None for a run whose one node stayed as it was and has no price."""
    directory = run.directory
    series = moments([NodeRow(**row) for row in directory.table("nodes").to_pylist()])
    prices = {price.of: price.per_hour for price in directory.scenario.cluster.prices}
    use = cluster_use(series, [EventRow(**row) for row in directory.table("events").to_pylist()])
    is_plain = len({row.node for moment in series for row in moment.rows}) <= 1 and not prices
    if use is None or is_plain:
        return None
    meaning = (
        "Workers that would find something to do, workers that are ready or busy, and nodes with room for workers."
    )
    figure = Figure("demand, workers and nodes", meaning, _draw_cluster, (series,), is_wide=True)
    rows = _measures(use) | ({"cost, by the scenario’s prices": f"{cost(series, prices):,.4g}"} if prices else {})
    return Section("The cluster", [figure, Table(("", ""), list(rows.items()))])


def _measures(use: ClusterUse) -> dict[str, str]:
    times = {
        "until the first node": use.first_node_s,
        "until demand was satisfied": use.satisfied_s,
        "until the first node went": use.first_down_s,
        "until the fewest nodes": use.minimum_s,
    }
    return {
        **{name: "–" if value is None else words.duration(value) for name, value in times.items()},
        "nodes at most": f"{use.most_nodes}",
        "of the nodes, reserved": f"{100 * use.reserved_share:.1f} %",
        "of the nodes, at work": f"{100 * use.used_share:.1f} %",
        "node-seconds without a worker": f"{use.idle_node_s:,.0f} of {use.node_s:,.0f}",
        f"workers and nodes that ended within {THRASH_S:g} s of their start": f"{use.num_thrashed}",
    }


def _draw_cluster(series: Sequence[Moment]) -> Drawn:
    """Lines of steps over the run's time."""
    lines = {
        "workers wanted": ([moment.num_wanted for moment in series], INK, (0, (3, 2))),
        "workers": ([moment.num_workers for moment in series], _WORKERS_COLOUR, "-"),
        "workers starting": ([moment.num_starting for moment in series], _WORKERS_COLOUR, ":"),
        "nodes": ([len(moment.rows) for moment in series], _NODES_COLOUR, "-"),
    }
    times = [moment.time_s for moment in series]
    figure, axes = new_figure(2.2, 2.8 * WIDTH_IN)
    for name, (values, colour, style) in lines.items():
        axes.step(times, values, where="post", label=name, color=colour, linestyle=style, linewidth=1.6)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    form(axes.xaxis, lambda value: f"{value:,.4g} s")
    axes.tick_params(colors=FAINT)
    figure.legend(loc="outside upper left", ncols=len(lines), handlelength=1.6)
    return figure
