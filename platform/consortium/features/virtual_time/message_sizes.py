"""How many bytes a party receives and sends in a round, from shapes and numbers alone.

Shapes: K key width, V value width, S parties.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_FLOAT32_BYTES, _FLOAT64_BYTES = 4, 8


@dataclass(frozen=True)
class MessageSizes:
    """The sizes of a round's messages.

    Attributes:
        key_width: K.
        value_width: V.
        num_layers: edited layers; a party sends statistics of each.
        num_exchanges: how often a party receives weights and answers in a round.
        form: ``dense`` sends K·(K + V) numbers a layer, ``factored`` N·(K + V), N the number of edits or K, whichever
            is less (as :func:`consortium.merging.statistics.statistics_of` does), and ``update`` V·K, as for tuned
            weights.
    """

    key_width: int
    value_width: int
    num_layers: int
    num_exchanges: int
    form: str

    @property
    def download_bytes(self) -> int:
        """What a party receives: the edited layers' weights, in float32."""
        return _FLOAT32_BYTES * self.num_layers * self.key_width * self.value_width

    @property
    def num_messages(self) -> int:
        """Messages that come and go."""
        return 2 * self.num_exchanges

    def upload_bytes(self, num_edits_S: NDArray[np.int64]) -> NDArray[np.int64]:
        """What parties send for so many edits."""
        if self.form == "update":
            numbers_S = np.full_like(num_edits_S, self.key_width * self.value_width)
        else:
            columns_S = np.minimum(num_edits_S, self.key_width)
            if self.form == "dense":
                columns_S = np.full_like(num_edits_S, self.key_width)
            numbers_S = columns_S * (self.key_width + self.value_width)
        return _FLOAT64_BYTES * self.num_layers * numbers_S
