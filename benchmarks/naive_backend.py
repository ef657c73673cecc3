"""A backend of language models whose every answer comes from a naive twin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from consortium.data.edit import Edit
from consortium.editing.backend import States, Targets
from consortium.editing.language import LanguageBackend
from consortium.models.queries import Answer, Probe, Score
from consortium.scenario.schema import Decoding

from benchmarks.naive.decoding import answer_probes_naively
from benchmarks.naive.keys import naive_keys, naive_residuals
from benchmarks.naive.scoring import score_probes_naively
from benchmarks.naive.targets import optimise_targets_naively


class NaiveBackend(LanguageBackend):
    """What a run asks of a language model, done one edit, one prompt and one probe at a time."""

    def targets(self, edits: Sequence[Edit], layer: int) -> Targets:
        """Targets, edit by edit."""
        return optimise_targets_naively(self.model, edits, self._known_contexts(), layer, self.editor.target)

    def states(self, edits: Sequence[Edit], layer: int, below: States | None) -> Any:
        """Nothing is carried from layer to layer."""
        return States(tuple(edits), layer)

    def keys_and_residuals(self, states: States, targets: Targets) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys [K, E] and residuals [V, E] float64, prompt by prompt."""
        model, edits, layer = self.model, states.edits, states.layer
        keys_KE = naive_keys(model, edits, self._known_contexts(), [layer])[layer]
        return keys_KE, naive_residuals(model, edits, targets, layer)

    def score(self, probes: Sequence[Probe]) -> list[Score]:
        """Scores, probe by probe."""
        return score_probes_naively(self.model, probes)

    def answer(self, probes: Sequence[Probe], decoding: Decoding) -> list[Answer]:
        """Answers, probe by probe and token by token."""
        return answer_probes_naively(self.model, probes, decoding)
