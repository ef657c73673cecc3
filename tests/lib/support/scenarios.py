"""Scenarios that run in a second, for tests of whole runs.

scenario = associative_scenario(stream={"rounds": 3, "overlap": 0.25})
scenario = pico_scenario(pico_folder(tmp_path / "pico", "gpt2", num_layers=4), editor={"residual_schedule":
"first_last"}) states = run_serially(scenario, tmp_path / "run").arm_states()
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from consortium.engine import serial
from consortium.loading.prepare import open_facts
from consortium.merging.arm_state import ArmState
from consortium.merging.retained_sum import retained_arrays
from consortium.records.directory import RunDirectory
from consortium.scenario.schema import Scenario

ALL_METHODS = ["global", "collabedit", "task_arithmetic", "simple_average", "ties"]

_ASSOCIATIVE: dict[str, Any] = {
    "name": "tiny",
    "seed": 3,
    "model": {"name": "associative", "num_layers": 3, "key_width": 24, "value_width": 10, "num_objects": 9},
    "parties": {"count": 7, "edits_per_round": 4},
    "stream": {"rounds": 2, "overlap": 0.25, "conflict": 0.25, "repeat": 0.25},
    "editor": {"layers": [0, 2], "residual_schedule": "spread", "covariance_weight": 10},
    "merge": {"methods": ALL_METHODS},
    "evaluate": {"sample": 12, "metrics": ["efficacy", "paraphrase", "neighborhood", "retention", "conflict_score"]},
    "cluster": {"parties_per_batch": 2},
}

_PICO: dict[str, Any] = {
    "name": "pico",
    "seed": 5,
    "facts": {"source": "builtin", "limit": 60},
    "parties": {"count": 3, "edits_per_round": 2},
    "stream": {"rounds": 1},
    "editor": {
        "layers": [0, 2],
        "residual_schedule": "spread",
        "covariance_weight": 0.01,
        "target": {"steps": 3},
        "contexts": {"count": 2, "tokens": 4},
        "covariance": {"tokens": 200},
    },
    "merge": {"methods": ["global", "collabedit"]},
    "evaluate": {"sample": 4},
    # A run that reads another's targets from disk would say nothing about how they are made.
    "cluster": {"parties_per_batch": 2, "target_cache": False},
}


_NO_REPEATS = {"overlap": 0, "conflict": 0, "repeat": 0}


def associative_scenario(**changes: Any) -> Scenario:
    """Seven parties on the associative model, in four party batches; ``changes`` are laid over part by part."""
    return _scenario(_ASSOCIATIVE, changes)


def few_edits_scenario(**changes: Any) -> Scenario:
    """Five rounds in which seven parties edit one fact each: few against a key width of 96."""
    few = {"model": {"key_width": 96}, "parties": {"edits_per_round": 1}, "stream": {"rounds": 5, **_NO_REPEATS}}
    return associative_scenario(**_laid_over(few, changes))


def unlearning_scenario(**changes: Any) -> Scenario:
    """Four rounds with reference ``initial``: party 2 leaves in round 3, parties 0 and 4 take some back in rounds 3 and
    4."""
    unlearning = {
        "stream": {"rounds": 4},
        "unlearn": {
            "parties": [{"round": 3, "parties": [2]}],
            "edits": [
                {"round": 3, "parties": [0, 4], "of_round": 1, "share": 0.5},
                {"round": 4, "parties": [4], "share": 0.3},
            ],
        },
        "merge": {"methods": ["global", "collabedit"], "reference": "initial", "exchange": "round"},
        "evaluate": {"metrics": ["efficacy", "retention", "removed_efficacy"]},
    }
    return associative_scenario(**_laid_over(unlearning, changes))


def pico_scenario(folder: Path, **changes: Any) -> Scenario:
    """Three parties on a pico language model of four layers, in two party batches.

    Layers 0 to 2 are edited: what is changed after a model's last layer is read by no later token.
    """
    return _scenario({**_PICO, "model": {"name": str(folder), "device": "cpu"}}, changes)


def _scenario(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Scenario:
    return Scenario.model_validate_json(json.dumps(_laid_over(base, changes)))


def _laid_over(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        both = isinstance(value, dict) and isinstance(old, dict)
        merged[key] = _laid_over(old, value) if both else value  # type: ignore[arg-type]
    return merged


def run_serially(scenario: Scenario, path: Path) -> RunDirectory:
    """Run a scenario as ``consortium run --serial`` does, so that it is resumed so; returns its directory, closed."""
    with RunDirectory.create(path, scenario, extras={"serial": True}) as directory:
        serial.run_serial(scenario, directory, open_facts(scenario), lambda progress: None)
    return RunDirectory.open(path)


def difference(left: Mapping[str, ArmState], right: Mapping[str, ArmState]) -> list[str]:
    """Where two runs' final states are not the same bit for bit; empty when they are."""
    assert list(left) == list(right)
    found = []
    for arm in left:
        ours, theirs = _arrays_of(left[arm]), _arrays_of(right[arm])
        names = sorted({*ours, *theirs})
        found += [f"{arm}: {name}" for name in names if not _same_bits(ours.get(name), theirs.get(name))]
    return found


def _arrays_of(state: ArmState) -> dict[str, np.ndarray[Any, Any]]:
    arrays: dict[str, np.ndarray[Any, Any]] = {f"weights of layer {n}": each for n, each in state.weights.items()}
    for layer, history in state.history.items():
        for round_number, columns_KN in history.columns.items():
            arrays[f"history of layer {layer}, columns of round {round_number}"] = columns_KN
        if history.base_KK is not None:
            arrays[f"history of layer {layer}, base until round {history.base_round}"] = history.base_KK
    for layer, live in state.retained.items():
        arrays |= {f"retained sum of layer {layer}, {name}": array for name, array in retained_arrays(live)[1].items()}
    return arrays


def _same_bits(left: np.ndarray[Any, Any] | None, right: np.ndarray[Any, Any] | None) -> bool:
    if left is None or right is None:
        return left is right
    return (left.dtype, left.shape, left.tobytes()) == (right.dtype, right.shape, right.tobytes())
