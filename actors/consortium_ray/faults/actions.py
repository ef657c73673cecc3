"""What breaks on purpose: what each action of a fault does, at the coordinator, and at the worker that has the call."""

from __future__ import annotations

import errno
import os
import time
from typing import Protocol

from consortium.scenario.faults import (
    CorruptAnswerFault,
    DelayFault,
    DiskFullFault,
    FaultSpec,
    KillFault,
    PartitionFault,
)

from consortium_ray.checksums import Checksummed, with_flipped_bit
from consortium_ray.faults.node_loss import cut_node, end_node


class Processes(Protocol):
    """The processes that the coordinator can end."""

    def kill(self, incarnation: int) -> None:
        """End a worker."""
        ...

    def kill_coordinator(self) -> None:
        """End the coordinator."""
        ...


def at_coordinator(fault: FaultSpec, processes: Processes, worker: int | None) -> None:
    """What the coordinator does: to a worker, if there is one, to itself, or to the round that it writes.

    Raises:
        OSError: the fault is a full disk.
    """
    match fault:
        case KillFault(what="coordinator"):
            processes.kill_coordinator()
        case KillFault(what="worker") if worker is not None:
            processes.kill(worker)
        case DiskFullFault():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def before_call(fault: FaultSpec | None) -> None:
    """What a worker does before its call."""
    match fault:
        case KillFault(what="node"):
            end_node()
        case PartitionFault():
            cut_node(fault.seconds)


def after_call(fault: FaultSpec | None, answer: Checksummed) -> Checksummed:
    """What a worker does with its answer."""
    match fault:
        case DelayFault():
            time.sleep(fault.seconds)
        case CorruptAnswerFault():
            return with_flipped_bit(answer)
    return answer
