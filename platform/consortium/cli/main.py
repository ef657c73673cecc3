"""The command line: ``consortium run``, ``resume``, ``report``, ``export``, ``validate``, ``new``, ``ls``, ``schema``.

Exit codes: 0 done, 1 the run failed, 2 the input was wrong, 130 interrupted (143 by SIGTERM, 129 by SIGHUP). What a
command needs is imported inside it, so that help and mistakes answer at once.
"""

from __future__ import annotations

import sys
from os.path import basename

from consortium.common.interruption import keep_until_heeded

# First of all, where this is the command: a signal during the imports below would end them with a traceback.
if __name__ == "__main__" or basename(sys.argv[0]) == "consortium":
    keep_until_heeded()

import argparse
import errno
import json
import os
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from consortium.cli.arguments import build_parser
from consortium.cli.environment import make_usable, open_streams
from consortium.common.counting import count
from consortium.common.errors import ConsortiumError, InputError, RunDirectoryError, RunError
from consortium.common.interruption import exit_code, heeded, is_interrupted, is_without_room, shielded
from consortium.common.places import refuse_client, refuse_empty, refuse_remote
from consortium.common.terminal import finite, make_tolerant, reserved_stdout, say

if TYPE_CHECKING:
    from consortium.data.edit import FactSet
    from consortium.records.directory import RunDirectory
    from consortium.scenario.schema import Scenario

RUNS = Path("runs")
# What the system says of a disk, of permissions and of names; nothing that the program could have done better.
_OF_THE_SYSTEM = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EMFILE, errno.ENFILE),
    *(errno.ESTALE, errno.EBUSY, errno.ETIMEDOUT, errno.EAGAIN, errno.ENOMEM, errno.ENODEV),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # The run at work; whether `resume` can go on with it; and where the details of a fault were written.
    args = argparse.Namespace(run_directory=None, goes_on=False, details=None)
    with heeded(lambda: _report_interruption(args, None), to_the_end=argv is None) as follow:
        try:
            follow()  # a signal may have come before
            return _prepared(arguments, args)
        except KeyboardInterrupt:  # while another error was being reported
            return _interrupted(args, None)


def _prepared(arguments: Sequence[str], args: argparse.Namespace) -> int:
    open_streams()
    make_tolerant()
    if not _wants_json(arguments):
        return _execute(arguments, args, None)
    with reserved_stdout() as json_out:
        return _execute(arguments, args, json_out)


def _wants_json(arguments: Sequence[str]) -> bool:
    return "--format=json" in arguments or ("--format", "json") in pairwise(arguments)


def _execute(arguments: Sequence[str], args: argparse.Namespace, json_out: TextIO | None) -> int:
    """Parse and run; every error ends as a message and an exit code."""
    try:
        parser = build_parser(COMMANDS)
        parser.parse_args(arguments, args)
        args.json_out = json_out
        make_usable()
        _refuse_impossible_places(args)
        code: int = args.command(args)
        return code
    except KeyboardInterrupt:
        return _interrupted(args, json_out)
    except BrokenPipeError:
        # Whoever read standard output has left; writing what is buffered at exit must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except Exception as error:  # noqa: BLE001 (the last stop before the user: a message, and the details in a file)
        if is_interrupted():  # what a library made of the interruption
            return _interrupted(args, json_out)
        return _failed(error, args, json_out)


def _refuse_impossible_places(args: argparse.Namespace) -> None:
    for name in ("scenario", "file", "files", "directory", "folder", "out", "pictures"):
        given = getattr(args, name, None)
        for place in [given] if isinstance(given, str) else given or ():
            named = f"--{name}" if name in {"out", "pictures"} else name.removesuffix("s")
            refuse_empty(place, named)
            refuse_remote(place, named)
    address = getattr(args, "address", None)
    if address is not None:
        refuse_client(address)
        from consortium_ray.nodes.address import checked_address

        checked_address(address)


def _interrupted(args: argparse.Namespace, json_out: TextIO | None) -> int:
    with shielded():
        _report_interruption(args, json_out)
    return exit_code()


