"""Scores of probes: how likely a target and its rival are after a prompt.

A probe asks for one or two continuations of a prompt. What the model must read for one is the prompt and the
continuation but for its last token. All probes of a call are read together, whatever they are for: texts that begin
alike share the run of their beginning (:mod:`consortium.models.prefix_tree`), so two continuations of one token each,
the usual case, cost a single run of their prompt, and prompts of one relation the run of their words. Logits exist
where some continuation's token is scored, once for all tokens asked for there.
:mod:`benchmarks.naive.scoring` is the naive twin.

Shapes: M places where logits are read, V hidden width, N vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import torch
from transformers import PreTrainedTokenizerBase

from consortium.common.errors import FactsError
from consortium.models.language import LanguageModel
from consortium.models.partial_forward import run_blocks_to
from consortium.models.prefix_tree import TOKENS_AT_ONCE, PrefixTrees, Tokens, build_trees
from consortium.models.queries import Probe, Score
from consortium.models.tokens import encode, target_ids

#: A continuation: tokens of the prompt, tokens of the continuation.
TokensAndTarget = tuple[Tokens, Tokens]
#: Row and column of the column that a token is read from, and the token.
_Place = tuple[int, int]
_Spoken = tuple[_Place, int]
#: Log likelihood of a token, the arg-max in its place, and the log likelihood of that.
Read = tuple[float, int, float]
#: Mean negative log likelihood of a continuation, and whether each of its tokens is the arg-max.
_Summed = tuple[float, bool]

#: Logits that exist together (64 MiB in float32, and as much again for their log-softmax).
_LOGITS_AT_ONCE = 1 << 24


def score_probes(model: LanguageModel, probes: Sequence[Probe]) -> list[Score]:
    """Scores of probes, in their order; a probe asked twice is scored once. The model is left as it is.

    Batches depend on the probes alone, so equal calls give equal bits; a probe's score does not depend on the
    others but for rounding. What is not finite is so because of the probe itself, whoever was read beside it.
    """
    asked = {probe: asked_of(model.tokenizer, probe) for probe in dict.fromkeys(probes)}
    continuations = dict.fromkeys(one for pair in asked.values() for one in pair if one is not None)
    answers = {one: _summed(one, read) for one, read in read_continuations(model, continuations).items()}
    return [_score(answers, *asked[probe]) for probe in probes]


def nll_sums(model: LanguageModel, asked: Sequence[TokensAndTarget]) -> list[float]:
    """Σ of negative log likelihoods, in nats, over each continuation; as with probes, equal calls give equal bits."""
    answers = read_continuations(model, dict.fromkeys(asked))
    return [-sum(likelihood for likelihood, _, _ in answers[one]) for one in asked]


@lru_cache(maxsize=1 << 14)  # arms and rounds ask the same again
def asked_of(tokenizer: PreTrainedTokenizerBase, probe: Probe) -> tuple[TokensAndTarget, TokensAndTarget | None]:
    """A probe's target and rival as tokens; FactsError for an empty prompt."""
    prompt = tuple(encode(tokenizer, probe.prompt, probe.with_start))
    if not prompt:
        raise FactsError("a probe with an empty prompt", "a prompt that the target continues", "correct the data")
    target = prompt, tuple(target_ids(tokenizer, probe.prompt, probe.target, probe.join))
    if probe.rival is None:
        return target, None
    return target, (prompt, tuple(target_ids(tokenizer, probe.prompt, probe.rival, probe.join)))


def _score(answers: Mapping[TokensAndTarget, _Summed], target: TokensAndTarget, rival: TokensAndTarget | None) -> Score:
    nll_target, strict = answers[target]
    return Score(nll_target, None if rival is None else answers[rival][0], strict)


def _summed(asked: TokensAndTarget, read: Sequence[Read]) -> _Summed:
    nll = -sum(likelihood for likelihood, _, _ in read) / len(read)
    is_right = all(best == token for (_, best, _), token in zip(read, asked[1], strict=True))
    return nll, is_right and math.isfinite(nll)


