"""What both runtimes do alike in a round: its party batches, what features decide about them, and a layer's merge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from consortium.data.party_batch import PartyBatch
from consortium.editing.layer_schedule import Part
from consortium.engine.arms import Arm
from consortium.engine.key_covariance import KeyCovariance
from consortium.engine.round_log import RoundLog
from consortium.features.hooks import MergedSum, RoundHook
from consortium.merging.method import Contribution
from consortium.party.worker import Collected
from consortium.scenario.schema import Scenario


def batches_of(scenario: Scenario, round_number: int) -> list[PartyBatch]:
    """A round's party batches before anything is decided about them."""
    return [PartyBatch(round_number, number) for number in range(scenario.num_party_batches)]


def decided(batches: Sequence[PartyBatch], hook: RoundHook, announced: Sequence[Any]) -> list[PartyBatch]:
    """A round's batches with what a feature decides about them, from what the parties of each announced."""
    decisions = hook.decide(batches[0].round, announced)
    return [batch.decided(hook.name, each) for batch, each in zip(batches, decisions, strict=True)]


def batches_without(scenario: Scenario, batches: Sequence[PartyBatch], parties: frozenset[int]) -> list[PartyBatch]:
    """Party batches as an arm sees them that goes without some parties."""
    return [batch.without(parties.intersection(scenario.party_batch(batch.number))) for batch in batches]


class Removal(NamedTuple):
    """A batch that takes something back, and the feature that says what."""

    feature: str
    batch: PartyBatch


def removals_of_round(hooks: Sequence[RoundHook], arm: Arm, round_number: int) -> list[Removal]:
    """What is removed in an arm's round before anything is merged."""
    return [Removal(hook.name, batch) for hook in hooks for batch in hook.removals(round_number, arm.excluded_before)]


class Summed(NamedTuple):
    """A batch's part of a sum: its number, the worker whose answer it was, and what the answer said besides."""

    number: int
    worker: str | None
    collected: Collected


class LayerTotal(Protocol):
    """The sum of batches' contributions to one layer."""

    @property
    def parts(self) -> Sequence[Summed]:
        """The batches in it, in ascending order."""
        ...

    def total(self) -> Contribution:
        """The sum."""
        ...


def merge_parts(
    log: RoundLog,
    covariance: KeyCovariance,
    arm: Arm,
    round_number: int,
    part: Part,
    added: LayerTotal,
    removed: LayerTotal | None,
) -> None:
    """Merge one layer of an arm: subtract what was removed, add what was sent, and write down both.

    Raises:
        NotFiniteError: more edits were left out than the scenario allows.
    """
    log.check_finite(arm.name, round_number, sum(each.collected.num_edits for each in added.parts))
    with log.timed("merge", round_number, arms=[arm.name], layer=part.layer):
        solver = covariance.solver(log.scenario, part.layer, arm.history.get(part.layer))
        if removed is not None:
            arm.unlearn(removed.total())
        arm.merge(added.total(), solver)
    for kind, summed in (("unlearn", removed), ("merge", added)):
        parts = summed.parts if summed is not None else ()
        log.merged(
            MergedSum(kind, arm.name, part.layer, each.number, each.worker, each.collected.reports) for each in parts
        )
