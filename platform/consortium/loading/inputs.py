"""What a run's results depend on and its directory does not hold, by digests: held against what the run began with.

Inputs are what the scenario names (facts, texts, a trace), what the model is made of, and the key covariance. A run is
not continued with others unless its user says so. Surroundings are the code, the libraries and the processor: that they
are others is told and recorded, since whatever it changes of the inputs is seen there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consortium.common.errors import FactsError
from consortium.common.files import sha256
from consortium.data.edit import FactSet
from consortium.data.table import FactTable
from consortium.evaluation.side_effects import open_side_effects
from consortium.records.code_version import source_digest, versions
from consortium.records.manifest import machine
from consortium.scenario.schema import Scenario

#: Entry of the fingerprint of a key covariance → name of the input.
_OF_MODEL = {
    "backbone": "model weights",
    "config": "model configuration",
    "tokenizer": "model tokenizer",
    "text": "text of the key covariance",
}
#: Entry of the fingerprint → name of the surroundings.
_OF_ARITHMETIC = {
    "dtype": "number type",
    "sampling": "number type in which text is sampled",
    "device": "device",
    "gpu": "GPU",
    "capability": "instruction set",
}


def scenario_inputs(scenario: Scenario, facts: FactSet) -> dict[str, str]:
    """Name → SHA-256 of what a scenario names outside of itself; drawn facts follow from the scenario.

    Raises:
        ConsortiumError: a text, a file of questions or a trace cannot be read.
    """
    found = {}
    if isinstance(facts, FactTable):
        found["facts"] = digest_of_all([{"limit": facts.limit}, *facts.all_edits])
    side_effects = open_side_effects(scenario.evaluate, scenario.seed)
    if side_effects.text is not None:
        found["text of the perplexity"] = hashlib.sha256(side_effects.text.encode()).hexdigest()
    if side_effects.questions:
        found["questions of the general probe"] = digest_of_all(side_effects.questions)
    if scenario.virtual_time.devices.trace is not None:
        found["trace of devices"] = _digest_of_trace(Path(scenario.virtual_time.devices.trace))
    return found


def _digest_of_trace(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        found = f"the trace {path} cannot be read: {error.strerror}"
        raise FactsError(found, "the file that the run began with", "put it back, or correct its permissions") from None


def model_inputs(
    fingerprint: Mapping[str, object] | None, sums: Mapping[int, NDArray[np.float64]], num_tokens: int
) -> dict[str, str]:
    """Name → SHA-256 of what a model is made of, and of its key covariance where there is one.

    Args:
        fingerprint: what the key covariance depends on; None for the associative model, which the scenario says.
        sums: layer → Σ k·kᵀ [K, K]; empty where the editor uses none.
        num_tokens: tokens that were summed over.
    """
    known = {} if fingerprint is None else fingerprint
    named = {name: str(known[key]) for key, name in _OF_MODEL.items() if key in known}
    found = {name: digest for name, digest in named.items() if digest}
    return found | {f"key covariance of layer {layer}": _of_sum(sums[layer], num_tokens) for layer in sorted(sums)}


def _of_sum(gram_KK: NDArray[np.float64], num_tokens: int) -> str:
    digest = hashlib.sha256(f"{gram_KK.dtype} {gram_KK.shape} {num_tokens}".encode())
    digest.update(np.ascontiguousarray(gram_KK).data)
    return digest.hexdigest()


def arithmetic(fingerprint: Mapping[str, object] | None) -> dict[str, str]:
    """Number types and devices, of the surroundings."""
    named = {} if fingerprint is None else {name: str(fingerprint[key]) for key, name in _OF_ARITHMETIC.items()}
    return {name: value for name, value in named.items() if value}


def surroundings() -> dict[str, str]:
    """The code, the libraries and the processor of this process."""
    return {**versions(), "source files": source_digest()[:12], "processor": machine().cpu}


def digest_of_all(values: Iterable[Any]) -> str:
    """SHA-256 of values in their order."""
    digest = hashlib.sha256()
    for value in values:
        digest.update(json.dumps(_plain(value), sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """A value as JSON has it; fields at their defaults are left out, so that a new one changes no digest."""
    if is_dataclass(value):
        pairs = ((each.name, getattr(value, each.name), each.default) for each in fields(value))
        return {name: _plain(own) for name, own, default in pairs if default is MISSING or own != default}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return value
