"""How an edit's metrics depend on the key covariance's text: on the number of its tokens, and on where it comes from.

    python -m benchmarks.experiments.key_covariance --seeds 0,1,2,3,4 --text corpus.txt --out covariance.jsonl

For each seed a draw of facts, four parties and one round under ``collabedit``, serially; for each setting of
``editor.covariance`` the same draws again. Prints a Markdown table of means over seeds. Each run adds a line of JSON to
``--out`` as soon as it is done. Priors and targets are kept in the cache (``CONSORTIUM_CACHE``), as in any run.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, TextIO

import torch
from consortium.common.errors import ConsortiumError, InputError
from consortium.editing.open import open_backend
from consortium.engine import serial
from consortium.engine.key_covariance import KeyCovariance, add_chunk, keep_covariance
from consortium.evaluation.metrics import score
from consortium.loading.prepare import Prepared, prepare
from consortium.models.description import describe
from consortium.records.directory import RunDirectory
from consortium.scenario.schema import UNEDITED

from benchmarks.harness.record import origin

METHOD = "collabedit"
ASKED = score.METRIC.parts
METRICS = (*ASKED, "score")
_HEADINGS = ("text", "tokens", "tokens / K", *(metric.replace("_", " ") for metric in METRICS), "key covariance, s")


@dataclass(frozen=True)
class Setting:
    """One key covariance.

    Attributes:
        source: ``model``, or a text file.
        tokens: number of tokens.
    """

    source: str
    tokens: int

    @property
    def overrides(self) -> list[str]:
        """The setting as ``--set`` arguments; a string is written as YAML writes it."""
        return [f"editor.covariance.source={json.dumps(self.source)}", f"editor.covariance.tokens={self.tokens}"]

    @property
    def label(self) -> str:
        """The source without its folder."""
        return Path(self.source).name


@dataclass(frozen=True)
class Outcome:
    """What one run with one key covariance measured.

    Attributes:
        text: where the key covariance's text came from.
        tokens: number of its tokens.
        seed: the run's seed.
        edits: number of edits.
        edited: metric → percent after the round.
        unedited: metric → percent before it.
        covariance_s: seconds for the key covariance's sums; the same for every seed.
        run_s: seconds for the run, with the key covariance from the cache.
        origin: machine, versions, commit and time.
    """

    text: str
    tokens: int
    seed: int
    edits: int
    edited: dict[str, float]
    unedited: dict[str, float]
    covariance_s: float
    run_s: float
    origin: dict[str, Any] = field(default_factory=dict)


def outcomes(settings: Sequence[Setting], seeds: Sequence[int], overrides: Sequence[str]) -> Iterator[Outcome]:
    """Run every seed under every setting; all are checked before the first."""
    work = [
        (setting, [prepare("single-party", [*overrides, *setting.overrides, f"seed={seed}"]) for seed in seeds])
        for setting in settings
    ]
    for setting, prepared in work:
        _tell(f"{setting.label}, {setting.tokens} tokens: key covariance")
        covariance_s = _measure_covariance(prepared[0])
        for each in prepared:
            outcome = _run(each, setting, covariance_s)
            _tell(f"{setting.label}, {setting.tokens} tokens, seed {outcome.seed}: {_in_words(outcome.edited)}")
            yield outcome


def _measure_covariance(prepared: Prepared) -> float:
    """Seconds for the sums of all chunks, one after the other; they are put into the cache for the runs."""
    scenario = prepared.scenario
    torch.set_num_threads(scenario.cluster.threads)
    backend = open_backend(scenario, prepared.facts)
    covariance: KeyCovariance | None = None
    start_s = time.perf_counter()
    for chunk in range(backend.covariance_chunks()):
        covariance = add_chunk(covariance, backend.covariance_sum(chunk))
    seconds = time.perf_counter() - start_s
    assert covariance is not None, "a key covariance has at least one chunk"
    keep_covariance(backend.covariance_fingerprint(), covariance)
    return seconds


def _run(prepared: Prepared, setting: Setting, covariance_s: float) -> Outcome:
    scenario = prepared.scenario
    with tempfile.TemporaryDirectory(prefix="consortium-covariance-") as folder:
        start_s = time.perf_counter()
        with RunDirectory.create(Path(folder) / "run", scenario) as directory:
            serial.run_serial(scenario, directory, prepared.facts, lambda _: None)
            run_s = time.perf_counter() - start_s
            rows: list[dict[str, Any]] = directory.table("metrics").to_pylist()
    return Outcome(
        text=setting.label,
        tokens=setting.tokens,
        seed=scenario.seed,
        edits=max(row["num_edits"] for row in rows),
        edited=_percents(rows, METHOD),
        unedited=_percents(rows, UNEDITED),
        covariance_s=covariance_s,
        run_s=run_s,
        origin=origin(torch.device("cpu")),
    )


def _percents(rows: Sequence[dict[str, Any]], arm: str) -> dict[str, float]:
    return {row["metric"]: row["success"] for row in rows if row["arm"] == arm and row["metric"] in METRICS}


def table(found: Sequence[Outcome], key_width: int) -> str:
    """A Markdown table: a row for the unedited model and one for each setting, means over seeds ± standard error."""
    first = (found[0].text, found[0].tokens)
    draws = [each for each in found if (each.text, each.tokens) == first]
    rows = [["none: unedited", "", "", *_means(each.unedited for each in draws), ""]]
    for text, tokens in dict.fromkeys((each.text, each.tokens) for each in found):
        same = [each for each in found if (each.text, each.tokens) == (text, tokens)]
        measured = [*_means(each.edited for each in same), f"{same[0].covariance_s:.1f}"]
        rows.append([text, f"{tokens:,}", f"{tokens / key_width:g}", *measured])
    lines = [_HEADINGS, ["---"] + ["---:"] * (len(_HEADINGS) - 1), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _means(values: Iterable[dict[str, float]]) -> list[str]:
    runs = list(values)
    return [_mean([run[metric] for run in runs if metric in run]) for metric in METRICS]


def _mean(values: Sequence[float]) -> str:
    if not values:
        return "–"
    error = f" ± {stdev(values) / len(values) ** 0.5:.1f}" if len(values) > 1 else ""
    return f"{fmean(values):.1f}{error}"


def _in_words(percents: dict[str, float]) -> str:
    return ", ".join(f"{metric} {percent:.0f}" for metric, percent in percents.items())


def _tell(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def build_parser() -> argparse.ArgumentParser:
    """The parser of all options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.experiments.key_covariance", description=__doc__.split("\n")[0]
    )
    add = parser.add_argument
    add("--tokens", type=_numbers, default=(2, 5, 10, 20, 40), metavar="N,N…", help="in units of the key width K")
    add("--text", action="append", default=[], type=Path, metavar="FILE", help="a text file, beside the model's own")
    add("--only-text", action="store_true", help="leave out text sampled from the model")
    add("--seeds", type=_numbers, default=(0, 1, 2, 3, 4), metavar="N,N…", help="draws (default: 0,1,2,3,4)")
    add("--edits", type=int, default=24, help="edits of a draw, a multiple of four (default: %(default)s)")
    add("--model", default="smollm2-135m", help="name or folder of the model (default: %(default)s)")
    add("--threads", type=int, default=2, help="threads of every tensor operation (default: %(default)s)")
    add("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE", help="change the scenario")
    add("--out", type=Path, metavar="FILE", help="file that a line of JSON is added to for each run")
    return parser


