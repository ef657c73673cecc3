"""The retained sum: everything that is still asked for of one arm and layer, with ``merge.reference: initial``.

    W = W₀ + (Σ cross)·(C + Σ gram)⁻¹        Σ over all edits of all rounds but those that were removed

All statistics are taken against the unedited W₀, so those of different rounds may be added, in any order, and what was
added can be subtracted: what is left is the sum of a run in which it never was. The Gram sums of all rounds are in it,
so there is no history besides.

A sum of few edits stays in its factored form, and is dense beyond K columns or once something was removed: it is
never larger than the dense form, however many parties and rounds there are. The edits of ``global`` are rows; what is
removed of them is left out, and nothing is subtracted, so that its equality with ``collabedit`` means something.

Source: statistics are those of Zheng et al. 2025, CollabEdit (arXiv 2410.09508), equation 7; anchor and removal are
our own.

Shapes: E edits, K key width, V value width, N columns of the factored form, X numbers of a key and a residual.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from consortium.common.arrays import Array, array_of, side_by_side, tensor_of
from consortium.common.errors import StatisticsError
from consortium.merging.method import Contribution
from consortium.merging.methods.global_edit import OwnedEdits
from consortium.merging.statistics import (
    Basis,
    DenseStatistics,
    FactoredStatistics,
    Header,
    Statistics,
    from_arrays,
    joined_statistics,
    to_arrays,
    widths,
    zero,
)

#: What methods that are ``removable`` make of parties' edits.
Live = DenseStatistics | FactoredStatistics | OwnedEdits

#: An edit of ``global`` is known again by its key and residual; computed again they agree to rounding.
_SAME_EDIT = 1e-6


def with_round(retained: Live | None, sent: Contribution) -> Live:
    """The retained sum with what a round's edits add to it.

    Args:
        retained: the sum before; None before the first round.
        sent: sum over the round's edits.

    Returns:
        The sum, of the round's basis.

    Raises:
        StatisticsError: widths do not fit, or contributions of this kind do not add up over rounds.
    """
    added = _kept(sent)
    if retained is None:
        return added
    before = replace(retained, basis=added.basis)
    if isinstance(before, OwnedEdits) and isinstance(added, OwnedEdits):
        return _as_one_owner(before.joined([added]))
    assert not isinstance(before, OwnedEdits), "a method makes one kind of contribution"
    assert not isinstance(added, OwnedEdits), "a method makes one kind of contribution"
    return joined_statistics([before, added])


def subtracted(retained: Live, gone: Contribution) -> Live:
    """The retained sum without what is removed, which was added before.

    Args:
        retained: the sum before.
        gone: sum over the edits that are removed.

    Returns:
        The sum, of the basis of ``gone``; of no edits at all, it is exactly zero.

    Raises:
        StatisticsError: widths or kinds do not fit, or what is removed is not in the sum.
    """
    retained = replace(retained, basis=gone.basis)
    if gone.num_edits > retained.num_edits or isinstance(retained, OwnedEdits) != isinstance(gone, OwnedEdits):
        raise _more_than_there_is(retained.basis, gone.num_edits, retained.num_edits)
    if isinstance(retained, OwnedEdits):
        assert isinstance(gone, OwnedEdits)
        return _left_out(retained, gone)
    assert isinstance(gone, DenseStatistics | FactoredStatistics)
    return _subtracted(retained, gone)


def _kept(sent: Contribution) -> Live:
    """A round's sum as it is kept: columns of the sum alone, so that parties' own columns are not.

    With factorᵀ = Q·R, gram = Rᵀ·R and cross = (image·Q)·R.
    """
    if isinstance(sent, FactoredStatistics):
        q_NN, r_NK = torch.linalg.qr(tensor_of(sent.factor_KN).T)
        return replace(sent, factor_KN=array_of(r_NK.T), image_VN=array_of(tensor_of(sent.image_VN) @ q_NN))
    if isinstance(sent, DenseStatistics | OwnedEdits):
        return sent
    raise StatisticsError(
        f"a contribution of type {type(sent).__name__} for {sent.basis} in an arm with reference: initial",
        "statistics, or the edits themselves, which add up over rounds",
        "use a merge method that is removable",
    )


def _subtracted(retained: Statistics, gone: Statistics) -> Statistics:
    if widths(retained) != widths(gone):
        raise StatisticsError(
            f"statistics for {retained.basis} of widths {widths(gone)} taken from some of widths {widths(retained)}",
            "the same widths from every party",
            "let every party open the same model",
        )
    num_edits = retained.num_edits - gone.num_edits
    if not num_edits:
        return zero(retained.basis, *widths(retained))
    gram_KK = tensor_of(retained.gram_KK) - tensor_of(gone.gram_KK)
    cross_VK = tensor_of(retained.cross_VK) - tensor_of(gone.cross_VK)
    return DenseStatistics(retained.basis, array_of(gram_KK), array_of(cross_VK), num_edits, retained.num_parties)


def _left_out(retained: OwnedEdits, gone: OwnedEdits) -> OwnedEdits:
    """All edits but those removed; of several that are the same, as many stay as were not removed."""
    retained, gone = _as_one_owner(retained), _as_one_owner(gone)
    stays = np.ones(retained.num_edits, dtype=np.bool_)
    for column in range(gone.num_edits):
        away_E = _distance(retained.keys[0], gone.keys[0][:, column])
        away_E += _distance(retained.residuals[0], gone.residuals[0][:, column])
        nearest = int(np.argmin(np.where(stays, away_E, np.inf)))
        if not away_E[nearest] <= _SAME_EDIT:
            raise _more_than_there_is(retained.basis, gone.num_edits, retained.num_edits)
        stays[nearest] = False
    keys_KE, residuals_VE = (side_by_side([block[:, stays]]) for block in (retained.keys[0], retained.residuals[0]))
    return OwnedEdits(retained.basis, (keys_KE,), (residuals_VE,))


def _distance(columns_XE: Array, column_X: Array) -> Array:
    """How far each column is from one, relative to its length."""
    away_E: Array = np.linalg.norm(columns_XE - column_X[:, None], axis=0)
    return away_E / max(float(np.linalg.norm(column_X)), np.finfo(np.float64).tiny)


def _as_one_owner(edits: OwnedEdits) -> OwnedEdits:
    """All keys and residuals in one block each, as a checkpoint holds them: blocks decide how rows meet in the QR."""
    return OwnedEdits(edits.basis, (side_by_side(edits.keys),), (side_by_side(edits.residuals),))


def _more_than_there_is(basis: Basis, found: int, known: int) -> StatisticsError:
    return StatisticsError(
        f"for {basis}, {found} edits are removed, and not all of them are among the {known} that were merged",
        "edits that were merged before, each removed once",
        "let the same parties remove what they sent, with the same model and facts",
    )


def retained_arrays(retained: Live) -> tuple[Header, dict[str, Array]]:
    """A header of plain names and numbers, and the arrays by name: what a checkpoint holds."""
    if isinstance(retained, OwnedEdits):
        basis = retained.basis
        header: Header = {"form": "owned", "arm": basis.arm, "round": basis.round, "layer": basis.layer}
        return header, {"keys_KE": side_by_side(retained.keys), "residuals_VE": side_by_side(retained.residuals)}
    return to_arrays(retained)


def retained_from(header: Mapping[str, str | int], arrays: Mapping[str, Array]) -> Live:
    """The inverse of :func:`retained_arrays`; StatisticsError when something is missing or shapes do not fit."""
    if header.get("form") == "owned":
        basis = Basis(str(header["arm"]), int(header["round"]), int(header["layer"]))
        return OwnedEdits(basis, (arrays["keys_KE"],), (arrays["residuals_VE"],))
    return from_arrays(header, arrays)
