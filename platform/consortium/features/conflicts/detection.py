"""What parties notice before they send anything: that an edit contradicts what the arm's model was taught.

The answers stay with the parties; only counts leave a worker, and edits that are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from consortium.common.cache import BoundedCache
from consortium.data.party_batch import PartyBatch
from consortium.data.request import Request
from consortium.editing.edited_layers import BASE, EditedLayers, Weights
from consortium.editing.known_facts import Detection, is_contradicted
from consortium.features.hooks import PartyData
from consortium.models.queries import Answer, Probe

#: Answers kept at most; those that had to go are asked for again.
_NUM_ANSWERS = 1 << 16


class ConflictDetector:
    """Asks a model for its answers to parties' own edits; every method is idempotent.

    Args:
        data: the parties' edits.
        contradicts_earlier: whether a request contradicts what was merged before; the simulation knows.
    """

    def __init__(self, data: PartyData, contradicts_earlier: Callable[[Request], bool]) -> None:
        self._data = data
        self._contradicts_earlier = contradicts_earlier
        self._answers: BoundedCache[tuple[Answer, ...]] = BoundedCache(_NUM_ANSWERS, len)

    def contradicted(
        self, batch: PartyBatch, layers: EditedLayers, weights: Weights, shifts: Sequence[float]
    ) -> tuple[bool, ...]:
        """Whether each edit that goes into the merge is found contradicted; its copies in other words follow it.

        Args:
            batch: the batch.
            layers: the model.
            weights: the arm's weights before anything of the round is merged.
            shifts: relative residuals of the edits under these weights.
        """
        edits = self._data.merged(batch)
        if all(version == BASE for version in weights.versions.values()):
            return (False,) * len(edits)  # nobody has taught anything yet
        base = Weights(dict.fromkeys(weights.versions, BASE), weights.read)
        now, unedited = (iter(self._ask(batch, layers, each)) for each in (weights, base))
        found: list[bool] = []
        for each, shift in zip(edits, shifts, strict=True):
            is_copy = each.copy is not None
            overlap = self._data.scenario.overlap
            found.append(found[-1] if is_copy else is_contradicted(next(now), next(unedited), shift, overlap))
        return tuple(found)

    def detections(self, batch: PartyBatch, found: Sequence[bool]) -> list[Detection]:
        """What was noticed of each edit beside the truth, which the simulation knows; copies are not counted."""
        return [
            Detection() if each.copy else Detection(self._contradicts_earlier(each.request), is_found)
            for each, is_found in zip(self._data.merged(batch), found, strict=True)
        ]

    def _ask(self, batch: PartyBatch, layers: EditedLayers, weights: Weights) -> tuple[Answer, ...]:
        """Answers to the edits' own prompts, copies left out."""

        def answer() -> tuple[Answer, ...]:
            if all(version == BASE for version in weights.versions.values()):
                layers.load_base()
            else:
                layers.load(weights)
            edits = [self._data.edit(each.request) for each in self._data.merged(batch) if each.copy is None]
            probes = [Probe(edit.text, edit.target_new, join=edit.join) for edit in edits]
            return tuple(layers.backend.answer(probes, "teacher_forcing"))

        return self._answers.get((weights.key, batch.key), answer)
