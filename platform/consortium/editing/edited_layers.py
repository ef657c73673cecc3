"""The edited layers of a model, and which state of them is loaded.

Shapes: K key width, V value width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from consortium.editing.backend import Backend
from consortium.merging.history import GramHistory

BASE = "base"
"""Version of the unedited weights."""


LayerArray = TypeVar("LayerArray")


@dataclass(frozen=True)
class Arrays(Generic[LayerArray]):
    """What an arm has for its layers, by name; read only where nothing of that name is there already.

    Attributes:
        versions: layer → a name that no other contents ever have in this run.
        read: gives that of a layer.
    """

    versions: Mapping[int, str]
    read: Callable[[int], LayerArray]

    @property
    def key(self) -> tuple[tuple[int, str], ...]:
        """The versions as something to look up by."""
        return tuple(sorted(self.versions.items()))


#: Edited weights [V, K] float32.
Weights = Arrays[NDArray[np.float32]]
#: Histories H; a layer without an entry in ``versions`` has H = 0.
History = Arrays[GramHistory]


class EditedLayers:
    """A model whose edited layers are in one known state.

    Args:
        backend: the model, unedited.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._loaded = dict.fromkeys(self.shapes, BASE)

    @cached_property
    def shapes(self) -> dict[int, tuple[int, int]]:
        """Edited layer → (V, K)."""
        base = self.backend.base_weights()
        return {layer: (weight_VK.shape[0], weight_VK.shape[1]) for layer, weight_VK in base.items()}

    def load(self, weights: Weights) -> None:
        """Put weights into the model, as far as they are not there."""
        for layer, version in weights.versions.items():
            if self._loaded[layer] != version:
                self.backend.load_weights({layer: weights.read(layer)})
                self._loaded[layer] = version

    def load_base(self) -> None:
        """Put the unedited weights back."""
        if any(version != BASE for version in self._loaded.values()):
            self.backend.load_weights(self.backend.base_weights())
            self.is_base()

    def is_base(self) -> None:
        """Note that the backend put the unedited weights back by itself."""
        self._loaded = dict.fromkeys(self._loaded, BASE)
