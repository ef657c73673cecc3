"""Every metric and the distance from global over rounds; bars where only one round was measured."""

from __future__ import annotations

from consortium.report import figures, words
from consortium.report.content import Figure, Figures, Run, Section
from consortium.report.style import UNEDITED_STYLE, ArmStyle


def section(run: Run) -> Section | None:
    """None before the first measure."""
    results = run.results
    charts = [chart for metric in results.metrics if (chart := _metric_chart(run, metric)) is not None]
    charts += [*_charts_by_age(run), *_distance_chart(run)]
    if not charts:
        return None
    legend: dict[str, ArmStyle] = {words.own(arm): style for arm, style in run.styles.items()}
    if results.unedited:
        legend["unedited model"] = UNEDITED_STYLE
    measured = {round for arm in results.arms for round, _ in arm.measures}
    return Section("Over the rounds" if len(measured) > 1 else "In pictures", [Figures(charts, legend=legend)])


def _metric_chart(run: Run, metric: str) -> Figure | None:
    results, styles = run.results, run.styles
    measure = results.unedited.get(metric)
    unedited = measure.value if measure else None
    curves = {arm.arm: curve for arm in results.arms if (curve := arm.curve(metric))}
    if not curves:
        return None
    title, meaning = words.metric_name(metric), words.metric_meaning(metric)
    unit = next((arm.final[metric].unit for arm in results.arms if metric in arm.final), None)
    if max(map(len, curves.values())) > 1:
        draw = figures.value_curves if unit else figures.percent_curves
        return Figure(title, meaning, draw, (curves, styles, unedited), legend=styles)
    values = {arm: curve[0][1] for arm, curve in curves.items()}
    if unit is None:
        return Figure(title, meaning, figures.percent_bars, (values, styles, unedited))
    return Figure(title, meaning, figures.value_bars, (values, styles, unedited, unit))


def _charts_by_age(run: Run) -> list[Figure]:
    meaning = "At the end, by the round the edits came from."
    charts = []
    for metric in run.results.metrics:
        curves = {arm: by_metric[metric] for arm, by_metric in run.results.earlier.items() if metric in by_metric}
        if curves:
            title, data = f"{words.metric_name(metric)} by age", (curves, run.styles, None, True)
            charts.append(Figure(title, meaning, figures.percent_curves, data, legend=run.styles))
    return charts


def _distance_chart(run: Run) -> list[Figure]:
    curves = {
        arm.arm: [(row.round, row.update_distance) for row in arm.rounds if row.update_distance is not None]
        for arm in run.results.arms
        if arm.method != "global"
    }
    curves = {arm: curve for arm, curve in curves.items() if curve}
    if max(map(len, curves.values()), default=0) < 2:
        return []
    meaning = "‖ΔW − ΔW global‖ / ‖ΔW global‖, logarithmic: less is closer to one party that owned all edits."
    data = (curves, run.styles)
    return [Figure("update from global", meaning, figures.distance_curves, data, legend=run.styles)]
