"""What passes between coordinator and workers: calls in one direction, typed answers in the other.

Answers hold counts, sums and statistics only, why a message was refused, and keyed digests, which are keyed digests.
Edits, single keys and targets stay in the worker (the arm of the method ``global`` is the exception: it stands for one
owner of all facts, and its keys travel; and with ``evaluate.per_edit``, which is off by default, so do probes and
answers).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from consortium.merging.method import Contribution
from consortium.party.targets import TargetReport
from consortium.party.worker import Collected

#: Names a piece of work: the same key always means the same answer.
Key = tuple[Hashable, ...]


@dataclass(frozen=True)
class ArrayRefs:
    """Arrays by layer, each under a version; a worker reads one only when it does not hold that version.

    Attributes:
        versions: layer → name of the contents.
        refs: layer → reference to the array in Ray's object store.
    """

    versions: Mapping[int, str]
    refs: Mapping[int, Any]

    @property
    def key(self) -> Key:
        """The versions as something to look up by."""
        return tuple(sorted(self.versions.items()))


@dataclass(frozen=True)
class Call:
    """One piece of work for a worker.

    Attributes:
        key: what it is; calls of one key are interchangeable.
        method: name of the worker's method.
        arguments: its arguments.
        party_batch: the party batch it is for; 0 when it is for none.
        holds: key under which the worker keeps something that later calls want, for example targets.
        wants: key of something that a worker may hold already; another worker can do the call too, but slower.
        group: calls of one group go to workers of one machine, where there are several; None for any.
        instead_of: key of the call that this one repeats, under which it is counted; None for none.
    """

    key: Key
    method: str
    arguments: tuple[Any, ...] = ()
    party_batch: int = 0
    holds: Key | None = None
    wants: Key | None = None
    group: int | None = None
    instead_of: Key | None = None

    def __str__(self) -> str:
        return f"{self.method} of party batch {self.party_batch}" if len(self.key) > 1 else self.method


@dataclass(frozen=True)
class StoredContribution:
    """What a worker says of a party batch's contribution that it keeps for others of its machine to add.

    Attributes:
        ref: reference to the contribution; None where one of the party batch's parties was refused.
        machine: name of the machine.
        collected: all else that the party batch's parties sent.
    """

    ref: Any
    machine: str
    collected: Collected


@dataclass(frozen=True)
class PartialSum:
    """The sum of a group of party batches, or which of them are to be computed again.

    Attributes:
        contribution: the sum; None when something is missing.
        missing: party batches whose contributions went with the workers that kept them.
    """

    contribution: Contribution | None
    missing: tuple[int, ...] = ()


@dataclass(frozen=True)
class Reply:
    """What a worker answers.

    Attributes:
        incarnation: number of the worker, which no other worker of the same coordinator gets; answers of lost workers
            are dropped.
        value: the typed result.
        seconds: how long the worker worked; reading weights and histories from others is left out.
    """

    incarnation: int
    value: Any
    seconds: float

    @property
    def note(self) -> str | None:
        """What the table of events says of it, in words."""
        return self.value.note if isinstance(self.value, TargetReport) else None


@dataclass(frozen=True)
class ModelFacts:
    """What the coordinator needs to know of the model.

    Attributes:
        base_weights: unedited weights [V, K] float32 of the edited layers.
        covariance_fingerprint: what the key covariance depends on; None where it is not kept on disk.
        covariance_chunks: number of chunks of the key covariance's text.
        covariance_length: its tokens.
    """

    base_weights: Mapping[int, Any]
    covariance_fingerprint: Mapping[str, object] | None
    covariance_chunks: int
    covariance_length: int
