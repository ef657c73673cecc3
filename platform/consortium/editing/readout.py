"""What a model says at some places, as losses with their gradients: logits exist for a few places at a time.

A loss and its gradient by the final hidden state are computed together, chunk by chunk, and the logits are gone
afterwards: with p the model's distribution and y the target, d(-log p_y) = p - 1_y, and
d KL(p ‖ p₀) = p · (log p - log p₀ - KL).

Shapes: M places, N vocabulary, V hidden width.
"""

from __future__ import annotations

from typing import Any

import torch

from consortium.models.language import LanguageModel

#: Numbers in the logits that exist at once.
_AT_ONCE = {"cpu": 1 << 23, "cuda": 1 << 27}


def negative_log_likelihoods(
    model: LanguageModel, final_MV: torch.Tensor, token_M: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """-log p of a token at each place [M], and the gradients [M, V] by the final hidden states; float32."""
    losses, grads = [], []
    for states_CV, token_C in zip(_chunks(model, final_MV), _chunks(model, token_M), strict=True):
        log_CN = log_probabilities(model, states_CV)
        losses.append(-log_CN.gather(1, token_C[:, None])[:, 0])
        cap_CN = _cap_derivative(model, states_CV)
        grad_CN = log_CN.exp_()
        grad_CN.scatter_add_(1, token_C[:, None], grad_CN.new_full((len(token_C), 1), -1.0))
        grads.append(_through_head(model, grad_CN, cap_CN))
    return torch.cat(losses), torch.cat(grads)


def divergences(
    model: LanguageModel, final_MV: torch.Tensor, start_MN: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """KL(p ‖ p₀) at each place [M], p₀ given as log probabilities, and the gradients [M, V]; float32."""
    losses, grads = [], []
    for states_CV, start_CN in zip(_chunks(model, final_MV), _chunks(model, start_MN), strict=True):
        log_CN = log_probabilities(model, states_CV)
        ratio_CN = log_CN - start_CN
        probability_CN = log_CN.exp_()
        loss_C = torch.linalg.vecdot(probability_CN, ratio_CN)
        losses.append(loss_C)
        grad_CN = ratio_CN.sub_(loss_C[:, None]).mul_(probability_CN)
        grads.append(_through_head(model, grad_CN, _cap_derivative(model, states_CV)))
    return torch.cat(losses), torch.cat(grads)


def log_probabilities(model: LanguageModel, final_MV: torch.Tensor) -> torch.Tensor:
    """Log probabilities [M, N], float32."""
    return torch.log_softmax(model.logits(final_MV.to(model.dtype)).float(), dim=-1)


def _chunks(model: LanguageModel, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
    head: Any = model.head
    at_once = _AT_ONCE["cuda" if model.device.type == "cuda" else "cpu"]
    chunks: tuple[torch.Tensor, ...] = rows.split(max(1, at_once // len(head.weight)))
    return chunks


def _cap_derivative(model: LanguageModel, states_CV: torch.Tensor) -> torch.Tensor | None:
    """The derivative of capped logits by uncapped ones; None where logits are not capped."""
    cap = model.logit_cap
    if cap is None:
        return None
    return 1 - (model.logits(states_CV.to(model.dtype)).float() / cap).square()


def _through_head(model: LanguageModel, grad_CN: torch.Tensor, cap_CN: torch.Tensor | None) -> torch.Tensor:
    head: Any = model.head
    if cap_CN is not None:
        grad_CN = grad_CN * cap_CN
    grad_CV: torch.Tensor = (grad_CN.to(head.weight.dtype) @ head.weight).float()
    return grad_CV
