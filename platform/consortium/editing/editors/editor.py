"""What an editor is: how an edit's key and residual become an update, where that differs from MEMIT.

Everything else is common to all editors: targets, keys, residual sharing, merge methods. An editor may say

    against what is solved     :meth:`Editor.solvers`, :attr:`Editor.history_scale`
    how keys are transformed   :meth:`Editor.key_map`
    what a party's update is   :meth:`Editor.with_updates`, where it is not the solution for its sums

Statistics are sums over keys and residuals, so an editor of the first two kinds merges as exactly as MEMIT does. One
of the third kind makes each party's update in the party; merge methods that work on updates then work on those.

Shapes: E edits, K key width, V value width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from consortium.common.arrays import Array
from consortium.merging.method import MergeMethod, PartyShare
from consortium.merging.solver import CovarianceSolver
from consortium.merging.solvers import Solvers
from consortium.scenario.editor import EditorSpec

#: Takes a layer and keys [K, E] as they were measured; gives the keys that statistics are made of.
KeyMap = Callable[[int, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Editor:
    """An editor with its settings; what a kind does not say otherwise is as in MEMIT.

    Attributes:
        spec: the scenario's settings.
    """

    spec: EditorSpec

    name: ClassVar[str]
    """Name in a scenario."""
    title: ClassVar[str]
    """Name in a report."""
    reference: ClassVar[str]
    """Paper and equation."""
    merges: ClassVar[tuple[str, ...] | None] = None
    """Merge methods that suit it; None for all."""
    why_not_others: ClassVar[str] = ""
    """Why no others do, in words."""
    uses_covariance: ClassVar[bool] = True
    """The key covariance is measured."""
    maps_keys: ClassVar[bool] = False
    """Parties need the key covariance's sums even where they do not solve."""
    tunes_weights: ClassVar[bool] = False
    """A party's update comes from fine-tuning the weights, with neither targets nor keys."""

    @property
    def history_scale(self) -> float:
        """Multiplies the history weight."""
        return 1.0

    def solvers(self, sums: Mapping[int, Array], num_tokens: int) -> Solvers:
        """What is solved against, from layer → Σ k·kᵀ [K, K] over ``num_tokens`` tokens: C = λ·E[kkᵀ]."""
        return Solvers(sums, num_tokens, self.spec.covariance_weight)

    def key_map(self, sums: Mapping[int, Array], num_tokens: int) -> KeyMap:
        """The keys that statistics are made of: those that were measured."""
        return lambda _layer, keys_KE: keys_KE

    def with_updates(self, shares: Sequence[PartyShare], solver: CovarianceSolver | None) -> Sequence[PartyShare]:
        """The shares, with each party's update where the editor makes it; ``solver`` where the method needs one."""
        return shares

    def merge_method(self, method: MergeMethod) -> MergeMethod:
        """The merge method as it is with this editor."""
        return method
