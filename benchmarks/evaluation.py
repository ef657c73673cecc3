"""Evaluation: probes of many edits at once against one probe at a time.

The probes are those of a run: efficacy, paraphrases and neighbours of each edit, each with its rival.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from consortium.data.edit import Edit
from consortium.evaluation.metrics import neighborhood, paraphrase
from consortium.evaluation.rewrite_scores import own_probe
from consortium.models.queries import Probe, Score
from consortium.models.scoring import score_probes
from consortium.models.tokens import encode

from benchmarks.harness.case import Case, Moved, relative_difference
from benchmarks.harness.fixtures import Fixtures
from benchmarks.harness.measure import measure
from benchmarks.harness.record import Record
from benchmarks.naive.scoring import score_probes_naively

SIZES = (16, 200)
PROBES: Mapping[str, Callable[[Edit], Sequence[Probe]]] = {
    "efficacy": own_probe,
    "paraphrase": paraphrase.probes,
    "neighborhood": neighborhood.probes,
}
"""Metric → what it asks about an edit."""


def records(bench: Fixtures) -> Iterator[Record]:
    """A record for each number of edits."""
    for size in bench.options.sizes or SIZES:
        yield measure("evaluation", case(bench, size), bench.options.budget, bench.tell)


def case(bench: Fixtures, size: int) -> Case:
    """The probes of so many edits."""
    model = bench.model
    probes = [probe for edit in bench.edits(size) for probes_of in PROBES.values() for probe in probes_of(edit)]
    return Case(
        label=f"{size} edits, {len(probes)} probes",
        unit="probe",
        items=len(probes),
        ours=lambda count: score_probes(model, probes[:count]),
        naive=lambda count: score_probes_naively(model, probes[:count]),
        difference=_difference,
        product=bench.mlp_product(_num_tokens(bench, probes)),
        parameters=bench.parameters,
        moved=lambda _: Moved(None, "a party answers with a few counts and sums, whatever the number of probes"),
    )


def _num_tokens(bench: Fixtures, probes: Sequence[Probe]) -> int:
    return sum(len(encode(bench.model.tokenizer, probe.prompt)) for probe in probes)


def _difference(ours: Sequence[Score], naive: Sequence[Score]) -> float:
    """Of the negative log likelihoods; answers that differ count as a difference of 1."""
    kept = ours[: len(naive)]
    apart = relative_difference(_likelihoods(kept), _likelihoods(naive))
    # Two answers of equal likelihood may be ranked either way: only a clear difference is one.
    clear = [abs(score.nll_target - (score.nll_rival or 0.0)) > _TIE for score in naive]
    swapped = any(sure and one.success != other.success for sure, one, other in zip(clear, kept, naive, strict=True))
    return max(apart, 1.0) if swapped else apart


_TIE = 1e-2


def _likelihoods(scores: Sequence[Score]) -> torch.Tensor:
    values = [(score.nll_target, score.nll_target if score.nll_rival is None else score.nll_rival) for score in scores]
    return torch.tensor(values, dtype=torch.float64)
