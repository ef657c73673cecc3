"""ROME, one edit after another: each holds exactly when it is made, and disturbs the earlier ones as little as it can.

    Δ ← Δ + (r_e − Δ·k_e)·(A⁻¹·k_e)ᵀ / (k_eᵀ·A⁻¹·k_e)        for each edit e in turn,  A = C + H

A single layer is edited, so no edit changes the keys of another, and with G = Kᵀ·A⁻¹·K the whole sequence is one
triangular solve (a sweep of Gauss and Seidel, where EMMET solves with all of G):

    Δ = R·triu(G)⁻¹·Kᵀ·A⁻¹

This depends on the order of edits and is no function of sums over them, so parties send updates of their own, which
are averaged, added or voted on; `global` makes all parties' edits in the order of parties. A single party's factors
are rotated as its statistics are: no column holds an edit's A⁻¹·k.

Source: Meng et al. 2022, ROME (arXiv 2202.05262), equation 2. What differs: targets of a round's edits are all
optimised under the round's weights, rather than each under those that the edit before left; targets and keys are
MEMIT's; H, the earlier rounds' Gram sums (`merge.history_weight: 0` leaves it out, as the paper does).

Shapes: E edits, K key width, V value width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from consortium.common.arrays import side_by_side, tensor_of
from consortium.editing.editors.editor import Editor
from consortium.merging.method import Contribution, MergeMethod, PartyShare, of_kind
from consortium.merging.methods.global_edit import GlobalEdit, OwnedEdits
from consortium.merging.solver import CovarianceSolver, check_key_width
from consortium.merging.statistics import rotation


class Rome(Editor):
    """Single edits, one after another."""

    def with_updates(self, shares: Sequence[PartyShare], solver: CovarianceSolver | None) -> Sequence[PartyShare]:
        """Each party's edits made one after another; the owner of all edits needs no such updates."""
        if solver is None:
            return shares
        return [replace(share, update=_hidden_update(share, solver)) for share in shares]

    def merge_method(self, method: MergeMethod) -> MergeMethod:
        """The owner of all edits makes them one after another, too."""
        return OneAfterAnother(method.spec) if isinstance(method, GlobalEdit) else method


class OneAfterAnother(GlobalEdit):
    """One party that owns everybody's edits and makes them in the order of parties."""

    def merge(self, total: Contribution, solver: CovarianceSolver) -> torch.Tensor:
        """Δ [V, K] of all edits in turn."""
        edits = of_kind(total, OwnedEdits, self.spec.name)
        edits.check("the merge")
        check_key_width(edits.widths[0], solver.key_width, solver.place)
        keys_KE, residuals_VE = (tensor_of(side_by_side(each), solver.device) for each in (edits.keys, edits.residuals))
        weights_VE, solved_KE = sequential_update(keys_KE, residuals_VE, solver)
        return weights_VE @ solved_KE.T


def sequential_update(
    keys_KE: torch.Tensor, residuals_VE: torch.Tensor, solver: CovarianceSolver
) -> tuple[torch.Tensor, torch.Tensor]:
    """Factors (weights_VE, solved_KE) of Δ = weights·solvedᵀ after all edits were made in turn; float64."""
    solved_KE = solver.solve(keys_KE)
    gram_EE = keys_KE.T @ solved_KE  # of which the solve reads the upper triangle alone
    weights_VE = torch.linalg.solve_triangular(gram_EE, residuals_VE, upper=True, left=False)
    return weights_VE, solved_KE


def _hidden_update(share: PartyShare, solver: CovarianceSolver) -> tuple[torch.Tensor, ...]:
    """A party's update by factors whose columns are mixed."""
    keys_KE, residuals_VE = (each.double().to(solver.device) for each in (share.keys_KE, share.residuals_VE))
    rotation_EE = rotation(keys_KE.shape[1], share.generator).to(solver.device)
    weights_VE, solved_KE = sequential_update(keys_KE, residuals_VE, solver)
    return weights_VE @ rotation_EE, solved_KE @ rotation_EE
