"""What a scenario takes at least, before anything of it is made.

Each figure is a lower bound: what certainly exists at once in one process of this machine. A scenario is refused only
if that is more memory than the machine has at all, so nothing that could run is refused.

Shapes: K key width, V value width.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from consortium.common.counting import count as counted
from consortium.loading.field_errors import FieldError
from consortium.loading.yaml_text import KeyPath
from consortium.models.description import ModelDescription
from consortium.scenario.schema import AssociativeModelSpec, Scenario

#: Bytes that the coordinator keeps of one request: its fact and its place in the stream (docs/scale.md measures 80).
_REQUEST_BYTES = 32
#: Bytes of one drawn fact: relation, old object and new one.
_FACT_BYTES = 12
#: Where a container's own limit of memory stands (cgroup v2, then v1).
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True)
class Need:
    """Something that takes memory.

    Attributes:
        what: in words, with the numbers that it follows from.
        num_bytes: at least so much.
        path: the key that decides it.
        unit_bytes: bytes for each unit of that key, to say how many fit; 0 if they do not grow in proportion.
    """

    what: str
    num_bytes: int
    path: KeyPath
    unit_bytes: float = 0.0


def machine_bytes() -> int:
    """Memory of this machine, swap included, or of the container that holds this process if that is less."""
    total = int(psutil.virtual_memory().total + psutil.swap_memory().total)
    for place in _LIMITS:
        try:
            limit = int(Path(place).read_text(encoding="ascii"))
        except (OSError, ValueError):  # another version, or `max`
            continue
        total = min(total, limit)
    return total


def size_errors(scenario: Scenario) -> Iterator[FieldError]:
    """What the scenario asks for and this machine cannot hold, with the numbers and with what fits."""
    yield from _beyond_memory([_requests(scenario)])
    if isinstance(scenario.model, AssociativeModelSpec):
        yield from _beyond_memory(_associative(scenario.model))


def covariance_size_errors(scenario: Scenario, model: ModelDescription) -> Iterator[FieldError]:
    """The same of the key covariance of every edited layer, and one sum of Gram matrices of the same size."""
    K, layers = model.key_width, len(scenario.editor.edited_layers)
    what = f"sums of {layers} layers with keys of width {K:,}"
    yield from _beyond_memory([Need(what, (layers + 1) * K * K * 8, ("editor", "layers"))])


def _beyond_memory(needs: Iterable[Need]) -> Iterator[FieldError]:
    memory = machine_bytes()
    for need in needs:
        if need.num_bytes > memory:
            allowed = f"at most the {_gib(memory)} of this machine"
            if need.unit_bytes:
                allowed += f": {'.'.join(str(part) for part in need.path)} up to {memory / need.unit_bytes:,.0f}"
            yield FieldError(need.path, f"{need.what} take at least {_gib(need.num_bytes)}", allowed)


def _requests(scenario: Scenario) -> Need:
    parties, stream = scenario.parties, scenario.stream
    per_party = parties.edits_per_round * stream.rounds
    for phase in stream.phases:
        first, last = phase.rounds[0], min(phase.rounds[1], stream.rounds)
        per_party += max(0, last - first + 1) * ((phase.edits_per_round or 0) - parties.edits_per_round)
    per_party = max(1, per_party)
    size = _REQUEST_BYTES + (_FACT_BYTES if isinstance(scenario.model, AssociativeModelSpec) else 0)
    what = (
        f"{counted(parties.count, 'party')} with {counted(per_party, 'edit')} each in {counted(stream.rounds, 'round')}"
    )
    num_requests = parties.count * per_party
    return Need(what, num_requests * size, ("parties", "count"), per_party * size)


def _associative(model: AssociativeModelSpec) -> Iterator[Need]:
    K, V, layers = model.key_width, model.value_width, model.num_layers
    weights = layers * K * V * 4
    yield Need(f"weights of {counted(layers, 'layer')} of {V:,} × {K:,}", weights, ("model", "num_layers"), K * V * 4)
    objects = model.num_objects * V * 4
    yield Need(f"{counted(model.num_objects, 'object')} of width {V:,}", objects, ("model", "num_objects"), V * 4)
    relations = model.num_relations * K * 4
    yield Need(
        f"{counted(model.num_relations, 'relation')} of width {K:,}", relations, ("model", "num_relations"), K * 4
    )
    yield Need(f"sums of keys of width {K:,}", 2 * K * K * 8, ("model", "key_width"))


def _gib(num_bytes: float) -> str:
    return f"{num_bytes / 2**30:,.1f} GiB"
