"""Answers: which tokens the model says where a probe's target should stand.

By teacher forcing each token is the arg-max after the target's own tokens before it; one run reads them all, in the
prefix trees of :mod:`consortium.models.scoring`. By greedy decoding it is the arg-max after the model's own: the two
are the same up to and including the first token that differs, so the model writes on from there only.
:mod:`consortium.models.naive_answering` is the naive twin.

Source: EasyEdit's evaluation (KnowEdit, arXiv 2401.01286), which compares such tokens one by one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from consortium.editing.backend import Answer, Probe
from consortium.models.language import LanguageModel
from consortium.models.scoring import Asked, asked_of, read_continuations
from consortium.models.tokens import decode
from consortium.models.trees import Tokens
from consortium.models.writing import write_tokens
from consortium.scenario.schema import Decoding


def answer_probes(model: LanguageModel, probes: Sequence[Probe], decoding: Decoding) -> list[Answer]:
    """Answers to probes, in their order; a probe asked twice is answered once. The model is left as it is.

    Batches depend on the probes alone, so equal calls give equal answers.
    """
    asked = {probe: asked_of(model.tokenizer, probe)[0] for probe in dict.fromkeys(probes)}
    said, chances = _forced(model, list(dict.fromkeys(asked.values())))
    if decoding == "greedy":
        said, chances = _written(model, said), {}
    answers = {
        probe: Answer(said[one], one[1], said[one] == one[1], chances.get(one, ())) for probe, one in asked.items()
    }
    if decoding == "greedy":
        answers = {probe: _compared_as_text(model, probe, answer) for probe, answer in answers.items()}
    return [answers[probe] for probe in probes]


def _forced(model: LanguageModel, asked: Sequence[Asked]) -> tuple[dict[Asked, Tokens], dict[Asked, tuple[float, ...]]]:
    """Arg-max in the place of each token of a continuation, and its probability there."""
    read = read_continuations(model, asked)
    chances = {one: tuple(math.exp(likelihood) for _, _, likelihood in read[one]) for one in asked}
    return {one: tuple(best for _, best, _ in read[one]) for one in asked}, chances


def _written(model: LanguageModel, forced: dict[Asked, Tokens]) -> dict[Asked, Tokens]:
    """What the model writes by itself, in as many tokens; ``forced`` holds until it differs from what is asked for."""
    kept = {one: said[: _num_agreed(said, one[1]) + 1] for one, said in forced.items()}
    missing = {one: len(one[1]) - len(said) for one, said in kept.items()}
    # Accepted answers of one question mostly depart at the same token: the longest text holds the others.
    longest: dict[Tokens, int] = {}
    for one in kept:
        if missing[one]:
            start = one[0] + kept[one]
            longest[start] = max(missing[one], longest.get(start, 0))
    rest = dict(zip(longest, write_tokens(model, list(longest), list(longest.values())), strict=True))
    return {one: said + rest.get(one[0] + said, ())[: missing[one]] for one, said in kept.items()}


def _num_agreed(said: Tokens, wanted: Tokens) -> int:
    agreed = [one == other for one, other in zip(said, wanted, strict=True)]
    return agreed.index(False) if False in agreed else len(agreed)


def _compared_as_text(model: LanguageModel, probe: Probe, answer: Answer) -> Answer:
    is_target = answer.is_target or decode(model.tokenizer, answer.said).strip() == probe.target.strip()
    return replace(answer, is_target=is_target)
