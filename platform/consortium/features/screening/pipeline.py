"""The entrance: a cohort's messages, those of attackers spoilt on purpose, on their way through the door."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from consortium.data.attackers import attacks_of
from consortium.data.party_batch import PartyBatch
from consortium.data.stream import Stream
from consortium.features.attacks.attack_messages import misbehave
from consortium.features.screening.checks import Door, Judged
from consortium.merging.bucketing import groups_of
from consortium.merging.method import Contribution, MergeMethod
from consortium.merging.methods.norm_bound import NormBound
from consortium.merging.norms import sends_weighted_updates
from consortium.merging.reference_norms import Yardstick
from consortium.merging.solver import PriorSolver
from consortium.merging.statistics import Basis
from consortium.scenario.schema import Scenario


class Entrance:
    """Where parties' messages are judged, before they are added up.

    Args:
        scenario: the scenario as resolved.
        stream: who asks for what.
        methods: lane → its merge method.

    Attributes:
        yardsticks: layer → what is usual in the unedited model; to be set before anything is judged.
    """

    def __init__(self, scenario: Scenario, stream: Stream, methods: Mapping[str, MergeMethod]) -> None:
        self.yardsticks: Mapping[int, Yardstick] = {}
        self._scenario = scenario
        self._stream = stream
        self._methods = methods

    def judge(
        self, batch: PartyBatch, basis: Basis, sent: Sequence[Contribution], solver: PriorSolver | None
    ) -> Judged:
        """What is admitted of the messages of a cohort's parties, bounded where the method bounds, and who is refused.

        Args:
            batch: the batch; nobody's message is spoilt who is excluded.
            basis: what the messages should be about.
            sent: one message of each of its parties, in their order, as they should be.
            solver: the parties' own, where they solve.
        """
        parties, method = self._scenario.cohort(batch.number), self._methods[basis.lane]
        most_asked = max(self._num_asked(basis.round, party) for party in parties)
        most_edits = most_asked * (1 + self._scenario.conflicts.augment)
        system_trace = None
        if solver is not None and sends_weighted_updates(method):
            system_trace = float(solver.system_KK().diagonal().sum())
        max_norm = self._scenario.admission.max_norm
        door = Door(basis, self.yardsticks[basis.layer], max_norm, most_edits, system_trace, groups_of(method))
        judged = door.judge(
            [
                (party, message)
                for party, own in zip(parties, sent, strict=True)
                for message in ([own] if party in batch.excluded else self._made_of(own, basis.round, party))
            ]
        )
        if isinstance(method, NormBound):
            return replace(judged, admitted=[method.clipped(each, door.yardstick) for each in judged.admitted])
        return judged

    def _made_of(self, message: Contribution, round_number: int, party: int) -> list[Contribution]:
        """What a party sends for its message: the message, unless it attacks and takes part."""
        takes_part = self._scenario.attacks and self._num_asked(round_number, party)
        attacks = attacks_of(self._scenario, round_number, party) if takes_part else []
        return misbehave(attacks, message) if attacks else [message]

    def _num_asked(self, round_number: int, party: int) -> int:
        return self._stream.num_requests(round_number, range(party, party + 1))