def _failed(error: Exception, args: argparse.Namespace, json_out: TextIO | None) -> int:
    if isinstance(error, MemoryError):
        what = str(error) or "no more can be had"
        remedy = "take a machine with more memory, or a smaller scenario; `docs/scale.md` says what takes memory"
        error = RunError(f"memory ran out: {what}", "room for the run in this machine's memory", remedy)
    if not isinstance(error, ConsortiumError):
        error = _of_the_system(error) or _fault(error, args)
    with suppress(OSError):  # after a terminal was lost there is nobody to tell
        _report_error(error, args, json_out)
    return error.exit_code


def _fault(error: Exception, args: argparse.Namespace) -> ConsortiumError:
    place = args.details or _write_traceback(None)
    found = f"Something went wrong that should not have: {type(error).__name__}: {error}"
    remedy = f"read {place}, which says where it happened, and report it as a fault of Consortium"
    return ConsortiumError(found, "", remedy)


def _of_the_system(error: Exception) -> RunError | None:
    """The message for an error that a full disk, permissions or the like gave; None for any other."""
    if is_without_room(error):
        return RunError(
            f"no further thread or process can be started here: {error}",
            "room for some dozens (`ulimit -u` of the user, a container's limit of processes, memory)",
            "raise the limit, or end what else is running",
        )
    if not isinstance(error, OSError) or error.errno not in _OF_THE_SYSTEM:
        return None
    named = error.filename if isinstance(error.filename, str) else "a file"
    return RunError(
        f"{named} cannot be used: {error.strerror}.",
        "files and folders that can be read and written, on a disk with room.",
        "see to that, and try again.",
    )


def _report_error(error: ConsortiumError, args: argparse.Namespace, json_out: TextIO | None) -> None:
    say(error, sys.stderr)
    directory = args.run_directory
    if args.goes_on and error.can_go_on:
        say(f"What was done so far is kept. To go on: consortium resume {directory}", sys.stderr)
    if json_out is not None:
        parts = {"found": error.found, "expected": error.expected, "remedy": error.remedy}
        details = {"type": type(error).__name__, **parts, "exit_code": error.exit_code}
        _print_json({"error": details | {"directory": None if directory is None else str(directory)}}, json_out)


def _report_interruption(args: argparse.Namespace, json_out: TextIO | None) -> None:
    directory = args.run_directory
    remedy = "nothing was started"
    if directory is not None:
        remedy = f"to go on: consortium resume {directory}" if args.goes_on else f"the run {directory} is done"
    with suppress(OSError):  # after a terminal was lost there is nobody to tell
        say(f"Interrupted; {remedy}", sys.stderr)
    if json_out is not None:
        details = {"type": "KeyboardInterrupt", "found": "interrupted", "expected": "", "remedy": remedy}
        place = None if directory is None else str(directory)
        with suppress(OSError):
            _print_json({"error": details | {"exit_code": exit_code(), "directory": place}}, json_out)


def _write_traceback(directory: RunDirectory | None) -> str:
    """Write the present exception's traceback into a run directory, or to a temporary file, and say where.

    Only who holds a run writes into it. Where nothing can be written, what is said is where the exception was raised.
    """
    text = traceback.format_exc().encode("utf-8", "backslashreplace").decode()
    with suppress(RunDirectoryError, OSError):
        if directory is not None and directory.is_already_known:
            return directory.write_error(text)
    with (
        suppress(OSError),
        tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", prefix="consortium-error-", suffix=".txt", delete=False
        ) as file,
    ):
        file.write(text)
        return file.name
    last = traceback.extract_tb(sys.exc_info()[2])[-1]
    return f"{last.filename}, line {last.lineno}"


def _print_json(value: Any, stream: TextIO) -> None:
    # No number of JSON is NaN or infinite: null stands in its place.
    print(json.dumps(finite(value), indent=2, ensure_ascii=True, default=str, allow_nan=False), file=stream, flush=True)


def _run(args: argparse.Namespace) -> int:
    from consortium.loading.prepare import prepare

    prepared = prepare(args.scenario, args.set)
    extras = {"origin": prepared.origin, "overrides": args.set, "serial": args.serial}
    with ExitStack() as stack:
        with shielded():  # there is no run directory, or one that can be resumed
            directory = stack.enter_context(_new_directory(args.out, prepared.scenario, extras))
            args.run_directory, args.goes_on = directory.path, True
        try:
            return _work(args, directory, prepared.facts)
        except InputError:
            if not is_interrupted():
                directory.discard()  # refused before anything was done: leave nothing behind
            raise


