"""The moments of a round at which a feature may act; at each of them, what it does by default changes nothing.

A feature has a hook with the parties' edits, at every worker (:class:`PartyHook`), a hook at the coordinator
(:class:`RoundHook`), or both. The spine calls the hooks of the features that the scenario asks for
(:mod:`consortium.features.registry`) and imports no others. A feature sends to workers what it decided about a party
batch (``PartyBatch.decisions``); what a worker reports to a feature comes back under its name (``reports``).

    moment                          at a worker                     at the coordinator
    before a round                  announce                        decide
    before a phase                  select, skips                   removals
    after targets                   notice
    on a contribution               on_messages
    before an evaluation            holds
    before a round is written                                       edit_row, residual_row, round_row, tables
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

import torch

from consortium.data.edit import Edit, FactSet
from consortium.data.party_batch import FeatureDecision, PartyBatch, WeightedEdit
from consortium.data.request import Request
from consortium.data.stream import Stream
from consortium.editing.edited_layers import EditedLayers, Weights
from consortium.editing.known_facts import Detection, Residuals
from consortium.merging.method import Contribution, MergeMethod
from consortium.merging.reference_norms import ReferenceNorms
from consortium.merging.solver import CovarianceSolver
from consortium.merging.statistics import Basis
from consortium.records.rows import EditRow, ResidualRow, RoundRow
from consortium.scenario.schema import Scenario

#: Keys [K, E] and residuals [V, E] of some edits.
Columns = tuple[torch.Tensor, torch.Tensor]


class PartyData(Protocol):
    """What parties know by themselves: their edits."""

    scenario: Scenario
    facts: FactSet
    stream: Stream

    def requests(self, round_number: int, number: int) -> list[Request]:
        """What a batch's parties ask for in a round, party after party."""
        ...

    def edit(self, request: Request) -> Edit:
        """The edit that a request asks for."""
        ...

    def merged(self, batch: PartyBatch) -> list[WeightedEdit]:
        """What of a batch goes into the merge, party after party."""
        ...

    def columns(self, batch: PartyBatch) -> dict[int, slice]:
        """Party → where its edits stand among these."""
        ...


@dataclass(frozen=True)
class Rejection:
    """A party whose message was refused: the arm's round begins again without it.

    Attributes:
        party: its number.
        reason: a word or two, as the feature's page lists them.
        detail: what was found, in words.
    """

    party: int
    reason: str
    detail: str


@dataclass(frozen=True)
class Messages:
    """What a batch's parties send to one sum.

    Attributes:
        batch: the batch.
        basis: arm, round and layer.
        edits: the edits that the messages are about.
        num_summed: how many of them, copies included, are in the messages.
        sent: party and message, in the order of parties.
        method: the arm's merge method.
        reference_norms: what is usual at the layer in the unedited model.
        solver: the parties' own, where they solve.
        is_removal: whether the sum is subtracted.
        rejections: parties whose messages were refused.
        reports: feature → what it has to say at the coordinator.
    """

    batch: PartyBatch
    basis: Basis
    edits: Sequence[WeightedEdit]
    num_summed: int
    sent: Sequence[tuple[int, Contribution]]
    method: MergeMethod
    reference_norms: ReferenceNorms
    solver: CovarianceSolver | None = None
    is_removal: bool = False
    rejections: tuple[Rejection, ...] = ()
    reports: Mapping[str, Any] = field(default_factory=dict)

    def reporting(self, feature: str, report: Any) -> Messages:
        """The same with a feature's report."""
        return replace(self, reports={**self.reports, feature: report})


