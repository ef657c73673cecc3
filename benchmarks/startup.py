"""Start-up: from ``consortium run`` in a new process to the first unit of work, by stage; serial and on Ray.

Nothing naive compares. Stages follow one another and add up to the whole: ``process`` until Python runs the first
line, ``imports``, ``ray`` until a cluster of this machine is up, ``scenario`` read and checked, ``model`` until it is
open (on Ray: until the first worker says so), ``key covariance and contexts`` until targets begin. The coordinator
tells of its state every half second at most, so the last stage on Ray is that coarse. Caches on disk are as they
were; the first start fills them and is one of the repetitions, whose medians are shown.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from consortium.common.errors import RunError
from consortium.records.directory import RunDirectory

from benchmarks.harness.fixtures import Fixtures
from benchmarks.harness.record import Record, Span, origin

_ROOT = Path(__file__).resolve().parents[1]
_LONGEST_S = 600.0
_KINDS = {"serial": ["--serial"], "on Ray": []}
#: Said by the run's own events once the model is open.
_READY = ("worker-started", "open-model")


def records(bench: Fixtures) -> Iterator[Record]:
    """A record for each way to run."""
    for label, arguments in _KINDS.items():
        starts = []
        for repeat in range(bench.options.repeats):
            bench.tell(f"startup, {label}: start {repeat + 1} of {bench.options.repeats}")
            starts.append(_start([*_scenario(bench), *arguments]))
        stages = {stage: Span.of([start[stage] for start in starts]).median for stage in starts[0]}
        yield Record(
            "startup",
            label,
            "start",
            1,
            repeats=len(starts),
            stages={**stages, "in all": Span.of([sum(start.values()) for start in starts]).median},
            parameters={"model": bench.model_name, "dtype": bench.options.dtype, "scenario": "quickstart, two workers"},
            **origin(bench.device),
        )


def _scenario(bench: Fixtures) -> list[str]:
    options = bench.options
    changes = [f"model.name={options.model}", f"model.dtype={options.dtype}", f"model.device={options.device}"]
    if options.layer is not None:
        changes.append(f"editor.layers=[{max(0, options.layer - 1)}, {options.layer}]")
    return ["quickstart", *(part for change in changes for part in ("--set", change))]


def _start(arguments: Sequence[str]) -> dict[str, float]:
    """Seconds of each stage of one start."""
    with tempfile.TemporaryDirectory(prefix="consortium-startup-") as scratch:
        folder = Path(scratch) / "run"
        command = [sys.executable, "-m", "benchmarks.start_probe", *arguments, "--out", str(folder)]
        begun = time.time()
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=_LONGEST_S, check=False)
        try:
            marks = json.loads(done.stdout)
            ready = _ready_s(folder)
            return _stages(begun, marks, ready)
        except (ValueError, KeyError) as error:
            raise RunError(
                f"`consortium run {' '.join(arguments)}` did not begin to work: {done.stderr.strip()[-500:]}",
                "a run that starts",
                "run that command by itself",
            ) from error


def _ready_s(folder: Path) -> float:
    """Seconds from the run's beginning until the model was open, as its events say."""
    events = RunDirectory.open(folder).table("events")
    columns = zip(events.column("kind").to_pylist(), events.column("time_s").to_pylist(), strict=True)
    return float(min(time_s for kind, time_s in columns if kind in _READY))


def _stages(begun: float, marks: dict[str, float], ready_s: float) -> dict[str, float]:
    """Differences of marks: each stage runs from the end of the one before."""
    ends = {name: at for name, at in marks.items() if name != "work"}
    # The run's own clock begins a few milliseconds before the mark, when its folder is made.
    ends |= {"model": min(marks["scenario"] + ready_s, marks["work"]), "key covariance and contexts": marks["work"]}
    starts = [begun, *list(ends.values())[:-1]]
    return {name: end - start for (name, end), start in zip(ends.items(), starts, strict=True)}
