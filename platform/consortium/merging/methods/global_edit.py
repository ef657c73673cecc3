"""Global editing: one owner of everybody's edits; the upper bound that collaboration is measured against.

    Δ = argmin ‖Δ·keys − residuals‖² + ‖Δ·U‖² + ‖Δ·L‖²        with L·Lᵀ + U·Uᵀ = C + H

The same minimum as collabedit's, reached by another path, so that the equality of both means something:
keys and residuals of all parties are brought together, and the least-squares problem

    [Lᵀ; Uᵀ; keysᵀ]·Δᵀ = [0; 0; residualsᵀ]

(U: the history's columns after its base) is solved by Householder QR. Neither a Gram matrix of the edits nor the
normal equations are formed. Rows are taken in blocks, R ← qr([R; block]), so that beside the edits only one block
and R are in memory.

This is the only method in which keys leave a party; as an owner of all facts it is not meant to be private.

Source: Meng et al. 2023, MEMIT (arXiv 2210.07229), equations 11 to 14; the baseline Global-Edit of
Zheng et al. 2025 (arXiv 2410.09508). Sequential QR: Demmel et al. 2012 (arXiv 0808.2664).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from consortium.common.arrays import Array, array_of, require_finite, side_by_side, tensor_of
from consortium.common.errors import StatisticsError
from consortium.merging.method import Contribution, MergeMethod, PartyShare, of_kind
from consortium.merging.solver import CovarianceSolver, check_key_width
from consortium.merging.statistics import Basis, DenseStatistics, FactoredStatistics, Statistics, check_same_basis


@dataclass(frozen=True, eq=False)
class OwnedEdits:
    """Keys and residuals of all edits, party after party in the order of addition.

    Attributes:
        basis: what the keys are taken against.
        keys: blocks [K, E] of keys, one for each party.
        residuals: blocks [V, E] of residuals, one for each party.
    """

    basis: Basis
    keys: tuple[Array, ...]
    residuals: tuple[Array, ...]

    @property
    def num_parties(self) -> int:
        """Parties joined, those without edits included."""
        return len(self.keys)

    @property
    def num_edits(self) -> int:
        """Edits of all parties."""
        return sum(block_KE.shape[1] for block_KE in self.keys)

    @property
    def nbytes(self) -> int:
        """Bytes of all keys and residuals."""
        return sum(block.nbytes for block in (*self.keys, *self.residuals))

    @property
    def widths(self) -> tuple[int, int]:
        """Key width K and value width V."""
        return self.keys[0].shape[0], self.residuals[0].shape[0]

    @property
    def gram(self) -> Statistics:
        """Σ key·keyᵀ from the keys themselves: factored up to K edits, else dense."""
        counts = {"num_edits": self.num_edits, "num_parties": self.num_parties}
        key_width = self.widths[0]
        if self.num_edits <= key_width:
            return FactoredStatistics(self.basis, side_by_side(self.keys), np.empty((0, self.num_edits)), **counts)
        total_KK = torch.zeros(key_width, key_width, dtype=torch.float64)
        for keys_KE, _ in _blocks(zip(self.keys, self.residuals, strict=True), key_width):
            total_KK.addmm_(keys_KE, keys_KE.T)
        return DenseStatistics(self.basis, array_of(total_KK), np.empty((0, key_width)), **counts)

    def check(self, origin: str = "a party") -> None:
        """Raise StatisticsError, naming ``origin``, unless all numbers are finite and shapes fit."""
        for keys_KE, residuals_VE in zip(self.keys, self.residuals, strict=True):
            if (keys_KE.shape[0], residuals_VE.shape[0]) != self.widths or keys_KE.shape[1] != residuals_VE.shape[1]:
                raise _unlike(self.basis, self.widths, (keys_KE.shape[0], residuals_VE.shape[0]))
            require_finite(keys_KE, f"keys of {origin} for {self.basis}")
            require_finite(residuals_VE, f"residuals of {origin} for {self.basis}")

    def __add__(self, other: OwnedEdits) -> OwnedEdits:
        return self.joined([other])

    def joined(self, others: Sequence[OwnedEdits]) -> OwnedEdits:
        """The edits of this and all others, in their order."""
        for other in others:
            check_same_basis(self.basis, other.basis)
            if self.widths != other.widths:
                raise _unlike(self.basis, self.widths, other.widths)
        parts = [self, *others]
        keys = tuple(block_KE for part in parts for block_KE in part.keys)
        return OwnedEdits(self.basis, keys, tuple(block_VE for part in parts for block_VE in part.residuals))


class GlobalEdit(MergeMethod):
    """One party that owns everybody's edits."""

    def contribute(self, shares: Sequence[PartyShare], solver: CovarianceSolver | None = None) -> list[OwnedEdits]:
        """Each party's keys and residuals as they are."""
        return [
            OwnedEdits(share.basis, (array_of(share.keys_KE.clone()),), (array_of(share.residuals_VE.clone()),))
            for share in shares
        ]

    def merge(self, total: Contribution, solver: CovarianceSolver) -> torch.Tensor:
        """Δ [V, K] by least squares over all edits."""
        edits = of_kind(total, OwnedEdits, self.spec.name)
        edits.check("the merge")
        key_width, value_width = edits.widths
        check_key_width(key_width, solver.key_width, solver.place)
        upper_KK = solver.factor_KK.T
        rhs_KV = torch.zeros(key_width, value_width, dtype=torch.float64, device=solver.device)
        for keys_KE, residuals_VE in _blocks(_rows_of(solver, edits), key_width):
            rows_EK, rows_EV = keys_KE.T.to(solver.device), residuals_VE.T.to(solver.device)
            upper_KK, rhs_KV = _absorb(upper_KK, rhs_KV, rows_EK, rows_EV)
        delta_KV: torch.Tensor = torch.linalg.solve_triangular(upper_KK, rhs_KV, upper=True)
        return delta_KV.T.contiguous()


