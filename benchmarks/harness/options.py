"""What a benchmark may be told on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.harness.measure import Budget
from benchmarks.harness.record import RESULTS


@dataclass(frozen=True)
class Options:
    """Settings of all benchmarks; one that has no use for a setting leaves it alone.

    Attributes:
        model: name or folder of a model.
        random_shape: a shape from :mod:`benchmarks.harness.fixtures` to fill with random weights instead.
        device: auto, cpu, cuda or cuda:N.
        dtype: type of the model's numbers.
        arithmetic: type of products with the backbone's weights while targets are optimised; ``model`` is the model's
            own.
        layer: the layer at which targets are optimised; the last of those whose keys are taken. None for 9, or the
            last but one where the model has no more.
        contexts: texts put before an edit's prompt, the bare prompt included.
        sizes: sizes to measure, in the benchmark's own unit; None for its own.
        parties: numbers of parties, for merge and robust; None for their own.
        axis: what ``scale`` changes from run to run: parties, edits, rounds, workers or language; None for each in
            turn.
        scale_changes: further overrides of its scenarios.
        seconds: time for a case, half of it for either way.
        repeats: repetitions at most.
        results: folder that records are appended to.
    """

    model: str = "smollm2-135m"
    random_shape: str | None = None
    device: str = "auto"
    dtype: str = "float32"
    arithmetic: Literal["model", "bfloat16"] = "model"
    layer: int | None = None
    contexts: int = 6
    sizes: tuple[int, ...] | None = None
    parties: tuple[int, ...] | None = None
    axis: str | None = None
    scale_changes: tuple[str, ...] = ()
    seconds: float = 60.0
    repeats: int = 3
    results: Path = RESULTS

    @property
    def budget(self) -> Budget:
        """How long a case may take."""
        return Budget(self.seconds, self.repeats)
