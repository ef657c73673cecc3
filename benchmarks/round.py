"""A whole round of one arm: targets, keys, statistics, merge and evaluation, against the same with naive twins alone.

Four parties ask for equally many edits; CollabEdit, default editor. Ours goes through the worker of a worker and the
arm of a coordinator, as both runtimes do; records on disk, and caches of targets, are left out. The naive way is the
papers': one edit, prompt and probe at a time, an inverse for each party.

Shapes: E edits, K key width, V value width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from consortium.common.arrays import tensor_of
from consortium.data.builtin import builtin_edits
from consortium.data.edit import Edit
from consortium.data.party_batch import PartyBatch
from consortium.data.table import FactTable
from consortium.editing.backend import Targets
from consortium.editing.language import LanguageBackend
from consortium.editing.layer_schedule import Part, plan_round
from consortium.engine.arms import Arm, open_arms
from consortium.engine.key_covariance import KeyCovariance
from consortium.engine.rounds import batches_of
from consortium.evaluation import registry as metrics
from consortium.evaluation.asking import ask, reduced
from consortium.evaluation.item import AskedEdit
from consortium.evaluation.rewrite_scores import items_of
from consortium.evaluation.sums import ProbeSums, add_sums
from consortium.merging.method import sum_in_order
from consortium.merging.solver import CovarianceSolver
from consortium.merging.solvers import covariance_matrix
from consortium.party.worker import Worker
from consortium.scenario.editor import ContextsSpec, MemitSpec
from consortium.scenario.methods import CollabEditSpec
from consortium.scenario.schema import ClusterSpec, EvaluateSpec, MergeSpec, PartiesSpec, Scenario
from numpy.typing import NDArray

from benchmarks.evaluation import PROBES
from benchmarks.harness.case import Case, Moved, relative_difference
from benchmarks.harness.fixtures import Fixtures
from benchmarks.harness.measure import measure
from benchmarks.harness.record import Record
from benchmarks.naive.merging import merge_naively
from benchmarks.naive_backend import NaiveBackend
from benchmarks.targets import prompts_of

SIZES = (24,)
PARTIES = 4

Weights = dict[int, NDArray[np.float32]]


def records(bench: Fixtures) -> Iterator[Record]:
    """A record for each number of edits, a multiple of the number of parties."""
    for size in bench.options.sizes or SIZES:
        yield measure("round", case(bench, -(-size // PARTIES) * PARTIES), bench.options.budget, bench.tell)


def case(bench: Fixtures, size: int) -> Case:
    """A round of so many edits."""
    rounds = Rounds(bench)
    prompts = [prompt for edit in bench.edits(size) for prompt in prompts_of(bench.model, edit, bench.contexts)]
    editor = rounds.scenario(size).editor
    return Case(
        label=f"{size} edits, {PARTIES} parties",
        unit="edit",
        items=size,
        ours=rounds.ours,
        naive=rounds.naive,
        difference=_difference,
        product=bench.mlp_product(sum(len(prompt.ids) - prompt.subject for prompt in prompts)),
        prepare=lambda: rounds.covariance,
        parameters={
            **bench.parameters,
            "residual_schedule": editor.residual_schedule,
            "layers": list(editor.edited_layers),
        },
        granule=PARTIES,
        is_whole=True,
        moved=lambda done: Moved(done.num_bytes, "statistics that the parties send"),
    )


@dataclass(frozen=True)
class Done:
    """What a round comes to: updates of the weights [V, K] by layer, sums of probes, and bytes that were sent."""

    updates: Mapping[int, torch.Tensor]
    sums: ProbeSums
    num_bytes: int


def _difference(ours: Done, naive: Done) -> float:
    """Of the updates; the metrics of both must be equal, or the difference is 1 at least."""
    apart = max(relative_difference(ours.updates[layer], naive.updates[layer]) for layer in naive.updates)
    return apart if ours.sums == naive.sums else max(1.0, apart)


@dataclass(frozen=True)
class Rounds:
    """Rounds on one model, which they leave as it was.

    Attributes:
        bench: model, contexts and settings.
    """

    bench: Fixtures

    @cached_property
    def facts(self) -> FactTable:
        """The built-in facts."""
        return FactTable(builtin_edits())

    @cached_property
    def covariance(self) -> KeyCovariance:
        """One chunk of the model's own text; a diagonal makes it positive definite however wide the keys are."""
        sums, num_tokens = self._backend(LanguageBackend).covariance_sum(0)
        return KeyCovariance({layer: _with_diagonal(gram_KK) for layer, gram_KK in sums.items()}, num_tokens)

    def scenario(self, num_edits: int) -> Scenario:
        """Four parties with so many edits in all."""
        first, last = self.bench.layers[0], self.bench.layer
        return Scenario(
            name="benchmark",
            parties=PartiesSpec(count=PARTIES, edits_per_round=num_edits // PARTIES),
            editor=MemitSpec(
                layers=(first, last),
                target=self.bench.target_spec,
                contexts=ContextsSpec(count=self.bench.options.contexts),
            ),
            merge=MergeSpec(methods=(CollabEditSpec(),)),
            evaluate=EvaluateSpec(sample=None, metrics=tuple(PROBES)),
            cluster=ClusterSpec(parties_per_batch=PARTIES, target_cache=False),
        )

    def _backend(self, kind: type[LanguageBackend]) -> LanguageBackend:
        return kind(self.bench.model, self.scenario(PARTIES).editor, seed=0)

    def _worker(self, num_edits: int, kind: type[LanguageBackend]) -> Worker:
        worker = Worker(self.scenario(num_edits), self.facts, self._backend(kind))
        worker.begin(self.bench.contexts, self.covariance.sums, self.covariance.num_tokens)
        return worker

    def ours(self, num_edits: int) -> Done:
        """A round as both runtimes do it."""
        worker = self._worker(num_edits, LanguageBackend)
        base = worker.backend.base_weights()
        (arm,) = open_arms(worker.scenario, base, {})
        num_bytes = self._edit(worker, arm)
        batches = batches_of(worker.scenario, 1)
        sums = add_sums([worker.evaluate(batch, arm.snapshot(), False).sums for batch in batches])
        worker.backend.load_weights(base)
        return Done(_updates(base, arm.weights), sums, num_bytes)

    def _edit(self, worker: Worker, arm: Arm) -> int:
        """Targets, statistics and merges; returns the bytes that were sent."""
        scenario, num_bytes, targets_at = worker.scenario, 0, {}
        batches = batches_of(scenario, 1)
        for step in plan_round(scenario.editor, scenario.merge.exchange):
            for layer in step.targets:
                targets_at[layer] = arm.snapshot()
                for batch in batches:
                    worker.targets(batch, targets_at[layer], layer)
            weights, history = arm.snapshot(), arm.history_now()
            for part in step.parts:
                found = [worker.collect(batch, arm.name, part, weights, targets_at, history) for batch in batches]
                num_bytes += sum(sum(each.party_bytes) for each in found)
                parts = [each.contribution for each in found if each.contribution is not None]
                arm.merge(sum_in_order(parts), self._solver(scenario, part.layer))
        return num_bytes

    def _solver(self, scenario: Scenario, layer: int) -> CovarianceSolver:
        return KeyCovariance(self.covariance.sums, self.covariance.num_tokens).solver(scenario, layer, None)

    def naive(self, num_edits: int) -> Done:
        """The same round with naive twins alone."""
        worker = self._worker(num_edits, NaiveBackend)
        edits, base = worker.party_data.edits(PartyBatch(1, 0)), worker.backend.base_weights()
        weights = dict(base)
        targets: dict[int, Targets] = {}
        for step in plan_round(worker.scenario.editor, worker.scenario.merge.exchange):
            for layer in step.targets:
                targets[layer] = worker.backend.targets(edits, layer)
            merged = {part.layer: self._merged(worker, edits, targets, part) for part in step.parts}
            for layer, delta_VK in merged.items():
                weights[layer] = (weights[layer] + delta_VK.numpy()).astype(np.float32)
            worker.backend.load_weights(weights)
        items = [
            (metrics.get(name), item)
            for name, probes in PROBES.items()
            for edit in edits
            for item in items_of(name, AskedEdit(edit, 1), probes(edit))
        ]
        sums = reduced(ask(worker.backend, items))
        worker.backend.load_weights(base)
        return Done(_updates(base, weights), sums, 0)

    def _merged(self, worker: Worker, edits: list[Edit], targets: Mapping[int, Targets], part: Part) -> torch.Tensor:
        """The update [V, K] of one layer, from each party's dense statistics."""
        states = worker.backend.states(edits, part.layer, None)
        keys_KE, missing_VE = worker.backend.keys_and_residuals(states, targets[part.target_layer])
        columns = (each.split(len(edits) // PARTIES, dim=1) for each in (keys_KE, missing_VE / part.divisor))
        own = list(zip(*columns, strict=True))
        weight = worker.scenario.editor.covariance_weight
        covariance_KK = tensor_of(
            covariance_matrix(self.covariance.sums[part.layer], self.covariance.num_tokens, weight)
        )
        return merge_naively(covariance_KK, None, [r @ k.T for k, r in own], [k @ k.T for k, _ in own])


def _with_diagonal(gram_KK: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(gram_KK + np.trace(gram_KK) / len(gram_KK) * np.eye(len(gram_KK)))


def _updates(base: Weights, weights: Mapping[int, NDArray[np.float32]]) -> dict[int, torch.Tensor]:
    return {layer: torch.tensor(weights[layer]).double() - torch.tensor(base[layer]).double() for layer in base}
