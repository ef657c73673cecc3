"""Task arithmetic: the parties' local updates added, times a coefficient.

    Δ = α·Σ_i Δ_i

Source: Ilharco et al. 2023, Editing models with task arithmetic (arXiv 2212.04089), section 2. What
differs: α = 1 by default, which is the baseline Task-Arithmetic of Zheng et al. 2025 (arXiv 2410.09508)
and, for a single party, exact; for whole fine-tuned models Ilharco et al. choose α on held-out data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch

from consortium.common.arrays import tensor_of
from consortium.merging.deltas import DeltaSum, delta_sums_of
from consortium.merging.method import Bounds, Contribution, PartyShare, of_kind, solver_of
from consortium.merging.solver import CovarianceSolver


@dataclass(frozen=True)
class TaskArithmetic:
    """Scaled sum of local updates.

    Attributes:
        alpha: α, the coefficient of the sum.
    """

    alpha: Annotated[float, Bounds("coefficient of the sum of local updates")] = 1.0

    name: ClassVar[str] = "task_arithmetic"
    title: ClassVar[str] = "Task arithmetic"
    reference: ClassVar[str] = "Ilharco et al. 2023, Task arithmetic, arXiv 2212.04089, section 2"
    needs_solver: ClassVar[bool] = True
    removable: ClassVar[bool] = False

    def contribute(self, shares: Sequence[PartyShare], solver: CovarianceSolver | None) -> list[DeltaSum]:
        """Each party's local update."""
        return delta_sums_of(shares, solver_of(solver))

    def merge(self, total: Contribution, solver: CovarianceSolver) -> torch.Tensor:
        """Δ [V, K] = α·Σ Δ_i."""
        deltas = of_kind(total, DeltaSum, self.name)
        deltas.check("the merge")
        return self.alpha * tensor_of(deltas.delta_VK, solver.device)
