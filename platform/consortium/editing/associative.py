"""The associative model behind the interface of :class:`~consortium.editing.backend.Backend`.

Everything has a closed form here. The target of an edit is the code vector of the new object, less what the layers
above will add to it; so the model then answers with that object, and no gradient step is needed.

Weights are kept in float32, as in every model; what is computed from them is computed in float64.

Shapes: L layers, K key width, V value width, O objects, E edits or probes, T tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from consortium.common.arrays import tensor_of
from consortium.common.errors import ScenarioError
from consortium.data.edit import Edit
from consortium.data.synthetic import Query, SyntheticFacts, object_number, read_query
from consortium.editing.backend import States, Targets, Tuning
from consortium.editing.fine_tuning import Deltas, Descent, descend
from consortium.editing.key_covariance import covariance_tokens
from consortium.models.associative import LOGIT_SCALE, AssociativeMemory
from consortium.models.device import find_device
from consortium.models.queries import Answer, Generation, Probe, Score
from consortium.scenario.editor import EditorSpec, FineTuningSpec
from consortium.scenario.schema import AssociativeModelSpec, Decoding

COVARIANCE_CHUNK = 1024
"""Tokens of a chunk of the key covariance's text; fixed, so that sums are the same wherever they are made."""

SCORE_BATCH = 1024
"""Probes that are scored at once."""