def scenario_overrides(args: argparse.Namespace) -> list[str]:
    """What makes the shipped single-party scenario the experiment's; ``--set`` comes last.

    Raises:
        InputError: the edits cannot be shared out evenly.
    """
    if args.edits < 4 or args.edits % 4:
        raise InputError(f"--edits {args.edits}", "a multiple of four, the number of parties", "name another number")
    return [
        "name=covariance-experiment",
        f"model.name={json.dumps(args.model)}",
        "model.device=cpu",
        "parties.count=4",
        f"parties.edits_per_round={args.edits // 4}",
        "editor.contexts.count=6",
        f"merge.methods=[{METHOD}]",
        f"evaluate.metrics=[{', '.join(ASKED)}]",
        "evaluate.sample=null",
        "cluster.parties_per_batch=4",
        f"cluster.threads={args.threads}",
        *args.overrides,
    ]


def run(args: argparse.Namespace, out: TextIO) -> None:
    """Run all settings and write the table.

    Raises:
        ConsortiumError: an option is wrong, or a run failed.
    """
    overrides = scenario_overrides(args)
    key_width = describe(prepare("single-party", overrides).scenario.model).key_width
    sources = [*([] if args.only_text else ["model"]), *(str(path.resolve()) for path in args.text)]
    settings = [Setting(source, multiple * key_width) for source in sources for multiple in args.tokens]
    if not settings:
        raise InputError("no text", "the model's own or a file", "leave out --only-text, or name a file with --text")
    found = []
    for outcome in outcomes(settings, args.seeds, overrides):
        found.append(outcome)
        if args.out is not None:
            with args.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(outcome), ensure_ascii=False) + "\n")
    out.write(table(found, key_width))


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    try:
        run(build_parser().parse_args(argv), sys.stdout)
    except ConsortiumError as error:
        _tell(str(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
