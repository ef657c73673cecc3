"""Linear associative memories with drawn keys and values: the abstraction behind locate-then-edit, without language.

Each of the layers is a linear memory W_l. What is asked (a :class:`Query`) has a key k_l at every layer, and the
hidden state after layer l is h_l = Σ_{j≤l} W_j k_j. The answer is the object whose code vector is most like the
last hidden state. Unlike in a transformer, keys do not depend on the layers below: an edit of layer 1 leaves the
keys of layer 2 as they are.

Keys are unit vectors. Those of one relation have a common part, so keys crowd along a few directions, as in a
language model, and neither the key covariance nor an edit's Gram matrix is a multiple of the identity.

Source: linear associative memories as in ROME (arXiv 2202.05262, section 3.1) and MEMIT (arXiv 2210.07229,
section 4.2); here keys and values are drawn instead of measured.

Shapes: L layers, K key width, V value width, O objects, R relations, E queries (edits or probes), T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from consortium.common.arrays import tensor_of
from consortium.common.seeds import numpy_generator
from consortium.data.synthetic import Query
from consortium.scenario.schema import AssociativeModelSpec

COMMON_SHARE = 0.25
"""Share of a key's squared length that all keys of its relation have in common."""

LOGIT_SCALE = 20.0
"""Sharpness of the softmax: at an object's own code vector its probability is near 1 among thousands of objects."""

FloatArray = NDArray[np.float64]


class AssociativeMemory:
    """The drawn parts of the model: code vectors of objects and keys of queries.

    A query's key comes from a generator of its own, so millions of keys need no memory, and no key depends on which
    others are asked for.
    """

    def __init__(self, spec: AssociativeModelSpec, seed: int) -> None:
        self._spec = spec
        self._seed = seed
        self.codes_OV: FloatArray = _unit(
            numpy_generator(seed, "associative-codes").standard_normal((spec.num_objects, spec.value_width))
        )
        shape = (spec.num_relations, spec.num_layers, spec.key_width)
        self._common_RLK = _unit(numpy_generator(seed, "associative-relations").standard_normal(shape))

    def keys(self, queries: Sequence[Query]) -> FloatArray:
        """Keys [L, E, K] of queries at every layer, each of length 1 (a paraphrase's noise comes on top)."""
        own_ELK = np.empty((len(queries), self._spec.num_layers, self._spec.key_width), np.float32)
        for row, query in zip(own_ELK, queries, strict=True):
            self._draw("associative-key", query.subject).standard_normal(out=row, dtype=np.float32)
        keys_ELK = _blend(self._common_RLK[[query.relation for query in queries]], own_ELK)
        for place, query in enumerate(queries):
            if query.paraphrase:
                generator = self._draw("associative-paraphrase", query.subject, query.paraphrase)
                noise_LK = _unit(generator.standard_normal(own_ELK.shape[1:], dtype=np.float32))
                keys_ELK[place] += self._spec.paraphrase_noise * noise_LK
        return keys_ELK.transpose(1, 0, 2)

    def text_keys(self, chunk: int, num_tokens: int) -> FloatArray:
        """Keys [L, T, K] of a chunk of drawn "text": random subjects of random relations."""
        generator = self._draw("associative-text", chunk)
        relations = generator.integers(self._spec.num_relations, size=num_tokens)
        shape = (num_tokens, self._spec.num_layers, self._spec.key_width)
        own_TLK = generator.standard_normal(shape, dtype=np.float32)
        return _blend(self._common_RLK[relations], own_TLK).transpose(1, 0, 2)

    def weights_that_know(self, queries: Sequence[Query], objects: Sequence[int]) -> list[NDArray[np.float32]]:
        """Weights W [V, K] of all layers by which each query is answered with its object."""
        values_VE = tensor_of(self.codes_OV[list(objects)]).T / self._spec.num_layers
        return [store(tensor_of(keys_EK).T, values_VE).float().numpy() for keys_EK in self.keys(queries)]

    def _draw(self, purpose: str, *parts: int) -> np.random.Generator:
        return numpy_generator(self._seed, purpose, *parts)


def store(keys_KE: torch.Tensor, values_VE: torch.Tensor, ridge: float = 1e-3) -> torch.Tensor:
    """The smallest W [V, K] with W·keys ≈ values: values (keysᵀ keys + ridge·I)⁻¹ keysᵀ."""
    gram_EE = keys_KE.T @ keys_KE
    gram_EE.diagonal().add_(ridge)
    factor_EE = torch.linalg.cholesky(gram_EE)
    weights_KV: torch.Tensor = keys_KE @ torch.cholesky_solve(values_VE.T, factor_EE)
    return weights_KV.T.contiguous()


def _unit(vectors: NDArray[np.floating]) -> FloatArray:
    """The vectors along the last axis, stretched to length 1."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), dtype=np.float64)


def _blend(common: FloatArray, own: NDArray[np.float32]) -> FloatArray:
    """Unit keys from the relation's part (length 1) and the subject's own (standard normal)."""
    width = own.shape[-1]
    return _unit(np.sqrt(COMMON_SHARE) * common + np.sqrt((1.0 - COMMON_SHARE) / width) * own)
