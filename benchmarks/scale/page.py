"""The results of ``scale`` in ``docs/scale.md``: a table, what grows how fast, and a picture for each axis."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from consortium.common.errors import InputError
from consortium.common.files import write_text
from consortium.report.drawing import STYLE, legend, new_figure, to_svg
from matplotlib import rc_context
from matplotlib.ticker import FuncFormatter, NullFormatter

from benchmarks.harness.record import Record
from benchmarks.scale.axes import AXES
from benchmarks.scale.growth import growth_of

DOCS = Path(__file__).resolve().parents[2] / "docs" / "scale.md"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
_GIB = 2**30
_MEANINGS = {"together": "all processes", "coordinator": "coordinator", "worker": "largest worker"}
_COLOURS = {"together": "#0072B2", "coordinator": "#D55E00", "worker": "#009E73"}
_MARKS = {"together": "o", "coordinator": "s", "worker": "^"}
_COLUMNS: dict[str, Callable[[Record], str]] = {
    "edits": lambda record: f"{record.parameters['edits']:,}",
    "workers": lambda record: str(record.parameters["workers"]),
    "work": lambda record: f"{_stage(record, 'work'):,.1f} s",
    "per edit": lambda record: f"{1e3 * _per_edit(record):.2f} ms",
    "processor, per edit": lambda record: _milliseconds(_processor_per_edit(record)),
    **{
        meaning: lambda record, name=name: f"{_memory(record, name) / _GIB:.2f} GiB"  # type: ignore[misc]
        for name, meaning in _MEANINGS.items()
    },
}


def _stage(record: Record, name: str) -> float:
    return (record.stages or {})[name]


def _per_edit(record: Record) -> float:
    assert record.seconds_ours is not None, "a run takes time"
    return record.seconds_ours.median


def _processor_per_edit(record: Record) -> float | None:
    """Processor time of the whole command over its edits; None in records that do not have it."""
    seconds = (record.stages or {}).get("processor")
    return None if seconds is None else seconds / record.parameters["edits"]


def _milliseconds(value_s: float | None) -> str:
    return "–" if value_s is None else f"{1e3 * value_s:.2f} ms"


def _memory(record: Record, name: str) -> int:
    return (record.memory or {})[name]


def by_axis(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Axis → the newest record of each of its sizes, in their order, on the machine that measured the axis last."""
    found: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda each: each.time):
        if record.benchmark == "scale" and not _is_changed(record):
            found.setdefault(record.parameters["axis"], []).append(record)
    return {axis: _of_one_machine(group) for axis, group in sorted(found.items())}


def _of_one_machine(group: Sequence[Record]) -> list[Record]:
    """The last record of each size, of those from where the last one is from; ``group`` has the oldest first."""
    by_size = {each.parameters["size"]: each for each in group if _where(each) == _where(group[-1])}
    return [by_size[size] for size in sorted(by_size)]


def _where(record: Record) -> str:
    return f"{record.machine.get('cpu')}, {record.machine.get('cores')} cores"


def _is_changed(record: Record) -> bool:
    """Whether more was changed in the scenario than the axis does."""
    return len(record.parameters["changes"]) > len(AXES[record.parameters["axis"]].changes)


def growths(group: Sequence[Record]) -> dict[str, str]:
    """What was measured → the exponent with which it grows with the size, in words."""
    sizes = [record.parameters["size"] for record in group]
    series: dict[str, list[float]] = {
        "seconds of work": [_stage(record, "work") for record in group],
        "seconds per edit": [_per_edit(record) for record in group],
        **{f"memory, {meaning}": [_memory(record, name) for record in group] for name, meaning in _MEANINGS.items()},
    }
    processor = [value for record in group if (value := _processor_per_edit(record)) is not None]
    if len(processor) == len(group):
        series["processor time per edit"] = processor
    fits = {name: growth_of(sizes, values) for name, values in series.items()}
    return {name: str(fit) for name, fit in fits.items() if fit is not None}


def with_results(text: str, records: Iterable[Record]) -> str:
    """The page with what stands between its marks made again.

    Raises:
        InputError: the page lacks a mark.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise InputError(f"{DOCS.name} lacks {BEGIN} or {END}", "both, in this order", "put them where the table goes")
    parts = [_section(axis, group) for axis, group in by_axis(records).items()] or ["Nothing is measured yet."]
    return f"{before}{BEGIN}\n\n" + "\n\n".join(parts) + f"\n\n{END}{after}"


def _section(axis: str, group: Sequence[Record]) -> str:
    scenario, counted = group[-1].parameters["scenario"], AXES[axis].counted
    columns = {name: show for name, show in _COLUMNS.items() if name != counted}
    head = (counted, *columns)
    rows = [[f"{record.parameters['size']:,}", *(show(record) for show in columns.values())] for record in group]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows])
    fits = "\n".join(f"| {name} | {growth} |" for name, growth in growths(group).items())
    where = f"{_where(group[-1])}; {', '.join(sorted({record.time[:10] for record in group}))}."
    grown = f"\n\n| grows with the number of {counted} | exponent |\n| --- | --- |\n{fits}" if fits else ""
    picture = f"\n\n![Memory and time over the number of {counted}](scale-{axis}.svg)" if len(group) > 1 else ""
    return f"### {AXES[axis].title}: `{scenario}`\n\n{where}\n\n{table}{grown}{picture}"


def picture(axis: str, group: Sequence[Record]) -> str:
    """Memory of processes over the size, and milliseconds for an edit under it, as an SVG file."""
    sizes = [record.parameters["size"] for record in group]
    with rc_context(STYLE):
        figure, above = new_figure(4.4)
        figure.delaxes(above)
        above, below = figure.subplots(2, 1, sharex=True)
        for name, colour in _COLOURS.items():
            values = [_memory(record, name) / _GIB for record in group]
            above.plot(sizes, values, color=colour, marker=_MARKS[name], linewidth=1.4, markersize=4)
        below.plot(sizes, [1e3 * _per_edit(record) for record in group], color="#444444", marker="o", markersize=4)
        above.set_ylim(bottom=0)
        below.set_ylim(bottom=0)
        above.set_ylabel("GiB at most")
        below.set_ylabel("ms of work per edit")
        below.set_xscale("log")
        below.set_xlabel(f"number of {AXES[axis].counted}")
        below.set_xticks(sizes)
        below.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        below.xaxis.set_minor_formatter(NullFormatter())
        legend(figure, {_MEANINGS[name]: colour for name, colour in _COLOURS.items()})
        return to_svg(figure).replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1) + "\n"


def write_page(records: Sequence[Record], docs: Path = DOCS) -> None:
    """Write the page and its pictures."""
    for axis, group in by_axis(records).items():
        if len(group) > 1:
            write_text(docs.with_name(f"scale-{axis}.svg"), picture(axis, group))
    write_text(docs, with_results(docs.read_text(encoding="utf-8"), records))
