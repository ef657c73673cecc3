"""The command line: ``python -m benchmarks NAME…``, from the repository's root.

Exit codes: 0 done, 1 something failed, 2 the input was wrong, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn, TextIO

from consortium.cli.arguments import UsageError
from consortium.common.errors import ConsortiumError, InputError
from consortium.common.terminal import fitting, make_tolerant, reserved_stdout

from benchmarks.registry import ALL, BENCHMARKS, chosen, records_of

_INTERRUPTED = 130
_QUIET = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error"}


class _Parser(argparse.ArgumentParser):
    """Raises UsageError where argparse would print and exit."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}", f"benchmarks {', '.join(BENCHMARKS)}", f"{self.prog} --help")


def _numbers(text: str) -> tuple[int, ...]:
    numbers = tuple(int(part) for part in text.split(","))
    if min(numbers) < 1:
        raise ValueError(text)
    return numbers


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError(text)
    return number


def _count(text: str) -> int:
    (number,) = _numbers(text)
    return number


def build_parser() -> argparse.ArgumentParser:
    """The parser of all options."""
    parser = _Parser(prog="python -m benchmarks", description="What measures speed.", allow_abbrev=False)
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"{ALL}, or some of {', '.join(BENCHMARKS)}")
    add = parser.add_argument
    add("--model", default="smollm2-135m", help="name or folder of the model (default: %(default)s)")
    add("--random-shape", metavar="SHAPE", help="random weights of a known size instead, such as llama-8b")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    add("--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="type of the model's numbers")
    add("--arithmetic", choices=("model", "bfloat16"), default="model", help="of targets (default: the model's own)")
    add("--layer", type=int, help="layer of the targets, the last of the edited ones (default: 9)")
    add("--contexts", type=_count, default=6, help="texts before an edit's prompt (default: %(default)s)")
    add("--sizes", type=_numbers, metavar="N,N…", help="sizes of the one benchmark that is named")
    add("--parties", type=_numbers, metavar="N,N…", help="numbers of parties, for merge and robust")
    add(
        "--axis",
        choices=("parties", "edits", "rounds", "workers", "language"),
        help="what scale changes from run to run (default: each)",
    )
    add("--set", dest="scale_changes", action="append", default=[], metavar="KEY=VALUE", help="overrides, for scale")
    add("--seconds", type=_positive, default=60.0, help="time for a case (default: %(default)s)")
    add("--repeats", type=_count, default=3, help="repetitions of a case at most (default: %(default)s)")
    add("--threads", type=_count, help="threads of every tensor operation (default: as many as torch takes)")
    add("--results", type=Path, metavar="DIR", help="folder that records are appended to (default: benchmarks/results)")
    add("--format", choices=("text", "json"), default="text", help="json prints one JSON object and nothing else")
    add("--write-docs", action="store_true", help="write the newest results into docs, and nothing else")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the named benchmarks, or list them; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    make_tolerant()
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    wants_json = "--format=json" in arguments or ("--format", "json") in pairwise(arguments)
    with ExitStack() as stack:
        out = stack.enter_context(reserved_stdout()) if wants_json else sys.stdout
        try:
            return _execute(arguments, out)
        except ConsortiumError as error:
            print(error, file=sys.stderr)
            if wants_json:
                parts = {"found": error.found, "expected": error.expected, "remedy": error.remedy}
                _print_json({"error": {**parts, "exit_code": error.exit_code}}, out)
            return error.exit_code
        except KeyboardInterrupt:
            print("Interrupted; finished records are kept.", file=sys.stderr)
            return _INTERRUPTED


def _execute(arguments: Sequence[str], out: TextIO) -> int:
    args = build_parser().parse_args(arguments)
    if args.write_docs:
        return _write_docs(args)
    names = chosen(args.names)
    if args.sizes is not None and len(names) != 1:
        raise UsageError("--sizes", "one benchmark, since each has sizes of its own", "name one benchmark")
    if not names:
        return _list(args.format, out)
    found = _measured(args, names)
    if args.format == "json":
        _print_json({"records": [asdict(record) for record in found]}, out)
    else:
        from benchmarks.harness.table import write_tables

        write_tables(found, out)
    return 0


def _list(format_name: str, out: TextIO) -> int:
    if format_name == "json":
        _print_json({"benchmarks": BENCHMARKS}, out)
        return 0
    width = max(map(len, BENCHMARKS))
    for name, summary in BENCHMARKS.items():
        print(fitting(f"{name:{width}}  {summary}", out), file=out)
    return 0


def _measured(args: argparse.Namespace, names: Sequence[str]) -> list[Any]:
    """The records of the named benchmarks, each appended to its file as soon as it is there."""
    import torch

    from benchmarks.harness.fixtures import Fixtures
    from benchmarks.harness.options import Options
    from benchmarks.harness.progress import telling
    from benchmarks.harness.record import RESULTS, append

    if args.threads is not None:
        torch.set_num_threads(args.threads)
    given = {field.name: getattr(args, field.name) for field in fields(Options)}
    options = Options(**given | {"results": args.results or RESULTS, "scale_changes": tuple(args.scale_changes)})
    found = []
    with telling(sys.stderr) as tell:
        bench = Fixtures(options, tell)
        for name in names:
            for record in records_of(name)(bench):
                append(record, options.results)
                found.append(record)
    return found


def _write_docs(args: argparse.Namespace) -> int:
    if args.names:
        raise InputError("--write-docs with names", "--write-docs alone", "measure first, then write the page")
    from consortium.common.files import write_text

    from benchmarks.harness.record import RESULTS, read
    from benchmarks.harness.table import DOCS, with_results
    from benchmarks.scale import page

    records = read(args.results or RESULTS)
    write_text(DOCS, with_results(DOCS.read_text(encoding="utf-8"), records))
    page.write_page(records)
    print(f"{DOCS.name} and {page.DOCS.name} are written.", file=sys.stderr)
    return 0


def _print_json(value: Any, stream: TextIO) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=True), file=stream, flush=True)


if __name__ == "__main__":
    sys.exit(main())
