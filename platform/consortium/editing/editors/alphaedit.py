"""AlphaEdit: updates that move nothing along the directions in which ordinary text has its keys.

    Δ = R·K₁ᵀ·P·(K_p·K_pᵀ·P + K₁·K₁ᵀ·P + L₂·I)⁻¹

K₁, R: keys and residuals of the edits; K_p: keys of earlier rounds; P: the orthogonal projection onto those
eigenvectors of E[kkᵀ] whose eigenvalues are small. As P·P = P = Pᵀ, this is MEMIT's formula on projected keys,

    Δ = (Σ r·(P·k)ᵀ)·(L₂·I + H + Σ (P·k)(P·k)ᵀ)⁻¹        H = Σ (P·k)(P·k)ᵀ of earlier rounds

with L₂·I in place of C. So what must be summed are the statistics of projected keys. P follows from the key
covariance's sums, which all parties share: each projects its own keys before it sends anything, and every merge method
works as it is. (The sums could be projected as well, P·gram·P and cross·P, but parties that solve for themselves need P
anyway.)

Which eigenvalues are small: those under ``threshold``, in units of E[kkᵀ] and so independent of the number of tokens
but not of the model; or, by default, a share of the K directions, which depends on neither.

Source: Fang et al. 2025, AlphaEdit (arXiv 2410.02355), equations 10 to 14; the threshold is 1e-2 in its text and 2e-2
in its code, L₂ is 1 in the formula and 10 in the code. What differs: the default by share; the history's weight.

Shapes: E edits, K key width, M directions that are left alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from consortium.common.arrays import Array, tensor_of
from consortium.common.errors import StatisticsError
from consortium.editing.editors.editor import Editor, KeyMap
from consortium.merging.solvers import Solvers, covariance_matrix
from consortium.scenario.editor import AlphaEditSpec


class AlphaEdit(Editor):
    """Null-space projection."""

    spec: AlphaEditSpec

    def solvers(self, sums: Mapping[int, Array], num_tokens: int) -> Solvers:
        """What is solved against: L₂·I."""
        identities = {width: np.eye(width) for width in {len(gram_KK) for gram_KK in sums.values()}}
        return Solvers({layer: identities[len(gram_KK)] for layer, gram_KK in sums.items()}, 1, self.spec.l2)

    def key_map(self, sums: Mapping[int, Array], num_tokens: int) -> KeyMap:
        """P·k; what P is made of is found once for each layer."""
        preserved: dict[int, torch.Tensor] = {}

        def projected(layer: int, keys_KE: torch.Tensor) -> torch.Tensor:
            if layer not in preserved:
                mean_KK = tensor_of(covariance_matrix(sums[layer], num_tokens, 1.0))
                preserved[layer] = preserved_directions(mean_KK, self.spec, f"layer {layer}")
            basis_KM = preserved[layer]
            return keys_KE - basis_KM @ (basis_KM.T @ keys_KE)

        return projected


def preserved_directions(mean_KK: torch.Tensor, settings: AlphaEditSpec, place: str) -> torch.Tensor:
    """Orthonormal directions [K, M] along which nothing is moved: P = I - basis·basisᵀ.

    Args:
        mean_KK: E[kkᵀ], float64.
        settings: which eigenvalues are small.
        place: what the matrix belongs to, for messages.

    Raises:
        StatisticsError: no eigenvalue is small, so nothing could be edited.
    """
    values_K, vectors_KK = torch.linalg.eigh(mean_KK)  # ascending
    if settings.threshold is None:
        num_free = int(settings.share * len(values_K))
    else:
        num_free = int((values_K < settings.threshold).sum())
    if num_free == 0:
        raise _nothing_free(values_K, settings, place)
    basis_KM: torch.Tensor = vectors_KK[:, num_free:].contiguous()
    return basis_KM


def _nothing_free(values_K: torch.Tensor, settings: AlphaEditSpec, place: str) -> StatisticsError:
    """What to say where all eigenvalues are large, or the share of a direction is less than one."""
    if settings.threshold is None:
        num = len(values_K)
        return StatisticsError(
            f"no direction of {place} is free: editor.share {settings.share:g} of {num} is less than one",
            f"a share of at least 1/{num}",
            "raise editor.share",
        )
    return StatisticsError(
        f"no direction of {place} is free: the least eigenvalue of E[kkᵀ] is {float(values_K[0]):.3g}",
        f"an editor.threshold above it (found {settings.threshold:g})",
        "raise editor.threshold, or remove it to take a share of the directions",
    )
