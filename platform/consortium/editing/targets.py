"""Targets: the hidden states at which a model says what its edits ask for, optimised for many edits at once.

MEMIT (arXiv 2210.07229), section 4.2 and the released ``compute_z``: Adam on a vector δ added at the
subject's last token after one layer; the loss is the new target's negative log likelihood in several
contexts, a KL term that keeps what the subject is ("{subject} is a …"), and weight decay; ‖δ‖ is clamped.
What differs is only the work done: all edits step together, blocks below and tokens before the subject's
last one are run once (:mod:`consortium.models.backbone`), logits exist at target positions only
(:mod:`consortium.editing.readout`), and a finished edit's rows leave the batch.
:mod:`benchmarks.naive.targets` does the same one edit at a time with the whole model.

Shapes: E edits, N rows, M places where a loss is read, V hidden width.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from consortium.data.edit import Edit
from consortium.editing.backend import Targets
from consortium.editing.prompts import bare_prompts, kl_prompt, mean_by_edit, prompts_in
from consortium.editing.readout import divergences, log_probabilities, negative_log_likelihoods
from consortium.models.backbone import backbone_above
from consortium.models.language import LanguageModel
from consortium.models.tokens import KL_PROMPT, target_ids
from consortium.scenario.editor import TargetSpec

#: Suffix tokens optimised at once on a CPU: enough for products to run at full speed while edits leave.
_TOKENS_AT_ONCE = 2048
#: Edits with a row of more tokens are optimised one by one: what is kept of all rows is as wide as the longest.
_LONG = 512
#: On a GPU: by its memory, of which the batch may take this share, within these bounds.
_MEMORY_SHARE = 0.25
_GPU_TOKENS = (512, 4096)

#: Types of products with the backbone's weights, by their names in a scenario; None is the model's own.
_ARITHMETIC = {"model": None, "bfloat16": torch.bfloat16}

#: Divides a vector of length zero into zeros.
_TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class TargetRow:
    """One edit in one prompt.

    Attributes:
        edit: number of the edit among those optimised together.
        ids: tokens of context, prompt and target but for the target's last token.
        subject: index of the subject's last token.
        target: ids of the target; empty for the essence prompt.
        is_bare: nothing stands before the edit's prompt but what begins texts.
    """

    edit: int
    ids: tuple[int, ...]
    subject: int
    target: tuple[int, ...]
    is_bare: bool = False

    @property
    def num_suffix(self) -> int:
        """Tokens from the subject's last one on."""
        return len(self.ids) - self.subject

    @property
    def num_read(self) -> int:
        """States of this many last tokens are read: one for each token of the target, one of the essence prompt."""
        return max(1, len(self.target))


def rows_of(model: LanguageModel, edits: Sequence[Edit], contexts: Sequence[str]) -> list[TargetRow]:
    """The rows of all edits: the bare prompt once or twice, the other contexts, then the essence prompt."""
    rows = []
    for number, edit in enumerate(edits):
        target = tuple(target_ids(model.tokenizer, edit.text, edit.target_new, edit.join))
        bare = bare_prompts(model.tokenizer, edit)
        for place, prompt in enumerate([*bare, *prompts_in(model.tokenizer, edit, contexts[1:])]):
            ids = (*prompt.ids, *target[:-1])
            rows.append(TargetRow(number, ids, prompt.subject, target, is_bare=place < len(bare)))
        kl = kl_prompt(model.tokenizer, KL_PROMPT, edit.subject)
        rows.append(TargetRow(number, kl.ids, kl.subject, ()))
    return rows


def optimise_targets(
    model: LanguageModel, edits: Sequence[Edit], contexts: Sequence[str], layer: int, settings: TargetSpec
) -> Targets:
    """Targets z [E, V] float32 of ``edits`` after ``layer`` under the model's present weights.

    An edit of which a loss is not finite leaves its batch at that step. Attention may have spread its numbers to edits
    that stand beside it, so each edit that left so is optimised once more by itself. What is not finite then has
    not-a-number for its target and its shift.
    """
    vectors_EV = torch.empty(len(edits), model.hidden_width)
    num_steps = [0] * len(edits)
    losses = [0.0] * len(edits)
    shifts = [0.0] * len(edits)
    for batch in _batches(rows_of(model, edits, contexts), len(edits), _tokens_at_once(model)):
        # By no name: it holds much memory, which the next one needs.
        outcomes = _Optimisation(model, batch, layer, settings).run()
        spoilt = [edit for edit, outcome in outcomes.items() if not math.isfinite(outcome.shift)]
        for edit in spoilt if len(outcomes) > 1 else ():
            outcomes |= _Optimisation(model, [row for row in batch if row.edit == edit], layer, settings).run()
        for edit, outcome in outcomes.items():
            vectors_EV[edit] = outcome.target_V.cpu()
            num_steps[edit], losses[edit], shifts[edit] = outcome.num_steps, outcome.loss, outcome.shift
    return Targets(layer, vectors_EV, tuple(num_steps), tuple(losses), tuple(shifts))


