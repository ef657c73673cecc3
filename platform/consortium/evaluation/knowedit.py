"""KnowEdit's metrics (arXiv 2401.01286, section 5.2) as EasyEdit, its code, computes them.

* ``edit_success``: the edit's own prompt. ``portability``: questions whose answers should change with the edit's, by
  kind (another name of the subject, reasoning, what follows logically). ``locality``: questions whose answers must
  stay; right is what the unedited model says, true or not. ``fluency``: :mod:`consortium.evaluation.fluency`.
* A question's success is the share of the answer's tokens that are right: the arg-max after the answer's own tokens
  before them (teacher forcing), or the token that the model writes by itself (greedy decoding, whose metrics end in
  ``_greedy``). For locality, the share of tokens in which the edited and the unedited model agree, over as many
  tokens as the true answer has.
* Questions of a kind are averaged first, then kinds, then edits.

An answer with several names is asked for by the first, as there. The strict count takes any: it is the share of
questions that are answered with the whole of an accepted answer (for locality, with all tokens of the unedited
model's). An edit whose source has no locality questions is asked for its neighbours instead, as EasyEdit does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import torch

from consortium.data.edit import Edit, LocalityProbe
from consortium.editing.backend import Backend
from consortium.evaluation.fluency import TOP_K, FluencySum, entropy
from consortium.evaluation.metrics import WITH_START, ProbeSum, ProbeSums
from consortium.models.queries import Answer, Probe, Writing
from consortium.scenario.schema import Decoding, EvaluateSpec

METRICS = ("edit_success", "portability", "locality", "fluency")
"""The names under which these metrics are asked for."""

SUFFIXES: dict[Decoding, str] = {"teacher_forcing": "", "greedy": "_greedy"}
"""Decoding → what is put after a metric's name."""

#: The unedited model's answers to the questions of :func:`locality_probes`.
OwnAnswers = Mapping[Decoding, Sequence[Answer]]


@dataclass(frozen=True)
class Scored:
    """A question's outcome: its kind, the share of right tokens, whether the whole answer is right, or none at all.

    Beside it stand what was asked, what is right, and what the model said.
    """

    kind: str
    share: float
    is_whole: bool
    is_finite: bool = True
    prompt: str = ""
    target: str = ""
    answer: str = ""


#: Told of a metric, how it was read, and each edit's questions.
Tell = Callable[[str, Decoding, Sequence[Sequence[Scored]]], None]


def num_tokens(own: OwnAnswers) -> int:
    """Tokens of all answers, by which their size in memory is bounded."""
    return sum(len(answer.said) for answers in own.values() for answer in answers)


def locality_probes(edits: Sequence[Edit]) -> list[Probe]:
    """The questions whose answers must stay, of some edits in their order."""
    return [Probe(each.prompt, each.target, join=each.join) for edit in edits for each in _locality(edit)]


def brings(edit: Edit, metric: str) -> bool:
    """Whether an edit has questions for one of :data:`METRICS`."""
    if metric == "portability":
        return bool(edit.portability)
    return metric != "locality" or bool(_locality(edit))


def measure(
    backend: Backend,
    edits: Sequence[Edit],
    of_round: int,
    spec: EvaluateSpec,
    own: OwnAnswers,
    generator: torch.Generator,
    tell: Tell = lambda metric, decoding, scored: None,
) -> ProbeSums:
    """Sums of those of these metrics that ``spec`` asks for; the model is not changed.

    Args:
        backend: the model under the weights that are measured.
        edits: edits of one round.
        of_round: the round.
        spec: metrics, decodings and length of texts.
        own: the unedited model's answers to these edits' :func:`locality_probes`; for locality.
        generator: of the draws of fluency's texts.
        tell: told of each metric's questions, edit by edit.
    """
    sums: dict[str, ProbeSum | FluencySum] = {}
    for decoding in spec.decoding:
        found: dict[str, ProbeSum | FluencySum] = {}
        if "edit_success" in spec.metrics:
            scored = _edit_success(backend, edits, decoding)
            tell("edit_success", decoding, scored)
            found |= _summed("edit_success", scored)
            if spec.document_start != "none" and backend.has_document_start:
                scored = _edit_success(backend, edits, decoding, with_start=True)
                tell(f"edit_success{WITH_START}", decoding, scored)
                found |= _summed(f"edit_success{WITH_START}", scored)
        if "portability" in spec.metrics:
            scored = _portability(backend, edits, decoding)
            tell("portability", decoding, scored)
            found |= _summed("portability", scored, by_kind=True)
        if "locality" in spec.metrics:
            scored = _locality_scores(backend, edits, decoding, own[decoding])
            tell("locality", decoding, scored)
            found |= _summed("locality", scored)
        if "fluency" in spec.metrics:
            writing = Writing(spec.generation_tokens, TOP_K if decoding == "teacher_forcing" else 1, generator)
            found |= _fluency(backend, edits, writing)
        sums |= {name + SUFFIXES[decoding]: value for name, value in found.items()}
    return {(name, of_round): value for name, value in sums.items()}


