"""What a run reads of its facts: prompts behind contexts and before targets, probes, texts to write on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from consortium.data.edit import Edit
from consortium.data.formats.record import shorten
from consortium.data.plan import plan
from consortium.data.table import FactTable
from consortium.evaluation.registry import asked
from consortium.models.tokens import KL_PROMPT, SLOT
from consortium.scenario.schema import Scenario


@dataclass(frozen=True)
class ReadText:
    """A text that a run reads.

    Attributes:
        field: what it is, by the name of its field.
        prompt: the text.
        answer: what follows it; None for nothing.
        answer_field: what that is.
        in_context: it is read behind the editor's contexts, too.
        num_written: tokens that the model writes behind it.
        join: what stands before the answer; None goes by the rule.
    """

    field: str
    prompt: str
    answer: str | None = None
    answer_field: str = "its answer"
    in_context: bool = False
    num_written: int = 0
    join: str | None = None


def has_contexts(scenario: Scenario) -> bool:
    """Whether edits are made in other contexts than the bare one."""
    editor = scenario.editor
    return editor.contexts.count > 1 and not editor.tunes_weights


def texts_read(scenario: Scenario, edit: Edit, rivals: Sequence[str]) -> Iterator[ReadText]:
    """What a run reads of an edit, and of those that contradict it by asking for ``rivals``."""
    in_context = has_contexts(scenario)
    targets = {"target_new": edit.target_new, **{f"the contradicting target {shorten(each)}": each for each in rivals}}
    templates = {"prompt": edit.prompt}
    if scenario.conflicts.num_paraphrases:
        templates |= {f"augmentations[{place}]": text for place, text in enumerate(edit.augmentations)}
    for field, template in templates.items():
        for answer_field, answer in targets.items():
            yield ReadText(
                field, template.replace(SLOT, edit.subject, 1), answer, answer_field, in_context, join=edit.join
            )
    if not scenario.editor.tunes_weights:
        yield ReadText("subject", KL_PROMPT.replace(SLOT, edit.subject))
    if edit.target_old is not None:
        targets["target_old"] = edit.target_old
    read = {field for metric in asked(scenario.evaluate) for field in metric.reads(edit)}
    yield from _success(read, edit, targets)
    yield from _other_questions(read, edit)
    if "generation_prompts" in read:
        prompts = {f"generation_prompts[{place}]": text for place, text in enumerate(edit.generation_prompts)}
        for field, prompt in (prompts or {"prompt": edit.text}).items():
            yield ReadText(field, prompt, num_written=scenario.evaluate.generation_tokens)


def _success(read: Set[str], edit: Edit, targets: Mapping[str, str]) -> Iterator[ReadText]:
    """Probes in which targets are compared; ``read`` names the fields of which metrics ask."""
    for answer_field, answer in targets.items():
        yield ReadText("prompt", edit.text, answer, answer_field, join=edit.join)
        for place, prompt in enumerate(edit.paraphrases if "paraphrases" in read else ()):
            yield ReadText(f"paraphrases[{place}]", prompt, answer, answer_field, join=edit.join)
    for place, neighbor in enumerate(edit.neighbors if "neighbors" in read else ()):
        for answer in dict.fromkeys((neighbor.target, *targets.values())):
            yield ReadText(f"neighbors[{place}]", neighbor.prompt, answer, join=neighbor.join)


def _other_questions(read: Set[str], edit: Edit) -> Iterator[ReadText]:
    """Questions with answers of their own."""
    for place, question in enumerate(edit.portability if "portability" in read else ()):
        for answer in question.answers:
            yield ReadText(f"portability[{place}]", question.prompt, answer, join=question.join)
    for place, probe in enumerate(edit.locality if "locality" in read else ()):
        yield ReadText(f"locality[{place}]", probe.prompt, probe.target, join=probe.join)


def longest_rivals(scenario: Scenario, facts: FactTable) -> Callable[[int], list[str]]:
    """For each fact, the longest target that may contradict its own; none where nothing is contradicted."""
    counts = plan(scenario.parties, scenario.stream)
    contradicts = any(each.conflict_party or each.conflict_round for each in counts)
    if not contradicts and all(attack.kind != "targeted" for attack in scenario.attacks):
        return lambda _fact: []
    return lambda fact: sorted(facts.rivals(fact), key=len)[-1:]
