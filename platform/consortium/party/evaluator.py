"""Evaluation: what a worker asks a model about its parties' edits; counts and sums leave it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from consortium.common.cache import BoundedCache
from consortium.data.edit import Edit, FactSet
from consortium.data.party_batch import PartyBatch
from consortium.data.request import Request
from consortium.data.stream import Stream
from consortium.editing.edited_layers import EditedLayers, Weights
from consortium.evaluation import registry
from consortium.evaluation.asking import AnsweredItem, Put, answers_to, reduced
from consortium.evaluation.item import AskedEdit, Item, Way
from consortium.evaluation.metric import Metric
from consortium.evaluation.schedule import probed_rounds, sampled_requests
from consortium.evaluation.telling import Evaluated, tell
from consortium.party.data import PartyDataset
from consortium.scenario.schema import Scenario

#: Tokens kept at most of the unedited model's own answers, by which those of later models are measured.
_ANSWER_TOKENS = 1 << 20


class Evaluator:
    """Asks the model in a shard about party batches' edits; every method is idempotent.

    Args:
        party_data: the parties' edits.
        edited_layers: the model.
    """

    def __init__(self, party_data: PartyDataset, edited_layers: EditedLayers) -> None:
        self._party_data = party_data
        self._edited_layers = edited_layers
        evaluate, seed = party_data.scenario.evaluate, party_data.scenario.seed
        self._metrics = [metric.opened(evaluate, seed) for metric in registry.asked(evaluate)]
        self._of_unedited: BoundedCache[Sequence[Any]] = BoundedCache(_ANSWER_TOKENS, _num_tokens)

    def evaluate(
        self, batch: PartyBatch, weights: Weights, retention: bool, before: Weights | None = None
    ) -> Evaluated:
        """Counts and sums of what the scenario's metrics ask about the batch's edits.

        With ``evaluate.per_edit`` they come with what each probe was answered with; answers stay with their parties
        unless the scenario asks for them.

        Args:
            batch: the batch; its edits that were rejected are not probed.
            weights: weights to evaluate.
            retention: whether earlier rounds' edits are probed; False for the unedited weights.
            before: the round's first weights, for metrics that compare with them; None not to.
        """
        answered = self._ask(self.items(batch, retention, before is not None), weights, before)
        told = tell(self._edited_layers.backend, answered) if self._party_data.scenario.evaluate.per_edit else ()
        return Evaluated(reduced(answered), tuple(told))

    def items(self, batch: PartyBatch, retention: bool, has_start: bool = False) -> list[tuple[Metric, Item]]:
        """What is asked about a batch's edits after a round: every metric's items."""
        evaluated = _Batch(
            self._party_data, batch, retention, has_start, self._edited_layers.backend.has_document_start
        )
        found = [(metric, item) for metric in self._metrics for item in metric.items(evaluated)]
        # Whatever asks about an edit of the round stands side by side, as its answers do in the table of them.
        places = {id(each): place for place, each in enumerate(evaluated.sampled())}
        return sorted(found, key=lambda pair: places.get(id(pair[1].about), len(places)))

    def _ask(
        self, asked: Sequence[tuple[Metric, Item]], weights: Weights, before: Weights | None
    ) -> list[AnsweredItem]:
        """Answers of the model, and of the models that metrics compare with; the weights are loaded afterwards."""
        reference = _answers_of("unedited", asked, self._put_unedited)
        if before is not None and any(metric.reference == "start" for metric, _ in asked):
            self._edited_layers.load(before)
            reference |= _answers_of("start", asked, self._put)
        self._edited_layers.load(weights)
        answers = answers_to([item for _, item in asked], self._put)
        return [AnsweredItem(*asked[number], found, reference.get(number, ())) for number, found in enumerate(answers)]

    def _put(self, way: Way, texts: Sequence[Any]) -> Sequence[Any]:
        return way.put(self._edited_layers.backend, texts)

    def _put_unedited(self, way: Way, texts: Sequence[Any]) -> Sequence[Any]:
        """The unedited model's answers, which arms and rounds share: the model is put back to be asked."""

        def answer() -> Sequence[Any]:
            self._edited_layers.load_base()
            return self._put(way, texts)

        return self._of_unedited.get((way, texts), answer)


def _answers_of(name: str, asked: Sequence[tuple[Metric, Item]], put: Put) -> dict[int, Sequence[Any]]:
    """Number of an item → the answers of a model, for items of metrics that compare with this model."""
    numbers = [number for number, (metric, _) in enumerate(asked) if metric.reference == name]
    return dict(zip(numbers, answers_to([asked[number][1] for number in numbers], put), strict=True))


def _num_tokens(answers: Sequence[Any]) -> int:
    """Tokens of some answers, by which their size in memory is bounded; one for an answer without tokens."""
    return sum(len(getattr(answer, "said", "x")) for answer in answers)


@dataclass(frozen=True)
class _Batch:
    """A party batch after a round, as metrics see it (:class:`consortium.evaluation.metric.EvaluatedBatch`)."""

    party_data: PartyDataset
    batch: PartyBatch
    is_edited: bool
    has_start: bool
    has_document_start: bool

    @property
    def round_number(self) -> int:
        return self.batch.round

    @property
    def number(self) -> int:
        return self.batch.number

    @property
    def scenario(self) -> Scenario:
        return self.party_data.scenario

    @property
    def stream(self) -> Stream:
        return self.party_data.stream

    @property
    def facts(self) -> FactSet:
        return self.party_data.facts

    @property
    def parties(self) -> range:
        return self.scenario.party_batch(self.number)

    def sampled(self) -> Sequence[AskedEdit]:
        return self._sampled

    @cached_property
    def _sampled(self) -> list[AskedEdit]:
        earlier = probed_rounds(self.scenario, self.round_number)[:-1]
        resolver = self.party_data.resolver(earlier, self.round_number, self.parties) if earlier else []
        found = [self.asked(request, of_round) for of_round, request in resolver]
        for request in sampled_requests(self.scenario, self.stream, self.round_number, self.parties):
            is_rejected = not self.party_data.is_merged(self.batch, request)
            found.append(self.asked(request, self.round_number, is_rejected))
        return found

    def earlier(self) -> Sequence[AskedEdit]:
        resolver = self.party_data.resolver(range(1, self.round_number), self.round_number, self.parties)
        return [self.asked(request, of_round) for of_round, request in resolver]

    def asked(self, request: Request, of_round: int, is_rejected: bool = False) -> AskedEdit:
        return AskedEdit(self.party_data.edit(request), of_round, request, is_rejected)

    def stands(self, edit: Edit, round_number: int) -> bool:
        return self.party_data.stands(edit, round_number)
