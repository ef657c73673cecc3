"""What it saved to leave out what the model held already, and what it cost: arms that differ in that alone.

Two arms are a pair where their method, parameters, exchange, anchor and history weight are the same, and one leaves
out (``skip_known: residual``) what the other sends. All numbers are of the run: edits and bytes of all rounds, metrics
after the last measured round, and their mean difference over all measured rounds.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from consortium.merging.history import history_weight_of
from consortium.records.directory import RunDirectory
from consortium.records.rows import MetricRow
from consortium.report import words
from consortium.report.content import Table
from consortium.report.results import ArmResult, Results, is_in_tables
from consortium.scenario.methods import MethodSpec
from consortium.scenario.schema import Scenario

_MINUS = "\N{MINUS SIGN}"


def comparison(directory: RunDirectory, results: Results) -> list[str | Table]:
    """A table for each pair of arms; where there is none, a sentence that says how to get one."""
    pairs = pairs_of(directory.scenario)
    if not pairs:
        return [_remedy(directory.scenario)]
    arms, asked = {arm.arm: arm for arm in results.arms}, edits_of(directory)
    tables = [_table(arms[spares.arm], arms[sends.arm], asked, results.metrics) for spares, sends in pairs]
    meaning = (
        "The same method with and without: what was sent in all rounds, the metrics after the last measured round, and "
        "how they differed on average over the measured rounds. More is better where percent are."
    )
    return [meaning, *tables]


def pairs_of(scenario: Scenario) -> list[tuple[MethodSpec, MethodSpec]]:
    """Arms that leave out, each with the first arm that sends everything and differs in nothing else."""
    sending: dict[Hashable, MethodSpec] = {}
    for method in scenario.merge.methods:
        if scenario.skip_known_of(method) == "none":
            sending.setdefault(_all_but_skip_known(scenario, method), method)
    looking = [method for method in scenario.merge.methods if scenario.skip_known_of(method) != "none"]
    found = [(method, sending.get(_all_but_skip_known(scenario, method))) for method in looking]
    return [(method, other) for method, other in found if other is not None]


def _all_but_skip_known(scenario: Scenario, method: MethodSpec) -> Hashable:
    merge = scenario.merge
    rest = merge.exchange_of(method), merge.reference_of(method), history_weight_of(scenario, method)
    own = dict.fromkeys(("label", "exchange", "reference", "history_weight", "skip_known"))
    return method.model_copy(update=own), *rest


def edits_of(directory: RunDirectory) -> dict[str, tuple[int, int]]:
    """Arm → edits that its parties asked for in all rounds, and how many of these they left out."""
    parties = directory.table("parties").group_by("arm").aggregate([("num_edits", "sum"), ("num_skipped", "sum")])
    return {row["arm"]: (row["num_edits_sum"], row["num_skipped_sum"] or 0) for row in parties.to_pylist()}


def _remedy(scenario: Scenario) -> str:
    looking = next(each for each in scenario.merge.methods if scenario.skip_known_of(each) != "none")
    return (
        "Whether metrics suffer from it cannot be seen in this run, since no arm sends everything and is otherwise "
        f"the same as one that leaves out: add {{name: {looking.name}, label: sends-all, skip_known: none}} to "
        f"merge.methods, with the other keys of {looking.arm}."
    )


def _table(
    spares: ArmResult, sends: ArmResult, asked: Mapping[str, tuple[int, int]], metrics: tuple[str, ...]
) -> Table:
    rows = [_counts_row(spares, sends, asked), _bytes_row(spares, sends)]
    for metric in metrics:
        ours, theirs = spares.final.get(metric), sends.final.get(metric)
        if is_in_tables(metric) and ours is not None and theirs is not None:
            rows.append(_metric_row(metric, ours, theirs, mean_difference(spares, sends, metric)))
    return Table(("", words.own(spares.arm), words.own(sends.arm), "difference", "mean over rounds"), rows)


def mean_difference(spares: ArmResult, sends: ArmResult, metric: str) -> float:
    """The mean over measured rounds of how much more the first arm has of a metric that both have."""
    others = dict(sends.curve(metric))
    differences = [value - others[number] for number, value in spares.curve(metric) if number in others]
    return sum(differences) / len(differences)


def _counts_row(spares: ArmResult, sends: ArmResult, asked: Mapping[str, tuple[int, int]]) -> list[str]:
    ours, theirs = (total - left_out for total, left_out in (asked.get(each.arm, (0, 0)) for each in (spares, sends)))
    return ["edits sent", f"{ours:,}", f"{theirs:,}", f"{_signed(ours - theirs, ',')}{_share(ours, theirs)}", "–"]


def _bytes_row(spares: ArmResult, sends: ArmResult) -> list[str]:
    ours, theirs = (sum(row.bytes_sent for row in each.rounds) for each in (spares, sends))
    sign = _MINUS if ours < theirs else "+" if ours > theirs else ""
    difference = f"{sign}{words.size(abs(ours - theirs))}{_share(ours, theirs)}"
    return ["bytes sent", words.size(ours), words.size(theirs), difference, "–"]


def _metric_row(metric: str, ours: MetricRow, theirs: MetricRow, mean: float) -> list[str]:
    values = (words.measured(row.value, row.unit) for row in (ours, theirs))
    return [words.metric_name(metric), *values, _signed(ours.value - theirs.value, ".1f"), _signed(mean, ".1f")]


def _signed(number: float, form: str) -> str:
    """A difference with its sign; what rounds to nothing has none."""
    text = f"{abs(number):{form}}"
    sign = _MINUS if number < 0 else "+"
    return text if text.strip("0.") == "" else sign + text


def _share(ours: float, theirs: float) -> str:
    return f" ({_signed(100 * (ours - theirs) / theirs, '.1f')} %)" if theirs else ""
