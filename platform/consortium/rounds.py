"""The round as plain functions over plain data: what is computed in which order, and what follows from a sum.

Both the serial twin and the Ray runtime call these; neither adds arithmetic of its own.

Shapes: K key width, V value width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from consortium.attacks.roles import attackers
from consortium.editing.editors.registry import create
from consortium.errors import NotFiniteError
from consortium.evaluation.measure import Sums, measure_of
from consortium.evaluation.metrics import HARMONIC, ProbeSums, harmonic_mean, over_rounds
from consortium.merging.coincidence import Coincidence
from consortium.merging.history import GramHistory, grown
from consortium.merging.method import Contribution, MergeMethod
from consortium.merging.solver import PriorSolver
from consortium.records.rows import MetricRow
from consortium.scenario.editor_schema import EditorSpec
from consortium.scenario.schema import Scenario
from consortium.seeds import numpy_generator
from consortium.state import LaneState
from consortium.streams.request import Request
from consortium.streams.stream import Stream


@dataclass(frozen=True)
class Part:
    """One layer's share of a step.

    Attributes:
        layer: the layer whose weight gets an update.
        target_layer: the layer after which the residual is measured.
        divisor: the residual is divided by this.
    """

    layer: int
    target_layer: int
    divisor: int


@dataclass(frozen=True)
class Step:
    """One exchange of a round: statistics of all parts from the same weights, then a merge of each.

    Attributes:
        targets: layers at which targets are optimised before this step, under the weights as merged so far.
        parts: the layers that are collected and merged.
    """

    targets: tuple[int, ...]
    parts: tuple[Part, ...]


def plan_round(editor: EditorSpec, exchange: str) -> tuple[Step, ...]:
    """The steps of a round.

    ``memit`` sharing (arXiv 2210.07229, equation 20) divides what is missing by the number of layers still to
    come; this presumes that each layer's keys and residuals are taken after the layers below were merged. With
    all of them taken at once (``exchange: round``) every layer gets the same share instead, or the shares would
    add up to more than what is missing. ``boundary`` sharing (BLUE, arXiv 2502.03748) gives the first and the
    last layer targets of their own and their whole residuals. An editor that tunes weights changes all layers at
    once; what stands for its targets are the tuned weights.
    """
    layers = editor.edited_layers
    if create(editor).tunes_weights:
        return (Step((layers[-1],), tuple(Part(layer, layers[-1], 1) for layer in layers)),)
    if editor.sharing == "boundary":
        parts = [Part(layer, layer, 1) for layer in layers]
    elif exchange == "layer":
        parts = [Part(layer, layers[-1], len(layers) - place) for place, layer in enumerate(layers)]
    else:
        parts = [Part(layer, layers[-1], len(layers)) for layer in layers]
    if exchange == "round":
        return (Step(tuple(dict.fromkeys(part.target_layer for part in parts)), tuple(parts)),)
    steps = []
    known: set[int] = set()
    for part in parts:
        steps.append(Step(() if part.target_layer in known else (part.target_layer,), (part,)))
        known.add(part.target_layer)
    return tuple(steps)


@dataclass(frozen=True)
class Merged:
    """What merging one layer gives: the new weight [V, K] float32 and history; None for a history of zero."""

    weight_VK: NDArray[np.float32]
    history: GramHistory | None


def merge_layer(
    method: MergeMethod,
    total: Contribution,
    solver: PriorSolver,
    weight_VK: NDArray[np.float32],
    history: GramHistory | None,
    history_weight: float,
    largest: float = math.inf,
) -> Merged:
    """W + Δ and H + h·Σ gram of one layer; Δ in float64, rounded once.

    Raises:
        NotFiniteError: the new weight is not finite, or has a number above ``largest``, what the model's type can hold.
    """
    delta_VK = method.merge(total, solver)
    with np.errstate(over="ignore"):  # told below, in words
        new_VK = (weight_VK.astype(np.float64) + np.asarray(delta_VK)).astype(np.float32)
    if not np.isfinite(new_VK).all():
        raise NotFiniteError(
            f"the merged weight of layer {total.basis.layer} in round {total.basis.round}, lane {total.basis.lane}, "
            "is not finite",
            "finite statistics and a prior that outweighs rounding",
            "raise editor.prior_weight or editor.prior.tokens, or lower editor.target.clamp",
        )
    if np.abs(new_VK).max(initial=0.0) > largest:
        raise NotFiniteError(
            f"the merged weight of layer {total.basis.layer} in round {total.basis.round}, lane {total.basis.lane}, "
            f"is not finite in the model's type: it has a number of {np.abs(new_VK).max():.3g}",
            f"numbers up to {largest:.5g}",
            "set model.dtype to bfloat16 or float32, raise editor.prior_weight, or lower editor.target.clamp",
        )
    return Merged(new_VK, grown(history, total.gram, history_weight) if history_weight else history)


def is_first_evaluation(scenario: Scenario, round_number: int) -> bool:
    """No round before is evaluated: what does not depend on edits is measured on the unedited model now, and once."""
    return round_number == min(scenario.evaluate.every, scenario.stream.rounds, *scenario.stream.prolonged)


def is_evaluated(scenario: Scenario, round_number: int) -> bool:
    """Evaluation is due after every ``every`` rounds, and always after the last; it may have been prolonged."""
    stream = scenario.stream
    return round_number % scenario.evaluate.every == 0 or round_number in (stream.rounds, *stream.prolonged)


def sampled_requests(scenario: Scenario, stream: Stream, round_number: int, parties: range) -> list[Request]:
    """Those requests of some consecutive parties that are probed, in order of party and place; by the scenario alone.

    ``evaluate.sample`` is drawn from all parties' requests of the round, so parties have unequal parts of it. Those of
    parties that attack in some round are left out of what was drawn.
    """
    bad = attackers(scenario)
    wanted: dict[int, list[int]] = {}
    for party, index in stream.places(round_number, _sampled_numbers(scenario, stream, round_number, parties)):
        wanted.setdefault(party, []).append(index)
    chosen: list[Request] = []
    for party, indices in ((party, indices) for party, indices in wanted.items() if party not in bad):
        requests = stream.requests(round_number, party)
        chosen.extend(requests[index] for index in indices)
    return chosen


def num_sampled(scenario: Scenario, stream: Stream, round_number: int, parties: range) -> int:
    """Number of :func:`sampled_requests`, those of attackers included."""
    return len(_sampled_numbers(scenario, stream, round_number, parties))


def probed_rounds(scenario: Scenario, round_number: int) -> range:
    """Rounds whose edits are probed after a round (besides those for retention)."""
    return range(1 if scenario.evaluate.edits == "all" else round_number, round_number + 1)


def num_probed(scenario: Scenario, stream: Stream, round_number: int, parties: range) -> int:
    """Edits of some consecutive parties that are probed after a round."""
    return sum(num_sampled(scenario, stream, each, parties) for each in probed_rounds(scenario, round_number))


def _sampled_numbers(scenario: Scenario, stream: Stream, round_number: int, parties: range) -> NDArray[np.int64]:
    """The probed ones of the round's requests, counted through the parties in order (:meth:`Stream.places`)."""
    first = stream.num_requests(round_number, range(parties.start))
    end = first + stream.num_requests(round_number, parties)
    total, sample = stream.num_requests(round_number), scenario.evaluate.sample
    if sample is None or sample >= total:
        return np.arange(first, end)
    drawn = _draw(scenario.seed, round_number, total, sample)
    return drawn[np.searchsorted(drawn, first) : np.searchsorted(drawn, end)]


