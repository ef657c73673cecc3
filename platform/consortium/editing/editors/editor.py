"""What an editor is: how an edit's key and residual become an update, where that differs from MEMIT.

MEMIT's is the least-squares update for all edits together, against how keys are distributed in ordinary text:

    Δ = (Σ r·kᵀ)·(C + H + Σ k·kᵀ)⁻¹        C = λ·E[kkᵀ]

Targets, keys, residual sharing and merge methods are common to all editors. An editor may say

    against what is solved     :meth:`Editor.solvers`, :attr:`Editor.history_scale`
    how keys are transformed   :meth:`Editor.key_map`
    what a party's update is   :meth:`Editor.with_updates`, where it is not the solution for its sums

Statistics are sums over keys and residuals, so an editor of the first two kinds merges as exactly as MEMIT does. One
of the third kind makes each party's update in the party; merge methods that work on updates then work on those.

Source: Meng et al. 2023, MEMIT (arXiv 2210.07229), equations 14 and 15. What differs: H, the earlier rounds' Gram
sums, after Zheng et al. 2025, CollabEdit (arXiv 2410.09508), section 4.3.

Shapes: E edits, K key width, V value width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

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
    """An editor with its settings; what a kind does not say otherwise is as in MEMIT, which is this class itself.

    Attributes:
        spec: the scenario's settings.
    """

    spec: EditorSpec

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