def _new_directory(out: str | None, scenario: Scenario, extras: dict[str, Any]) -> RunDirectory:
    """A run directory at ``out``, or at ``runs/NAME``, or the first of ``runs/NAME-2``, ``-3`` … that is free."""
    from consortium.records.creation import TakenError
    from consortium.records.directory import RunDirectory

    if out is not None:
        return RunDirectory.create(out, scenario, extras=extras)
    folder, number = RUNS / scenario.name, 1
    while True:
        if not os.path.lexists(folder):
            with suppress(TakenError):  # another run of this name began in this moment
                return RunDirectory.create(folder, scenario, extras=extras)
        number += 1
        folder = RUNS / f"{scenario.name}-{number}"


def _resume(args: argparse.Namespace) -> int:
    from consortium.engine.key_covariance import hold_against
    from consortium.loading.prepare import check_again, open_facts
    from consortium.records.directory import RunDirectory

    with RunDirectory.open(args.directory) as directory:
        directory.lock()  # before anything is looked at: who does not hold the run changes nothing in it
        args.run_directory, args.goes_on = directory.path, directory.manifest.status != "done"
        damage = directory.repair()
        if damage is not None:
            say(f"{damage}.", sys.stderr)
        scenario = _scenario_of(directory, args.set)
        facts: FactSet | None = None
        told: list[str] = []
        if directory.status != "done" or scenario.stream.rounds > directory.scenario.stream.rounds:
            facts = open_facts(scenario)
            if args.accept_changes or directory.committed_round is None:  # what the run began with was looked at then
                check_again(scenario, facts, directory.path)
            directory.accept_changes(args.accept_changes)
            told = hold_against(directory, facts)
        # Last of what may refuse comes the first change, so that a run which is refused stays what it was.
        for words in _changes(directory, scenario):
            say(f"{words}.", sys.stderr)
        if facts is None:
            say(f"{directory.path} is done already; nothing is left to do.", sys.stderr)
            return _finish(args, directory)
        args.goes_on = True
        for words in told:
            say(f"Since this run was last worked on: {words}.", sys.stderr)
        args.serial = bool(directory.manifest.extras.get("serial"))
        return _work(args, directory, facts)


def _scenario_of(directory: RunDirectory, overrides: Sequence[str]) -> Scenario:
    """The scenario with which a run goes on."""
    from consortium.loading.changing import changed

    if not overrides:
        return directory.scenario
    return changed(directory.scenario, overrides, directory.committed_round, directory.path)


def _changes(directory: RunDirectory, scenario: Scenario) -> list[str]:
    """Have a run go on with a scenario; what is other than before, in words."""
    rounds = directory.scenario.stream.rounds
    told = [f"Changed: {words}" for words in directory.change_scenario(scenario)]
    if scenario.stream.prolonged and scenario.stream.rounds > rounds:
        told.append(
            f"The facts of round {rounds + 1} and later are dealt after those of the rounds before. A run with as "
            "many rounds from its start deals them otherwise; a run of the scenario.yaml of this one does not"
        )
    return told


def _work(args: argparse.Namespace, directory: RunDirectory, facts: FactSet) -> int:
    """Run to the end what a run directory says, and show the results."""
    from consortium.cli.progress import shown_progress

    say(f"Run directory: {directory.path}", sys.stderr)
    args.goes_on = True
    try:
        with shown_progress(sys.stderr) as report_progress:
            if args.serial:
                from consortium.engine import serial

                serial.run_serial(directory.scenario, directory, facts, report_progress)
            else:
                if args.address is None:
                    # Ray's name for binding to the loopback address alone; it is read when Ray is first imported.
                    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
                from consortium_ray.runtime import run_on_ray

                where = {"address": args.address, "autoscale": args.autoscale}
                run_on_ray(directory.scenario, directory, facts, report_progress, **where)
    except Exception as error:
        if not is_interrupted():
            _keep_failure(args, directory, error)
        raise
    return _finish(args, directory)


def _keep_failure(args: argparse.Namespace, directory: RunDirectory, error: Exception) -> None:
    """Say in the run directory why the run stopped, as long as it is this process's."""
    with suppress(RunDirectoryError, OSError):  # in another's hands, or on a full disk: the error itself says more
        directory.mark_failed(_of_the_system(error) or error)
    if not isinstance(error, ConsortiumError) and _of_the_system(error) is None:
        args.details = _write_traceback(directory)


