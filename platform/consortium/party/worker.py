"""What a worker does, without Ray: it holds a model and computes the party batches it is given.

An answer depends on the scenario and on what its call names, never on what was computed before or where. Targets and
edits stay in here; what leaves is a sum over a batch's parties. What features do on the way is in their hooks
(:mod:`consortium.features.hooks`).

Shapes: E edits, K key width, V value width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consortium.data.edit import FactSet
from consortium.data.party_batch import PartyBatch
from consortium.editing.backend import Backend
from consortium.editing.edited_layers import EditedLayers, History, Weights
from consortium.editing.editors import registry as editors
from consortium.editing.known_facts import Detection
from consortium.editing.layer_schedule import Part, plan_round
from consortium.evaluation.telling import Evaluated
from consortium.features.hooks import Messages, Rejection
from consortium.merging import registry
from consortium.merging.method import Contribution, sum_in_order
from consortium.merging.reference_norms import ReferenceNorms, all_reference_norms
from consortium.merging.solver import CovarianceSolver
from consortium.merging.solvers import Solvers
from consortium.merging.statistics import Basis
from consortium.party.data import PartyDataset
from consortium.party.evaluator import Evaluator
from consortium.party.shares import ShareMaker
from consortium.party.targets import TargetReport, TargetStore
from consortium.party.tuning import Tuner
from consortium.scenario.schema import Scenario


@dataclass(frozen=True)
class Collected:
    """A batch's part of one layer's merge.

    Attributes:
        contribution: the sum over the batch's parties; None where one was refused, since the round begins again then.
        num_edits: edits that it speaks for, copies in other words not counted.
        party_bytes: what each party's own message weighs.
        num_skipped: edits that each party did not send, by what it saw before.
        num_not_finite: edits that each party left out besides, since their numbers are not finite.
        rejections: parties whose messages were refused.
        reports: feature → what it has to say at the coordinator.
    """

    contribution: Contribution | None
    num_edits: int
    party_bytes: tuple[int, ...]
    num_skipped: tuple[int, ...]
    num_not_finite: tuple[int, ...]
    rejections: tuple[Rejection, ...] = ()
    reports: Mapping[str, Any] = field(default_factory=dict)


class Worker:
    """A model and the parties' private edits; every method is idempotent.

    Args:
        scenario: the scenario as resolved.
        facts: all facts; a party's own follow from the stream.
        backend: the model, unedited.
    """

    def __init__(self, scenario: Scenario, facts: FactSet, backend: Backend) -> None:
        self.scenario = scenario
        self.backend = backend
        self.layers = EditedLayers(backend)
        self.party_data = PartyDataset(scenario, facts)
        self.stream = self.party_data.stream
        self.evaluator = Evaluator(self.party_data, self.layers)
        self.editor = editors.create_editor(scenario.editor)
        methods = {spec.arm: registry.create_method(spec) for spec in scenario.merge.methods}
        self.methods = {arm: self.editor.merge_method(method) for arm, method in methods.items()}
        self._targets = TargetStore(self.party_data, self.layers)
        self._tuner = Tuner(self.party_data, self.layers)
        self._shares: ShareMaker | None = None
        self._solvers: Solvers | None = None
        self._all_reference_norms: Mapping[int, ReferenceNorms] = {}
        self._first_target_layer = plan_round(scenario.editor, scenario.merge.exchange)[0].targets[0]

    # Before the first round

    def covariance_sum(self, chunk: int) -> tuple[dict[int, NDArray[np.float64]], int]:
        """Σ k·kᵀ of each edited layer over one chunk of the key covariance's text, unedited."""
        self.layers.is_base()
        return self.backend.covariance_sum(chunk)

    def contexts(self) -> tuple[str, ...]:
        """Contexts written by the unedited model."""
        self.layers.is_base()
        return self.backend.contexts()

    def begin(
        self,
        contexts: Sequence[str],
        covariance: Mapping[int, NDArray[np.float64]],
        num_tokens: int,
        measures: Mapping[int, ReferenceNorms] | None = None,
    ) -> None:
        """Take the run's contexts, sums for the key covariance over ``num_tokens`` tokens, and norms for screening.

        Without ``measures``, norms are computed from ``covariance``, which must be there then.
        """
        base = self.backend.base_weights() if measures is None else {}
        self._all_reference_norms = all_reference_norms(base, covariance, num_tokens) if measures is None else measures
        self.backend.set_contexts(contexts)
        self._solvers = self.editor.solvers(covariance, num_tokens)
        map_keys = self.editor.key_map(covariance, num_tokens)
        self._shares = ShareMaker(self.party_data, self.layers, self._targets, map_keys)

    # In a round

    def announce(self, feature: str, batch: PartyBatch) -> Any:
        """What a feature has the batch's parties tell the coordinator before a round."""
        return self.party_data.hooks[feature].announce(batch)

    def targets(self, batch: PartyBatch, weights: Weights, layer: int) -> TargetReport:
        """Optimise the batch's targets at ``layer`` under ``weights``, or read them from disk, and keep them.

        An editor that tunes weights does so here; its parties' tuned weights are kept in place of targets.
        """
        if self.editor.spec.tunes_weights:
            return self._tuner.report(batch, weights)
        detections: Sequence[Detection] = ()
        if layer == self._first_target_layer:
            shifts = self._targets.targets(batch, weights, layer).shifts
            seen = (hook.notice(batch, self.layers, weights, shifts) for hook in self.party_data.hooks.values())
            detections = next((each for each in seen if each), ())
        return self._targets.report(batch, weights, layer, detections)

    def collect(
        self,
        batch: PartyBatch,
        arm: str,
        part: Part,
        weights: Weights,
        targets_at: Mapping[int, Weights],
        history: History,
    ) -> Collected:
        """The batch's contribution to one layer.

        Args:
            batch: the batch.
            arm: name of the arm; its method says what a contribution is.
            part: the layer and how the residual is shared.
            weights: weights under which keys and residuals are taken.
            targets_at: layer → weights under which its targets were optimised, for all that were in this round.
            history: the arm's history, for methods whose parties solve.
        """
        basis, method, solver = Basis(arm, batch.round, part.layer), self.methods[arm], None
        optimised_at = targets_at[part.target_layer]
        if self.editor.spec.tunes_weights:
            made = self._tuner.shares(batch, basis, optimised_at)
            solver = self._solver(part.layer)
        else:
            made = self._maker.shares(batch, part, basis, weights, optimised_at, self._skipped(batch, arm, targets_at))
            if method.spec.needs_solver:
                solver = self._solver(part.layer, history)
        messages = method.contribute(self.editor.with_updates(made.shares, solver), solver)
        sent = zip(self.scenario.party_batch(batch.number), messages, strict=True)
        edits, reference_norms = self.party_data.merged(batch), self._all_reference_norms[part.layer]
        found = Messages(batch, basis, edits, made.num_summed, tuple(sent), method, reference_norms, solver)
        return self._added(found, made.num_skipped, made.num_not_finite)

    def unlearn(self, feature: str, batch: PartyBatch, arm: str, part: Part, weights: Weights) -> Collected:
        """What the batch's parties remove at one layer, to be subtracted from the arm's retained sum.

        Args:
            feature: the feature that says what.
            batch: a batch of ``RoundHook.removals``.
            arm: name of the arm, whose reference is ``initial``.
            part: the layer and how the residual is shared.
            weights: the unedited weights.
        """
        basis, method, hook = Basis(arm, batch.round, part.layer), self.methods[arm], self.party_data.hooks[feature]
        columns = hook.removed_columns(batch, lambda then: self._maker.columns(then, part, weights, weights))
        sent = zip(columns, method.contribute(self._maker.removed(basis, columns), None), strict=True)
        edits, reference_norms = hook.removed(batch), self._all_reference_norms[part.layer]
        found = Messages(batch, basis, edits, len(edits), tuple(sent), method, reference_norms, is_removal=True)
        nothing = (0,) * len(self.scenario.party_batch(batch.number))
        return self._added(found, nothing, nothing)

    def evaluate(
        self, batch: PartyBatch, weights: Weights, retention: bool, before: Weights | None = None
    ) -> Evaluated:
        """Counts and sums of the batch's own probes: see :meth:`consortium.party.evaluator.Evaluator.evaluate`."""
        return self.evaluator.evaluate(batch, weights, retention, before)

    def _skipped(self, batch: PartyBatch, arm: str, targets_at: Mapping[int, Weights]) -> list[bool]:
        """Which of the batch's edits their parties do not send, by what they saw before anything was merged."""
        is_skipped_E = [False] * len(self.party_data.merged(batch))
        if arm in self.scenario.arms_that_skip:
            weights = targets_at[self._first_target_layer]
            shifts = self._targets.targets(batch, weights, self._first_target_layer).shifts
            for hook in self.party_data.hooks.values():
                found = hook.skips(arm, batch, self.layers, weights, shifts) or is_skipped_E
                is_skipped_E = [one or other for one, other in zip(is_skipped_E, found, strict=True)]
        return is_skipped_E

    def _added(self, messages: Messages, num_skipped: Sequence[int], num_not_finite: Sequence[int]) -> Collected:
        """The sum of what the batch's parties sent, or who was refused."""
        own = dict(messages.sent)
        num_bytes = (
            own[party].nbytes if party in own else 0 for party in self.scenario.party_batch(messages.batch.number)
        )
        for hook in self.party_data.hooks.values():
            messages = hook.on_messages(messages)
        return Collected(
            contribution=None if messages.rejections else sum_in_order(message for _, message in messages.sent),
            num_edits=sum(each.copy is None for each in messages.edits),
            party_bytes=tuple(num_bytes),
            num_skipped=tuple(num_skipped),
            num_not_finite=tuple(num_not_finite),
            rejections=messages.rejections,
            reports=messages.reports,
        )

    @property
    def _maker(self) -> ShareMaker:
        assert self._shares is not None, "begin comes first"
        return self._shares

    def _solver(self, layer: int, history: History | None = None) -> CovarianceSolver:
        assert self._solvers is not None, "begin comes first"
        if history is None:
            return self._solvers.get(layer)
        return self._solvers.get(layer, history.versions.get(layer), lambda: history.read(layer))
