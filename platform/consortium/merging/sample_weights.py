"""Weights of edits in a merge: how much each one counts.

Shapes: E edits, K key width, V value width.
"""

from __future__ import annotations

import torch


def weighed(
    keys_KE: torch.Tensor, residuals_VE: torch.Tensor, weights_E: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and residuals scaled so that each edit counts as its weight in every sum over edits.

    Both columns of an edit are multiplied by √w: then w·k·kᵀ is in gram and w·r·kᵀ in cross, and a merge counts its
    squared error w times.
    """
    if bool((weights_E == 1).all()):
        return keys_KE, residuals_VE
    scale_E = weights_E.sqrt()
    return keys_KE * scale_E, residuals_VE * scale_E
