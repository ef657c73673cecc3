"""Rows that wait for their round's commit on the disk rather than in memory, in the order in which they came."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar

#: Bytes that are kept in memory, before a file is made.
_IN_MEMORY = 4 * 2**20

_Row = TypeVar("_Row")


class Spool(Generic[_Row]):
    """Rows in a temporary file without a name, which only this process can open."""

    def __init__(self) -> None:
        self._file: Any = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115  (it lives as long as this)
        self._num_groups = 0

    def add(self, rows: Sequence[_Row]) -> None:
        """Put rows behind those that are there."""
        self._file.seek(0, 2)
        pickle.dump(list(rows), self._file, pickle.HIGHEST_PROTOCOL)
        self._num_groups += 1

    def __iter__(self) -> Iterator[_Row]:
        """The rows, a group at a time in memory; as often as they are asked for."""
        place = 0
        for _ in range(self._num_groups):
            self._file.seek(place)
            rows: list[_Row] = pickle.load(self._file)
            place = self._file.tell()
            yield from rows
