"""Numbers and names as a person reads them, and the sentences of the report."""

from __future__ import annotations

import math
from collections.abc import Sequence

from consortium.common.counting import count as count
from consortium.common.terminal import printable
from consortium.editing.editors.registry import create
from consortium.evaluation.metrics import WITH_START
from consortium.records.directory import RunDirectory
from consortium.report.results import Results
from consortium.scenario.schema import AssociativeModelSpec, Scenario

_KNOWEDIT_MEANINGS = {
    "edit_success": "Share of the new answers' tokens that the model says to the edits' own prompts.",
    "portability": "Edit success at questions that the edits should change too: the mean over the kinds of questions.",
    "portability_alias": "The part of portability in which the subject goes by another name.",
    "portability_reasoning": "The part of portability in which the answer takes one more step.",
    "portability_generalisation": "The part of portability in which another fact follows from the edit.",
    "locality": "Share of tokens that stayed what the unedited model says, in answers to what was not to change.",
    "fluency": "Entropy of words in what the model writes about the subjects, in hundredths of a bit, no percentage: "
    "a model that repeats itself has little.",
}
_TWICE = ("efficacy", "paraphrase", "neighborhood", "retention", "edit_success")
_WITH_START_MEANING = "The prompts of {} behind the token that begins documents, which else no prompt has."
METRIC_MEANINGS = {
    "efficacy": "Share of edits that took: the model finds the new answer likelier than the old one.",
    "paraphrase": "Efficacy, asked in other words than the edits were made with.",
    "neighborhood": "Share of questions about similar things whose answers stayed right: what was not to change.",
    "harmonic_mean": "Harmonic mean of efficacy, paraphrase and neighborhood: high only when all three are.",
    "perplexity": "Between how many tokens the model wavers in a fixed text; less is better.",
    "general": "Share of questions of a general test set that are answered rightly: the harm that edits do.",
    "retention": "Share of edits of earlier rounds that still hold: what later rounds did not overwrite.",
    "conflict": "Share of contradictions in which the answer settled on, or else the later one, is the likelier.",
    "conflict_magnitude": "How far the losing answer’s probability fell in a round: 100 to nothing, −100 from nothing.",
    "recall": "Share of keys for which the memory answers with the edit's object.",
    **_KNOWEDIT_MEANINGS,
    **{metric + WITH_START: _WITH_START_MEANING.format(metric.replace("_", " ")) for metric in _TWICE},
    **{
        f"{metric}_greedy": f"{meaning} Here it writes the likeliest tokens by itself."
        for metric, meaning in {
            **_KNOWEDIT_MEANINGS,
            f"edit_success{WITH_START}": _WITH_START_MEANING.format("edit success"),
        }.items()
    },
}
"""Metric → what it means, in one line."""

LESS_IS_BETTER = {"perplexity"}
"""Metrics of which less is better; of all others it is more."""

KIND_MEANINGS = {
    "fresh": "Nobody had this fact before.",
    "overlap": "Another party asks for the same in the same round.",
    "conflict-party": "Another party asks for another answer in the same round.",
    "conflict-round": "An earlier round asked for another answer.",
    "repeat": "Asked for in an earlier round, with the same answer.",
}
"""Kind of request → what it means."""

SAME_WITHIN_ROUNDING = 1e-6
"""Relative distance of float32 weights below which two models are the same but for rounding."""

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


_MOST_S = 3600 * 1e6
"""Seconds above which hours are told by their power of ten."""


def not_a_number(value: float) -> str:
    """What stands in place of a number that is not finite."""
    return "–" if math.isnan(value) else "∞" if value > 0 else "−∞"


def size(num_bytes: float) -> str:
    """Bytes in decimal units: 1.23 MB."""
    if not math.isfinite(num_bytes):
        return not_a_number(num_bytes)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if num_bytes < 999.5 or unit == "TB":
            return f"{num_bytes:.0f} B" if unit == "B" else f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    raise AssertionError("the last unit takes all")


