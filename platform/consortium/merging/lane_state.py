"""The state of a lane between rounds: everything the next round depends on besides the scenario."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from consortium.merging.history import GramHistory
from consortium.merging.retained_sum import Live


@dataclass(frozen=True)
class LaneState:
    """Edited weights, and history or live sums, of one lane after some round.

    Attributes:
        lane: name of the lane.
        round: last committed round; 0 is the unedited model.
        weights: layer → W [V, K] float32, read-only by convention; the master copy that hosts load.
        history: layer → H, the Gram sums of all earlier rounds times the history weight; a layer without an
            entry has H = 0.
        live: layer → the sum of all edits that still stand, for a lane with anchor ``base``, which has no history.
        refused: (round, party) of every refusal at the lane's door so far, in ascending order.
    """

    lane: str
    round: int
    weights: Mapping[int, NDArray[np.float32]]
    history: Mapping[int, GramHistory]
    live: Mapping[int, Live] = field(default_factory=dict)
    refused: tuple[tuple[int, int], ...] = ()
