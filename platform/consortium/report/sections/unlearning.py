"""What was removed: who left, how many edits went, and what the model says of them since."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow.compute as pc  # type: ignore[import-untyped]

from consortium.records.directory import RunDirectory
from consortium.records.rows import MetricRow
from consortium.report.content import Cells, Run, Section, Table
from consortium.report.words import listing
from consortium.scenario.schema import UNEDITED
from consortium.scenario.unlearning import UnlearnSpec

_INTRO = "The model was merged again without these edits, as if they had never been made. "
_MEASURED = (
    "Percent of them whose new answer the model finds likelier than the old one, those left out whose fact is still "
    "asked for: what is removed falls to about what the unedited model says, as far as others’ edits leave it there."
)
_NOT_MEASURED = "Whether they are gone was not measured: the metric removed in evaluate.metrics does."
_COLUMNS = ("round", "who", "edits", "merge method", "before", "after", "at the end", "unedited model")


def section(run: Run) -> Section | None:
    """None where nothing was removed."""
    numbers = _numbers(run.directory)
    if not numbers:
        return None
    scenario = run.directory.scenario
    metrics = [MetricRow(**row) for row in run.directory.table("metrics").to_pylist() if row["success"] is not None]
    rows: list[Cells] = []
    for back_in, number in numbers.items():
        *_, unedited = _percents(metrics, UNEDITED, back_in)
        first = [str(back_in), _who(scenario.unlearn, back_in), f"{number:,}"]
        for arm in run.results.arms:
            rows.append([*first, run.arm(arm.arm), *_percents(metrics, arm.arm, back_in), unedited])
            first = ["", "", ""]
    meaning = _MEASURED if "removed_efficacy" in scenario.evaluate.metrics else _NOT_MEASURED
    return Section("What was removed", [_INTRO + meaning, Table(_COLUMNS, rows, align="ntnh")])


def _numbers(directory: RunDirectory) -> dict[int, int]:
    """Round → edits removed in it, up to the committed one."""
    rounds = pc.drop_null(directory.table("edits", ["removed"])["removed"]).to_pylist()
    done = sorted(number for number in rounds if number <= (directory.committed_round or 0))
    return {number: done.count(number) for number in dict.fromkeys(done)}


def _who(unlearn: UnlearnSpec, back_in: int) -> str:
    left = sorted(party for spec in unlearn.parties if spec.round == back_in for party in spec.parties)
    back = sorted({party for spec in unlearn.edits if spec.round == back_in for party in spec.parties})
    return "; ".join(
        f"{_named(parties)} {did}" for parties, did in ((left, "left"), (back, "took some back")) if parties
    )


def _named(parties: Sequence[int]) -> str:
    return f"{'party' if len(parties) == 1 else 'parties'} {listing([str(party) for party in parties])}"


def _percents(metrics: Sequence[MetricRow], arm: str, back_in: int) -> list[str]:
    """What an arm said of the edits that a round took back, in percent: before it, first after it, and last."""
    rows = [row for row in metrics if (row.arm, row.of_round) == (arm, back_in)]
    rows.sort(key=lambda row: row.round)
    before = [row.value for row in rows if row.metric == "removed_efficacy_before"]
    after = [row.value for row in rows if row.metric == "removed_efficacy"]
    return [f"{values[0]:.1f}" if values else "–" for values in (before[-1:], after, after[-1:])]
