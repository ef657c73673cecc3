"""The effect of resolving duplicates and contradictions: a scenario under one setting after the other.

    python -m benchmarks.experiments.conflicts overlap --settings count_all,count_once --seeds 0,1,2
    python -m benchmarks.experiments.conflicts conflict --settings none,latest,priority,majority,majority+3

A setting is ``count_all`` or ``count_once`` (``overlap.duplicates``), or a policy of ``conflicts``, with ``/run`` for
``scope: run`` and ``+N`` for ``num_paraphrases: N``.
Each seed runs serially under each setting; further keys are changed with ``--set``. Prints a Markdown table: for each
setting, arm and round the means over seeds of every metric, and how far the weights moved, all in percent.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

from consortium.common.errors import ConsortiumError
from consortium.engine import serial
from consortium.evaluation.registry import in_order
from consortium.loading.prepare import Prepared, prepare
from consortium.records.directory import RunDirectory
from consortium.records.rows import MetricRow, headline
from consortium.scenario.schema import UNEDITED

#: (setting, arm, round) → metric → one value for each seed.
Measures = dict[tuple[str, str, int], dict[str, list[float]]]


def overrides_of(setting: str) -> list[str]:
    """A setting as ``--set`` arguments."""
    if setting in ("count_all", "count_once"):
        return [f"overlap.duplicates={setting}"]
    reach, _, num_paraphrases = setting.partition("+")
    policy, _, span = reach.partition("/")
    reaches = [f"conflicts.scope={span}"] if span else []
    return [f"conflicts.policy={policy}", f"conflicts.num_paraphrases={num_paraphrases or 0}", *reaches]


def measures(name: str, settings: Sequence[str], seeds: Sequence[str], overrides: Sequence[str]) -> Measures:
    """Run every seed under every setting; all are checked before the first."""
    work = [
        (setting, prepare(name, [*overrides, *overrides_of(setting), f"seed={seed}"]))
        for setting in settings
        for seed in seeds
    ]
    found: Measures = {}
    for setting, prepared in work:
        _tell(f"{setting}, seed {prepared.scenario.seed}")
        for arm, round_number, metric, value in _run(prepared):
            found.setdefault((setting, arm, round_number), {}).setdefault(metric, []).append(value)
    return found


def _run(prepared: Prepared) -> Iterator[tuple[str, int, str, float]]:
    """Arm, round, metric and value of everything that a run measured."""
    with tempfile.TemporaryDirectory() as folder:
        with RunDirectory.create(Path(folder) / "run", prepared.scenario) as directory:
            serial.run_serial(prepared.scenario, directory, prepared.facts, lambda progress: None)
        rows = [MetricRow(**row) for row in directory.table("metrics").to_pylist()]
        for (round_number, arm, metric), row in headline(rows).items():
            if arm != UNEDITED:
                yield arm, round_number, metric, row.value
        for row in directory.table("rounds").to_pylist():
            yield row["arm"], row["round"], "update_norm", 100 * row["update_norm"]


def table(found: Measures) -> str:
    """The means as Markdown; a dash where nothing was measured."""
    there: set[str] = set().union(*found.values())
    names = [*in_order(there - {"update_norm"}), *(there & {"update_norm"})]
    titles = ["setting", "arm", "round", *(each.replace("_", " ") for each in names)]
    lines = ["| " + " | ".join(titles) + " |", "|---|---|--:|" + "--:|" * len(names)]
    for (setting, arm, round_number), values in found.items():
        cells = [f"{fmean(values[name]):.2f}" if name in values else "–" for name in names]
        lines.append("| " + " | ".join([setting, arm, str(round_number), *cells]) + " |")
    return "\n".join(lines) + "\n"


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.experiments.conflicts", description="What it does to resolve doubles and contradictions."
    )
    add = parser.add_argument
    add("scenario", metavar="NAME-OR-FILE", help="a scenario")
    add("--settings", type=_words, required=True, metavar="S,S…", help="each, once, or policies, with /run and +N")
    add("--seeds", type=_words, default=("0",), metavar="N,N…", help="draws (default: 0)")
    add("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE", help="change the scenario")
    return parser


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    args = build_parser().parse_args(argv)
    try:
        sys.stdout.write(table(measures(args.scenario, args.settings, args.seeds, args.overrides)))
    except ConsortiumError as error:
        _tell(str(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
