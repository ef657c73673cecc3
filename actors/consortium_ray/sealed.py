"""Answers under a checksum: what arrives damaged is noticed, and asked for again.

The pickle of an answer and its arrays travel side by side, so Ray hands arrays over without a copy as it does with
plain ones. CRC-32 is meant for accidents on the way; it keeps out nobody who forges messages.
"""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consortium_ray.messages import Answer

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Sealed:
    """An answer as it travels.

    Attributes:
        head: the answer's pickle, without its arrays.
        arrays: bytes of the arrays, in the order in which the pickle wants them.
        checksum: of all of it, in order.
    """

    head: bytes
    arrays: tuple[Bytes, ...]
    checksum: int


def seal(answer: Answer) -> Sealed:
    """An answer ready to travel."""
    found: list[pickle.PickleBuffer] = []
    head = pickle.dumps(answer, protocol=5, buffer_callback=found.append)
    arrays = tuple(np.asarray(each.raw()) for each in found)
    return Sealed(head, arrays, _checksum(head, arrays))


def opened(sealed: Sealed) -> Answer | None:
    """The answer that was sealed; None where what arrived is not what was sent. Its arrays are read-only."""
    if _checksum(sealed.head, sealed.arrays) != sealed.checksum:
        return None
    answer: Answer = pickle.loads(sealed.head, buffers=[_read_only(each) for each in sealed.arrays])
    return answer


def damaged(sealed: Sealed) -> Sealed:
    """The same with one bit flipped, in the last array that has any bytes, or else in the pickle."""
    arrays = list(sealed.arrays)
    for place in reversed(range(len(arrays))):
        if arrays[place].size:
            arrays[place] = arrays[place].copy()
            arrays[place][-1] ^= 1
            return replace(sealed, arrays=tuple(arrays))
    head = bytearray(sealed.head)
    head[len(head) // 2] ^= 1
    return replace(sealed, head=bytes(head))


def _checksum(head: bytes, arrays: Iterable[Bytes]) -> int:
    found = zlib.crc32(head)
    for array_B in arrays:
        found = zlib.crc32(array_B.data, found)
    return found


def _read_only(array_B: Bytes) -> Any:
    view = array_B.view()
    view.setflags(write=False)
    return view
