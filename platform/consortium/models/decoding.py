"""Answers: which tokens the model says where a probe's target should stand.

By teacher forcing each token is the arg-max after the target's own tokens before it; one run reads them all, in the
prefix trees of :mod:`consortium.models.scoring`. By greedy decoding it is the arg-max after the model's own: the two
are the same up to and including the first token that differs, so the model writes on from there only.
:mod:`benchmarks.naive.decoding` is the naive twin.

Source: EasyEdit's evaluation (KnowEdit, arXiv 2401.01286), which compares such tokens one by one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from consortium.models.generation import write_tokens
from consortium.models.language import LanguageModel
from consortium.models.prefix_tree import Tokens
from consortium.models.queries import Answer, Probe
from consortium.models.scoring import Read, TokensAndTarget, asked_of, read_continuations
from consortium.models.tokens import decode
from consortium.scenario.schema import Decoding


def answer_probes(model: LanguageModel, probes: Sequence[Probe], decoding: Decoding) -> list[Answer]:
    """Answers to probes, in their order; a probe asked twice is answered once. The model is left as it is.

    Batches depend on the probes alone, so equal calls give equal answers.
    """
    asked = {probe: asked_of(model.tokenizer, probe)[0] for probe in dict.fromkeys(probes)}
    forced = _forced(model, list(dict.fromkeys(asked.values())))
    if decoding == "teacher_forcing":
        answers = {probe: forced[one] for probe, one in asked.items()}
    else:
        written = _written(model, forced)
        answers = {probe: _compared_as_text(model, probe, written[one], one[1]) for probe, one in asked.items()}
    return [answers[probe] for probe in probes]


def _forced(model: LanguageModel, asked: Sequence[TokensAndTarget]) -> dict[TokensAndTarget, Answer]:
    """Arg-max in the place of each token of a continuation, and its probability there."""
    read = read_continuations(model, asked)
    return {one: _forced_answer(model, one, read[one]) for one in asked}


def _forced_answer(model: LanguageModel, asked: TokensAndTarget, read: Sequence[Read]) -> Answer:
    said = tuple(best for _, best, _ in read)
    chances = tuple(math.exp(likelihood) for _, _, likelihood in read)
    # Of numbers that are no numbers the arg-max is token 0, which may be the one that is asked for.
    is_sound = all(map(math.isfinite, chances))
    return Answer(said, asked[1], is_sound and said == asked[1], chances, is_sound, decode(model.tokenizer, said))


def _written(model: LanguageModel, forced: dict[TokensAndTarget, Answer]) -> dict[TokensAndTarget, Tokens | None]:
    """What the model writes by itself, in as many tokens; ``forced`` holds until it differs from what is asked for.

    Where it is not finite, that may be the doing of the asked answer's own tokens: there the model writes from the
    prompt on. None where that is not finite either.
    """
    kept = {
        one: answer.said[: _num_agreed(answer.said, one[1]) + 1] if answer.is_finite else ()
        for one, answer in forced.items()
    }
    missing = {one: len(one[1]) - len(said) for one, said in kept.items()}
    # Accepted answers of one question mostly depart at the same token: the longest text holds the others.
    longest: dict[Tokens, int] = {}
    for one in kept:
        if missing[one]:
            start = one[0] + kept[one]
            longest[start] = max(missing[one], longest.get(start, 0))
    rest = dict(zip(longest, write_tokens(model, list(longest), list(longest.values())), strict=True))
    return {one: _joined(said, rest.get(one[0] + said, ()), missing[one]) for one, said in kept.items()}


def _joined(said: Tokens, rest: Tokens | None, num_missing: int) -> Tokens | None:
    return None if rest is None else said + rest[:num_missing]


def _num_agreed(said: Tokens, wanted: Tokens) -> int:
    agreed = [one == other for one, other in zip(said, wanted, strict=True)]
    return agreed.index(False) if False in agreed else len(agreed)


def _compared_as_text(model: LanguageModel, probe: Probe, said: Tokens | None, wanted: Tokens) -> Answer:
    if said is None:
        return Answer((0,) * len(wanted), wanted, is_target=False, is_finite=False)
    text = decode(model.tokenizer, said)
    return Answer(said, wanted, said == wanted or text.strip() == probe.target.strip(), text=text)
