"""The naive twin of :mod:`consortium.editing.targets`: one edit at a time, the whole model at every step.

This is how the papers' code does it (MEMIT's released ``compute_z``), kept as the oracle of tests and as the
baseline of benchmarks: no cache, no batch of edits, logits at every position.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from consortium.data.edit import Edit
from consortium.editing.backend import Targets
from consortium.editing.targets import rows_of
from consortium.models.language import LanguageModel
from consortium.scenario.editor import TargetSpec
from torch.nn.functional import kl_div, log_softmax


def optimise_targets_naively(
    model: LanguageModel, edits: Sequence[Edit], contexts: Sequence[str], layer: int, settings: TargetSpec
) -> Targets:
    """The same as :func:`consortium.editing.targets.optimise_targets`, edit by edit."""
    outcomes = [_optimise_one(model, edit, contexts, layer, settings) for edit in edits]
    vectors, steps, losses, shifts = zip(*outcomes, strict=True)
    return Targets(layer, torch.stack(vectors), steps, losses, shifts)


def _optimise_one(
    model: LanguageModel, edit: Edit, contexts: Sequence[str], layer: int, settings: TargetSpec
) -> tuple[torch.Tensor, int, float, float]:
    rows = rows_of(model, [edit], contexts)
    longest = max(len(row.ids) for row in rows)
    ids = torch.tensor([[*row.ids, *[0] * (longest - len(row.ids))] for row in rows], device=model.device)
    mask = torch.tensor([[n < len(row.ids) for n in range(longest)] for row in rows], device=model.device)
    delta = torch.zeros(model.hidden_width, device=model.device, requires_grad=True)
    start: list[torch.Tensor] = []
    bare = [number for number, row in enumerate(rows) if row.is_bare]

    def add_delta(_module: Any, _args: Any, output: Any) -> Any:
        hidden = (output[0] if isinstance(output, tuple) else output).clone()
        if not start:
            states = [hidden[number, rows[number].subject].detach().float() for number in bare]
            start.append(torch.stack(states).mean(0))
        for number, row in enumerate(rows):
            hidden[number, row.subject] += delta.to(hidden.dtype)
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    optimiser = torch.optim.Adam([delta], lr=settings.learning_rate)
    kl_start: torch.Tensor | None = None
    handle = model.blocks[layer].register_forward_hook(add_delta)
    try:
        for step in range(settings.steps):
            log_probs = log_softmax(model.model(input_ids=ids, attention_mask=mask).logits.float(), dim=-1)
            nll = []
            for number, row in enumerate(rows[:-1]):
                places = range(len(row.ids) - len(row.target), len(row.ids))
                spoken = [log_probs[number, at, token] for at, token in zip(places, row.target, strict=True)]
                nll.append(-torch.stack(spoken).mean())
            kl = log_probs[-1, len(rows[-1].ids) - 1]
            kl_start = kl.detach() if kl_start is None else kl_start
            kl = kl_div(kl_start, kl, log_target=True, reduction="sum")
            decay = settings.weight_decay * delta.norm() / start[0].norm() ** 2
            loss = torch.stack(nll).mean() + settings.kl_weight * kl + decay
            if loss.item() < settings.stop_loss or step == settings.steps - 1:
                break
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            with torch.no_grad():
                limit = settings.clamp * start[0].norm()
                if delta.norm() > limit:
                    delta *= limit / delta.norm()
    finally:
        handle.remove()
    shift = float(delta.detach().norm() / start[0].norm())
    return (start[0] + delta.detach()).cpu(), step, loss.item(), shift
