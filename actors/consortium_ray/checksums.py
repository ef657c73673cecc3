"""Answers under a checksum: what arrives damaged is noticed, and asked for again.

The pickle of an answer and its arrays travel side by side, so Ray hands arrays over without a copy as it does with
plain ones. So do references to its object store, since Ray has to see who uses them. CRC-32 is meant for accidents on
the way; it keeps out nobody who forges messages.
"""

from __future__ import annotations

import io
import pickle
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from consortium_ray.messages import Reply

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Checksummed:
    """An answer as it travels.

    Attributes:
        head: the answer's pickle, without its arrays.
        arrays: bytes of the arrays, in the order in which the pickle wants them.
        checksum: of head and arrays, in order.
        refs: references in the answer, in the order in which the pickle names them.
    """

    head: bytes
    arrays: tuple[Bytes, ...]
    checksum: int
    refs: tuple[Any, ...] = ()


class _Pickler(pickle.Pickler):
    """Leaves references out."""

    def __init__(self, file: io.BytesIO, buffers: list[pickle.PickleBuffer]) -> None:
        super().__init__(file, protocol=5, buffer_callback=buffers.append)
        self.refs: list[Any] = []

    def persistent_id(self, obj: Any) -> int | None:
        if not isinstance(obj, ray.ObjectRef):
            return None
        self.refs.append(obj)
        return len(self.refs) - 1


class _Unpickler(pickle.Unpickler):
    """Puts references back."""

    def __init__(self, checksummed: Checksummed) -> None:
        super().__init__(io.BytesIO(checksummed.head), buffers=[_read_only(each) for each in checksummed.arrays])
        self._refs = checksummed.refs

    def persistent_load(self, pid: int) -> Any:
        return self._refs[pid]


def with_checksum(answer: Reply) -> Checksummed:
    """An answer ready to travel."""
    found: list[pickle.PickleBuffer] = []
    file = io.BytesIO()
    pickler = _Pickler(file, found)
    pickler.dump(answer)
    head = file.getvalue()
    arrays = tuple(np.asarray(each.raw()) for each in found)
    return Checksummed(head, arrays, _checksum(head, arrays), tuple(pickler.refs))


def verified(checksummed: Checksummed) -> Reply | None:
    """The answer that was checksummed; None where what arrived is not what was sent. Its arrays are read-only."""
    if _checksum(checksummed.head, checksummed.arrays) != checksummed.checksum:
        return None
    answer: Reply = _Unpickler(checksummed).load()
    return answer


def with_flipped_bit(checksummed: Checksummed) -> Checksummed:
    """The same with one bit flipped, in the last array that has any bytes, or else in the pickle."""
    arrays = list(checksummed.arrays)
    for place in reversed(range(len(arrays))):
        if arrays[place].size:
            arrays[place] = arrays[place].copy()
            arrays[place][-1] ^= 1
            return replace(checksummed, arrays=tuple(arrays))
    head = bytearray(checksummed.head)
    head[len(head) // 2] ^= 1
    return replace(checksummed, head=bytes(head))


def _checksum(head: bytes, arrays: Iterable[Bytes]) -> int:
    found = zlib.crc32(head)
    for array_B in arrays:
        found = zlib.crc32(array_B.data, found)
    return found


def _read_only(array_B: Bytes) -> Any:
    view = array_B.view()
    view.setflags(write=False)
    return view