def _absorb(
    upper_KK: torch.Tensor, rhs_KV: torch.Tensor, rows_EK: torch.Tensor, rows_EV: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """One step of the sequential QR: the triangle and right-hand side after more rows."""
    key_width = upper_KK.shape[0]
    reflectors, scales = torch.geqrf(torch.cat([upper_KK, rows_EK]))
    rotated = torch.ormqr(reflectors, scales, torch.cat([rhs_KV, rows_EV]), transpose=True)
    return reflectors[:key_width].triu(), rotated[:key_width]


def _rows_of(solver: CovarianceSolver, edits: OwnedEdits) -> Iterator[tuple[Array, Array]]:
    """What is stacked below L: the history's columns, which shall be mapped to zero, and the edits."""
    for columns_KN in solver.columns:
        yield columns_KN, np.zeros((edits.widths[1], columns_KN.shape[1]))
    yield from zip(edits.keys, edits.residuals, strict=True)


def _blocks(pairs: Iterable[tuple[Array, Array]], size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Keys and residuals side by side in blocks of ``size`` to ``2·size`` columns; the last may be smaller."""
    waiting: list[tuple[torch.Tensor, torch.Tensor]] = []
    for keys_KE, residuals_VE in ((tensor_of(keys), tensor_of(residuals)) for keys, residuals in pairs):
        for start in range(0, keys_KE.shape[1], size):
            waiting.append((keys_KE[:, start : start + size], residuals_VE[:, start : start + size]))
            if sum(part_KE.shape[1] for part_KE, _ in waiting) >= size:
                yield _side_by_side(waiting)
                waiting = []
    if waiting:
        yield _side_by_side(waiting)


def _side_by_side(parts: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.cat([keys for keys, _ in parts], dim=1), torch.cat([residuals for _, residuals in parts], dim=1)


def _unlike(basis: Basis, left: tuple[int, int], right: tuple[int, int]) -> StatisticsError:
    return StatisticsError(
        f"edits for {basis} have key and value widths {left} and {right}",
        "the same widths from every party, and one column for each edit",
        "let every party open the same model",
    )
