"""Conflicts as a hook: parties announce digests, the coordinator decides, and parties weigh, copy or withdraw edits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from consortium.data.edit import Edit
from consortium.data.party_batch import PartyBatch, WeightedEdit
from consortium.data.request import Request
from consortium.data.stream import Stream
from consortium.editing.edited_layers import EditedLayers, Weights
from consortium.editing.known_facts import Detection, Residuals
from consortium.editing.layer_schedule import plan_round
from consortium.features.conflicts.detection import ConflictDetector
from consortium.features.conflicts.earlier_rounds import EarlierRounds
from consortium.features.conflicts.keyed_digests import KeyedDigests
from consortium.features.conflicts.resolution import Resolution, resolution_of
from consortium.features.conflicts.resolver import ConflictResolver
from consortium.features.conflicts.selected import accepted, augmented, weight_of
from consortium.features.hooks import PartyData, PartyHook, RoundHook, RoundRecord
from consortium.records.rows import EditRow, ResidualRow
from consortium.scenario.schema import Scenario


class PartiesInConflict(PartyHook):
    """Parties that announce their edits, do as is resolved, and look for contradictions to earlier rounds."""

    name = "conflicts"

    def __init__(self, data: PartyData) -> None:
        super().__init__(data)
        self.earlier = EarlierRounds(data)
        self._conflict_detector = ConflictDetector(data, self.earlier.contradicts)

    def announce(self, batch: PartyBatch) -> KeyedDigests:
        """Digests of the batch's edits."""
        return self.earlier.keyed_digests(batch.round, batch.number)

    def select(self, batch: PartyBatch, edits: list[WeightedEdit]) -> list[WeightedEdit]:
        """The edits except those rejected, weighted, and asked again in other words."""
        return accepted(self.data.scenario, resolution_of(batch), (each.request for each in edits), self.data.edit)

    def notice(
        self, batch: PartyBatch, layers: EditedLayers, weights: Weights, shifts: Sequence[float]
    ) -> Sequence[Detection]:
        """Whether edits contradict what the arm's model was taught; only with ``conflicts.detect``."""
        if self.data.scenario.conflicts.detect == "none":
            return ()
        return self._conflict_detector.detections(
            batch, self._conflict_detector.contradicted(batch, layers, weights, shifts)
        )

    def skips(
        self, arm: str, batch: PartyBatch, layers: EditedLayers, weights: Weights, shifts: Sequence[float]
    ) -> Sequence[bool]:
        """Edits that are found contradicted, with ``conflicts.on_detect: skip``."""
        conflicts = self.data.scenario.conflicts
        if conflicts.detect == "none" or conflicts.on_detect != "skip":
            return ()
        return self._conflict_detector.contradicted(batch, layers, weights, shifts)

    def holds(self, request: Request, round_number: int) -> bool:
        """Whether a request was not rejected, and its answer stands."""
        is_withdrawn = (request.party, request.index) in self.earlier.withdrawn_in(request.round)
        return not is_withdrawn and self.stands(self.data.edit(request), round_number)

    def stands(self, edit: Edit, round_number: int) -> bool:
        """Where policies reach over rounds, whether an answer is the one that was decided on last."""
        return self.data.scenario.conflicts.scope != "run" or self.earlier.stands(edit, round_number)


class Conflicts(RoundHook):
    """Resolves what parties announced, and writes down what became of each edit."""

    name = "conflicts"

    def __init__(self, scenario: Scenario, stream: Stream) -> None:
        super().__init__(scenario, stream)
        self._resolver = ConflictResolver(scenario.conflicts)
        self._first_layer = plan_round(scenario.editor, scenario.merge.exchange)[0].targets[0]

    @property
    def announces(self) -> bool:
        """Only where something is resolved."""
        return self.scenario.resolves

    def undecided(self, round_number: int) -> range:
        """Where policies reach over rounds, all that were not resolved yet."""
        return self._resolver.missing(round_number)

    def decide(self, round_number: int, announced: Sequence[KeyedDigests]) -> Sequence[Resolution]:
        """What is resolved about each batch's edits."""
        return self._resolver.resolve(round_number, announced)

    def num_withdrawn(self, record: RoundRecord) -> Counter[int]:
        """Party → number of its edits that were rejected."""
        decisions = (entry for batch in record.batches for entry in resolution_of(batch).decisions.items())
        return Counter(party for (party, _), decision in decisions if decision.status == "rejected")

    def edit_row(self, row: EditRow, request: Request, edit: Edit, record: RoundRecord) -> EditRow:
        """With what was decided about the edit."""
        if not self.scenario.resolves:
            return row
        resolution = resolution_of(record.batches[request.party // self.scenario.cluster.parties_per_batch])
        decision = resolution.of(request.party, request.index)
        return replace(
            row,
            status=decision.status,
            num_asking=decision.num_asking,
            weight=weight_of(self.scenario.overlap, decision),
            num_paraphrases=len(augmented(self.scenario, request, decision, lambda _: edit)),
        )

    def residual_row(self, row: ResidualRow, sums: Residuals) -> ResidualRow:
        """With what parties noticed, where they looked: at the targets of a round's first step."""
        if self.scenario.conflicts.detect == "none" or row.layer != self._first_layer:
            return row
        seen = sums.num_contradicting, sums.num_detected, sums.num_correctly_detected
        return replace(row, num_contradicting=seen[0], num_detected=seen[1], num_correctly_detected=seen[2])


AT_PARTIES = PartiesInConflict
AT_COORDINATOR = Conflicts
