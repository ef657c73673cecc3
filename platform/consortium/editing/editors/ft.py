"""FT-L: plain fine-tuning of the edited layers on a party's own edits, with a bound on every entry's change.

    Δ = argmin Σ −log p(target | prompt) under W + Δ  with |Δ| ≤ ε entry by entry,  by projected steps of Adam

No targets, no keys, no key covariance, no history: the baseline that shows what editing spares a model. All edited
layers change together, so one exchange a round is all there is (`merge.exchange: round`). A party's update is what it
sends, dense, and updates are averaged, added or voted on. There is nothing that adds up to what one owner of all edits
would do, and edits do not leave their parties, so there is no `global` either; one party with all the edits is such an
owner.

:mod:`consortium.editing.fine_tuning` descends.

Source: Zhu et al. 2020 (arXiv 2012.00363), section 3, as the baseline FT+L of Meng et al. 2022, ROME (arXiv
2202.05262): the MLP's last projection of one layer, 25 steps at 5e-4, ε from 5e-5 (GPT-J) to 5e-4 (GPT-2 XL). What
differs: any number of layers; the mean over all of a target's tokens, not its first alone; all of a party's edits in
every step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from consortium.editing.editors.editor import Editor


@dataclass(frozen=True)
class FineTuning(Editor):
    """Fine-tuning as a baseline."""

    name: ClassVar[str] = "ft"
    title: ClassVar[str] = "FT-L"
    reference: ClassVar[str] = "Zhu et al. 2020, Modifying memories, arXiv 2012.00363, section 3"
    merges: ClassVar[tuple[str, ...] | None] = ("task_arithmetic", "simple_average", "ties", "dare", "dare_ties")
    why_not_others: ClassVar[str] = "fine-tuning has neither keys nor residuals to add up or to bring together"
    uses_covariance: ClassVar[bool] = False
    tunes_weights: ClassVar[bool] = True
