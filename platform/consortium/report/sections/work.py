"""The report's second half: time, traffic, incidents, and on what the run was made."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from html import escape

from consortium.editing.editors.registry import create
from consortium.records.directory import RunDirectory
from consortium.records.rows import EventRow
from consortium.report import figures, html, words
from consortium.report.overhead import OVERHEAD, SPENT_MEANINGS, RunTime
from consortium.report.results import PHASES, Results
from consortium.report.sections.timeline import timeline
from consortium.report.style import LaneStyle

Titles = Mapping[str, tuple[str, str]]
Styles = Mapping[str, LaneStyle]

_ORDINARY = {
    *("open-model", "prior", "contexts", "announce", "targets", "collect", "retract", "add", "merge", "evaluate"),
    *("commit", "records", "host-started", "host-parked", "refused"),
}
_MOST_HOSTS = 24
_MOST_INCIDENTS = 50
_FLOAT64_BYTES = 8


def time_spent(results: Results) -> str:
    """Work by phase and lane, and who worked when."""
    seconds = {lane.lane: {phase: lane.seconds(phase) for phase in PHASES} for lane in results.lanes if lane.rounds}
    has_times = any(event.seconds for event in results.events)
    if not seconds and not has_times:
        return ""
    parts = ["<h2>Where time went</h2>", _from_disk(results)]
    if results.time is not None:
        parts.append(_spent(results.time))
    if seconds:
        meaning = "Seconds of work, added up over all hosts and the coordinator; hosts work side by side."
        picture = html.chart("work by phase", meaning, lambda: figures.time_bars(seconds))
        parts.append(f'<div class="charts pair">{picture}{_time_table(seconds)}</div>')
    if has_times:
        parts.append(
            f"<figure><figcaption><b>who worked when</b>Since the run’s start; dashed lines are commits of rounds"
            f"{', crosses lost hosts' if any(e.kind == 'host-lost' for e in results.events) else ''}.</figcaption>"
            f'<div class="wide">{html.picture(partial(timeline, results.events))}</div></figure>'
        )
    return "".join(parts)


def _from_disk(results: Results) -> str:
    """A remark where targets were read from disk; their times are not those of a first run."""
    targets = [event for event in results.events if event.kind == "targets"]
    num_read = sum(event.detail is not None for event in targets)
    remark = f"<p>{num_read:,} of {words.count(len(targets), 'call')} for targets found them on disk.</p>"
    return remark if num_read else ""


def _spent(time: RunTime) -> str:
    """Arithmetic, solving and overhead: in a sentence, and for each host as a bar."""
    spent = time.spent
    total = spent.total or 1.0  # nothing took any time
    named = [f"{100 * getattr(spent, name) / total:.1f} % {name}" for name in OVERHEAD]
    sentence = (
        f"{words.count(len(time.hosts), 'host')} worked for {words.duration(time.wall_s)}, after "
        f"{words.duration(time.startup_s)} of start-up. Of the hosts’ time, "
        f"{100 * spent.arithmetic / total:.1f} % was arithmetic on the model and "
        f"{100 * spent.solving / total:.1f} % solving at the coordinator; "
        f"<b>{100 * spent.overhead_share:.1f} % was overhead</b> ({', '.join(named)})."
    )
    shown = dict(time.hosts) if len(time.hosts) <= _MOST_HOSTS else {"all hosts": spent}
    meaning = "The percentage is its overhead: waiting for others, calls on their way, and records."
    picture = html.chart("time of each host", meaning, lambda: figures.spent_bars(shown))
    explained = "".join(f"<dt>{name}</dt><dd>{meaning}</dd>" for name, meaning in SPENT_MEANINGS.items())
    return f'<p>{sentence}</p><div class="charts pair">{picture}<dl class="meanings">{explained}</dl></div>'


def _time_table(seconds: Mapping[str, Mapping[str, float]]) -> str:
    header = '<th scope="col">lane</th>' + "".join(f'<th scope="col" class="n">{phase}</th>' for phase in PHASES)
    rows = "".join(
        f'<tr><th scope="row">{html.text(lane)}</th>'
        + "".join(f'<td class="n">{words.duration(phases[phase])}</td>' for phase in PHASES)
        + "</tr>"
        for lane, phases in seconds.items()
    )
    return html.table(header, rows)


def traffic(directory: RunDirectory, results: Results, styles: Styles) -> str:
    """What each party sent."""
    found = {lane.lane: lane.traffic for lane in results.lanes if lane.traffic}
    if not found:
        return ""
    shapes = directory.manifest.layer_shapes.values()
    dense = sum(_FLOAT64_BYTES * key_width * (key_width + value_width) for value_width, key_width in shapes) or None
    rows = "".join(
        f'<tr><th scope="row">{html.swatch(styles[lane])}{html.text(lane)}</th>'
        f'<td class="n">{words.size(sent.median)}</td>'
        f'<td class="n">{words.size(sent.smallest)} – {words.size(sent.largest)}</td>'
        f'<td class="n">{words.size(sent.total)}</td></tr>'
        for lane, sent in found.items()
    )
    remarks = ["Only sums over its edits, or factors of them, leave a party; never a text or a single key."]
    if any(lane.method == "global" for lane in results.lanes):
        remarks.append("Global edit is the exception: the reference that brings all edits together.")
    if dense:
        remarks.append(
            f"As dense sums, the statistics of all edited layers take {words.size(dense)} for each party and round, "
            "however few its edits (dotted line); factors say the same in less when edits are few."
        )
    header = '<th scope="col">lane</th>'
    header += "".join(f'<th scope="col" class="n">{name}</th>' for name in ("median", "least – most", "all together"))
    meaning = "From the least to the most; the dot is the median."
    return (
        f'<h2>What each party sent</h2><p>{" ".join(remarks)}</p><div class="charts pair">'
        f"{html.chart('one party in one round', meaning, lambda: figures.traffic_ranges(found, styles, dense))}"
        f"{html.table(header, rows)}</div>"
    )


def incidents(directory: RunDirectory, results: Results) -> str:
    """Faults, resumes and whatever else is out of the ordinary."""
    found = [event for event in results.events if event.kind not in _ORDINARY]
    remarks = []
    if directory.manifest.error:
        remarks.append("The run failed, as said above.")
    if directory.manifest.resumed:
        times = [each[:16].replace("T", " ") + " UTC" for each in directory.manifest.resumed]
        remarks.append(f"The run was resumed: {words.listing(times)}.")
    if not found:
        remarks.append("No host was lost in what was committed." if remarks else "Nothing.")
        return f"<h2>What broke</h2><p>{escape(' '.join(remarks))}</p>"
    rows = "".join(_incident(event) for event in found[:_MOST_INCIDENTS])
    hidden = len(found) - _MOST_INCIDENTS
    more = f"<p>And {hidden:,} more in the table of events.</p>" if hidden > 0 else ""
    remarks.append("A round counts as a whole or not at all, and nothing is merged twice, whatever broke in it.")
    header = '<th scope="col" class="n">time</th>'
    header += "".join(f'<th scope="col">{name}</th>' for name in ("round", "what", "host", "more"))
    return f"<h2>What broke</h2><p>{escape(' '.join(remarks))}</p>{html.table(header, rows)}{more}"


def _incident(event: EventRow) -> str:
    cells = (str(event.round), event.kind, event.host or "", event.detail or "")
    return (
        f'<tr><td class="n">{words.duration(event.time_s)}</td>'
        + "".join(f"<td>{html.text(x)}</td>" for x in cells)
        + "</tr>"
    )


def details(directory: RunDirectory, results: Results, titles: Titles) -> str:
    """Methods with their references, machine, versions, and the scenario."""
    manifest = directory.manifest
    machine = manifest.machine
    named = {lane.lane: ". ".join(filter(None, titles.get(lane.lane, ("",)))) for lane in results.lanes}
    editor = create(directory.scenario.editor)
    methods = "".join(f"<dt>{html.text(lane)}</dt><dd>{html.text(title)}</dd>" for lane, title in named.items())
    gpus = words.listing(machine.gpus) if machine.gpus else "no GPU"
    versions = ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
    return (
        f'<h2>Details</h2><dl class="meanings">{methods}'
        f"<dt>editor</dt><dd>{escape(editor.title)}. {escape(editor.reference)}</dd>"
        f"<dt>machine</dt><dd>{html.text(machine.cpu)}, {words.count(machine.num_cpus, 'CPU')}, "
        f"{words.size(machine.memory_bytes)} of memory, {html.text(gpus)}; {html.text(machine.platform)}</dd>"
        f"<dt>versions</dt><dd>{html.text(versions)}</dd>"
        f"<dt>tables</dt><dd>Every number of this page is in the folder tables beside it, as Parquet.</dd></dl>"
        "<details><summary>The scenario as it was run</summary>"
        f"<pre>{html.text(directory.scenario_text)}</pre></details>"
    )
