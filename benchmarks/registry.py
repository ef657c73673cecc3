"""All benchmarks by name. To add one: write its file, add it to BENCHMARKS, add its pico case to the tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING

from consortium.common.errors import InputError

if TYPE_CHECKING:
    from benchmarks.harness.fixtures import Fixtures
    from benchmarks.harness.record import Record

#: Name → what it measures. The benchmark itself is ``records`` in the file of its name.
BENCHMARKS: dict[str, str] = {
    "targets": "optimisation of targets; --sizes: numbers of edits",
    "keys": "keys and residuals, layer after layer; --sizes: numbers of edits",
    "key_covariance": "sums of k·kᵀ over ordinary text; --sizes: numbers of tokens",
    "merge": "statistics, sums and solving; --sizes: key widths; --parties: numbers of parties",
    "robust": "screening, and merges that bear bad parties; --sizes: key widths; --parties: numbers of parties",
    "evaluation": "scores of probes; --sizes: numbers of edits that are probed",
    "round": "targets, keys, merge and evaluation of a whole round; --sizes: numbers of edits",
    "startup": "from `consortium run` to the first unit of work, by stage",
    "scale": "whole runs at several sizes of --axis parties, edits, rounds, workers or language; --sizes: those "
    "numbers",
}

ALL = "all"


def chosen(names: list[str]) -> list[str]:
    """The named benchmarks, in the order named; ``all`` stands for every one.

    Raises:
        InputError: an unknown name.
    """
    for name in names:
        if name not in BENCHMARKS and name != ALL:
            raise InputError(
                f"unknown benchmark {name!r}", f"{ALL}, or some of {', '.join(BENCHMARKS)}", "write one of these names"
            )
    return list(BENCHMARKS) if ALL in names else list(dict.fromkeys(names))


def records_of(name: str) -> Callable[[Fixtures], Iterator[Record]]:
    """The function that makes a benchmark's records one by one; what it needs is imported now."""
    made: Callable[[Fixtures], Iterator[Record]] = import_module(f"benchmarks.{name}").records
    return made
