"""Every metric and the distance from global over rounds; bars where only one round was measured."""

from __future__ import annotations

from consortium.report import figures, words
from consortium.report.content import Figure, Figures, Run, Section
from consortium.report.style import UNEDITED_STYLE, LaneStyle


def section(run: Run) -> Section | None:
    """None before the first measure."""
    results = run.results
    charts = [chart for metric in results.metrics if (chart := _metric_chart(run, metric)) is not None]
    charts += [*_charts_by_age(run), *_distance_chart(run)]
    if not charts:
        return None
    legend: dict[str, LaneStyle] = {words.own(lane): style for lane, style in run.styles.items()}
    if results.unedited:
        legend["unedited model"] = UNEDITED_STYLE
    measured = {round for lane in results.lanes for round, _ in lane.measures}
    return Section("Over the rounds" if len(measured) > 1 else "In pictures", [Figures(charts, legend=legend)])


def _metric_chart(run: Run, metric: str) -> Figure | None:
    results, styles = run.results, run.styles
    measure = results.unedited.get(metric)
    unedited = measure.value if measure else None
    curves = {lane.lane: curve for lane in results.lanes if (curve := lane.curve(metric))}
    if not curves:
        return None
    title, meaning = words.metric_name(metric), words.metric_meaning(metric)
    unit = next((lane.final[metric].unit for lane in results.lanes if metric in lane.final), None)
    if max(map(len, curves.values())) > 1:
        draw = figures.value_curves if unit else figures.percent_curves
        return Figure(title, meaning, draw, (curves, styles, unedited), legend=styles)
    values = {lane: curve[0][1] for lane, curve in curves.items()}
    if unit is None:
        return Figure(title, meaning, figures.percent_bars, (values, styles, unedited))
    return Figure(title, meaning, figures.value_bars, (values, styles, unedited, unit))


def _charts_by_age(run: Run) -> list[Figure]:
    meaning = "At the end, by the round the edits came from."
    charts = []
    for metric in run.results.metrics:
        curves = {lane: by_metric[metric] for lane, by_metric in run.results.earlier.items() if metric in by_metric}
        if curves:
            title, data = f"{words.metric_name(metric)} by age", (curves, run.styles, None, True)
            charts.append(Figure(title, meaning, figures.percent_curves, data, legend=run.styles))
    return charts


def _distance_chart(run: Run) -> list[Figure]:
    curves = {
        lane.lane: [(row.round, row.update_distance) for row in lane.rounds if row.update_distance is not None]
        for lane in run.results.lanes
        if lane.method != "global"
    }
    curves = {lane: curve for lane, curve in curves.items() if curve}
    if max(map(len, curves.values()), default=0) < 2:
        return []
    meaning = "‖ΔW − ΔW global‖ / ‖ΔW global‖, logarithmic: less is closer to one party that owned all edits."
    data = (curves, run.styles)
    return [Figure("update from global", meaning, figures.distance_curves, data, legend=run.styles)]
