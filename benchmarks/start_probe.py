"""Run in a new process by :mod:`benchmarks.startup`: does what ``consortium run`` does until work begins, then stops.

It notes the wall-clock time at which each stage is over and prints them as one JSON object. What is watched is what
the command shows to its user anyway; the interruption is the one that Ctrl-C makes.
"""

import time

_MARKS = {"process": time.time()}

import json  # noqa: E402  (the first mark comes before all imports)
import sys  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from contextlib import AbstractContextManager, contextmanager, redirect_stdout  # noqa: E402
from typing import Any, TextIO  # noqa: E402

from consortium.cli import main as cli  # noqa: E402
from consortium.cli import progress as terminal_progress  # noqa: E402
from consortium.common.progress import Progress, ReportProgress  # noqa: E402
from consortium.records.directory import RunDirectory  # noqa: E402


def _mark(name: str) -> None:
    _MARKS.setdefault(name, time.time())


def _until_work_begins(folder: str) -> Callable[[TextIO], AbstractContextManager[ReportProgress]]:
    """What stands in for the progress line: the first sign of targets is the first unit of work.

    The run is stopped once its first events are on disk, which may be while workers already work.
    """

    def watch(progress: Progress) -> None:
        if progress.phase == "targets":
            _mark("work")
        if "work" in _MARKS and RunDirectory.open(folder).committed_round is not None:
            raise KeyboardInterrupt

    @contextmanager
    def shown_progress(_: TextIO) -> Iterator[ReportProgress]:
        _mark("scenario")
        yield watch

    return shown_progress


def main(arguments: list[str]) -> None:
    """Start a run with these arguments of ``consortium run``, ``--out`` among them; on Ray unless ``--serial`` is."""
    import consortium.loading.prepare

    watched: Any = terminal_progress
    watched.shown_progress = _until_work_begins(arguments[arguments.index("--out") + 1])
    with redirect_stdout(sys.stderr):
        if "--serial" in arguments:
            import consortium.engine.serial  # noqa: F401

            _mark("imports")
            cli.main(["run", *arguments])
        else:
            from consortium_ray.runtime import connected

            _mark("imports")
            with connected(None):
                _mark("ray")
                cli.main(["run", *arguments])
    sys.stdout.write(json.dumps(_MARKS))


if __name__ == "__main__":
    main(sys.argv[1:])
