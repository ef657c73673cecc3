"""What parties notice before they send anything: that an edit contradicts what the arm's model was taught.

The answers stay with the parties; only counts leave a worker, and edits that are left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from consortium.common.cache import Kept
from consortium.data.party_batch import PartyBatch
from consortium.editing.known_facts import Detection, is_contradicted
from consortium.models.queries import Answer, Probe
from consortium.party.data import PartyDataset
from consortium.party.edited_layers import BASE, EditedLayers, Weights

#: Answers kept at most; those that had to go are asked for again.
_NUM_ANSWERS = 1 << 16


class ConflictDetector:
    """Asks the model in a shard for its answers to parties' own edits; every method is idempotent.

    Args:
        party_data: the parties' edits.
        edited_layers: the model.
    """

    def __init__(self, party_data: PartyDataset, edited_layers: EditedLayers) -> None:
        self._party_data = party_data
        self._edited_layers = edited_layers
        self._answers: Kept[tuple[Answer, ...]] = Kept(_NUM_ANSWERS, len)

    def contradicted(self, batch: PartyBatch, weights: Weights, shifts: Sequence[float]) -> tuple[bool, ...]:
        """Whether each edit that goes into the merge is found contradicted; its copies in other words follow it.

        Args:
            batch: the batch.
            weights: the arm's weights before anything of the round is merged.
            shifts: relative residuals of the edits under these weights.
        """
        accepted = self._party_data.accepted(batch)
        if all(version == BASE for version in weights.versions.values()):
            return (False,) * len(accepted)  # nobody has taught anything yet
        base = Weights(dict.fromkeys(weights.versions, BASE), weights.read)
        now, unedited = (iter(self._ask(batch, each)) for each in (weights, base))
        found: list[bool] = []
        for each, shift in zip(accepted, shifts, strict=True):
            is_copy = each.copy is not None
            overlap = self._party_data.scenario.overlap
            found.append(found[-1] if is_copy else is_contradicted(next(now), next(unedited), shift, overlap))
        return tuple(found)

    def detections(self, batch: PartyBatch, found: Sequence[bool]) -> list[Detection]:
        """What was noticed of each edit beside the truth, which the simulation knows; copies are not counted."""
        accepted = self._party_data.accepted(batch)
        return [
            Detection() if each.copy else Detection(self._party_data.contradicts_earlier(each.request), is_found)
            for each, is_found in zip(accepted, found, strict=True)
        ]

    def _ask(self, batch: PartyBatch, weights: Weights) -> tuple[Answer, ...]:
        """Answers to the edits' own prompts, copies left out."""

        def answer() -> tuple[Answer, ...]:
            if all(version == BASE for version in weights.versions.values()):
                self._edited_layers.load_base()
            else:
                self._edited_layers.load(weights)
            accepted = self._party_data.accepted(batch)
            edits = [self._party_data.edit(each.request) for each in accepted if each.copy is None]
            probes = [Probe(edit.text, edit.target_new, join=edit.join) for edit in edits]
            return tuple(self._edited_layers.backend.answer(probes, "teacher_forcing"))

        return self._answers.get((weights.key, batch.key), answer)
