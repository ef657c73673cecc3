"""Scores of probes: how likely a target and its rival are after a prompt.

A probe asks for one or two continuations of a prompt. What the model must read for one is the prompt and the
continuation but for its last token. Texts that begin other texts need no run of their own, since attention is
causal: two continuations of one token each, the usual case, cost a single run of their prompt.

Shapes: R rows (texts run together), T tokens, V hidden width, M places where logits are read, N vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from consortium.editing.backend import Probe, Score
from consortium.errors import FactsError
from consortium.models.language import LanguageModel
from consortium.models.tokens import encode, target_ids

Tokens = tuple[int, ...]
#: A continuation: tokens of the prompt, tokens of the continuation.
Asked = tuple[Tokens, Tokens]

#: Tokens that run together, padding included. On a CPU more is slower, since less stays in its caches.
_TOKENS_AT_ONCE = {"cpu": 512, "cuda": 16384}
#: Logits that exist together (64 MiB in float32).
_LOGITS_AT_ONCE = 1 << 24


def score_probes(model: LanguageModel, probes: Sequence[Probe]) -> list[Score]:
    """Scores of probes, in their order; a probe asked twice is scored once. The model is left as it is.

    Batches depend on the probes alone, so equal calls give equal bits; a probe's score does not depend on the
    others but for rounding.
    """
    asked: dict[Probe, tuple[Asked, Asked | None]] = {probe: _asked(model, probe) for probe in dict.fromkeys(probes)}
    continuations = dict.fromkeys(one for pair in asked.values() for one in pair if one is not None)
    answers = _answers(model, continuations)
    return [_score(answers, *asked[probe]) for probe in probes]


def _asked(model: LanguageModel, probe: Probe) -> tuple[Asked, Asked | None]:
    prompt = tuple(encode(model.tokenizer, probe.prompt))
    if not prompt:
        raise FactsError("a probe with an empty prompt", "a prompt that the target continues", "correct the data")
    target = prompt, tuple(target_ids(model.tokenizer, probe.prompt, probe.target))
    if probe.rival is None:
        return target, None
    return target, (prompt, tuple(target_ids(model.tokenizer, probe.prompt, probe.rival)))


def _score(answers: dict[Asked, tuple[float, bool]], target: Asked, rival: Asked | None) -> Score:
    nll_target, strict = answers[target]
    return Score(nll_target, None if rival is None else answers[rival][0], strict)


def _answers(model: LanguageModel, continuations: Iterable[Asked]) -> dict[Asked, tuple[float, bool]]:
    """Mean negative log likelihood per token, and whether each token is the arg-max, of every continuation."""
    by_row: dict[Tokens, list[Asked]] = {}
    row: Tokens = ()
    # In descending order the texts that begin another follow it directly, so the last row holds them all.
    for text, asked in sorted(((_to_read(asked), asked) for asked in continuations), reverse=True):
        if row[: len(text)] != text:
            row = text
        by_row.setdefault(row, []).append(asked)
    answers = {}
    by_length = sorted(by_row, key=lambda tokens: (len(tokens), tokens))
    for rows in _batches(by_length, _TOKENS_AT_ONCE[model.device.type]):
        batch = [(number, asked) for number, row in enumerate(rows) for asked in by_row[row]]
        answers.update(_run(model, rows, batch))
    return answers


def _to_read(asked: Asked) -> Tokens:
    prompt, continuation = asked
    return prompt + continuation[:-1]


def _batches(rows: Sequence[Tokens], num_tokens: int) -> list[list[Tokens]]:
    """Rows in ascending length, cut where padding to the longest would exceed the number of tokens."""
    batches: list[list[Tokens]] = []
    for row in rows:
        if not batches or (len(batches[-1]) + 1) * len(row) > num_tokens:
            batches.append([])
        batches[-1].append(row)
    return batches


@torch.inference_mode()
def _run(
    model: LanguageModel, rows: Sequence[Tokens], batch: Sequence[tuple[int, Asked]]
) -> dict[Asked, tuple[float, bool]]:
    """Run rows once and answer the batch's continuations, each given with the number of the row that holds it."""
    width = max(len(row) for row in rows)
    # Padding stands at the end, where causal attention hides it from everything before; any token will do.
    ids_RT = torch.tensor([[*row, *[row[-1]] * (width - len(row))] for row in rows], device=model.device)
    hidden_RTV = model.base(input_ids=ids_RT, use_cache=False).last_hidden_state
    places = [
        (number, len(prompt) - 1 + step, token)
        for number, (prompt, continuation) in batch
        for step, token in enumerate(continuation)
    ]
    row_M, column_M, token_M = torch.tensor(places, device=model.device).T
    read = iter(_read(model, hidden_RTV[row_M, column_M], token_M))
    answers = {}
    for _, asked in batch:
        found = [next(read) for _ in asked[1]]
        answers[asked] = -sum(value for value, _ in found) / len(found), all(best for _, best in found)
    return answers


def _read(model: LanguageModel, hidden_MV: torch.Tensor, token_M: torch.Tensor) -> list[tuple[float, bool]]:
    """Log likelihood (in float32) of each token, and whether it is the arg-max, after each hidden state."""
    size = max(1, _LOGITS_AT_ONCE // int(model.text_config.vocab_size))
    read: list[tuple[float, bool]] = []
    for hidden, token in zip(torch.split(hidden_MV, size), torch.split(token_M, size), strict=True):
        logits_MN = model.logits(hidden).float()
        likelihood = torch.log_softmax(logits_MN, dim=-1).gather(1, token[:, None])[:, 0]
        read.extend(zip(likelihood.tolist(), (logits_MN.argmax(-1) == token).tolist(), strict=True))
    return read
