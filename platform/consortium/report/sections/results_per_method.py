"""The report's first half: what was run and what came out. Each section is text, empty where nothing is to be said."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from html import escape

from consortium.records.directory import RunDirectory
from consortium.records.rows import MetricRow
from consortium.report import figures, html, words
from consortium.report.intervals import Interval, intervals
from consortium.report.results import LaneResult, Results
from consortium.report.style import LaneStyle

Titles = Mapping[str, tuple[str, str]]
Styles = Mapping[str, LaneStyle]

_DISTANCE_NAMES = ("weights from global", "update from global")


def head(directory: RunDirectory, results: Results) -> str:
    """Title, status, what was run, the figures of the run, and what came out."""
    scenario = directory.scenario
    status = directory.status
    notice = words.standing(directory)
    example = words.example(directory)
    findings = "".join(f"<p>{html.sentence(each)}</p>" for each in words.findings(results))
    return "\n".join(
        [
            '<header><p class="over">Consortium · report of a run</p>',
            f'<h1>{html.text(scenario.name)} <span class="status {status}">{status}</span></h1>',
            f"<p>{html.text(scenario.description)}</p></header>" if scenario.description else "</header>",
            f'<p class="notice">{html.sentence(notice)}</p>' if notice else "",
            f'<p class="lead">{html.sentence(words.what_was_run(directory, results))}</p>',
            f"<p>{html.sentence(example)}</p>" if example else "",
            f'<div class="findings">{findings}</div>' if findings else "",
            _facts(directory, results),
        ]
    )


def _facts(directory: RunDirectory, results: Results) -> str:
    scenario, manifest = directory.scenario, directory.manifest
    rounds_done = directory.committed_round or 0
    rounds = scenario.stream.rounds
    facts = {
        "parties": f"{scenario.parties.count:,}",
        "edits": f"{results.num_edits:,}",
        "rounds": str(rounds) if rounds_done == rounds else f"{rounds_done} of {rounds}",
        "model": scenario.model.name,
        "edited": words.layers(scenario),
        "seed": str(scenario.seed),
        "time": words.duration(directory.worked_s),
        "started": manifest.started[:16].replace("T", " ") + " UTC",
    }
    entries = "".join(f"<div><dt>{name}</dt><dd>{html.text(value)}</dd></div>" for name, value in facts.items())
    return f'<dl class="facts">{entries}</dl>'


def table(results: Results, titles: Titles, styles: Styles) -> str:
    """The results of every lane after its last measured round, beside the unedited model."""
    if not results.metrics:
        return ""
    metrics = results.metrics
    has_distance = any(lane.last and lane.last.weights_distance is not None for lane in results.lanes)
    names = [
        "method",
        *map(words.metric_name, metrics),
        *(["weights from global", "update from global"] * has_distance),
    ]
    header = "".join(
        f'<th scope="col"{" class=n" if place else ""}>{escape(name)}</th>' for place, name in enumerate(names)
    )
    best = {metric: _best(results, metric) for metric in metrics}
    rows = [_lane_row(lane, results, best, titles, styles, has_distance) for lane in results.lanes]
    if results.unedited:
        within = intervals(results.unedited)
        cells = "".join(_measure_cell(results.unedited.get(each), None, within.get(each)) for each in metrics)
        cells += '<td class="n">–</td>' * (2 * has_distance)
        rows.append(f'<tr class="unedited"><th scope="row">{html.unedited_swatch()}unedited model</th>{cells}</tr>')
    rows.append(_questions_row(results, has_distance))
    measured = max((row.round for lane in results.lanes for row in lane.final.values()), default=0)
    return (
        f"<h2>Results</h2><p>After round {measured}; percent and more is better, unless said otherwise below. "
        "★ marks the best of the merge methods. "
        "Small: by the strict count, where every token of the answer must be the likeliest; and from … to, the 95 % "
        "interval of the number above, Wilson’s, by the number of edits. Few questions say little.</p>"
        f"{html.table(header, ''.join(rows))}{_meanings(metrics, has_distance)}"
    )


def _lane_row(
    lane: LaneResult,
    results: Results,
    best: Mapping[str, float | None],
    titles: Titles,
    styles: Styles,
    has_distance: bool,
) -> str:
    title = titles.get(lane.lane, (lane.lane, ""))[0]
    name = f" <small>{html.text(lane.lane)}</small>" if title != lane.lane else ""
    within = intervals(lane.final)
    cells = "".join(
        _measure_cell(lane.final.get(metric), best[metric], within.get(metric)) for metric in results.metrics
    )
    if has_distance:
        cells += _distance_cells(lane, results)
    return f'<tr><th scope="row">{html.swatch(styles[lane.lane])}{html.text(title)}{name}</th>{cells}</tr>'


def _questions_row(results: Results, has_distance: bool) -> str:
    """What each column was measured on, by the lanes and the unedited model; more or fewer in some, from … to."""
    cells = []
    for metric in results.metrics:
        measures = [lane.final for lane in results.lanes] + [results.unedited]
        counts = [each[metric].num_probes for each in measures if metric in each]
        cells.append("–".join(f"{count:,}" for count in sorted({min(counts), max(counts)})) if counts else "–")
    cells += ["–"] * (2 * has_distance)
    shown = "".join(f'<td class="n">{each}</td>' for each in cells)
    return f'<tr class="unedited"><th scope="row">questions (tokens for perplexity)</th>{shown}</tr>'


def _measure_cell(row: MetricRow | None, best: float | None, within: Interval | None) -> str:
    if row is None:
        return '<td class="n">–</td>'
    value = words.measured(row.value, row.unit)
    is_best = best is not None and value == words.measured(best, row.unit)
    shown = f'<span class="best">{value}</span>' if is_best else value
    strict = f"<small>{row.strict:.1f}</small>" if row.strict is not None else ""
    interval = f"<small>{within[0]:.0f}–{within[1]:.0f}</small>" if within is not None else ""
    return f'<td class="n">{shown}{strict}{interval}</td>'


def _distance_cells(lane: LaneResult, results: Results) -> str:
    if lane.method == "global":
        return '<td class="n"><small>reference</small></td>' * 2
    if lane.last is None:
        return '<td class="n">–</td>' * 2
    cells = []
    for name in ("weights_distance", "update_distance"):
        value = getattr(lane.last, name)
        others = [getattr(each.last, name) for each in results.lanes if each.last and each.method != "global"]
        is_best = value is not None and len(others) > 1 and value == min(x for x in others if x is not None)
        shown = words.distance(value)
        cells.append(f'<td class="n">{f"<span class=best>{shown}</span>" if is_best else shown}</td>')
    return "".join(cells)


def _best(results: Results, metric: str) -> float | None:
    """Best value of a metric where several lanes have it and they differ; else None."""
    rows = [lane.final[metric] for lane in results.lanes if metric in lane.final]
    if len({words.measured(row.value, row.unit) for row in rows}) < 2:
        return None
    values = [row.value for row in rows]
    return min(values) if metric in words.LESS_IS_BETTER else max(values)


def _meanings(metrics: tuple[str, ...], has_distance: bool) -> str:
    known = {words.metric_name(each): words.METRIC_MEANINGS[each] for each in metrics if each in words.METRIC_MEANINGS}
    if has_distance:
        known["weights from global"] = (
            "How far the merged weights are from those of one party that owned all edits: "
            "‖W − W global‖ / ‖W global‖ over the edited layers. 10⁻⁷ is what float32 rounds away."
        )
        known["update from global"] = "The same for what the edits changed: 0 is all of it, 1 is as far as no edit."
    return '<dl class="meanings">' + "".join(f"<dt>{k}</dt><dd>{escape(v)}</dd>" for k, v in known.items()) + "</dl>"


def curves(results: Results, styles: Styles) -> str:
    """Every metric and the distance from global over rounds; bars where only one round was measured."""
    charts = [_metric_chart(results, metric, styles) for metric in results.metrics]
    charts += _earlier_charts(results, styles)
    charts += _distance_charts(results, styles)
    if not charts:
        return ""
    legend = "".join(f"<li>{html.swatch(styles[lane.lane])}{html.text(lane.lane)}</li>" for lane in results.lanes)
    if results.unedited:
        legend += f"<li>{html.unedited_swatch()}unedited model</li>"
    return (
        f'<h2>Over the rounds</h2><ul class="legend">{legend}</ul><div class="charts">{"".join(charts)}</div>'
        if _num_measured_rounds(results) > 1
        else f'<h2>In pictures</h2><ul class="legend">{legend}</ul><div class="charts">{"".join(charts)}</div>'
    )


def _num_measured_rounds(results: Results) -> int:
    return len({round for lane in results.lanes for round, _ in lane.measures})


def _metric_chart(results: Results, metric: str, styles: Styles) -> str:
    measure = results.unedited.get(metric)
    unedited = measure.value if measure else None
    found = {lane.lane: lane.curve(metric) for lane in results.lanes}
    found = {lane: curve for lane, curve in found.items() if curve}
    unit = next((lane.final[metric].unit for lane in results.lanes if metric in lane.final), None)
    if max((len(curve) for curve in found.values()), default=0) > 1:
        draw = figures.value_curves if unit else figures.percent_curves
        picture = partial(draw, found, styles, unedited)
    elif found:
        values = {lane: curve[0][1] for lane, curve in found.items()}
        if unit is None:
            picture = partial(figures.percent_bars, values, styles, unedited)
        else:
            picture = partial(figures.value_bars, values, styles, unedited, unit)
    else:
        return ""
    return html.chart(words.metric_name(metric), words.METRIC_MEANINGS.get(metric, ""), picture)


def _earlier_charts(results: Results, styles: Styles) -> list[str]:
    charts = []
    for metric in results.metrics:
        found = {lane: by_metric[metric] for lane, by_metric in results.earlier.items() if metric in by_metric}
        if found:
            picture = partial(figures.percent_curves, found, styles, None, of_edits=True)
            charts.append(
                html.chart(
                    f"{words.metric_name(metric)} by age", "At the end, by the round the edits came from.", picture
                )
            )
    return charts


def _distance_charts(results: Results, styles: Styles) -> list[str]:
    found = {
        lane.lane: [(row.round, row.update_distance) for row in lane.rounds if row.update_distance is not None]
        for lane in results.lanes
        if lane.method != "global"
    }
    found = {lane: curve for lane, curve in found.items() if curve}
    if max((len(curve) for curve in found.values()), default=0) < 2:
        return []
    meaning = "‖ΔW − ΔW global‖ / ‖ΔW global‖, logarithmic: less is closer to one party that owned all edits."
    return [html.chart("update from global", meaning, lambda: figures.distance_curves(found, styles))]


def requests(results: Results) -> str:
    """What was asked for, where not all requests were fresh."""
    kinds = {kind for counts in results.edit_kinds.values() for kind in counts}
    if kinds <= {"fresh"}:
        return ""
    meanings = "".join(
        f"<dt>{html.text(kind)}</dt><dd>{escape(words.KIND_MEANINGS.get(kind, ''))}</dd>" for kind in sorted(kinds)
    )
    picture = html.chart("edits by kind", "Edits of each round.", lambda: figures.kinds_bars(results.edit_kinds))
    return f'<h2>What was asked for</h2><div class="charts pair">{picture}<dl class="meanings">{meanings}</dl></div>'