@lru_cache(maxsize=64)  # every cohort asks for the round's draw, and for those of all earlier rounds
def _draw(seed: int, round_number: int, total: int, size: int) -> NDArray[np.int64]:
    drawn = np.sort(numpy_generator(seed, "sample", round_number).choice(total, size=size, replace=False))
    drawn.setflags(write=False)
    return drawn


def metric_rows(scenario: Scenario, round_number: int, lane: str, sums: ProbeSums) -> list[MetricRow]:
    """Metrics from sums: of each round whose edits were probed, of several together, and their harmonic means.

    Raises:
        NotFiniteError: more answers are not finite than the scenario puts up with.
    """
    _check_finite(scenario, round_number, lane, sums)
    rows = [_metric_row(round_number, lane, *key, value) for key, value in sorted(sums.items())]
    if scenario.evaluate.edits == "all" and round_number > 1:
        rows += [_metric_row(round_number, lane, metric, 0, value) for metric, value in over_rounds(sums).items()]
    harmonic = [row for row in rows if row.metric in HARMONIC]
    means = (_harmonic_row(each, harmonic) for each in dict.fromkeys(row.of_round for row in harmonic))
    return [*rows, *(row for row in means if row is not None)]


def _check_finite(scenario: Scenario, round_number: int, lane: str, sums: ProbeSums) -> None:
    counts: dict[str, tuple[int, int]] = {}
    for (metric, _), value in sorted(sums.items()):
        found, (bad, total) = measure_of(value), counts.get(metric, (0, 0))
        counts[metric] = bad + found.num_not_finite, total + found.num_not_finite + found.num_probes
    most = scenario.evaluate.max_not_finite
    wrong = {metric: (bad, total) for metric, (bad, total) in counts.items() if bad > most * total}
    if wrong:
        said = ", ".join(
            f"{bad} of {total} {_UNITS.get(metric, 'answers')} ({metric})" for metric, (bad, total) in wrong.items()
        )
        raise not_finite(f"what the model says is not finite: {said} in lane {lane}, round {round_number}", most)


