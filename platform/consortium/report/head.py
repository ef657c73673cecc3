"""The head of the report: what was run and how it stands, and what came out in short."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from consortium.evaluation.registry import of_column
from consortium.records.directory import RunDirectory
from consortium.report.content import Run
from consortium.report.results import Results
from consortium.report.words import (
    count,
    distance,
    duration,
    listing,
    main_metric,
    measured,
    metric_name,
    own,
)
from consortium.scenario.schema import AssociativeModelSpec, Scenario

SAME_WITHIN_ROUNDING = 1e-6
"""Relative distance of float32 weights below which two models are the same but for rounding."""


@dataclass(frozen=True)
class Head:
    """What stands above the first section."""

    name: str  # the scenario's own, as is the description
    description: str
    status: str  # the run's
    notice: str | None  # about a run that is not done
    what_was_run: str  # one paragraph in plain language
    example: str | None  # one edit in words
    findings: Sequence[str]  # the result in a few sentences
    facts: Mapping[str, str]  # the run in figures


def head_of(run: Run) -> Head:
    """The head of a run's report."""
    directory, results, scenario = run.directory, run.results, run.directory.scenario
    return Head(
        name=scenario.name,
        description=scenario.description,
        status=directory.status,
        notice=run_status(directory),
        what_was_run=what_was_run(scenario, results),
        example=example(directory),
        findings=findings(results),
        facts=_facts(directory, results),
    )


def _facts(directory: RunDirectory, results: Results) -> dict[str, str]:
    scenario, done, rounds = directory.scenario, directory.committed_round or 0, directory.scenario.stream.rounds
    return {
        "parties": f"{scenario.parties.count:,}",
        "edits": f"{results.num_edits:,}",
        "rounds": str(rounds) if done == rounds else f"{done} of {rounds}",
        "model": own(scenario.model.name),
        "edited": layers(scenario),
        "seed": str(scenario.seed),
        "time": duration(directory.worked_s),
        "started": directory.manifest.started[:16].replace("T", " ") + " UTC",
    }


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


def what_was_run(scenario: Scenario, results: Results) -> str:
    """One paragraph in plain language."""
    model, parties = scenario.model, scenario.parties.count
    done = max((arm.last.round for arm in results.arms if arm.last), default=0)
    facts = "pairs of key and answer" if isinstance(model, AssociativeModelSpec) else "facts"
    amount = f", {count(results.num_edits, 'edit')} in {count(done, 'round')}" if done else ""
    arms = [arm.arm for arm in results.arms]
    methods = (
        f"Compared are {count(len(arms), 'merge method')} on the same parties and edits: {listing(arms)}"
        if len(arms) > 1
        else f"The merge method is {arms[0]}"
    )
    return (
        f"{count(parties, 'party')}{' each' if parties > 1 else ''} wanted {model_name(scenario)} to hold {facts} of "
        f"their own{amount}. Nobody saw anybody else’s: each party computed from its edits what to send, and a "
        f"coordinator merged what it was sent into the next version of {layers(scenario)}. {methods}. "
        f"{how_edited(scenario)}, seed {scenario.seed}."
    )


def how_edited(scenario: Scenario) -> str:
    """The editor, and how it was used."""
    editor = scenario.editor
    if editor.tunes_weights:
        return f"The editor is {editor.title}: each party tuned the weights on its own edits"
    return (
        f"The editor is {editor.title}, residuals shared as {scenario.editor.residual_schedule}, keys taken once per "
        f"{_exchanges(scenario)}"
    )


def _exchanges(scenario: Scenario) -> str:
    """How often keys are taken, and from the unedited model where they are, by arm where arms differ."""
    merge = scenario.merge
    based = " from the unedited model"
    said = {
        each.arm: merge.exchange_of(each) + based * (merge.reference_of(each) == "initial") for each in merge.methods
    }
    if len(set(said.values())) == 1:
        return next(iter(said.values()))
    return ", ".join(f"{words} in {arm}" for arm, words in said.items())


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
    found = (_best(results), _exactness(results), _forgetting(results), _side_effects(results))
    return [each for each in found if each]


def _best(results: Results) -> str | None:
    metric = main_metric(results)
    if metric is None:
        return None
    known = of_column(metric)
    sign = -1 if known.higher_is_better else 1
    ranked = sorted(
        (arm for arm in results.arms if metric in arm.final), key=lambda arm: sign * arm.final[metric].value
    )
    name = metric_name(metric)
    scores = [f"{arm.arm} {arm.final[metric].value:.1f}" for arm in ranked]
    before = f" (unedited model {results.unedited[metric].value:.1f})" if metric in results.unedited else ""
    asked = count(max(arm.final[metric].num_probes for arm in ranked), known.counted_in)
    if len(ranked) == 1:
        return f"{ranked[0].arm} reached a {name} of {ranked[0].final[metric].value:.1f}{before}, on {asked}."
    return f"By {name}, best first: {', '.join(scores)}{before}; on {asked}."


def _exactness(results: Results) -> str | None:
    arm, reference = results.arm_of("collabedit"), results.arm_of("global")
    if arm is None or reference is None or arm.last is None or arm.last.weights_distance is None:
        return None
    away = f"The weights of {arm.arm} are {distance(arm.last.weights_distance)} away from those of {reference.arm}"
    if arm.last.weights_distance <= SAME_WITHIN_ROUNDING:
        away += ": the same model but for rounding, although nobody’s edits were brought together"
    others = [
        (each.last.update_distance, each)
        for each in results.arms
        if each.method not in ("collabedit", "global") and each.last and each.last.update_distance is not None
    ]
    if others and arm.last.update_distance is not None:
        best_distance, best = min(others, key=lambda pair: pair[0])
        away += (
            f". Of what global edit changed, {arm.arm} misses {distance(arm.last.update_distance)} and the nearest "
            f"other method, {best.arm}, {distance(best_distance)} (1 would be: all of it)"
        )
    return away + "."


def _forgetting(results: Results) -> str | None:
    held = [(arm, arm.final["retention"].value) for arm in results.arms if "retention" in arm.final]
    if not held:
        return None
    scores = ", ".join(f"{arm.arm} {score:.1f} %" for arm, score in sorted(held, key=lambda pair: -pair[1]))
    asked = max(arm.final["retention"].num_probes for arm, _ in held)
    return f"Of earlier rounds’ edits there still hold at the end: {scores} (of {count(asked, 'question')})."


def _side_effects(results: Results) -> str | None:
    """Perplexity of the fixed text, least first."""
    found = [(arm, arm.final["perplexity"]) for arm in results.arms if "perplexity" in arm.final]
    before = results.unedited.get("perplexity")
    if not found or before is None:
        return None
    ranked = sorted(found, key=lambda pair: pair[1].value)
    values = ", ".join(f"{arm.arm} {measured(row.value, row.unit)}" for arm, row in ranked)
    return f"Perplexity of a fixed text, {measured(before.value, before.unit)} before any edit: {values}."


def run_status(directory: RunDirectory) -> str | None:
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
