"""The command line's surface: commands, options and their help."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import consortium
from consortium.common.errors import InputError

_EXAMPLES = """\
examples:
  consortium run quickstart                        a shipped scenario
  consortium run my.yaml --set stream.rounds=5     your own file, with one change
  consortium run my.yaml --address auto            on this machine's Ray cluster
  consortium resume runs/quickstart                continue a run that was interrupted
  consortium export runs/quickstart edited --arm collabedit     the edited model, for transformers
  consortium new my.yaml                           write a commented scenario to start from

exit codes: 0 done, 1 the run failed, 2 the input was wrong, 130 interrupted
"""
_SET_HELP = "change a key of the scenario, such as stream.rounds=3 or merge.methods.1.alpha=0.5; may be repeated"
_CHANGE_HELP = "give the run more rounds (stream.rounds=5), or change a key that no number depends on; may be repeated"

Command = Callable[[argparse.Namespace], int]


class UsageError(InputError):
    """The command line itself is wrong."""


class _Parser(argparse.ArgumentParser):
    """Raises UsageError where argparse would print and exit."""

    def error(self, message: str) -> NoReturn:
        usage = " ".join(self.format_usage().removeprefix("usage: ").split())
        raise UsageError(f"{self.prog}: {message}", usage, f"{self.prog} --help explains the options")

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        """Refuse ``--option=--``: argparse removes the dashes and passes an empty list as the value."""
        if action.option_strings and "--" in arg_strings:
            self.error(f"argument {'/'.join(action.option_strings)}: expected a value, found --")
        return super()._get_values(action, arg_strings)


def build_parser(commands: Mapping[str, Command]) -> argparse.ArgumentParser:
    """The parser; each command's function is ``command`` of the parsed namespace."""
    parser = _Parser(
        prog="consortium",
        description="Many parties edit one large language model together.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"consortium {consortium.__version__}")
    added = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, help_text: str) -> argparse.ArgumentParser:
        description = help_text[0].upper() + help_text[1:] + "."
        own = added.add_parser(name, help=help_text, description=description, allow_abbrev=False)
        own.set_defaults(command=commands[name])
        return own

    _add_run(command("run", "run a scenario"))
    resume = command("resume", "continue a run that was interrupted or failed")
    resume.add_argument("directory", metavar="DIR", help="the run directory")
    resume.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=_CHANGE_HELP)
    resume.add_argument(
        "--accept-changes",
        action="store_true",
        help="continue even if facts, texts or model files differ from those at the run's start, and record it",
    )
    _add_where(resume)
    report = command("report", "write a run's report again")
    report.add_argument("directory", metavar="DIR", help="the run directory")
    report.add_argument("--pictures", metavar="FOLDER", help="also write its pictures as files, each with a legend")
    export = command("export", "write a run's edited model as a folder that transformers opens")
    export.add_argument("directory", metavar="DIR", help="the run directory")
    export.add_argument("folder", metavar="FOLDER", help="a new or empty folder")
    export.add_argument("--arm", required=True, metavar="NAME", help="arm to write: a merge method's label or name")
    export.add_argument("--round", type=int, metavar="N", help="after this round (default: the last one committed)")
    validate = command("validate", "check scenarios without running them")
    validate.add_argument("files", metavar="FILE", nargs="+", help="scenario files, or names of shipped scenarios")
    validate.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=_SET_HELP)
    command("new", "write a commented scenario to start from").add_argument("file", metavar="FILE", help="a new file")
    runs = command("ls", "list runs")
    runs.add_argument("directory", metavar="DIR", nargs="?", help="folder that holds run directories (default: runs)")
    command("schema", "print the JSON Schema of scenarios")
    return parser


def _add_run(run: argparse.ArgumentParser) -> None:
    run.add_argument("scenario", metavar="NAME-OR-FILE", help="name of a shipped scenario, or a YAML file")
    run.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=_SET_HELP)
    run.add_argument("--out", metavar="DIR", help="a new or empty folder (default: runs/NAME, numbered if it exists)")
    where = _add_where(run)
    where.add_argument("--serial", action="store_true", help="run in this process, without Ray: slower, same result")


def _add_where(parser: argparse.ArgumentParser) -> argparse._MutuallyExclusiveGroup:
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--address", help="address of a running Ray cluster, or auto (default: start Ray here)")
    where.add_argument(
        "--autoscale", action="store_true", help="start a Ray cluster here that grows and shrinks (cluster.autoscale)"
    )
    parser.add_argument(
        "--format",
        choices=("text", "json"),
        default="text",
        help="json: print one JSON object on standard output and nothing else",
    )
    return where
