"""What metrics make of edits, on a model whose answers are set: asked and reduced as in a run, without parties.

measured(backend, [edit], "efficacy", "locality", decoding=("greedy",))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from consortium.data.edit import Edit
from consortium.evaluation import registry
from consortium.evaluation.asking import AnsweredItem, answers_to, reduced
from consortium.evaluation.item import AskedEdit, Item
from consortium.evaluation.metric import Metric
from consortium.evaluation.sums import ProbeSums
from consortium.scenario.schema import EvaluateSpec, Scenario
from support.scenarios import associative_scenario


@dataclass
class EditBatch:
    """Edits of one round as a metric's party batch; what metrics of features ask for is not there."""

    edits: Sequence[Edit]
    evaluate: EvaluateSpec = field(default_factory=EvaluateSpec)
    has_document_start: bool = False
    is_edited: bool = True
    round_number: int = 3
    number: int = 0
    num_batches: int = 1
    earlier_edits: Sequence[AskedEdit] = ()
    has_start: bool = False

    @property
    def scenario(self) -> Scenario:
        scenario = associative_scenario(parties={"count": self.num_batches}, cluster={"parties_per_batch": 1})
        return scenario.model_copy(update={"evaluate": self.evaluate})

    def sampled(self) -> list[AskedEdit]:
        return [AskedEdit(edit, self.round_number) for edit in self.edits]

    def earlier(self) -> Sequence[AskedEdit]:
        return self.earlier_edits


def items_of(batch: EditBatch, *names: str) -> list[tuple[Metric, Item]]:
    """What metrics ask about a batch."""
    metrics = [registry.get(name).opened(batch.evaluate, batch.scenario.seed) for name in names]
    return [(metric, item) for metric in metrics for item in metric.items(batch)]


def measured(
    backend: Any, edits: Sequence[Edit], *names: str, reference: Sequence[Any] = (), **evaluate: Any
) -> ProbeSums:
    """Sums of some metrics about edits of round 3; ``reference`` are another model's answers to all questions."""
    spec = EvaluateSpec(metrics=names, **evaluate)
    batch = EditBatch(edits, spec, has_document_start=getattr(backend, "has_document_start", False))
    return measured_in(backend, batch, *names, reference=reference)


def measured_in(backend: Any, batch: EditBatch, *names: str, reference: Sequence[Any] = ()) -> ProbeSums:
    """Sums of some metrics about a batch."""
    asked = items_of(batch, *names)
    answers = answers_to([item for _, item in asked], lambda way, texts: way.put(backend, texts))
    rest = iter(reference)
    return reduced(
        [
            AnsweredItem(metric, item, found, [next(rest) for _ in item.texts] if metric.reference else ())
            for (metric, item), found in zip(asked, answers, strict=True)
        ]
    )
