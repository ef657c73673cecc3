"""The naive twin of :mod:`consortium.models.decoding` and :mod:`consortium.models.generation`: a run for every token.

No batch, no cache, nothing shared: before each token the whole text so far goes through the whole model. Kept as the
oracle of tests.

Shapes: N vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from consortium.models.language import LanguageModel
from consortium.models.queries import Answer, Probe
from consortium.models.tokens import decode, encode, target_ids
from consortium.scenario.schema import Decoding


def answer_probes_naively(model: LanguageModel, probes: Sequence[Probe], decoding: Decoding) -> list[Answer]:
    """The same as :func:`consortium.models.decoding.answer_probes`, probe by probe and token by token."""
    return [_answer(model, probe, decoding) for probe in probes]


def write_naively(model: LanguageModel, prompt: str, num_tokens: int) -> str:
    """The text of the likeliest tokens after a prompt, token by token."""
    ids = encode(model.tokenizer, prompt)
    start = len(ids)
    for _ in range(num_tokens):
        ids.append(_best(model, ids))
    return decode(model.tokenizer, ids[start:])


def _answer(model: LanguageModel, probe: Probe, decoding: Decoding) -> Answer:
    ids = encode(model.tokenizer, probe.prompt, probe.with_start)
    wanted = target_ids(model.tokenizer, probe.prompt, probe.target, probe.join)
    said: list[int] = []
    for token in wanted:
        said.append(_best(model, ids))
        ids.append(token if decoding == "teacher_forcing" else said[-1])
    is_same_text = decoding == "greedy" and decode(model.tokenizer, said).strip() == probe.target.strip()
    return Answer(tuple(said), tuple(wanted), said == wanted or is_same_text)


@torch.no_grad()
def _best(model: LanguageModel, ids: list[int]) -> int:
    logits_N = model.model(input_ids=torch.tensor([ids], device=model.device), use_cache=False).logits[0, -1]
    return int(logits_N.argmax())
