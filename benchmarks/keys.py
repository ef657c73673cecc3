"""Keys and residuals of a round, layer after layer, against whole prompts through the whole model one by one."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from consortium.common.seeds import torch_generator
from consortium.editing.backend import Targets
from consortium.editing.keys import hidden_states, keys_and_residuals

from benchmarks.harness.case import Case, Moved, relative_difference
from benchmarks.harness.fixtures import Fixtures
from benchmarks.harness.measure import measure
from benchmarks.harness.record import Record
from benchmarks.naive.keys import naive_keys, naive_residuals
from benchmarks.targets import prompts_of

SIZES = (24, 240)

#: Of each edited layer: keys [K, E] and residuals [V, E].
Found = list[tuple[torch.Tensor, torch.Tensor]]


def records(bench: Fixtures) -> Iterator[Record]:
    """A record for each number of edits."""
    for size in bench.options.sizes or SIZES:
        yield measure("keys", case(bench, size), bench.options.budget, bench.tell)


def case(bench: Fixtures, size: int) -> Case:
    """Keys and residuals of so many edits at every edited layer; targets are drawn, since only their place counts."""
    model, edits, contexts, layers = bench.model, bench.edits(size), bench.contexts, bench.layers
    vectors_EV = torch.randn(size, model.hidden_width, generator=torch_generator(0, "benchmark-targets"))

    def targets(count: int) -> Targets:
        return Targets(bench.layer, vectors_EV[:count], (0,) * count, (0.0,) * count, (0.0,) * count)

    def ours(count: int) -> Found:
        wanted, states, found = targets(count), None, []
        for layer in layers:
            states = hidden_states(model, edits[:count], contexts, layer, states)
            found.append(keys_and_residuals(model, states, wanted))
        return found

    def naive(count: int) -> Found:
        own, wanted = edits[:count], targets(count)
        return [
            (naive_keys(model, own, contexts, [layer])[layer], naive_residuals(model, own, wanted, layer))
            for layer in layers
        ]

    return Case(
        label=f"{size} edits, {len(layers)} layers",
        unit="edit",
        items=size,
        ours=ours,
        naive=naive,
        difference=_difference,
        product=bench.mlp_product(sum(_to_subject(bench, count) for count in range(size))),
        parameters={**bench.parameters, "layers": list(layers)},
        moved=lambda found: Moved(sum(k.nbytes + r.nbytes for k, r in found), "keys and residuals, inside the worker"),
    )


def _to_subject(bench: Fixtures, edit: int) -> int:
    """Tokens up to the subject's last one, in all contexts."""
    prompts = prompts_of(bench.model, bench.edits(edit + 1)[edit], bench.contexts)[:-1]
    return sum(prompt.subject + 1 for prompt in prompts)


def _difference(ours: Found, naive: Found) -> float:
    pairs = [pair for one, other in zip(ours, naive, strict=True) for pair in zip(one, other, strict=True)]
    return max(relative_difference(one[:, : other.shape[1]], other) for one, other in pairs)
