"""The naive twin of :mod:`consortium.models.scoring`: each probe's target and rival by a run of its own.

This is how the papers' evaluation code does it, kept as the oracle of tests and as the baseline of benchmarks: no
batch, nothing shared, logits at every position.

Shapes: T tokens, N vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from consortium.models.language import LanguageModel
from consortium.models.queries import Probe, Score
from consortium.models.tokens import encode, target_ids


def score_probes_naively(model: LanguageModel, probes: Sequence[Probe]) -> list[Score]:
    """The same as :func:`consortium.models.scoring.score_probes`, probe by probe."""
    return [_score(model, probe) for probe in probes]


def _score(model: LanguageModel, probe: Probe) -> Score:
    nll_target, strict = _nll(model, probe, probe.target)
    return Score(nll_target, None if probe.rival is None else _nll(model, probe, probe.rival)[0], strict)


@torch.no_grad()
def _nll(model: LanguageModel, probe: Probe, continuation: str) -> tuple[float, bool]:
    """Mean negative log likelihood per token of a continuation, and whether each token is the arg-max."""
    head = encode(model.tokenizer, probe.prompt, probe.with_start)
    tail = target_ids(model.tokenizer, probe.prompt, continuation, probe.join)
    ids = torch.tensor([head + tail], device=model.device)
    logits_TN = model.model(input_ids=ids, use_cache=False).logits[0].float()
    before_TN = logits_TN[len(head) - 1 : -1]
    likelihoods = before_TN.log_softmax(-1)[range(len(tail)), tail]
    return -likelihoods.mean().item(), before_TN.argmax(-1).tolist() == tail
