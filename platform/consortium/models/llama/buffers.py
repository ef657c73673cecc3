"""Memory that is written over instead of being given back and asked for again.

A step keeps hundreds of megabytes for its derivative. Freed after every step they go back to the system, and the
next step takes them page by page again: a sixth of a step's time on a CPU. (A GPU's allocator keeps them anyway.)
"""

from __future__ import annotations

from collections.abc import Hashable

import torch


class BufferPool:
    """Tensors by name; what one holds is lost when its name is asked for again."""

    def __init__(self) -> None:
        self._flat: dict[Hashable, torch.Tensor] = {}

    def __call__(self, name: Hashable, *shape: int, like: torch.Tensor) -> torch.Tensor:
        """A tensor of a shape, of the type and on the device of ``like``, filled with anything."""
        size = torch.Size(shape).numel()
        flat = self._flat.get(name)
        if flat is None or flat.numel() < size or flat.dtype != like.dtype or flat.device != like.device:
            flat = self._flat[name] = like.new_empty(size)
        return flat[:size].view(shape)

    @property
    def num_bytes(self) -> int:
        """Size of all memory that is held."""
        return sum(flat.nbytes for flat in self._flat.values())