class AssociativeBackend:
    """Linear associative memories and what can be asked of them.

    Args:
        spec: the model.
        editor: which layers are edited, and from how much text the key covariance is measured.
        facts: the drawn facts; the unedited memory knows some of them (:meth:`SyntheticFacts.known`).
        seed: the run's seed.

    Raises:
        ScenarioError: the editor names layers that the model does not have, or a key covariance that cannot be
            measured.
        ModelError: the device is not there.
    """

    def __init__(self, spec: AssociativeModelSpec, editor: EditorSpec, facts: SyntheticFacts, seed: int) -> None:
        _check(spec, editor)
        self._covariance_tokens = covariance_tokens(editor.covariance, spec.key_width)
        self._device = find_device(spec.device)
        self._edited_layers = editor.edited_layers
        self._editor = editor
        self._memory = AssociativeMemory(spec, seed)
        self._codes_OV = tensor_of(self._memory.codes_OV, self._device)
        self._base_weights = self._memory.weights_that_know(*facts.known())
        self._weights = [self._to_device(weights) for weights in self._base_weights]
        self._contexts: tuple[str, ...] = ("{}",)

    def base_weights(self) -> dict[int, NDArray[np.float32]]:
        """Copies of the unedited weights W [V, K] of the edited layers."""
        return {layer: self._base_weights[layer].copy() for layer in self._edited_layers}

    def load_weights(self, weights: Mapping[int, NDArray[np.float32]]) -> None:
        """Put these weights [V, K] into the edited layers."""
        for layer, weights_VK in weights.items():
            assert layer in self._edited_layers, f"layer {layer} is not edited"
            assert weights_VK.shape == self._base_weights[layer].shape, f"weights of shape {weights_VK.shape}"
            self._weights[layer] = self._to_device(weights_VK)

    def contexts(self) -> tuple[str, ...]:
        """The bare prompt only: there is no text that could come before it."""
        return self._contexts

    def set_contexts(self, contexts: Sequence[str]) -> None:
        """Take the shared contexts; keys do not depend on them."""
        self._contexts = tuple(contexts)

    def targets(self, edits: Sequence[Edit], layer: int) -> Targets:
        """The hidden states after ``layer`` from which the layers above reach the new objects' code vectors."""
        objects = _objects([edit.target_new for edit in edits])
        codes_VE = self._codes_OV[objects].T
        keys_LEK = self._edit_keys(edits)
        hidden_VE = self._sum_of_layers(keys_LEK, range(layer + 1))
        z_VE = codes_VE - self._sum_of_layers(keys_LEK, range(layer + 1, len(self._weights)))
        losses = self._nll(codes_VE)[torch.arange(len(edits)), objects]
        # An empty memory's hidden state has no length: a code vector's, 1, stands in for it.
        length_E = hidden_VE.norm(dim=0)
        shift_E = (z_VE - hidden_VE).norm(dim=0) / torch.where(length_E > 0, length_E, 1.0)
        return Targets(
            layer=layer,
            vectors_EV=z_VE.T.to("cpu", torch.float32).contiguous(),
            num_steps=(0,) * len(edits),
            losses=tuple(losses.tolist()),
            shifts=tuple(shift_E.tolist()),
        )

    @property
    def targets_are_costly(self) -> bool:
        """False: they have a closed form."""
        return False

    def targets_fingerprint(self, edits: Sequence[Edit], layer: int) -> None:
        """None: a target has a closed form, which takes less time than to read it."""
        return

    def states(self, edits: Sequence[Edit], layer: int, below: States | None) -> States:
        """The edits themselves: keys are looked up, whatever the layers before hold."""
        assert below is None or below.edits == tuple(edits), "states of other edits"
        return States(tuple(edits), layer)

    def keys_and_residuals(self, states: States, targets: Targets) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys [K, E], and what is still missing to reach ``targets`` [V, E], float64 on the CPU.

        The latter is the same at every layer: what any layer puts out is added to the hidden states as it is.
        """
        keys_LEK = self._edit_keys(states.edits)
        hidden_VE = self._sum_of_layers(keys_LEK, range(targets.layer + 1))
        return tensor_of(keys_LEK[states.layer]).T.contiguous(), targets.vectors_EV.T.double() - hidden_VE.cpu()

    @property
    def has_document_start(self) -> bool:
        """False: there is no text."""
        return False

    def fine_tune(self, edits: Sequence[Edit]) -> Tuning:
        """Fine-tune the edited layers, in float64; a target is one token."""
        shapes = {layer: (each.shape[0], each.shape[1]) for layer, each in enumerate(self._weights)}
        edited = {layer: shapes[layer] for layer in self._edited_layers}
        assert isinstance(self._editor, FineTuningSpec), "an editor of another kind asks for targets"
        return descend(self._descent(edits), edited, self._editor, self._device, torch.float64)

    def _descent(self, edits: Sequence[Edit]) -> Descent:
        keys_LEK = self._edit_keys(edits)
        start_VE = self._sum_of_layers(keys_LEK, range(len(self._weights)))
        keys = {layer: tensor_of(keys_LEK[layer], self._device).T for layer in self._edited_layers}
        objects = _objects([edit.target_new for edit in edits]).to(self._device)

        def losses_and_gradient(deltas: Deltas) -> list[float]:
            hidden_VE = start_VE + sum(delta_VK @ keys[layer] for layer, delta_VK in deltas.items())
            losses_E = self._nll(hidden_VE)[torch.arange(len(edits), device=self._device), objects]
            losses_E.mean().backward()
            return losses_E.tolist()

        return losses_and_gradient

    def score(self, probes: Sequence[Probe]) -> list[Score]:
        """Scores of probes, in their order; a target is one token."""
        starts = range(0, len(probes), SCORE_BATCH)
        return [score for start in starts for score in self._score_batch(probes[start : start + SCORE_BATCH])]

    def continuation_nll(self, asked: Sequence[tuple[str, str]]) -> list[float]:
        """There is no language here; scenarios that ask for it are refused."""
        raise AssertionError("an associative memory reads no text")

    def text_nll(self, text: str, num_tokens: int | None, part: int, num_parts: int) -> tuple[float, int, int]:
        """There is no language here; scenarios that ask for it are refused."""
        raise AssertionError("an associative memory reads no text")

    def answer(self, probes: Sequence[Probe], decoding: Decoding) -> list[Answer]:
        """The object that the model answers with, as one token; there is none before it to be forced."""
        said = self._said([probe.prompt for probe in probes])
        wanted = _objects([probe.target for probe in probes]).tolist()
        pairs = zip(said, wanted, strict=True)
        return [
            Answer((one,), (other,), one == other, (chance,), math.isfinite(chance), f"o{one}")
            for (one, chance), other in pairs
        ]

    def write(self, prompts: Sequence[str], generation: Generation) -> list[str | None]:
        """The object that each prompt is answered with: this model writes one word and no more."""
        return [f"o{number}" if math.isfinite(chance) else None for number, chance in self._said(prompts)]

    def _said(self, prompts: Sequence[str]) -> list[tuple[int, float]]:
        """Numbers of the likeliest objects and their probabilities, read in batches as scores are."""
        said: list[tuple[int, float]] = []
        for start in range(0, len(prompts), SCORE_BATCH):
            nll_EO = self._nll_after(prompts[start : start + SCORE_BATCH])
            best_E = nll_EO.argmin(dim=1)
            chance_E = nll_EO[torch.arange(len(best_E)), best_E.cpu()].neg().exp()
            said += zip(best_E.tolist(), chance_E.tolist(), strict=True)
        return said

    def covariance_chunks(self) -> int:
        """Number of chunks into which the key covariance's text is cut."""
        return -(-self._covariance_tokens // COVARIANCE_CHUNK)

    def covariance_length(self) -> int:
        """Tokens of the key covariance's text."""
        return self._covariance_tokens

    def covariance_sum(self, chunk: int) -> tuple[dict[int, NDArray[np.float64]], int]:
        """Σ k·kᵀ [K, K] over the chunk's tokens for each edited layer, and the token count."""
        assert 0 <= chunk < self.covariance_chunks(), f"chunk {chunk} of {self.covariance_chunks()}"
        num_tokens = min(COVARIANCE_CHUNK, self._covariance_tokens - chunk * COVARIANCE_CHUNK)
        keys_LTK = self._memory.text_keys(chunk, num_tokens)
        keys_TK = {layer: tensor_of(keys_LTK[layer]) for layer in self._edited_layers}
        return {layer: (keys.T @ keys).numpy() for layer, keys in keys_TK.items()}, num_tokens

    def covariance_fingerprint(self) -> None:
        """None: the sums are drawn in less time than it takes to read them."""
        return

    def _edit_keys(self, edits: Sequence[Edit]) -> NDArray[np.float64]:
        return self._memory.keys([read_query(edit.text) for edit in edits])

    def _sum_of_layers(self, keys_LEK: NDArray[np.float64], layers: range) -> torch.Tensor:
        """Σ W_l k_l [V, E] over ``layers``, under the present weights."""
        total_VE = torch.zeros(self._codes_OV.shape[1], keys_LEK.shape[1], dtype=torch.float64, device=self._device)
        for layer in layers:
            total_VE += self._weights[layer] @ tensor_of(keys_LEK[layer], self._device).T
        return total_VE

    def _nll(self, hidden_VE: torch.Tensor) -> torch.Tensor:
        """Negative log likelihoods [E, O] of all objects, in nats."""
        logits_EO = LOGIT_SCALE * (self._codes_OV @ hidden_VE).T
        return -torch.log_softmax(logits_EO, dim=1)

    def _nll_after(self, prompts: Sequence[str]) -> torch.Tensor:
        queries: list[Query] = [read_query(prompt) for prompt in prompts]
        return self._nll(self._sum_of_layers(self._memory.keys(queries), range(len(self._weights))))

    def _score_batch(self, probes: Sequence[Probe]) -> list[Score]:
        nll_EO = self._nll_after([probe.prompt for probe in probes])
        rows = torch.arange(len(probes))
        targets = _objects([probe.target for probe in probes])
        # Without a rival the target stands in for it, so that the table stays rectangular.
        rivals = _objects([probe.rival or probe.target for probe in probes])
        columns = zip(
            probes,
            nll_EO[rows, targets].tolist(),
            nll_EO[rows, rivals].tolist(),
            (nll_EO.argmin(dim=1).cpu() == targets).tolist(),
            strict=True,
        )
        return [
            Score(target, rival if probe.rival is not None else None, strict)
            for probe, target, rival, strict in columns
        ]

    def _to_device(self, weights_VK: NDArray[np.float32]) -> torch.Tensor:
        return tensor_of(weights_VK.astype(np.float64), self._device)


def _objects(targets: Sequence[str]) -> torch.Tensor:
    return torch.tensor([object_number(target) for target in targets], dtype=torch.int64)


def _check(spec: AssociativeModelSpec, editor: EditorSpec) -> None:
    last = spec.num_layers - 1
    if editor.edited_layers[-1] > last:
        raise ScenarioError(
            f"editor.layers: layer {editor.edited_layers[-1]} is out of range",
            f"layers from 0 to {last}: the associative model has {spec.num_layers}",
            "change editor.layers or raise model.num_layers",
        )
    if editor.covariance.source != "model":
        raise ScenarioError(
            f"editor.covariance.source: {editor.covariance.source!r} with the associative model",
            "`model`: its keys are drawn, not read",
            "remove editor.covariance.source",
        )