def duration(seconds: float) -> str:
    """Seconds as hours, minutes and seconds: 3 min 20 s; virtual time may last longer than years."""
    if not math.isfinite(seconds):
        return not_a_number(seconds)
    if seconds >= _MOST_S:
        return f"{distance(seconds / 3600)} h"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def distance(value: float | None) -> str:
    """A relative distance: 0.123, or 1.2 × 10⁻⁹ when it is small; a dash where there is none."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return not_a_number(value)
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:.3g}"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(_SUPERSCRIPTS)}"


def metric_name(metric: str) -> str:
    """A metric's name without underscores; the harmonic mean is the papers' score."""
    return "score" if metric == "harmonic_mean" else metric.replace("_", " ")


def measured(value: float, unit: str | None) -> str:
    """A metric's value: percent with one decimal, and other units with three digits that count."""
    if not math.isfinite(value):
        return not_a_number(value)
    if unit is None:
        return f"{value:.1f}"
    return f"{value:.1f}" if 10 <= abs(value) < 1e4 else distance(value)


def own(text: str) -> str:
    """What somebody else wrote, for a sentence: its direction is its own, and no character in it is obeyed.

    The marks about it, of which none is left within it, become HTML's by :func:`consortium.report.html.sentence`.
    """
    return f"\u2068{printable(text)}\u2069"


