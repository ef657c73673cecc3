"""The command line: ``consortium run``, ``resume``, ``report``, ``validate``, ``new``, ``ls``, ``schema``.

Exit codes: 0 done, 1 the run failed, 2 the input was wrong, 130 interrupted. What a command needs is
imported inside it, so that help and mistakes answer at once.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from consortium.errors import ConsortiumError, InputError, RunDirectoryError
from consortium.terminal.arguments import build_parser
from consortium.terminal.streams import make_tolerant, reserved_stdout

if TYPE_CHECKING:
    from consortium.facts.edit import FactSet
    from consortium.records.directory import RunDirectory

RUNS = Path("runs")
INTERRUPTED = 130
# Libraries' banners and bars would tear the progress line apart.
_QUIET = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    make_tolerant()
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if not _wants_json(arguments):
        return _execute(arguments, None)
    with reserved_stdout() as json_out:
        return _execute(arguments, json_out)


def _wants_json(arguments: Sequence[str]) -> bool:
    return "--format=json" in arguments or ("--format", "json") in pairwise(arguments)


def _execute(arguments: Sequence[str], json_out: TextIO | None) -> int:
    """Parse and run; every error ends as a message and an exit code."""
    args = argparse.Namespace(run_directory=None)
    try:
        parser = build_parser(COMMANDS)
        parser.parse_args(arguments, args)
        args.json_out = json_out
        code: int = args.command(args)
        return code
    except ConsortiumError as error:
        _report_error(error, args, json_out)
        return error.exit_code
    except KeyboardInterrupt:
        _report_interruption(args.run_directory, json_out)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read standard output has left; writing what is buffered at exit must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except Exception as error:  # noqa: BLE001 (the last stop before the user: a message, and the details in a file)
        place = _write_traceback(args.run_directory)
        found = f"Something went wrong that should not have: {type(error).__name__}: {error}"
        remedy = f"read {place}, which says where it happened, and report it as a fault of Consortium"
        _report_error(ConsortiumError(found, "", remedy), args, json_out)
        return 1


def _report_error(error: ConsortiumError, args: argparse.Namespace, json_out: TextIO | None) -> None:
    print(error, file=sys.stderr)
    directory = args.run_directory
    if directory is not None and not isinstance(error, InputError):
        print(f"What was done so far is kept. To go on: consortium resume {directory}", file=sys.stderr)
    if json_out is not None:
        parts = {"found": error.found, "expected": error.expected, "remedy": error.remedy}
        details = {"type": type(error).__name__, **parts, "exit_code": error.exit_code}
        _print_json({"error": details | {"directory": None if directory is None else str(directory)}}, json_out)


def _report_interruption(directory: Path | None, json_out: TextIO | None) -> None:
    remedy = "nothing was started" if directory is None else f"to go on: consortium resume {directory}"
    print(f"Interrupted; {remedy}", file=sys.stderr)
    if json_out is not None:
        details = {"type": "KeyboardInterrupt", "found": "interrupted", "expected": "", "remedy": remedy}
        place = None if directory is None else str(directory)
        _print_json({"error": details | {"exit_code": INTERRUPTED, "directory": place}}, json_out)


def _write_traceback(directory: Path | None) -> Path:
    """Write the present exception's traceback into the run directory, or to a temporary file, and say where."""
    text = traceback.format_exc()
    if directory is not None and directory.is_dir():
        path = directory / "error.txt"
        path.write_text(text, encoding="utf-8")
        return path
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", prefix="consortium-error-", suffix=".txt", delete=False
    ) as file:
        file.write(text)
    return Path(file.name)


def _print_json(value: Any, stream: TextIO) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=True, default=str), file=stream, flush=True)


def _run(args: argparse.Namespace) -> int:
    from consortium.records.directory import RunDirectory
    from consortium.scenario.prepare import prepare

    prepared = prepare(args.scenario, args.set)
    folder = Path(args.out) if args.out else _free_folder(prepared.scenario.name)
    extras = {"origin": prepared.origin, "overrides": args.set, "serial": args.serial}
    with RunDirectory.create(folder, prepared.scenario, extras=extras) as directory:
        args.run_directory = directory.path
        try:
            return _work(args, directory, prepared.facts)
        except InputError:
            if directory.committed_round is None:  # refused before anything was done: leave nothing behind
                shutil.rmtree(directory.path)
            raise


