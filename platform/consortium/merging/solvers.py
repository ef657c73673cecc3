"""The solvers of a run, and what they share: factors of C + base, and what was solved against earlier rounds.

Whatever is found here is, bit for bit, what would be made anew: a history's columns are taken in one round after
the other, from the solver of the round before where it is kept, else from the base on.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping

import numpy as np

from consortium.common.arrays import Array
from consortium.merging.history import GramHistory
from consortium.merging.solver import CovarianceSolver

#: Least room for factors, in bytes.
_LEAST_ROOM = 256 * 2**20

#: Layer and version of a history; None for the solver of C alone.
_Key = tuple[int, str | None]


def covariance_matrix(gram_KK: Array, num_tokens: int, weight: float) -> Array:
    """C = λ·E[kkᵀ] from a sum over tokens."""
    return np.asarray(gram_KK * (weight / num_tokens))


class Solvers:
    """Makes solvers and keeps those used last.

    Args:
        sums: layer → Σ k·kᵀ [K, K] over the key covariance's text.
        num_tokens: its length.
        weight: λ.

    Of an arm and layer only the last history that was asked for is kept, and the base that it grows from: an arm never
    goes back behind what it has merged. All of it is bounded by twice the bytes of ``sums`` (or 256 MiB, if that is
    more): a factor of C for each layer, and as much again for what belongs to single arms. A factor that is made in
    its first use, after it was given out, may go beyond until the next solver is asked for.
    """

    def __init__(self, sums: Mapping[int, Array], num_tokens: int, weight: float) -> None:
        self._covariance_of: Callable[[int], Array] = lambda layer: covariance_matrix(sums[layer], num_tokens, weight)
        self._room = max(_LEAST_ROOM, 2 * sum(gram_KK.nbytes for gram_KK in sums.values()))
        self._kept: OrderedDict[_Key, CovarianceSolver] = OrderedDict()
        # Layer and arm → what is kept for that arm alone.
        self._own: dict[tuple[int, str], set[_Key]] = {}

    def get(
        self, layer: int, version: str | None = None, read: Callable[[], GramHistory | None] = lambda: None
    ) -> CovarianceSolver:
        """The solver of a layer against a history.

        Args:
            layer: the layer.
            version: :attr:`GramHistory.version`; None for no history.
            read: gives the history; called only when the solver is not kept.
        """
        if (layer, version) not in self._kept:
            history = read() if version is not None else None
            assert version == (history and history.version), "a history under a name that is not its own"
            self._extend(layer, history)
        self._kept.move_to_end((layer, version))
        self._make_room()
        return self._kept[layer, version]

    def _extend(self, layer: int, history: GramHistory | None) -> None:
        """Make and keep the solver of a history from the longest part of it that is kept."""
        names = [history.base_version, *history.versions()] if history else [None]
        blocks = [None, *history.columns.values()] if history else [None]
        known = max((place for place, name in enumerate(names) if (layer, name) in self._kept), default=None)
        solver = self._kept[layer, names[known]] if known is not None else self._based(layer, history)
        for columns_KN in blocks[(known or 0) + 1 :]:
            assert columns_KN is not None
            solver = solver.extended(columns_KN)
        if (layer, names[0]) in self._kept:  # the base, which others start from, too
            self._kept.move_to_end((layer, names[0]))
        self._kept[layer, names[-1]] = solver
        if history is not None:
            self._drop_earlier(layer, history)

    def _drop_earlier(self, layer: int, history: GramHistory) -> None:
        """Keep nothing of the arm's earlier rounds, which are over, but the base."""
        own: set[_Key] = {(layer, name) for name in (history.base_version, history.version) if name is not None}
        for key in self._own.get((layer, history.arm), set()) - own:
            self._kept.pop(key, None)
        self._own[layer, history.arm] = own

    def _based(self, layer: int, history: GramHistory | None) -> CovarianceSolver:
        """The solver for C and the history's base alone, kept."""
        base_KK = history.base_KK if history else None
        solver = CovarianceSolver(lambda: self._covariance_of(layer), base_KK, f"layer {layer}")
        self._kept[layer, history.base_version if history else None] = solver
        return solver

    def _make_room(self) -> None:
        while len(self._kept) > 1 and self._bytes() > self._room:
            self._kept.popitem(last=False)

    def _bytes(self) -> int:
        """Bytes of what kept solvers made; what they share counts once."""
        unique = {id(each): each.nbytes for solver in self._kept.values() for each in solver.made()}
        return sum(unique.values())