class PartyHook:
    """What a feature does with the parties' edits; every method is idempotent.

    Args:
        data: the parties' edits.
    """

    name: ClassVar[str]

    def __init__(self, data: PartyData) -> None:
        self.data = data

    def announce(self, batch: PartyBatch) -> Any:
        """What the batch's parties tell the coordinator before a round; asked where the other hook ``announces``."""
        raise NotImplementedError

    def select(self, batch: PartyBatch, edits: list[WeightedEdit]) -> list[WeightedEdit]:
        """Which edits of a batch go into its merges, in their order, and how."""
        return edits

    def notice(
        self, batch: PartyBatch, layers: EditedLayers, weights: Weights, shifts: Sequence[float]
    ) -> Sequence[Detection]:
        """What parties notice of their edits once a round's first targets are there; empty where nobody looks.

        Args:
            batch: the batch.
            layers: the model.
            weights: the arm's weights before anything of the round is merged.
            shifts: relative residuals of the edits under these weights.
        """
        return ()

    def skips(
        self, arm: str, batch: PartyBatch, layers: EditedLayers, weights: Weights, shifts: Sequence[float]
    ) -> Sequence[bool]:
        """Which edits their parties do not send, by what they saw in :meth:`notice`; empty for none."""
        return ()

    def on_messages(self, messages: Messages) -> Messages:
        """What becomes of parties' messages before they are added."""
        return messages

    def removed(self, batch: PartyBatch) -> list[WeightedEdit]:
        """Edits of earlier rounds that the batch's parties remove; for a batch of ``RoundHook.removals``."""
        raise NotImplementedError

    def removed_columns(self, batch: PartyBatch, columns_of: Callable[[PartyBatch], Columns]) -> dict[int, Columns]:
        """Party → keys and residuals of these edits.

        Args:
            batch: the batch.
            columns_of: gives those of all edits of a batch, party after party.
        """
        raise NotImplementedError

    def holds(self, request: Request, round_number: int) -> bool:
        """Whether a request of an earlier round is one that the model is to know after this round."""
        return True

    def stands(self, edit: Edit, round_number: int) -> bool:
        """Whether an edit's answer is one that may stand after this round, whoever asked for it."""
        return True


@dataclass(frozen=True)
class MergedSum:
    """That a batch's answer went into an arm's layer, or was subtracted from it.

    Attributes:
        kind: ``merge`` or ``unlearn``.
        arm: the arm.
        layer: the layer.
        number: number of the batch.
        worker: the worker whose answer it was; None in a serial run.
        reports: feature → what the worker said to it.
    """

    kind: str
    arm: str
    layer: int
    number: int
    worker: str | None
    reports: Mapping[str, Any]


@dataclass
class RoundRecord:
    """What happened in a round, as far as features make rows of it.

    Attributes:
        batches: the round's batches with what was decided about them.
        excluded: (arm, party) → why it was excluded.
        excluded_before: arm → earlier round → parties that were excluded then.
        merged: all that was merged.
        lost_calls: key of a call → how often its worker was lost, or its answer refused.
        dropped: key of a call → answers that came twice or too late.
    """

    batches: Sequence[PartyBatch] = ()
    excluded: dict[tuple[str, int], str] = field(default_factory=dict)
    excluded_before: dict[str, Mapping[int, frozenset[int]]] = field(default_factory=dict)
    merged: list[MergedSum] = field(default_factory=list)
    lost_calls: Counter[Hashable] = field(default_factory=Counter)
    dropped: Counter[Hashable] = field(default_factory=Counter)


class RoundHook:
    """What a feature does at the coordinator.

    Args:
        scenario: the scenario as resolved.
        stream: who asks for what.
    """

    name: ClassVar[str]

    def __init__(self, scenario: Scenario, stream: Stream) -> None:
        self.scenario = scenario
        self.stream = stream

    @property
    def announces(self) -> bool:
        """Whether parties announce something before a round, from which :meth:`decide` follows."""
        return False

    def undecided(self, round_number: int) -> range:
        """Rounds that are to be decided for a round to be, itself the last; after a resume there may be several."""
        return range(round_number, round_number + 1)

    def decide(self, round_number: int, announced: Sequence[Any]) -> Sequence[FeatureDecision]:
        """What follows for each batch of a round from what all batches announced, both in order."""
        raise NotImplementedError

    def removals(self, round_number: int, excluded: Mapping[int, frozenset[int]]) -> Sequence[PartyBatch]:
        """The batches whose parties take something back in a round, in order.

        Args:
            round_number: the round.
            excluded: earlier round → parties that the arm excluded in it.
        """
        return ()

    def num_withdrawn(self, record: RoundRecord) -> Counter[int]:
        """Party → its edits of the round that do not go into any merge."""
        return Counter()

    def edit_row(self, row: EditRow, request: Request, edit: Edit, record: RoundRecord) -> EditRow:
        """The row of an edit with the feature's columns."""
        return row

    def residual_row(self, row: ResidualRow, sums: Residuals) -> ResidualRow:
        """The row of some edits' residuals with the feature's columns."""
        return row

    def round_row(self, row: RoundRow, record: RoundRecord) -> RoundRow:
        """The row of an arm's round with the feature's columns."""
        return row

    def tables(self, round_number: int, record: RoundRecord) -> Mapping[str, Sequence[Any]]:
        """Rows of tables that the feature has to itself, by the names of :class:`consortium.records.rows.Rows`."""
        return {}