def _free_folder(name: str) -> Path:
    """``runs/NAME``, or the first of ``runs/NAME-2``, ``-3`` … that does not exist."""
    folder, number = RUNS / name, 1
    while folder.exists():
        number += 1
        folder = RUNS / f"{name}-{number}"
    return folder


def _resume(args: argparse.Namespace) -> int:
    from consortium.records.directory import RunDirectory
    from consortium.scenario.prepare import open_facts

    with RunDirectory.open(args.directory) as directory:
        damage = directory.repair()
        if damage is not None:
            print(f"{damage}.", file=sys.stderr)
        if directory.status == "done":
            print(f"{directory.path} is done already; nothing is left to do.", file=sys.stderr)
            return _finish(args, directory)
        args.run_directory = directory.path
        args.serial = bool(directory.manifest.extras.get("serial"))
        return _work(args, directory, open_facts(directory.scenario))


def _work(args: argparse.Namespace, directory: RunDirectory, facts: FactSet) -> int:
    """Run to the end what a run directory says, and show the results."""
    from consortium.terminal.progress import shown_progress

    print(f"Run directory: {directory.path}", file=sys.stderr)
    try:
        with shown_progress(sys.stderr) as report_progress:
            if args.serial:
                from consortium import serial

                serial.run(directory.scenario, directory, facts, report_progress)
            else:
                if args.address is None:
                    # Ray's name for binding to the loopback address alone; it is read when Ray is first imported.
                    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
                from consortium_ray.runtime import run

                where = {"address": args.address, "autoscale": args.autoscale}
                run(directory.scenario, directory, facts, report_progress, **where)
    except Exception as error:
        with suppress(RunDirectoryError, OSError):  # in another's hands, or on a full disk: the error itself says more
            directory.mark_failed(error)
        raise
    return _finish(args, directory)


def _finish(args: argparse.Namespace, directory: RunDirectory) -> int:
    """Write the report, and show the results in the format that was asked for."""
    from consortium.report.page import build_report
    from consortium.report.summary import summary
    from consortium.terminal.table import write_results

    build_report(directory)
    if args.json_out is not None:
        _print_json(summary(directory), args.json_out)
        return 0
    write_results(directory, sys.stdout)
    print(f"\nReport: {directory.report_path}")
    return 0


def _report(args: argparse.Namespace) -> int:
    from consortium.records.directory import RunDirectory
    from consortium.report.page import build_report
    from consortium.report.pictures import write_pictures

    directory = RunDirectory.open(args.directory)
    build_report(directory)
    print(f"Report: {directory.report_path}")
    if args.pictures is not None:
        for path in write_pictures(directory, Path(args.pictures)):
            print(f"Picture: {path}")
    return 0


def _validate(args: argparse.Namespace) -> int:
    from consortium.scenario.prepare import prepare

    code = 0
    for name in args.files:
        try:
            scenario = prepare(name, args.set).scenario
        except ConsortiumError as error:
            print(error, file=sys.stderr)
            code = max(code, error.exit_code)
        else:
            lanes = ", ".join(method.lane for method in scenario.merge.methods)
            print(f"{name}: OK, {scenario.parties.count} parties, {scenario.stream.rounds} rounds, lanes {lanes}")
    return code


def _new(args: argparse.Namespace) -> int:
    from consortium.scenario.template import write_template

    write_template(Path(args.file))
    print(f"{args.file} is written. Change it, then: consortium run {args.file}")
    return 0


def _ls(args: argparse.Namespace) -> int:
    from consortium.records.runs import list_runs
    from consortium.terminal.table import write_runs

    folder = Path(args.directory) if args.directory else RUNS
    runs = list_runs(folder) if args.directory or folder.is_dir() else []
    if runs:
        write_runs(runs, sys.stdout)
    else:
        print(f"No runs in {folder}. To make one: consortium run quickstart")
    return 0


def _schema(args: argparse.Namespace) -> int:
    from consortium.scenario.json_schema import full_json_schema

    _print_json(full_json_schema(), sys.stdout)
    return 0


COMMANDS = {
    "run": _run,
    "resume": _resume,
    "report": _report,
    "validate": _validate,
    "new": _new,
    "ls": _ls,
    "schema": _schema,
}


if __name__ == "__main__":
    sys.exit(main())
