"""What a worker computes for its parties' edits: one implementation for each kind of model.

Shapes: E edits, K key width, V value width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from consortium.data.edit import Edit
from consortium.models.queries import Answer, Generation, Probe, Score
from consortium.scenario.schema import Decoding


@dataclass(frozen=True)
class Targets:
    """Targets of some edits at one layer.

    Attributes:
        vectors_EV: z, the hidden state after ``layer`` at which the model says the new target; float32, on the CPU.
        num_steps: gradient steps spent on each edit.
        losses: each edit's last loss.
        shifts: each edit's ‖z - h‖ / ‖h‖, h the hidden state that z was optimised from: how much the model was
            wanting of the edit. It falls as a fact is already held (CollabEdit, arXiv 2410.09508, section 4.1).

    Of an edit whose optimisation is not finite, vector, loss and shift are not-a-number; the other edits' are theirs.
    """

    layer: int
    vectors_EV: torch.Tensor
    num_steps: tuple[int, ...]
    losses: tuple[float, ...]
    shifts: tuple[float, ...]


@dataclass(frozen=True)
class Tuning:
    """What fine-tuning on some edits makes of the weights.

    Attributes:
        deltas: layer → Δ [V, K], on the CPU.
        num_steps: gradient steps.
        losses: each edit's loss before the last step.
        num_not_finite: edits that were left out, since their losses are not finite.
    """

    deltas: Mapping[int, torch.Tensor]
    num_steps: int
    losses: tuple[float, ...]
    num_not_finite: int = 0

    @property
    def is_finite(self) -> bool:
        """Whether losses and changes are finite."""
        changes = (bool(delta_VK.isfinite().all()) for delta_VK in self.deltas.values())
        return all(map(math.isfinite, self.losses)) and all(changes)

    @property
    def nbytes(self) -> int:
        """Size of the deltas."""
        return sum(delta_VK.nbytes for delta_VK in self.deltas.values())


@dataclass(frozen=True)
class States:
    """Where some edits' prompts stand at the input of ``layer``; a backend that carries something adds it.

    What is carried depends on the edits, on the contexts and on the weights of the layers before ``layer``.
    """

    edits: tuple[Edit, ...]
    layer: int

    @property
    def nbytes(self) -> int:
        """Size of what is carried."""
        return 0


class Backend(Protocol):
    """A model on a device, and what can be asked of it. Methods never change the weights but for load_weights."""

    def base_weights(self) -> dict[int, NDArray[np.float32]]:
        """Copies of the unedited weights W [V, K] of the edited layers."""
        ...

    def load_weights(self, weights: Mapping[int, NDArray[np.float32]]) -> None:
        """Put these weights [V, K] into the edited layers, cast to the model's dtype."""
        ...

    def contexts(self) -> tuple[str, ...]:
        """Context templates with one ``{}`` each, made from the unedited model; the first is ``{}``."""
        ...

    def set_contexts(self, contexts: Sequence[str]) -> None:
        """Use these contexts from now on (workers share one set, whoever made it)."""
        ...

    def targets(self, edits: Sequence[Edit], layer: int) -> Targets:
        """Optimise the targets of all edits together at ``layer`` under the present weights."""
        ...

    @property
    def targets_are_costly(self) -> bool:
        """Whether it takes long to make targets again, so that it is worth memory to keep those of many party
        batches."""
        ...

    def targets_fingerprint(self, edits: Sequence[Edit], layer: int) -> Mapping[str, object] | None:
        """Everything that ``targets`` of these edits depends on, in plain values, ``layer`` among them.

        None where they are not worth keeping on disk.
        """
        ...

    def states(self, edits: Sequence[Edit], layer: int, below: States | None) -> States:
        """What keys and residuals at ``layer`` are made from, under the present weights of the layers before it.

        Args:
            edits: the edits.
            layer: the layer.
            below: states of the same edits at an earlier layer, under the present weights of the layers before that
                one; None to begin at the bottom. The outcome is the same, bit for bit.
        """
        ...

    def keys_and_residuals(self, states: States, targets: Targets) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys [K, E], and what is still missing to reach ``targets``, at the layer of ``states``.

        What is missing is a change [V, E] of the output of the layer's weight. Both are float64 on the CPU, under
        the present weights; residuals are not yet shared out over layers.
        """
        ...

    @property
    def has_document_start(self) -> bool:
        """Whether texts begin in two ways: as the tokenizer makes them, and behind a token that begins documents."""
        ...

    def fine_tune(self, edits: Sequence[Edit]) -> Tuning:
        """Changes of all edited layers together that make the edits' targets likely; the weights stay as they are."""
        ...

    def score(self, probes: Sequence[Probe]) -> list[Score]:
        """Scores of probes, in their order."""
        ...

    def continuation_nll(self, asked: Sequence[tuple[str, str]]) -> list[float]:
        """Σ of negative log likelihoods, in nats, over the tokens of each continuation of a prompt.

        Language models only.
        """
        ...

    def text_nll(self, text: str, num_tokens: int | None, part: int, num_parts: int) -> tuple[float, int, int]:
        """Σ of negative log likelihoods, in nats, over one part of a text, and the tokens it was summed over.

        The last number is that of tokens left out, since the likelihoods of their window are not finite.
        Language models only. Parts depend on the numbers alone, and add up to the whole: the first ``num_tokens``
        tokens of the text, or all of them.
        """
        ...

    def answer(self, probes: Sequence[Probe], decoding: Decoding) -> list[Answer]:
        """What the model answers to probes, in their order; rivals are not looked at.

        With the same weights, equal calls give equal answers, so that answers of two models can be compared.
        """
        ...

    def write(self, prompts: Sequence[str], generation: Generation) -> list[str | None]:
        """The texts that the model writes after prompts, in their order, without the prompts.

        None stands for a text of which some token was read from numbers that are not finite.
        """
        ...

    def covariance_chunks(self) -> int:
        """Number of chunks into which the key covariance's text is cut; by the scenario alone."""
        ...

    def covariance_length(self) -> int:
        """Tokens of the key covariance's text, those included whose keys turn out not to be finite."""
        ...

    def covariance_sum(self, chunk: int) -> tuple[dict[int, NDArray[np.float64]], int]:
        """Σ k·kᵀ [K, K] over the chunk's tokens for each edited layer, unedited, and the token count."""
        ...

    def covariance_fingerprint(self) -> dict[str, object] | None:
        """Everything the key covariance's sums depend on, in plain values; None where they are not worth keeping on
        disk."""
        ...