def _finish(args: argparse.Namespace, directory: RunDirectory) -> int:
    """Write the report, and show the results in the format that was asked for."""
    from consortium.cli.table import write_results
    from consortium.report.set_up import import_matplotlib
    from consortium.report.summary import summary

    args.goes_on = False
    unwritten: RunDirectoryError | None = None
    try:
        import_matplotlib()
        from consortium.report.page import build_report

        build_report(directory)
    except RunDirectoryError as error:  # a full disk, or no pictures: the run is done all the same
        unwritten = error
    if args.json_out is not None and unwritten is None:
        _print_json(summary(directory), args.json_out)
    elif args.json_out is None:
        write_results(directory, sys.stdout)
    if unwritten is not None:
        raise RunError(unwritten.found, unwritten.expected, unwritten.remedy)
    if args.json_out is None:
        say(f"\nReport: {directory.report_path}")
    return 0


def _report(args: argparse.Namespace) -> int:
    from consortium.common.files import own_path
    from consortium.records.directory import RunDirectory
    from consortium.report.set_up import import_matplotlib

    import_matplotlib()
    from consortium.report.page import build_report
    from consortium.report.pictures import write_pictures

    directory = RunDirectory.open(args.directory)
    report = build_report(directory)
    say(f"Report: {report.path}")
    if args.pictures is not None:
        for path in write_pictures(report, own_path(args.pictures)):
            say(f"Picture: {path}")
    return 0


def _export(args: argparse.Namespace) -> int:
    from consortium.common.files import own_path
    from consortium.engine.export import target, write_edited_model
    from consortium.records.directory import RunDirectory
    from consortium.scenario.schema import LanguageModelSpec

    directory = RunDirectory.open(args.directory)
    model = directory.scenario.model
    if not isinstance(model, LanguageModelSpec):
        found = f"{directory.path} edits the associative model"
        raise RunDirectoryError(found, "a run that edits a language model", "its weights lie in checkpoints/")
    folder = own_path(args.folder)
    with target(folder):
        state = directory.state_of(args.arm, args.round)
        write_edited_model(model, directory.manifest.inputs, state.weights, folder)
    say(f"{folder}: {model.name} as the arm {state.arm} edited it in {count(state.round, 'round')}.")
    say(f"To open it: AutoModelForCausalLM.from_pretrained({str(folder)!r})")
    return 0


def _validate(args: argparse.Namespace) -> int:
    from consortium.loading.prepare import prepare

    code = 0
    for name in args.files:
        try:
            scenario = prepare(name, args.set).scenario
        except ConsortiumError as error:
            say(error, sys.stderr)
            code = max(code, error.exit_code)
        else:
            arms = [method.arm for method in scenario.merge.methods]
            amounts = f"{count(scenario.parties.count, 'party')}, {count(scenario.stream.rounds, 'round')}"
            say(f"{name}: OK, {amounts}, {'arm' if len(arms) == 1 else 'arms'} {', '.join(arms)}")
    return code


def _new(args: argparse.Namespace) -> int:
    from consortium.common.files import own_path
    from consortium.loading.template import write_template

    write_template(own_path(args.file))
    say(f"{args.file} is written. Change it, then: consortium run {args.file}")
    return 0


def _ls(args: argparse.Namespace) -> int:
    from consortium.cli.table import write_runs
    from consortium.records.runs import list_runs

    folder = Path(args.directory) if args.directory else RUNS
    runs = list_runs(folder) if args.directory or folder.is_dir() else []
    if runs:
        write_runs(runs, sys.stdout)
    else:
        say(f"No runs in {folder}. To make one: consortium run quickstart")
    return 0


def _schema(args: argparse.Namespace) -> int:
    from consortium.loading.allowed import json_schema

    _print_json(json_schema(), sys.stdout)
    return 0


COMMANDS = {
    "run": _run,
    "resume": _resume,
    "report": _report,
    "export": _export,
    "validate": _validate,
    "new": _new,
    "ls": _ls,
    "schema": _schema,
}


if __name__ == "__main__":
    sys.exit(main())
