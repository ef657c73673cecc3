"""The backend of language models: targets by optimisation, keys and residuals by running the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from consortium.data.edit import Edit
from consortium.editing import key_covariance, keys
from consortium.editing.backend import States, Targets, Tuning
from consortium.editing.contexts import generate_contexts
from consortium.editing.covariance_text import text_tokens
from consortium.editing.fine_tuning import descend, language_losses
from consortium.editing.fingerprint import backbone_fingerprint
from consortium.editing.keys import HiddenStates
from consortium.editing.target_cache import targets_fingerprint
from consortium.editing.targets import optimise_targets
from consortium.models.decoding import answer_probes
from consortium.models.generation import write_texts
from consortium.models.language import LanguageModel
from consortium.models.likelihood import continuation_nll, text_nll
from consortium.models.queries import Answer, Generation, Probe, Score
from consortium.models.scoring import score_probes
from consortium.models.tokens import document_start
from consortium.scenario.editor import EditorSpec, FineTuningSpec
from consortium.scenario.schema import Decoding


class LanguageBackend:
    """A :class:`consortium.editing.backend.Backend` over a causal language model."""

    def __init__(self, model: LanguageModel, editor: EditorSpec, seed: int) -> None:
        self.model = model
        self.editor = editor
        self.seed = seed
        self._layers = editor.edited_layers
        self._base = {layer: self._weight(layer) for layer in self._layers}
        self._contexts: tuple[str, ...] | None = None
        self._frozen: dict[str, object] | None = None

    def _weight(self, layer: int) -> NDArray[np.float32]:
        weight: NDArray[np.float32] = self.model.weight_VK(layer).float().cpu().contiguous().numpy().copy()
        return weight

    def base_weights(self) -> dict[int, NDArray[np.float32]]:
        """Copies of the unedited weights [V, K] of the edited layers."""
        return {layer: weight.copy() for layer, weight in self._base.items()}

    def load_weights(self, weights: Mapping[int, NDArray[np.float32]]) -> None:
        """Put these weights [V, K] into the edited layers."""
        self.model.set_weights(weights)

    def contexts(self) -> tuple[str, ...]:
        """Context templates, written by the unedited model."""
        self.load_weights(self._base)
        spec = self.editor.contexts
        return generate_contexts(self.model, spec.count, spec.tokens, self.seed)

    def set_contexts(self, contexts: Sequence[str]) -> None:
        """Use these contexts from now on."""
        self._contexts = tuple(contexts)

    def _known_contexts(self) -> tuple[str, ...]:
        assert self._contexts is not None, "set_contexts comes before targets and keys"
        return self._contexts

    def targets(self, edits: Sequence[Edit], layer: int) -> Targets:
        """Targets of all edits together, under the present weights."""
        return optimise_targets(self.model, edits, self._known_contexts(), layer, self.editor.target)

    @property
    def targets_are_costly(self) -> bool:
        """True: each takes gradient steps."""
        return True

    def targets_fingerprint(self, edits: Sequence[Edit], layer: int) -> dict[str, object]:
        """Everything that :meth:`targets` depends on, under the present weights."""
        if self._frozen is None:
            self._frozen = backbone_fingerprint(self.model, self._layers)
        return targets_fingerprint(
            self.model, self._frozen, self._layers, edits, self._known_contexts(), layer, self.editor.target
        )

    def states(self, edits: Sequence[Edit], layer: int, below: States | None) -> HiddenStates:
        """Hidden states of all prompts at the input of ``layer``, carried on from ``below``."""
        return keys.hidden_states(self.model, edits, self._known_contexts(), layer, below)

    def keys_and_residuals(self, states: States, targets: Targets) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys [K, E] and residuals [V, E] float64, not yet shared out."""
        assert isinstance(states, HiddenStates)
        return keys.keys_and_residuals(self.model, states, targets)

    @property
    def has_document_start(self) -> bool:
        """Whether the tokenizer puts nothing before a text, and the vocabulary has a token that begins documents."""
        return bool(document_start(self.model.tokenizer))

    def fine_tune(self, edits: Sequence[Edit]) -> Tuning:
        """Fine-tune the edited layers on the bare prompts."""
        assert isinstance(self.editor, FineTuningSpec), "an editor of another kind asks for targets"
        losses = language_losses(self.model, edits, self._layers)
        return descend(losses, self._shapes(), self.editor, self.model.device)

    def _shapes(self) -> dict[int, tuple[int, int]]:
        return {layer: (weight_VK.shape[0], weight_VK.shape[1]) for layer, weight_VK in self._base.items()}

    def score(self, probes: Sequence[Probe]) -> list[Score]:
        """Scores of probes, in their order."""
        return score_probes(self.model, probes)

    def continuation_nll(self, asked: Sequence[tuple[str, str]]) -> list[float]:
        """Σ nll of each continuation of a prompt."""
        return continuation_nll(self.model, asked)

    def text_nll(self, text: str, num_tokens: int | None, part: int, num_parts: int) -> tuple[float, int, int]:
        """Σ nll over every ``num_parts``-th window of a text, how many tokens they have, and how many were left out."""
        return text_nll(self.model, text, num_tokens, part, num_parts)

    def answer(self, probes: Sequence[Probe], decoding: Decoding) -> list[Answer]:
        """What the model answers to probes, in their order."""
        return answer_probes(self.model, probes, decoding)

    def write(self, prompts: Sequence[str], generation: Generation) -> list[str | None]:
        """The texts that the model writes after prompts, in their order."""
        return write_texts(self.model, prompts, generation)

    def _key_width(self) -> int:
        return max(self.model.key_width(layer) for layer in self._layers)

    def covariance_chunks(self) -> int:
        """Number of chunks of the key covariance's text."""
        return key_covariance.num_chunks(self.editor.covariance, self._key_width(), text_tokens(self.model))

    def covariance_length(self) -> int:
        """Tokens of the key covariance's text."""
        return key_covariance.num_tokens_of_text(self.editor.covariance, self._key_width(), text_tokens(self.model))

    def covariance_sum(self, chunk: int) -> tuple[dict[int, NDArray[np.float64]], int]:
        """Σ k·kᵀ over a chunk, under the unedited weights."""
        self.load_weights(self._base)
        return key_covariance.measure_chunk(self.model, self.editor.covariance, self._layers, chunk)

    def covariance_fingerprint(self) -> dict[str, object]:
        """Everything the key covariance depends on, under the unedited weights."""
        self.load_weights(self._base)
        # The default number of tokens follows from the key width, so it is named.
        num_tokens = key_covariance.covariance_tokens(self.editor.covariance, self._key_width())
        return key_covariance.fingerprint(self.model, self.editor.covariance.model_copy(update={"tokens": num_tokens}))
