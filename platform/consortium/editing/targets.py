"""Targets: the hidden states at which a model says what its edits ask for, optimised for many edits at once.

MEMIT (arXiv 2210.07229), section 4.2 and the released ``compute_z``: Adam on a vector δ added at the
subject's last token after one layer; the loss is the new target's negative log likelihood in several
contexts, a KL term that keeps what the subject is ("{subject} is a …"), and weight decay; ‖δ‖ is clamped.
What differs is only the work done: all edits step together, blocks below and tokens before the subject's
last one are run once, logits exist at target positions only, and a finished edit's rows leave the batch.
:mod:`consortium.editing.naive` does the same one edit at a time with the whole model.

Shapes: E edits, R packed rows, S columns of suffixes, N places in them, V hidden width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn.functional import log_softmax

from consortium.editing.backend import Targets
from consortium.facts.edit import Edit
from consortium.models.language import LanguageModel
from consortium.models.packing import pack
from consortium.models.segments import Top, top_above
from consortium.models.tokens import subject_last_token, target_ids
from consortium.scenario.schema import TargetSpec

#: The prompt whose next word must stay likely: it says what kind of thing the subject is (MEMIT).
ESSENCE = "{} is a"

#: Suffix tokens optimised at once; bounds the memory of a step.
_TOKENS_AT_ONCE = 2048


@dataclass(frozen=True)
class Row:
    """One edit in one context.

    Attributes:
        edit: number of the edit among those optimised together.
        ids: tokens of context, prompt and target but for the target's last token.
        subject: index of the subject's last token.
        target: ids of the target; empty for the essence prompt.
    """

    edit: int
    ids: tuple[int, ...]
    subject: int
    target: tuple[int, ...]


def rows_of(model: LanguageModel, edits: Sequence[Edit], contexts: Sequence[str]) -> list[Row]:
    """The rows of all edits: one for each context, then the essence prompt."""
    rows = []
    for number, edit in enumerate(edits):
        target = tuple(target_ids(model.tokenizer, edit.text, edit.target_new))
        for context in contexts:
            ids, subject = subject_last_token(model.tokenizer, edit.prompt, edit.subject, context)
            rows.append(Row(number, (*ids, *target[:-1]), subject, target))
        ids, subject = subject_last_token(model.tokenizer, ESSENCE, edit.subject)
        rows.append(Row(number, tuple(ids), subject, ()))
    return rows


def optimise_targets(
    model: LanguageModel, edits: Sequence[Edit], contexts: Sequence[str], layer: int, settings: TargetSpec
) -> Targets:
    """Targets z [E, V] float32 of ``edits`` after ``layer`` under the model's present weights."""
    vectors_EV = torch.empty(len(edits), model.hidden_width)
    num_steps = [0] * len(edits)
    losses = [0.0] * len(edits)
    for batch in _batches(rows_of(model, edits, contexts), len(edits)):
        optimisation = _Optimisation(model, batch, layer, settings)
        for edit, outcome in optimisation.run().items():
            vectors_EV[edit] = outcome.target_V.cpu()
            num_steps[edit], losses[edit] = outcome.num_steps, outcome.loss
    return Targets(layer, vectors_EV, tuple(num_steps), tuple(losses))


def _batches(rows: Sequence[Row], num_edits: int) -> list[list[Row]]:
    """Rows in batches of whole edits, by the edits alone, so that results never depend on hosts."""
    by_edit: list[list[Row]] = [[] for _ in range(num_edits)]
    for row in rows:
        by_edit[row.edit].append(row)
    batches: list[list[Row]] = []
    num_tokens = 0
    for group in by_edit:
        num_tokens += sum(len(row.ids) - row.subject for row in group)
        if not batches or num_tokens > _TOKENS_AT_ONCE:
            batches.append([])
            num_tokens = sum(len(row.ids) - row.subject for row in group)
        batches[-1].extend(group)
    return batches


@dataclass(frozen=True)
class _Outcome:
    target_V: torch.Tensor
    num_steps: int
    loss: float


