"""The prompts in which an edit is made: bare, with and without the token that begins documents, and in its contexts.

Many tokenizers put nothing before a text, but models read their training text behind a token that separates documents.
Users ask in the one way, and a text that goes on behind others is read in the other, so an edit is made in both: the
bare prompt counts twice. Its two keys and hidden states are averaged; a target is optimised over all prompts at once.

One prompt is left out: where a subject is the first token of a text. Models rest their attention on a text's first
token, whatever it is; its key is nearly the same for all of them and very long, so an edit made there would take hold
of every text, and not of its subject.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from consortium.data.edit import Edit
from consortium.models.tokens import document_start, subject_last_token


@dataclass(frozen=True)
class Prompt:
    """A prompt as tokens.

    Attributes:
        ids: its tokens.
        subject: index of the subject's last token.
    """

    ids: tuple[int, ...]
    subject: int

    @property
    def up_to_subject(self) -> tuple[int, ...]:
        """Its tokens up to the subject's last one."""
        return self.ids[: self.subject + 1]


def bare_prompts(tokenizer: PreTrainedTokenizerBase, edit: Edit) -> tuple[Prompt, ...]:
    """The bare prompt of an edit: behind the token that begins documents, and without it where that is another text."""
    prompts = [_prompt(tokenizer, edit.prompt, edit.subject, with_start=True)]
    if document_start(tokenizer):
        plain = _prompt(tokenizer, edit.prompt, edit.subject, with_start=False)
        prompts += [plain] if plain.subject else []
    return tuple(prompts)


def prompts_in(tokenizer: PreTrainedTokenizerBase, edit: Edit, contexts: Sequence[str]) -> tuple[Prompt, ...]:
    """The prompt of an edit in some contexts, behind the token that begins documents."""
    return tuple(
        Prompt(tuple(ids), subject)
        for ids, subject in (
            subject_last_token(tokenizer, edit.prompt, edit.subject, context, with_start=True) for context in contexts
        )
    )


def kl_prompt(tokenizer: PreTrainedTokenizerBase, template: str, subject: str) -> Prompt:
    """A prompt about the subject alone, behind the token that begins documents: most such prompts begin with it."""
    return _prompt(tokenizer, template, subject, with_start=True)


def mean_by_edit(values_NX: torch.Tensor, edit_N: Sequence[int], num_edits: int) -> torch.Tensor:
    """Means [E, X] over the prompts of each edit; what an edit with one prompt has is not touched."""
    edits = torch.tensor(edit_N, dtype=torch.long, device=values_NX.device)
    total_EX = values_NX.new_zeros(num_edits, values_NX.shape[1]).index_add(0, edits, values_NX)
    return total_EX / torch.bincount(edits, minlength=num_edits)[:, None]


def _prompt(tokenizer: PreTrainedTokenizerBase, template: str, subject: str, with_start: bool) -> Prompt:
    ids, index = subject_last_token(tokenizer, template, subject, with_start=with_start)
    return Prompt(tuple(ids), index)
