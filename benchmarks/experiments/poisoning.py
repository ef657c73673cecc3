"""What poisoning costs honest parties under each merge method, and what robust methods cost without any.

    python -m benchmarks.experiments.poisoning --settings none,sign_flip,scale,targeted,targeted+scale --seeds 0,1,2,3,4

A setting is ``none``, or kinds of attacks joined by ``+``; the same parties (``--share``) do all of them. Each seed
runs serially under each setting; further keys are changed with ``--set``. Prints a Markdown table: for each setting and
arm, after the last round, the means over seeds of every metric of the honest parties' edits and of efficacy's strict
count, how far the weights moved (percent), the coordinator's seconds for merges and the bytes that all parties sent,
over all rounds.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from consortium.common.errors import ConsortiumError
from consortium.engine import serial
from consortium.evaluation.registry import in_order
from consortium.loading.prepare import Prepared, prepare
from consortium.records.directory import RunDirectory
from consortium.records.rows import MetricRow, headline
from consortium.scenario.schema import UNEDITED

#: (setting, arm) → measure → one value for each seed.
Measures = dict[tuple[str, str], dict[str, list[float]]]

#: Share of the honest parties' edits whose new answer the model says; efficacy compares it with the old answer alone.
_STRICT = "strict_efficacy"
_COSTS = ("update_norm", "merge_s", "bytes_sent")


def overrides_of(setting: str, share: float) -> list[str]:
    """A setting as ``--set`` arguments."""
    kinds = [] if setting == "none" else setting.split("+")
    entries = ", ".join(f"{{kind: {kind}, share: {share}}}" for kind in kinds)
    return [f"attacks=[{entries}]"]


def measures(
    name: str, settings: Sequence[str], seeds: Sequence[str], share: float, overrides: Sequence[str]
) -> Measures:
    """Run every seed under every setting; all are checked before the first."""
    work = [
        (setting, prepare(name, [*overrides, *overrides_of(setting, share), f"seed={seed}"]))
        for setting in settings
        for seed in seeds
    ]
    found: Measures = {}
    for setting, prepared in work:
        _tell(f"{setting}, seed {prepared.scenario.seed}")
        for arm, values in _run(prepared).items():
            for measure, value in values.items():
                found.setdefault((setting, arm), {}).setdefault(measure, []).append(value)
    return found


def _run(prepared: Prepared) -> dict[str, dict[str, float]]:
    """Arm → metrics after the last round, and costs."""
    with tempfile.TemporaryDirectory() as folder:
        with RunDirectory.create(Path(folder) / "run", prepared.scenario) as directory:
            serial.run_serial(prepared.scenario, directory, prepared.facts, lambda progress: None)
        metrics = headline([MetricRow(**row) for row in directory.table("metrics").to_pylist()])
        rounds = directory.table("rounds").to_pylist()
    last = prepared.scenario.stream.rounds
    found: dict[str, dict[str, float]] = {}
    for (round_number, arm, metric), row in metrics.items():
        if round_number == last and arm != UNEDITED:
            found.setdefault(arm, {})[metric] = row.value
            if metric == "efficacy" and row.strict is not None:
                found[arm][_STRICT] = row.strict
    for arm, values in found.items():
        own = [row for row in rounds if row["arm"] == arm]
        values["update_norm"] = 100 * own[-1]["update_norm"]
        values["merge_s"] = sum(row["merge_s"] for row in own)
        values["bytes_sent"] = sum(row["bytes_sent"] for row in own)
    return found


def table(found: Measures) -> str:
    """The means as Markdown; a dash where nothing was measured."""
    there: set[str] = set().union(*found.values())
    others = (_STRICT, *_COSTS)
    names = [*in_order(there.difference(others)), *(each for each in others if each in there)]
    titles = ["setting", "arm", *(each.replace("_", " ") for each in names)]
    lines = ["| " + " | ".join(titles) + " |", "|---|---|" + "--:|" * len(names)]
    for (setting, arm), values in found.items():
        cells = [_cell(name, values) for name in names]
        lines.append("| " + " | ".join([setting, arm, *cells]) + " |")
    return "\n".join(lines) + "\n"


def _cell(name: str, values: dict[str, list[float]]) -> str:
    if name not in values:
        return "–"
    mean = fmean(values[name])
    return f"{mean:,.0f}" if name == "bytes_sent" else f"{mean:.3f}" if name == "merge_s" else f"{mean:.1f}"


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.experiments.poisoning", description="What poisoning costs, and what robust merges cost."
    )
    add = parser.add_argument
    add("scenario", metavar="NAME-OR-FILE", nargs="?", default="poisoning", help="a scenario (default: poisoning)")
    add("--settings", type=_words, required=True, metavar="S,S…", help="none, or kinds of attacks joined by +")
    add("--seeds", type=_words, default=("0",), metavar="N,N…", help="draws (default: 0)")
    add("--share", type=float, default=0.2, metavar="X", help="share of parties that attack (default: 0.2)")
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
        found = measures(args.scenario, args.settings, args.seeds, args.share, args.overrides)
    except ConsortiumError as error:
        _tell(str(error))
        return error.exit_code
    sys.stdout.write(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
