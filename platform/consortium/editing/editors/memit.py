"""MEMIT: the least-squares update for all edits together, against how keys are distributed in ordinary text.

    Δ = (Σ r·kᵀ)·(C + H + Σ k·kᵀ)⁻¹        C = λ·E[kkᵀ]

Source: Meng et al. 2023, MEMIT (arXiv 2210.07229), equations 14 and 15. What differs: H, the earlier rounds' Gram
sums, after Zheng et al. 2025, CollabEdit (arXiv 2410.09508), section 4.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from consortium.editing.editors.editor import Editor


@dataclass(frozen=True)
class Memit(Editor):
    """The editor that the others are described against."""

    name: ClassVar[str] = "memit"
    title: ClassVar[str] = "MEMIT"
    reference: ClassVar[str] = "Meng et al. 2023, MEMIT, arXiv 2210.07229, equation 14"
