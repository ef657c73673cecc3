"""What ``scale`` changes from run to run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """What is changed from run to run.

    Attributes:
        scenario: the shipped scenario.
        sizes: the numbers that it gets.
        changes: overrides of its keys, with the number in the place of ``{}``.
        title: heading of its results.
        counted: what the number is of.
    """

    scenario: str
    sizes: tuple[int, ...]
    changes: tuple[str, ...]
    title: str
    counted: str


AXES = {
    "parties": Axis(
        "stress/ten-thousand-parties", (100, 1000, 10000), ("parties.count={}",), "More parties", "parties"
    ),
    "edits": Axis(
        "stress/many-edits", (50, 500, 5000), ("parties.edits_per_round={}",), "More edits", "edits of a party"
    ),
    "rounds": Axis("stress/many-rounds", (10, 30, 100), ("stream.rounds={}",), "More rounds", "rounds"),
    "workers": Axis(
        "stress/many-workers",
        (1, 2, 4, 8),
        ("cluster.workers={{min: {0}, max: {0}, cpus: 0.125}}",),
        "More workers",
        "workers",
    ),
    "language": Axis(
        "stress/two-hundred-parties",
        (20, 200),
        # Targets that an earlier run left on the disk would be read, not made.
        ("parties.count={}", "cluster.target_cache=false"),
        "More parties of a language model",
        "parties",
    ),
}