def _locality(edit: Edit) -> Sequence[LocalityProbe]:
    return edit.locality or [
        LocalityProbe("neighborhood", each.prompt, each.target, each.join) for each in edit.neighbors
    ]


def _edit_success(
    backend: Backend, edits: Sequence[Edit], decoding: Decoding, with_start: bool = False
) -> list[list[Scored]]:
    probes = [Probe(edit.text, edit.target_new, join=edit.join, with_start=with_start) for edit in edits]
    pairs = zip(edits, backend.answer(probes, decoding), strict=True)
    return [[_by_names("edit", [answer], edit.text, edit.target_new)] for edit, answer in pairs]


def _portability(backend: Backend, edits: Sequence[Edit], decoding: Decoding) -> list[list[Scored]]:
    asked = [(each, name) for edit in edits for each in edit.portability for name in each.answers]
    answers = iter(backend.answer([Probe(each.prompt, name, join=each.join) for each, name in asked], decoding))
    return [
        [
            _by_names(each.kind, [next(answers) for _ in each.answers], each.prompt, each.answers[0])
            for each in edit.portability
        ]
        for edit in edits
    ]


def _by_names(kind: str, answers: Sequence[Answer], prompt: str, target: str) -> Scored:
    """A question with several accepted answers."""
    share = _share(answers[0].said, answers[0].wanted)
    is_whole = any(answer.is_target and answer.is_finite for answer in answers)
    return Scored(kind, share, is_whole, answers[0].is_finite, prompt, target, answers[0].text)


def _locality_scores(
    backend: Backend, edits: Sequence[Edit], decoding: Decoding, own: Sequence[Answer]
) -> list[list[Scored]]:
    pairs = zip(backend.answer(locality_probes(edits), decoding), own, strict=True)
    return [[_agreement(each, *next(pairs)) for each in _locality(edit)] for edit in edits]


def _agreement(probe: LocalityProbe, now: Answer, before: Answer) -> Scored:
    share, is_finite = _share(now.said, before.said), now.is_finite and before.is_finite
    return Scored(probe.kind, share, share == 1.0, is_finite, probe.prompt, before.text, now.text)


def _share(said: Sequence[int], wanted: Sequence[int]) -> float:
    return sum(one == other for one, other in zip(said, wanted, strict=True)) / len(wanted)


def _summed(metric: str, scored: Sequence[Sequence[Scored]], by_kind: bool = False) -> dict[str, ProbeSum]:
    """Sums over edits of the mean over kinds, and with ``by_kind`` of each kind by itself."""
    sums: dict[str, ProbeSum] = {}
    for questions in filter(None, scored):
        kinds = {kind: _mean([each for each in questions if each.kind == kind]) for kind in _kinds(questions)}
        found = {metric: _mean_of_kinds(list(kinds.values()))}
        if by_kind:
            found |= {f"{metric}_{kind}": one for kind, one in kinds.items()}
        for name, value in found.items():
            sums[name] = sums.get(name, ProbeSum()) + value
    return sums


def _kinds(questions: Sequence[Scored]) -> Iterator[str]:
    return iter(dict.fromkeys(each.kind for each in questions))


def _mean_of_kinds(kinds: Sequence[ProbeSum]) -> ProbeSum:
    """One edit's questions of all kinds, each of the same weight; a kind without an answer is left out."""
    found = [each for each in kinds if each.num_edits]
    missing = sum(each.num_not_finite for each in kinds)
    if not found:
        return ProbeSum(num_not_finite=missing)
    success, strict = (sum(getattr(each, name) for each in found) / len(found) for name in ("success", "strict"))
    return ProbeSum(success, strict, 1, sum(each.num_probes for each in found), missing)


def _mean(questions: Sequence[Scored]) -> ProbeSum:
    """One edit's questions of one kind."""
    found = [each for each in questions if each.is_finite]
    count, missing = len(found), len(questions) - len(found)
    if not found:
        return ProbeSum(num_not_finite=missing)
    success, strict = sum(q.share for q in found) / count, sum(q.is_whole for q in found) / count
    return ProbeSum(success, strict, 1, count, missing)


def _fluency(backend: Backend, edits: Sequence[Edit], writing: Writing) -> dict[str, FluencySum]:
    prompts = [edit.generation_prompts or (edit.text,) for edit in edits]
    texts = iter(backend.write(list(chain.from_iterable(prompts)), writing))
    total = FluencySum()
    for group in prompts:
        bits = [entropy(text) for text in islice(texts, len(group)) if text is not None]
        missing = len(group) - len(bits)
        total += FluencySum(sum(bits) / len(bits), 1, len(bits), missing) if bits else FluencySum(0.0, 0, 0, missing)
    return {"fluency": total} if prompts else {}