def _tokens_at_once(model: LanguageModel) -> int:
    """Size of a batch: by the model and the kind of device, never by what else runs there, or bits would vary."""
    if model.device.type != "cuda":
        return _TOKENS_AT_ONCE
    memory_bytes = torch.cuda.get_device_properties(model.device).total_memory
    return _gpu_tokens(memory_bytes, model.num_layers, model.hidden_width, model.key_width(0))


def _gpu_tokens(memory_bytes: int, num_layers: int, hidden_width: int, key_width: int) -> int:
    # What autograd keeps of a block for each token, in float32, roughly; the implementation by hand keeps a third.
    token_bytes = 4 * num_layers * (10 * hidden_width + 4 * key_width)
    fewest, most = _GPU_TOKENS
    return max(fewest, min(most, int(memory_bytes * _MEMORY_SHARE) // token_bytes))


def _batches(rows: Sequence[TargetRow], num_edits: int, tokens_at_once: int) -> list[list[TargetRow]]:
    """Rows in batches of whole edits, by the edits alone, so that results never depend on workers.

    Edits of like length stand together, the shortest first, so that a batch's tables of attention are few; long ones
    stand alone.
    """
    by_edit: list[list[TargetRow]] = [[] for _ in range(num_edits)]
    for row in rows:
        by_edit[row.edit].append(row)
    batches: list[list[TargetRow]] = []
    num_tokens = 0
    alone: list[list[TargetRow]] = []
    for group in sorted(by_edit, key=lambda group: max(row.num_suffix for row in group)):
        if max(len(row.ids) for row in group) > _LONG:
            alone.append(group)
            continue
        added = sum(row.num_suffix for row in group)
        num_tokens += added
        if not batches or num_tokens > tokens_at_once:
            batches.append([])
            num_tokens = added
        batches[-1].extend(group)
    return [*batches, *alone]


@dataclass(frozen=True)
class _Outcome:
    target_V: torch.Tensor
    num_steps: int
    loss: float
    shift: float


@dataclass(frozen=True)
class _Places:
    """Whose the states are that a batch reads, and what they shall say.

    Attributes:
        edit_N: the edit of each row.
        scored_M: which of the states read are of target tokens.
        token_M, weight_M, edit_M: each one's token, its weight in the loss, and its edit.
        kl_E: which are of essence prompts.
        present_E: the edit of each of these.
    """

    edit_N: torch.Tensor
    scored_M: torch.Tensor
    token_M: torch.Tensor
    weight_M: torch.Tensor
    edit_M: torch.Tensor
    kl_E: torch.Tensor
    present_E: torch.Tensor

    @staticmethod
    def of(rows: Sequence[TargetRow], device: torch.device) -> _Places:
        num_prompts = Counter(row.edit for row in rows if row.target)
        scored: list[tuple[int, int, float, int]] = []
        kl: list[tuple[int, int]] = []
        place = 0
        for row in rows:
            # Mean over a target's tokens, then over prompts.
            for token in row.target:
                scored.append((place, token, 1 / (len(row.target) * num_prompts[row.edit]), row.edit))
                place += 1
            if not row.target:
                kl.append((place, row.edit))
                place += 1
        columns = [[row.edit for row in rows], *zip(*scored, strict=True), *zip(*kl, strict=True)]
        return _Places(*(torch.tensor(column, device=device) for column in columns))


class _Optimisation:
    """The optimisation of one batch of whole edits; ``numbers`` are the edits' own numbers."""

    def __init__(self, model: LanguageModel, rows: Sequence[TargetRow], layer: int, settings: TargetSpec) -> None:
        self.model = model
        self.settings = settings
        self.numbers = list(dict.fromkeys(row.edit for row in rows))
        local = {number: place for place, number in enumerate(self.numbers)}
        local_rows = [replace(row, edit=local[row.edit]) for row in rows]
        # The backbone is fastest where rows with suffixes of like length stand together.
        order = sorted(range(len(rows)), key=lambda number: local_rows[number].num_suffix)
        self.rows = [local_rows[number] for number in order]
        self.backbone = backbone_above(model, self.rows, layer, _ARITHMETIC[settings.arithmetic])
        self.places = _Places.of(self.rows, model.device)
        bare = [number for number, row in enumerate(self.rows) if row.is_bare]
        bare_edits = [self.rows[number].edit for number in bare]
        self.start_EV = mean_by_edit(self.backbone.start_NV[bare], bare_edits, len(self.numbers))
        self.start_norm_E = self.start_EV.norm(dim=1)
        self.kl_start_EN: torch.Tensor | None = None

    def run(self) -> dict[int, _Outcome]:
        """Step until every edit is finished; outcomes by the edits' own numbers."""
        settings = self.settings
        delta_EV = torch.zeros_like(self.start_EV, requires_grad=True)
        optimiser = torch.optim.Adam([delta_EV], lr=settings.learning_rate)
        limit_E = settings.clamp * self.start_norm_E
        outcomes: dict[int, _Outcome] = {}
        for step in range(settings.steps):
            losses_E, regularizer = self._losses(delta_EV.detach())
            values = losses_E.tolist()
            last = step == settings.steps - 1
            active = [edit for edit in range(len(self.numbers)) if self.numbers[edit] not in outcomes]
            finished = [
                edit for edit in active if last or values[edit] < settings.stop_loss or not math.isfinite(values[edit])
            ]
            for edit in finished:
                outcomes[self.numbers[edit]] = self._outcome(edit, delta_EV[edit].detach(), step, values[edit])
            if len(outcomes) == len(self.numbers):
                break
            delta_EV.grad = regularizer()
            del regularizer  # which holds tables of sequences that leave
            optimiser.step()
            with torch.no_grad():
                norm_E = delta_EV.norm(dim=1)
                delta_EV *= torch.where(norm_E > limit_E, limit_E / norm_E, 1.0)[:, None]
            if finished:
                self._drop(set(finished))
        return outcomes

    def _outcome(self, edit: int, delta_V: torch.Tensor, step: int, loss: float) -> _Outcome:
        z_V = (self.start_EV[edit] + delta_V).clone()
        shift = float(delta_V.norm() / self.start_norm_E[edit])
        if not (math.isfinite(loss) and math.isfinite(shift) and bool(z_V.isfinite().all())):
            return _Outcome(torch.full_like(z_V, math.nan), step, math.nan, math.nan)
        return _Outcome(z_V, step, loss, shift)

    @torch.no_grad()
    def _losses(self, delta_EV: torch.Tensor) -> tuple[torch.Tensor, Callable[[], torch.Tensor]]:
        """Loss of each edit [E], zero for those that have left the batch; and how to get its gradient [E, V]."""
        places, settings = self.places, self.settings
        final_MV, regularizer = self.backbone.run(delta_EV[places.edit_N])
        grad_MV = torch.empty_like(final_MV, dtype=torch.float32)
        nll_M, grad = negative_log_likelihoods(self.model, final_MV[places.scored_M], places.token_M)
        grad_MV[places.scored_M] = grad * places.weight_M[:, None]
        kl_EV = final_MV[places.kl_E]
        if self.kl_start_EN is None:
            self.kl_start_EN = log_probabilities(self.model, kl_EV)
        kl_E, grad = divergences(self.model, kl_EV, self.kl_start_EN)
        grad_MV[places.kl_E] = grad * settings.kl_weight
        present_E = places.present_E
        norm_E = delta_EV[present_E].norm(dim=1)
        decay_E = settings.weight_decay / self.start_norm_E[present_E] ** 2
        losses_E = nll_M.new_zeros(len(self.numbers)).index_add(0, places.edit_M, nll_M * places.weight_M)
        losses_E = losses_E.index_add(0, present_E, settings.kl_weight * kl_E + decay_E * norm_E)

        def gradient() -> torch.Tensor:
            grad_EV = torch.zeros_like(delta_EV).index_add(0, places.edit_N, regularizer(grad_MV))
            # ‖δ‖ has no derivative at its start, zero; none is added there.
            direction_EV = delta_EV[present_E] / norm_E.clamp_min(_TINY)[:, None]
            return grad_EV.index_add(0, present_E, decay_E[:, None] * direction_EV)

        return losses_E, gradient

    def _drop(self, finished: set[int]) -> None:
        """Take the rows of finished edits out of the batch."""
        kept_kl = [n for n, edit in enumerate(self.places.present_E.tolist()) if edit not in finished]
        assert self.kl_start_EN is not None
        self.kl_start_EN = self.kl_start_EN[torch.tensor(kept_kl, device=self.model.device)]
        keep = [number for number, row in enumerate(self.rows) if row.edit not in finished]
        self.rows = [self.rows[number] for number in keep]
        self.backbone = self.backbone.take(keep)
        self.places = _Places.of(self.rows, self.model.device)
