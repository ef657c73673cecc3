"""The state of an arm between rounds: everything the next round depends on besides the scenario."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from consortium.merging.history import GramHistory
from consortium.merging.retained_sum import Live


@dataclass(frozen=True)
class ArmState:
    """Edited weights, and history or retained sum, of one arm after some round.

    Attributes:
        arm: name of the arm.
        round: last committed round; 0 is the unedited model.
        weights: layer → W [V, K] float32, read-only by convention; the master copy that workers load.
        history: layer → H, the Gram sums of all earlier rounds times the history weight; a layer without an
            entry has H = 0.
        retained: layer → the sum of all edits that still stand, for an arm with reference ``initial``, which has no
            history.
        rejected: (round, party) of every refusal at the arm's screening so far, in ascending order.
    """

    arm: str
    round: int
    weights: Mapping[int, NDArray[np.float32]]
    history: Mapping[int, GramHistory]
    retained: Mapping[int, Live] = field(default_factory=dict)
    rejected: tuple[tuple[int, int], ...] = ()
