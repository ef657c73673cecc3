"""The report's section on what was taken back: who left, how many edits went, and what the model says of them since."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

import pyarrow.compute as pc  # type: ignore[import-untyped]

from consortium.records.directory import RunDirectory
from consortium.records.rows import MetricRow
from consortium.report import html, words
from consortium.report.results import Results
from consortium.report.style import LaneStyle
from consortium.scenario.schema import UNEDITED, StreamSpec

_MEASURED = (
    "Percent of them whose new answer the model finds likelier than the old one, those left out whose fact is still "
    "asked for: what is taken back falls to about what the unedited model says, as far as others’ edits leave it there."
)
_NOT_MEASURED = "Whether they are gone was not measured: the metric retracted in evaluate.metrics does."
_HEADINGS = ("who", "edits", "merge method", "before", "after", "at the end", "unedited model")


@dataclass(frozen=True)
class _Measures:
    """What a lane said of the edits of one round of taking back, in percent: before it, first after it, and last."""

    before: float | None
    after: float | None
    last: float | None


def taken_back(directory: RunDirectory, results: Results, styles: Mapping[str, LaneStyle]) -> str:
    """Who took edits back in which round, and how often the new answers were still the likelier ones."""
    numbers = _numbers(directory)
    if not numbers:
        return ""
    metrics = [MetricRow(**row) for row in directory.table("metrics").to_pylist()]
    rows = []
    for back_in, number in numbers.items():
        unedited = _measures(metrics, UNEDITED, back_in).last
        for place, lane in enumerate(results.lanes):
            found = _measures(metrics, lane.lane, back_in)
            percents = (found.before, found.after, found.last, unedited)
            cells = [_who(directory.scenario.stream, back_in), f"{number:,}"] if place == 0 else ["", ""]
            rows.append(
                f'<tr><td class="n">{back_in if place == 0 else ""}</td><td>{escape(cells[0])}</td>'
                f'<td class="n">{cells[1]}</td><th scope="row">{html.swatch(styles[lane.lane])}'
                f"{html.text(lane.lane)}</th>"
                + "".join(f'<td class="n">{_percent(each)}</td>' for each in percents)
                + "</tr>"
            )
    header = '<th scope="col" class="n">round</th>' + "".join(
        f'<th scope="col"{"" if name in ("who", "merge method") else " class=n"}>{name}</th>' for name in _HEADINGS
    )
    return (
        "<h2>What was taken back</h2><p>The model was merged again without these edits, as if they had never been "
        f"made. {_MEASURED if 'retracted' in directory.scenario.evaluate.metrics else _NOT_MEASURED}</p>"
        f"{html.table(header, ''.join(rows))}"
    )


def _numbers(directory: RunDirectory) -> dict[int, int]:
    """Round → edits taken back in it, up to the committed one."""
    rounds = pc.drop_null(directory.table("edits", ["retracted"])["retracted"]).to_pylist()
    done = sorted(number for number in rounds if number <= (directory.committed_round or 0))
    return {number: done.count(number) for number in dict.fromkeys(done)}


def _who(stream: StreamSpec, back_in: int) -> str:
    left = sorted(party for spec in stream.leave if spec.round == back_in for party in spec.parties)
    back = sorted({party for spec in stream.retract if spec.round == back_in for party in spec.parties})
    return "; ".join(
        f"{_named(parties)} {did}" for parties, did in ((left, "left"), (back, "took some back")) if parties
    )


def _named(parties: list[int]) -> str:
    return f"{'party' if len(parties) == 1 else 'parties'} {words.listing([str(party) for party in parties])}"


def _measures(metrics: list[MetricRow], lane: str, back_in: int) -> _Measures:
    mine = sorted(
        (row for row in metrics if (row.lane, row.of_round) == (lane, back_in) and row.success is not None),
        key=lambda row: row.round,
    )
    before = [row.value for row in mine if row.metric == "retracted_before"]
    after = [row.value for row in mine if row.metric == "retracted"]
    return _Measures(before[-1] if before else None, after[0] if after else None, after[-1] if after else None)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
