"""Scale: whole runs on Ray in processes of their own, at several numbers of parties, edits, rounds and workers.

Each run is a shipped stress scenario with one number changed. Measured are wall and processor time, the greatest
resident sets of the coordinator and of each worker, and that of all processes together (:mod:`benchmarks.scale.watch`);
how they grow is fitted over the newest record of each size (:mod:`benchmarks.scale.growth`). Nothing naive compares.
On all axes but one the model is the associative one: what is measured is the runtime and what it keeps of parties.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from consortium.common.errors import InputError
from consortium.records.directory import RunDirectory
from consortium.records.rows import EventRow
from consortium.report.overhead import run_time

from benchmarks.harness.fixtures import Fixtures
from benchmarks.harness.record import Record, Span, origin
from benchmarks.scale.axes import AXES, Axis
from benchmarks.scale.watch import Watched, watch

_ROOT = Path(__file__).resolve().parents[2]
_LONGEST_S = 7200.0


def records(bench: Fixtures) -> Iterator[Record]:
    """A record for each size of each axis that is asked for.

    Raises:
        InputError: sizes without an axis, for they would be those of every axis.
    """
    options = bench.options
    if options.sizes is not None and options.axis is None:
        raise InputError("--sizes without --axis", f"--axis {', '.join(AXES)}", "say of what these are the numbers")
    for name in AXES if options.axis is None else (options.axis,):
        for size in options.sizes or AXES[name].sizes:
            bench.tell(f"scale: {size} {name}")
            yield measured(name, size, options.scale_changes)


def measured(name: str, size: int, more: Sequence[str] = ()) -> Record:
    """The record of one run; ``more`` are further overrides, which tests make it small with."""
    axis = AXES[name]
    changes = [change.format(size) for change in axis.changes] + list(more)
    with tempfile.TemporaryDirectory(prefix="consortium-scale-") as scratch:
        folder = Path(scratch) / "run"
        overrides = [part for change in changes for part in ("--set", change)]
        command = [sys.executable, "-m", "consortium.cli", "run", axis.scenario, "--out", str(folder), *overrides]
        seen = watch(command, _ROOT, os.environ, _LONGEST_S)
        return _record(name, size, axis, seen, RunDirectory.open(folder), changes)


def _record(name: str, size: int, axis: Axis, seen: Watched, directory: RunDirectory, changes: Sequence[str]) -> Record:
    events = [EventRow(**row) for row in directory.table("events").to_pylist()]
    spent = run_time(events, directory.worked_s)
    assert spent is not None, "a run that ended well has worked"
    scenario, num_workers = directory.scenario, len(seen.of("worker"))
    work = {"parties": scenario.parties.count, "edits": directory.table("edits", ["party"]).num_rows}
    return Record(
        "scale",
        f"{size} {name}",
        "edit",
        work["edits"],
        repeats=1,
        seconds_ours=Span.of([spent.wall_s / work["edits"]]),
        bytes_moved=sum(directory.table("rounds", ["bytes_sent"])["bytes_sent"].to_pylist()),
        bytes_meaning="statistics that the parties send",
        peak_ours_bytes=seen.together_bytes,
        peak_from="sum of Pss of all processes, every 2 s",
        stages={
            "whole command": seen.wall_s,
            "start-up": spent.startup_s,
            "work": spent.wall_s,
            "processor": seen.processor_s,
        },
        memory=_memory(seen),
        parameters={
            "model": scenario.model.name,
            "dtype": scenario.model.dtype,
            "scenario": axis.scenario,
            "axis": name,
            "size": size,
            "workers": num_workers,
            "rounds": scenario.stream.rounds,
            "changes": list(changes),
            **work,
        },
        **origin(torch.device("cpu")),
    )


def _memory(seen: Watched) -> Mapping[str, int]:
    """Greatest resident sets in bytes: the coordinator's, and that of the largest worker."""
    roles = {role: seen.of(role) for role in ("coordinator", "worker")}
    return {"together": seen.together_bytes, **{role: peaks[0] for role, peaks in roles.items() if peaks}}
