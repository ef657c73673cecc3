"""What a sum of statistics gives away about overlap and contradiction, without any party's share of it.

Shapes: E edits, K key width, V value width, N columns of the factored form, D dimension of a null space.

Two requests about the same subject in the same words have the same key. So where parties meet, the keys of a round
depend on each other: with gram = U·Uᵀ and cross = V·Uᵀ, some mixture z of columns has U·z = 0. Where such requests
agree, V·z = 0 too; where they contradict each other, V·z is what no update whatever can give, since Δ·U·z = 0:

    min over Δ of ‖Δ·keys - residuals‖² = ‖V·Z‖²,   Z [N, D] an orthonormal basis of U's null space

Both sides are the same for any factors of the same sums that come of the keys by a rotation, which is what parties
send (:func:`consortium.merging.statistics.statistics_of`), so this is a property of the sum alone. It is known only
while the sum is factored, that is up to K edits a round: multiplied out, the sums no longer say how large the residuals
were.

Source: our own; least squares. It answers the wish of CollabEdit (arXiv 2410.09508, section 4) to notice overlap and
conflict, at the coordinator instead of at a party.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from consortium.common.arrays import tensor_of
from consortium.merging.statistics import FactoredStatistics

#: Keys are computed in float32, in other company for each party: directions are the same within this share of the
#: largest singular value. Two different subjects' keys differ by more than a hundredth.
_SAME = 1e-4


@dataclass(frozen=True)
class KeyOverlap:
    """How far a round's requests meet.

    Attributes:
        num_edits: requests in the sum.
        num_shared_keys: requests whose keys are combinations of others' keys, D; two that ask the same count once.
        unresolvable_share: the share of what is asked for that contradicts the rest, ‖V·Z‖² / ‖V‖², from 0 to 1.
    """

    num_edits: int
    num_shared_keys: int
    unresolvable_share: float


def key_overlap(total: object) -> KeyOverlap | None:
    """What the sum of all parties' statistics says of them; None where it is not a factored sum of edits."""
    if not isinstance(total, FactoredStatistics) or not total.num_columns or not total.image_VN.shape[0]:
        return None
    factor_KN, image_VN = tensor_of(total.factor_KN), tensor_of(total.image_VN)
    gram_NN = factor_KN.T @ factor_KN
    values_N, vectors_NN = torch.linalg.eigh(gram_NN)
    null_ND = vectors_NN[:, values_N <= _SAME**2 * values_N[-1]]
    asked = float(image_VN.square().sum())
    unmet = float((image_VN @ null_ND).square().sum())
    return KeyOverlap(total.num_edits, null_ND.shape[1], unmet / asked if asked else 0.0)