#: Metric → what it is counted in, where that is not answers.
_UNITS = {"perplexity": "tokens", "fluency": "texts", "fluency_greedy": "texts"}


def not_finite(found: str, most: float) -> NotFiniteError:
    """The error of a run of whose numbers too many are not finite; ``most`` is the share that the scenario allows."""
    return NotFiniteError(
        found,
        f"at most {100 * most:g} % of what a metric asks, of a round's edits, and of the prior's text "
        "(evaluate.max_not_finite)",
        "set model.dtype to bfloat16 or float32 where it is float16; look at the prompts, and at how far edits moved "
        "weights; or go on without what is not finite, which is counted: consortium resume DIR --set "
        "evaluate.max_not_finite=1",
    )


def _harmonic_row(of_round: int | None, rows: Iterable[MetricRow]) -> MetricRow | None:
    """The harmonic mean of the three metrics of some round's edits, as far as all three are there."""
    parts = [row for row in rows if row.of_round == of_round]
    success = harmonic_mean({row.metric: row.success for row in parts if row.success is not None})
    if success is None:
        return None
    strict = harmonic_mean({row.metric: row.strict for row in parts if row.strict is not None})
    num_edits, num_probes = min(row.num_edits for row in parts), sum(row.num_probes for row in parts)
    missing = sum(row.num_not_finite or 0 for row in parts)
    first = parts[0]
    return MetricRow(
        first.round, first.lane, "harmonic_mean", of_round, success, strict, num_edits, num_probes, None, missing
    )


def _metric_row(round_number: int, lane: str, metric: str, of_round: int, value: Sums) -> MetricRow:
    """A row of the table; round 0 stands for no round in particular."""
    found = measure_of(value)
    return MetricRow(
        round_number,
        lane,
        metric,
        of_round or None,
        found.value,
        found.strict,
        found.num_edits,
        found.num_probes,
        found.unit,
        found.num_not_finite,
    )


@dataclass(frozen=True)
class Distances:
    """How far a lane's weights are from the global lane's and from the unedited ones, over all edited layers.

    Beside it stands what the round's sums say of requests that meet; None where they say nothing.
    """

    weights_distance: float | None
    update_distance: float | None
    update_norm: float
    coincidence: Coincidence | None = None


def distances(lane: LaneState, base: Mapping[int, NDArray[np.float32]], reference: LaneState | None) -> Distances:
    """Relative Frobenius distances: ‖W - W_global‖ / ‖W_global‖, ‖ΔW - ΔW_global‖ / ‖ΔW_global‖, ‖ΔW‖ / ‖W₀‖."""
    update_norm = _ratio(lane.weights, base, base)
    if reference is None:
        return Distances(None, None, update_norm)
    moved = {layer: _wide(weight) - _wide(base[layer]) for layer, weight in reference.weights.items()}
    weights_distance = _ratio(lane.weights, reference.weights, reference.weights)
    return Distances(weights_distance, _ratio(lane.weights, reference.weights, moved), update_norm)


def _wide(weight: NDArray[np.floating]) -> NDArray[np.float64]:
    return weight.astype(np.float64)


def _ratio(
    left: Mapping[int, NDArray[np.float32]],
    right: Mapping[int, NDArray[np.float32]],
    scale: Mapping[int, NDArray[np.floating]],
) -> float:
    above = sum(float(np.sum((_wide(left[layer]) - _wide(right[layer])) ** 2)) for layer in left)
    below = sum(float(np.sum(_wide(scale[layer]) ** 2)) for layer in left)
    return float(np.sqrt(above / below)) if below else 0.0


def superseded(stream: Stream, rounds: range) -> dict[int, int]:
    """Fact → last of ``rounds`` in which some party contradicted an earlier request for it.

    A contradiction that was taken back, up to the last of them, is none.
    """
    return {fact: number for number in rounds for fact in stream.contradicted(number, rounds[-1])}
