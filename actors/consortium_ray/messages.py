"""What passes between coordinator and hosts: calls in one direction, typed answers in the other.

Answers hold counts, sums and statistics only, why a message was refused, and slips, which are keyed digests. Edits,
single keys and targets stay in the host (the lane of the method ``global`` is the exception: it stands for one owner of
all facts, and its keys travel; and with ``evaluate.per_edit``, which is off by default, so do probes and answers).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from consortium.merging.method import Contribution
from consortium.party.worker import Collected, TargetReport

#: Names a piece of work: the same key always means the same answer.
Key = tuple[Hashable, ...]


@dataclass(frozen=True)
class ArrayRefs:
    """Arrays by layer, each under a version; a host reads one only when it does not hold that version.

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
    """One piece of work for a host.

    Attributes:
        key: what it is; calls of one key are interchangeable.
        method: name of the host's method.
        arguments: its arguments.
        cohort: the cohort it is for; 0 when it is for none.
        holds: key under which the host keeps something that later calls want, for example targets.
        wants: key of something that a host may hold already; another host can do the call too, but slower.
        group: calls of one group go to hosts of one machine, where there are several; None for any.
        instead_of: key of the call that this one repeats, under which it is counted; None for none.
    """

    key: Key
    method: str
    arguments: tuple[Any, ...] = ()
    cohort: int = 0
    holds: Key | None = None
    wants: Key | None = None
    group: int | None = None
    instead_of: Key | None = None

    def __str__(self) -> str:
        return f"{self.method} of cohort {self.cohort}" if len(self.key) > 1 else self.method


@dataclass(frozen=True)
class Trouble:
    """What a host does wrong with a call, because the scenario says so.

    Attributes:
        delay_s: seconds by which the answer is late.
        is_damaged: the answer arrives with a bit flipped.
        ends_node: the host's node ends, and the host with it.
        cut_s: seconds for which the host's node is cut off, and the host with it.
    """

    delay_s: float = 0.0
    is_damaged: bool = False
    ends_node: bool = False
    cut_s: float = 0.0


#: What befalls nearly every call.
NO_TROUBLE = Trouble()


@dataclass(frozen=True)
class Held:
    """What a host says of a cohort's contribution that it keeps for others of its machine to add.

    Attributes:
        ref: reference to the contribution; None where one of the cohort's parties was refused.
        machine: name of the machine.
        collected: all else that the cohort's parties sent.
    """

    ref: Any
    machine: str
    collected: Collected


@dataclass(frozen=True)
class GroupSum:
    """The sum of a group of cohorts, or which of them are to be computed again.

    Attributes:
        contribution: the sum; None when something is missing.
        missing: cohorts whose contributions went with the hosts that kept them.
    """

    contribution: Contribution | None
    missing: tuple[int, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What a host answers.

    Attributes:
        incarnation: number of the host, which no other host of the same coordinator gets; answers of lost hosts are
            dropped.
        value: the typed result.
        seconds: how long the host worked; reading weights and histories from others is left out.
    """

    incarnation: int
    value: Any
    seconds: float

    @property
    def remark(self) -> str | None:
        """What the table of events says of it, in words."""
        return self.value.remark if isinstance(self.value, TargetReport) else None


@dataclass(frozen=True)
class ModelFacts:
    """What the coordinator needs to know of the model.

    Attributes:
        base_weights: unedited weights [V, K] float32 of the edited layers.
        prior_fingerprint: what the prior depends on; None where it is not kept on disk.
        prior_chunks: number of chunks of the prior's text.
        prior_length: its tokens.
    """

    base_weights: Mapping[int, Any]
    prior_fingerprint: Mapping[str, object] | None
    prior_chunks: int
    prior_length: int