def read_continuations(
    model: LanguageModel, continuations: Iterable[TokensAndTarget]
) -> dict[TokensAndTarget, list[Read]]:
    """Log likelihood of every token of each continuation, and the arg-max in its place; each is asked once.

    Attention multiplies what it hides by zero, and zero times not-a-number is not-a-number: one text whose numbers are
    not finite spoils all that stand in its row. So all texts of such rows are read once more, each in a row of its
    own, and what is not finite then is so by itself.
    """
    asked = list(continuations)
    answers = _read_built(model, asked)
    spoilt = [one for one in asked if not is_finite_score(answers[one])]
    return answers | _read_built(model, spoilt, row_tokens=1) if spoilt else answers


def is_finite_score(read: Iterable[Read]) -> bool:
    """Whether all that was read is finite."""
    return all(math.isfinite(likelihood) and math.isfinite(of_best) for likelihood, _, of_best in read)


def _read_built(
    model: LanguageModel, asked: Sequence[TokensAndTarget], row_tokens: int | None = None
) -> dict[TokensAndTarget, list[Read]]:
    """Read continuations that share rows of ``row_tokens`` columns."""
    answers = {}
    for trees in build_trees([_to_read(*one) for one in asked], TOKENS_AT_ONCE[model.device.type], row_tokens):
        spoken = [
            _spoken(*asked[number], row, columns)
            for number, row, columns in zip(trees.numbers, trees.row_N, trees.columns_N, strict=True)
        ]
        read = _run(model, trees, {token for tokens in spoken for token in tokens})
        for number, tokens in zip(trees.numbers, spoken, strict=True):
            answers[asked[number]] = [read[token] for token in tokens]
    return answers


def _to_read(prompt: Tokens, continuation: Tokens) -> Tokens:
    return prompt + continuation[:-1]


def _spoken(prompt: Tokens, continuation: Tokens, row: int, columns: Sequence[int]) -> list[_Spoken]:
    """Where each token of a continuation is read: in the column of the token before it."""
    return [((row, columns[len(prompt) - 1 + step]), token) for step, token in enumerate(continuation)]


@torch.inference_mode()
def _run(model: LanguageModel, trees: PrefixTrees, spoken: Iterable[_Spoken]) -> dict[_Spoken, Read]:
    """Run a batch once and read off tokens at their places."""
    by_place: dict[_Place, list[int]] = {}
    for place, token in sorted(spoken):
        by_place.setdefault(place, []).append(token)
    places = torch.tensor(list(by_place))
    blocks = range(model.num_layers)
    final_MV = model.norm(run_blocks_to(model, trees, blocks, (places[:, 0], places[:, 1])))
    read: dict[_Spoken, Read] = {}
    size = max(1, _LOGITS_AT_ONCE // int(model.text_config.vocab_size))
    tokens_of = list(by_place.items())
    for start in range(0, len(tokens_of), size):
        read.update(_read(model.logits(final_MV[start : start + size]), tokens_of[start : start + size]))
    return read


def _read(logits_MN: torch.Tensor, tokens_of: Sequence[tuple[_Place, Sequence[int]]]) -> dict[_Spoken, Read]:
    """Log likelihood (in float32) of tokens at each place, and the arg-max there."""
    logits_MN = logits_MN.float()
    asked = [(number, place, token) for number, (place, tokens) in enumerate(tokens_of) for token in tokens]
    number, token = (torch.tensor(part, device=logits_MN.device) for part in list(zip(*asked, strict=True))[::2])
    # Not the logit less logsumexp: that would round at the size of the logits, which is far above a small nll.
    likelihood_MN = logits_MN.log_softmax(-1)
    best = logits_MN.argmax(-1)[number]
    found = likelihood_MN[number, token].tolist(), best.tolist(), likelihood_MN[number, best].tolist()
    return {(place, token): read for (_, place, token), read in zip(asked, zip(*found, strict=True), strict=True)}