def listing(names: Sequence[str]) -> str:
    """Names with commas and a last `and`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else list(names))


def model_name(scenario: Scenario) -> str:
    """The model in words."""
    model = scenario.model
    if isinstance(model, AssociativeModelSpec):
        width = f"keys {model.key_width}, values {model.value_width}"
        return f"an associative memory ({count(model.num_layers, 'layer')}, {width})"
    return f"the language model {own(model.name)}"


def layers(scenario: Scenario) -> str:
    """The edited layers in words: layers 5–9."""
    edited = scenario.editor.edited_layers
    if len(edited) == 1:
        return f"layer {edited[0]}"
    if edited == tuple(range(edited[0], edited[-1] + 1)):
        return f"layers {edited[0]}–{edited[-1]}"
    return f"layers {listing([str(each) for each in edited])}"


def what_was_run(directory: RunDirectory, results: Results) -> str:
    """One paragraph in plain language."""
    scenario = directory.scenario
    model, parties = scenario.model, scenario.parties.count
    done = max((lane.last.round for lane in results.lanes if lane.last), default=0)
    facts = "pairs of key and answer" if isinstance(model, AssociativeModelSpec) else "facts"
    amount = f", {count(results.num_edits, 'edit')} in {count(done, 'round')}" if done else ""
    lanes = [lane.lane for lane in results.lanes]
    methods = (
        f"Compared are {count(len(lanes), 'merge method')} on the same parties and edits: {listing(lanes)}"
        if len(lanes) > 1
        else f"The merge method is {lanes[0]}"
    )
    return (
        f"{count(parties, 'party')}{' each' if parties > 1 else ''} wanted {model_name(scenario)} to hold {facts} of "
        f"their own{amount}. Nobody saw anybody else’s: each party computed from its edits what to send, and a "
        f"coordinator merged what it was sent into the next version of {layers(scenario)}. {methods}. "
        f"{how_edited(scenario)}, seed {scenario.seed}."
    )


def how_edited(scenario: Scenario) -> str:
    """The editor, and how it was used."""
    editor = create(scenario.editor)
    if editor.tunes_weights:
        return f"The editor is {editor.title}: each party tuned the weights on its own edits"
    return (
        f"The editor is {editor.title}, residuals shared as {scenario.editor.sharing}, keys taken once per "
        f"{_exchanges(scenario)}"
    )


def _exchanges(scenario: Scenario) -> str:
    """How often keys are taken, and from the unedited model where they are, by lane where lanes differ."""
    merge = scenario.merge
    based = " from the unedited model"
    said = {each.lane: merge.exchange_of(each) + based * (merge.anchor_of(each) == "base") for each in merge.methods}
    if len(set(said.values())) == 1:
        return next(iter(said.values()))
    return ", ".join(f"{words} in {lane}" for lane, words in said.items())


def example(directory: RunDirectory) -> str | None:
    """One edit in words; None for a model without language, or before any edit."""
    if isinstance(directory.scenario.model, AssociativeModelSpec):
        return None
    edits = directory.table("edits", ["party", "subject", "prompt", "target_new", "target_old"]).slice(0, 1).to_pylist()
    if not edits:
        return None
    edit = edits[0]
    instead = f" instead of “{own(edit['target_old'])}”" if edit["target_old"] else ""
    prompt, wanted = own(edit["prompt"].replace("{}", edit["subject"])), own(edit["target_new"])
    return f"For example, party {edit['party']} asked that “{prompt} …” be answered with “{wanted}”{instead}."


def findings(results: Results) -> list[str]:
    """The result in at most four sentences, computed from the tables; empty before the first measure."""
    found = (_best(results), _exactness(results), _forgetting(results), _harm(results))
    return [each for each in found if each]


def main_metric(results: Results) -> str | None:
    """The metric by which lanes are ranked: the harmonic mean where there is one."""
    for metric in ("harmonic_mean", "recall", "efficacy", *results.metrics):
        if any(metric in lane.final for lane in results.lanes):
            return metric
    return None


def _best(results: Results) -> str | None:
    metric = main_metric(results)
    if metric is None:
        return None
    sign = 1 if metric in LESS_IS_BETTER else -1
    ranked = sorted(
        (lane for lane in results.lanes if metric in lane.final), key=lambda lane: sign * lane.final[metric].value
    )
    name = metric_name(metric)
    scores = [f"{lane.lane} {lane.final[metric].value:.1f}" for lane in ranked]
    before = f" (unedited model {results.unedited[metric].value:.1f})" if metric in results.unedited else ""
    unit = ranked[0].final[metric].unit
    asked = count(max(lane.final[metric].num_probes for lane in ranked), "question" if unit is None else "token")
    if len(ranked) == 1:
        return f"{ranked[0].lane} reached a {name} of {ranked[0].final[metric].value:.1f}{before}, on {asked}."
    return f"By {name}, best first: {', '.join(scores)}{before}; on {asked}."


def _exactness(results: Results) -> str | None:
    lane, reference = results.lane_of("collabedit"), results.lane_of("global")
    if lane is None or reference is None or lane.last is None or lane.last.weights_distance is None:
        return None
    away = f"The weights of {lane.lane} are {distance(lane.last.weights_distance)} away from those of {reference.lane}"
    if lane.last.weights_distance <= SAME_WITHIN_ROUNDING:
        away += ": the same model but for rounding, although nobody’s edits were brought together"
    others = [
        (each.last.update_distance, each)
        for each in results.lanes
        if each.method not in ("collabedit", "global") and each.last and each.last.update_distance is not None
    ]
    if others and lane.last.update_distance is not None:
        best_distance, best = min(others, key=lambda pair: pair[0])
        away += (
            f". Of what global edit changed, {lane.lane} misses {distance(lane.last.update_distance)} and the nearest "
            f"other method, {best.lane}, {distance(best_distance)} (1 would be: all of it)"
        )
    return away + "."


def _forgetting(results: Results) -> str | None:
    held = [(lane, lane.final["retention"].value) for lane in results.lanes if "retention" in lane.final]
    if not held:
        return None
    scores = ", ".join(f"{lane.lane} {score:.1f} %" for lane, score in sorted(held, key=lambda pair: -pair[1]))
    asked = max(lane.final["retention"].num_probes for lane, _ in held)
    return f"Of earlier rounds’ edits there still hold at the end: {scores} (of {count(asked, 'question')})."


def _harm(results: Results) -> str | None:
    """Perplexity of the fixed text, least first."""
    found = [(lane, lane.final["perplexity"]) for lane in results.lanes if "perplexity" in lane.final]
    before = results.unedited.get("perplexity")
    if not found or before is None:
        return None
    ranked = sorted(found, key=lambda pair: pair[1].value)
    values = ", ".join(f"{lane.lane} {measured(row.value, row.unit)}" for lane, row in ranked)
    return f"Perplexity of a fixed text, {measured(before.value, before.unit)} before any edit: {values}."


def standing(directory: RunDirectory) -> str | None:
    """What to say about a run that is not done; None for one that is."""
    committed = directory.committed_round
    so_far = (
        f"This page shows what was committed: {count(committed, 'round')} of {directory.scenario.stream.rounds}."
        if committed is not None
        else "Nothing was committed yet."
    )
    if directory.status == "done":
        return None
    if directory.status == "failed":
        return f"This run failed: {own(directory.manifest.error or 'nothing is known of why')}\n{so_far}"
    if directory.status == "interrupted":
        return f"This run was interrupted: no process works on it. {so_far} consortium resume goes on from there."
    return f"This run is still going on. {so_far}"
