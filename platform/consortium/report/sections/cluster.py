"""The report's section on the cluster: demand, nodes and hosts over time, and what they cost."""

from __future__ import annotations

from html import escape

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from consortium.records.directory import RunDirectory
from consortium.records.rows import EventRow, NodeRow
from consortium.report import html, words
from consortium.report.drawing import STYLE, WIDTH_IN, to_svg
from consortium.report.sections.cluster_use import THRASH_S, ClusterUse, Moment, cluster_use, cost, moments
from consortium.report.style import FAINT, INK

_HOSTS_COLOUR, _NODES_COLOUR = "#0072B2", "#E69F00"


def section(directory: RunDirectory) -> str:
    """Empty for a run whose one node stayed as it was and has no price."""
    series = moments([NodeRow(**row) for row in directory.table("nodes").to_pylist()])
    prices = {price.of: price.per_hour for price in directory.scenario.cluster.prices}
    use = cluster_use(series, [EventRow(**row) for row in directory.table("events").to_pylist()])
    is_plain = len({row.node for moment in series for row in moment.rows}) <= 1 and not prices
    if use is None or is_plain:
        return ""
    meaning = "Hosts that would find something to do, hosts that are ready or busy, and nodes with room for hosts."
    picture = html.chart("demand, hosts and nodes", meaning, lambda: _picture(series), "wide")
    rows = "".join(_line(name, value) for name, value in _facts(use))
    if prices:
        rows += _line("cost, by the scenario’s prices", f"{cost(series, prices):,.4g}")
    return f"<h2>The cluster</h2>{picture}{html.table('<th></th><th></th>', rows)}"


def _line(name: str, value: str) -> str:
    return f'<tr><th scope="row">{escape(name)}</th><td class="n">{value}</td></tr>'


def _facts(use: ClusterUse) -> list[tuple[str, str]]:
    times = {
        "until the first node": use.first_node_s,
        "until demand was satisfied": use.satisfied_s,
        "until the first node went": use.first_down_s,
        "until the fewest nodes": use.minimum_s,
    }
    idle = f"{use.idle_node_s:,.0f} of {use.node_s:,.0f}"
    return [
        *((name, "–" if value is None else words.duration(value)) for name, value in times.items()),
        ("nodes at most", f"{use.most_nodes}"),
        ("of the nodes, reserved", f"{100 * use.reserved_share:.1f} %"),
        ("of the nodes, at work", f"{100 * use.used_share:.1f} %"),
        ("node-seconds without a host", idle),
        (f"hosts and nodes that ended within {THRASH_S:g} s of their start", f"{use.num_thrashed}"),
    ]


def _picture(series: list[Moment]) -> str:
    """Three lines of steps over the run's time."""
    times = [moment.time_s for moment in series]
    lines = {
        "hosts wanted": ([moment.num_wanted for moment in series], INK, (0, (3, 2))),
        "hosts": ([moment.num_hosts for moment in series], _HOSTS_COLOUR, "-"),
        "hosts starting": ([moment.num_starting for moment in series], _HOSTS_COLOUR, ":"),
        "nodes": ([len(moment.rows) for moment in series], _NODES_COLOUR, "-"),
    }
    with rc_context(STYLE):
        figure = Figure(figsize=(2.8 * WIDTH_IN, 2.2), layout="constrained")
        axes = figure.add_subplot()
        for name, (values, colour, style) in lines.items():
            axes.step(times, values, where="post", label=name, color=colour, linestyle=style, linewidth=1.6)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.4g} s"))
        axes.tick_params(colors=FAINT)
        figure.legend(loc="outside upper left", ncols=len(lines), handlelength=1.6)
        return to_svg(figure)
