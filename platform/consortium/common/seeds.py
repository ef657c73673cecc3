"""Random generators derived from (run seed, purpose, …), so that no draw depends on the order of others.

Every random draw of a run comes from a generator made here. Python's, NumPy's and torch's global
generators are never used.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive(seed: int, purpose: str, *parts: int | str) -> int:
    """A 63-bit seed for ``purpose`` and ``parts`` (for example round and party) under the run's seed.

    Names and numbers are hashed together, so neighbouring rounds or parties get unrelated streams.
    """
    text = "\x1f".join([str(seed), purpose, *(f"{type(part).__name__}:{part}" for part in parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_generator(seed: int, purpose: str, *parts: int | str) -> np.random.Generator:
    """A NumPy generator (PCG64) for one purpose."""
    return np.random.Generator(np.random.PCG64(derive(seed, purpose, *parts)))


def torch_generator(seed: int, purpose: str, *parts: int | str) -> torch.Generator:
    """A torch generator on the CPU for one purpose; draw on the CPU and move, so that devices agree."""
    import torch  # slow, and NumPy's generators do without it

    return torch.Generator().manual_seed(derive(seed, purpose, *parts))
