"""Targets: all edits of a party batch together against one edit at a time with the whole model.

The floor counts what cannot be left out, with the steps that the edits took (docs/performance.md has the formula):
every different beginning of a prompt once through the whole model, which is also the first step's forward pass; then
for each step a backward and a forward pass of the tokens from the subject's last one on through the blocks above the
layer, and logits at target positions. Weights are frozen, so a backward pass costs as much as a forward one. The last
block counts at target positions only, and attention's own products are left out.

Shapes: E edits, V hidden width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch
from consortium.data.edit import Edit
from consortium.editing.backend import Targets
from consortium.editing.prompts import bare_prompts, kl_prompt, prompts_in
from consortium.editing.targets import optimise_targets
from consortium.models.language import LanguageModel
from consortium.models.tokens import target_ids

from benchmarks.harness.case import Case, Moved, relative_difference
from benchmarks.harness.fixtures import Fixtures
from benchmarks.harness.measure import measure
from benchmarks.harness.record import Record
from benchmarks.naive.targets import optimise_targets_naively

SIZES = (1, 8, 64, 512)

#: The prompt that keeps what the subject is, in both ways (MEMIT).
_KL_PROMPT = "{} is a"


def records(bench: Fixtures) -> Iterator[Record]:
    """A record for each number of edits."""
    for size in bench.options.sizes or SIZES:
        yield measure("targets", case(bench, size), bench.options.budget, bench.tell)


def case(bench: Fixtures, size: int) -> Case:
    """The targets of so many edits."""
    model, edits = bench.model, bench.edits(size)
    contexts, layer, spec = bench.contexts, bench.layer, bench.target_spec
    prompts = [prompts_of(model, edit, contexts) for edit in edits]
    num_tokens = sum(len(prompt.ids) - prompt.subject for group in prompts for prompt in group)
    product = bench.mlp_product(num_tokens)
    label = f"{size} edits" if size > 1 else "1 edit"
    if spec.arithmetic != "model":
        label, product = f"{label}, {spec.arithmetic}", replace(product, dtype=getattr(torch, spec.arithmetic))
    return Case(
        label=label,
        unit="edit",
        items=size,
        ours=lambda count: optimise_targets(model, edits[:count], contexts, layer, spec),
        naive=lambda count: optimise_targets_naively(model, edits[:count], contexts, layer, spec),
        difference=_difference,
        product=product,
        share=partial(_share, prompts),
        parameters=bench.parameters,
        moved=lambda targets: Moved(targets.vectors_EV.nbytes, "targets, kept by the worker; none is sent"),
        floor=partial(floor, model, prompts, layer, spec.steps),
    )


def _share(prompts: Sequence[Sequence[Prompt]], found: Targets, count: int) -> float:
    """Of the tokens that the naive way runs, padding included: edits take different numbers of steps."""
    tokens = [len(group) * max(len(prompt.ids) for prompt in group) for group in prompts]
    work = [(steps + 1) * each for steps, each in zip(found.num_steps, tokens, strict=True)]
    return sum(work[:count]) / sum(work)


def _difference(ours: Targets, naive: Targets) -> float:
    return relative_difference(ours.vectors_EV[: len(naive.vectors_EV)], naive.vectors_EV)


class Prompt:
    """One edit in one context: its tokens but for the target's last one, where its subject ends, places to score."""

    def __init__(self, ids: Sequence[int], subject: int, num_scored: int) -> None:
        self.ids, self.subject, self.num_scored = tuple(ids), subject, num_scored


def prompts_of(model: LanguageModel, edit: Edit, contexts: Sequence[str]) -> list[Prompt]:
    """The prompts of an edit: bare, in the other contexts, then the one that keeps what the subject is."""
    target = target_ids(model.tokenizer, edit.text, edit.target_new, edit.join)
    asked = [*bare_prompts(model.tokenizer, edit), *prompts_in(model.tokenizer, edit, contexts[1:])]
    kl = kl_prompt(model.tokenizer, _KL_PROMPT, edit.subject)
    prompts = [Prompt([*each.ids, *target[:-1]], each.subject, len(target)) for each in asked]
    return [*prompts, Prompt(kl.ids, kl.subject, 1)]


def floor(
    model: LanguageModel, prompts: Sequence[Sequence[Prompt]], layer: int, most_steps: int, found: Targets
) -> float:
    """Floating-point operations without which these targets cannot be had, by the formula of this file's head."""
    *blocks, last = [_matrix_flops(block) for block in model.blocks]
    above, read = sum(blocks[layer + 1 :]), last + _matrix_flops(model.head)
    prefix_cache = {prompt.ids[:end] for group in prompts for prompt in group for end in range(1, len(prompt.ids) + 1)}
    total = float(len(prefix_cache) * sum(blocks))
    for group, steps in zip(prompts, found.num_steps, strict=True):
        moving = sum(len(prompt.ids) - prompt.subject for prompt in group)
        scored = sum(prompt.num_scored for prompt in group)
        # The last loss of an edit is looked at and no longer descended; the first one comes with the run of the whole.
        num_forward = min(steps + 1, most_steps)
        total += (num_forward - 1 + steps) * moving * above + (num_forward + steps) * scored * read
    return total


def _matrix_flops(module: object) -> int:
    """Operations of a forward pass of one token through all matrices of a module."""
    assert hasattr(module, "parameters")
    return sum(2 * parameter.numel() for parameter in module.parameters() if parameter.dim() > 1)