@dataclass(frozen=True)
class _Places:
    """Where in the suffixes a batch's losses are read, and where its vectors are added.

    Attributes:
        subject: row and column of every sequence's subject, and the edit it is of.
        scored: the same of every target token, with the token and its weight in the loss.
        essence: the same of the last token of every essence prompt.
    """

    subject: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    scored: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    token_N: torch.Tensor
    weight_N: torch.Tensor
    essence: tuple[torch.Tensor, torch.Tensor, torch.Tensor]

    @staticmethod
    def of(rows: Sequence[Row], top: Top) -> _Places:
        num_contexts = Counter(row.edit for row in rows if row.target)
        subjects = [(number, row.subject, row.edit) for number, row in enumerate(rows)]
        essences = [(number, len(row.ids) - 1, row.edit) for number, row in enumerate(rows) if not row.target]
        scored: list[tuple[int, int, int]] = []
        tokens: list[int] = []
        weights: list[float] = []
        for number, row in enumerate(rows):
            first = len(row.ids) - len(row.target)
            scored += [(number, first + place, row.edit) for place in range(len(row.target))]
            tokens += row.target
            # Mean over a target's tokens, then over contexts.
            weights += [1 / (len(row.target) * num_contexts[row.edit]) for _ in row.target]

        def located(wanted: list[tuple[int, int, int]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            numbers, places, edits = zip(*wanted, strict=True)
            return *top.suffix_places(numbers, places), torch.tensor(edits, device=top.model.device)

        return _Places(
            located(subjects),
            located(scored),
            torch.tensor(tokens, device=top.model.device),
            torch.tensor(weights, device=top.model.device),
            located(essences),
        )


class _Optimisation:
    """The optimisation of one batch of whole edits; ``numbers`` are the edits' own numbers."""

    def __init__(self, model: LanguageModel, rows: Sequence[Row], layer: int, settings: TargetSpec) -> None:
        self.model = model
        self.settings = settings
        self.numbers = list(dict.fromkeys(row.edit for row in rows))
        local = {number: place for place, number in enumerate(self.numbers)}
        self.rows = [replace(row, edit=local[row.edit]) for row in rows]
        self.top = top_above(model, pack([row.ids for row in rows], [row.subject for row in rows]), layer)
        self.places = _Places.of(self.rows, self.top)
        # The first row of an edit is its bare prompt.
        bare = [next(n for n, row in enumerate(self.rows) if row.edit == edit) for edit in range(len(self.numbers))]
        at_subject = self.top.suffix_places(bare, [self.rows[number].subject for number in bare])
        self.start_EV = self.top.hidden_RSV[at_subject].float()
        self.start_norm_E = self.start_EV.norm(dim=1)
        self.essence_start: torch.Tensor | None = None

    def run(self) -> dict[int, _Outcome]:
        """Step until every edit is finished; outcomes by the edits' own numbers."""
        settings = self.settings
        delta_EV = torch.zeros_like(self.start_EV, requires_grad=True)
        optimiser = torch.optim.Adam([delta_EV], lr=settings.learning_rate)
        limit_E = settings.clamp * self.start_norm_E
        outcomes: dict[int, _Outcome] = {}
        for step in range(settings.steps):
            losses_E = self._losses(delta_EV)
            values = losses_E.detach().tolist()
            last = step == settings.steps - 1
            active = [edit for edit in range(len(self.numbers)) if self.numbers[edit] not in outcomes]
            finished = [edit for edit in active if last or values[edit] < settings.stop_loss]
            for edit in finished:
                z_V = (self.start_EV[edit] + delta_EV[edit]).detach().clone()
                outcomes[self.numbers[edit]] = _Outcome(z_V, step, values[edit])
            if len(outcomes) == len(self.numbers):
                break
            optimiser.zero_grad()
            losses_E.sum().backward()
            optimiser.step()
            with torch.no_grad():
                norm_E = delta_EV.norm(dim=1)
                delta_EV *= torch.where(norm_E > limit_E, limit_E / norm_E, 1.0)[:, None]
            if finished:
                self._drop(set(finished))
        return outcomes

    def _losses(self, delta_EV: torch.Tensor) -> torch.Tensor:
        """Loss of each edit [E]; zero for those that have left the batch."""
        places, settings = self.places, self.settings
        row_N, column_N, edit_N = places.subject
        moved = delta_EV[edit_N].to(self.top.hidden_RSV.dtype)
        final_RSV = self.top.run(self.top.hidden_RSV.index_put((row_N, column_N), moved, accumulate=True))
        rows = torch.cat([places.scored[0], places.essence[0]])
        columns = torch.cat([places.scored[1], places.essence[1]])
        log_probs = log_softmax(self.model.logits(final_RSV[rows, columns]).float(), dim=-1)
        num_scored = len(places.token_N)
        nll_N = -log_probs[:num_scored].gather(1, places.token_N[:, None])[:, 0] * places.weight_N
        essence = log_probs[num_scored:]
        if self.essence_start is None:
            self.essence_start = essence.detach()
        kl_E = settings.kl_weight * (essence.exp() * (essence - self.essence_start)).sum(1)
        present_E = places.essence[2]
        decay_E = settings.weight_decay * delta_EV[present_E].norm(dim=1) / self.start_norm_E[present_E] ** 2
        losses_E = nll_N.new_zeros(len(self.numbers)).index_add(0, places.scored[2], nll_N)
        return losses_E.index_add(0, present_E, kl_E + decay_E)

    def _drop(self, finished: set[int]) -> None:
        """Take the rows of finished edits out of the batch."""
        kept_essence = [n for n, edit in enumerate(self.places.essence[2].tolist()) if edit not in finished]
        assert self.essence_start is not None
        self.essence_start = self.essence_start[torch.tensor(kept_essence, device=self.model.device)]
        keep = [number for number, row in enumerate(self.rows) if row.edit not in finished]
        self.rows = [self.rows[number] for number in keep]
        self.top = self.top.take(keep)
        self.places = _Places.of(self.rows, self.top)
