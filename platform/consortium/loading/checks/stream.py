"""Rules for the ``stream`` section: what is asked for in which round."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from consortium.common.counting import count
from consortium.common.errors import shown
from consortium.loading.field_errors import FieldError
from consortium.loading.yaml_text import KeyPath
from consortium.scenario.schema import ConflictSpec, PhaseSpec, Scenario

_ROUNDING = 1e-9


@dataclass(frozen=True)
class _Shares:
    """The shares that hold in some rounds, and the key path under which they were written."""

    path: KeyPath
    overlap: float
    conflict: float | ConflictSpec
    repeat: float

    @property
    def total(self) -> float:
        """Share of edits that are not fresh."""
        return self.overlap + self.repeat + self.conflict_total

    @property
    def conflict_total(self) -> float:
        """Share of edits that contradict others."""
        if isinstance(self.conflict, ConflictSpec):
            return self.conflict.party + self.conflict.round
        return self.conflict


def stream_errors(scenario: Scenario) -> Iterator[FieldError]:
    """Every mistake of the ``stream`` section."""
    yield from _prolonged(scenario)
    yield from _phase_rounds(scenario)
    yield from _edits_in_all(scenario)
    for shares in _all_shares(scenario):
        yield from _shares_add_up(shares)
        yield from _others_exist(shares, scenario.parties.count)
    if scenario.stream.rounds == 1:
        yield from _earlier_rounds_exist(scenario)


def _all_shares(scenario: Scenario) -> list[_Shares]:
    stream = scenario.stream
    common = _Shares(("stream",), stream.overlap, stream.conflict, stream.repeat)
    return [common, *(_in_phase(common, index, phase) for index, phase in enumerate(stream.phases))]


def _in_phase(common: _Shares, index: int, phase: PhaseSpec) -> _Shares:
    return _Shares(
        ("stream", "phases", index),
        common.overlap if phase.overlap is None else phase.overlap,
        common.conflict if phase.conflict is None else phase.conflict,
        common.repeat if phase.repeat is None else phase.repeat,
    )


def _prolonged(scenario: Scenario) -> Iterator[FieldError]:
    ends = (*scenario.stream.prolonged, scenario.stream.rounds)
    if any(low >= high for low, high in pairwise(ends)):
        allowed = f"ascending numbers below stream.rounds ({scenario.stream.rounds})"
        yield FieldError(("stream", "prolonged"), f"found {shown(list(scenario.stream.prolonged))}", allowed)


def _phase_rounds(scenario: Scenario) -> Iterator[FieldError]:
    last = scenario.stream.rounds
    taken: dict[int, int] = {}
    for index, phase in enumerate(scenario.stream.phases):
        path = ("stream", "phases", index, "rounds")
        low, high = phase.rounds
        if low > high:
            yield FieldError(path, f"found [{low}, {high}]", "the first round, then the last", f"write [{high}, {low}]")
        elif high > last:
            yield FieldError(path, f"found [{low}, {high}]", f"rounds from 1 to {last} (stream.rounds)")
        else:
            shared = [round for round in range(low, high + 1) if taken.setdefault(round, index) != index]
            if shared:
                found = f"round {shared[0]} is in phase {taken[shared[0]]} too"
                yield FieldError(path, found, "each round in one phase at most")


def _edits_in_all(scenario: Scenario) -> Iterator[FieldError]:
    """``parties.edits`` is a number for all rounds, so nothing else may say how many there are in one."""
    parties, rounds = scenario.parties, scenario.stream.rounds
    path: KeyPath = ("parties", "edits")
    if parties.edits is None:
        return
    if parties.edits % rounds:
        nearest = max(1, round(parties.edits / rounds)) * rounds
        allowed = f"a multiple of stream.rounds ({rounds})"
        yield FieldError(path, f"found {parties.edits} for {count(rounds, 'round')}", allowed, f"write {nearest}")
    elif parties.edits != parties.edits_per_round * rounds:
        found = f"found {parties.edits} for {count(rounds, 'round')}, and edits_per_round {parties.edits_per_round}"
        yield FieldError(path, found, "one of the two; edits is for all rounds together", "leave one of them out")
    for index, phase in enumerate(scenario.stream.phases):
        if phase.edits_per_round is not None:
            found = f"found {phase.edits_per_round} with parties.edits {parties.edits}"
            allowed = "null: parties.edits deals as many edits to each round"
            yield FieldError(
                ("stream", "phases", index, "edits_per_round"), found, allowed, "set parties.edits_per_round"
            )


def _shares_add_up(shares: _Shares) -> Iterator[FieldError]:
    if shares.total <= 1 + _ROUNDING:
        return
    found = (
        f"overlap {shares.overlap:g} + conflict {shares.conflict_total:g} + repeat {shares.repeat:g} = {shares.total:g}"
    )
    inherited = ", those that the phase leaves out taken from stream" if len(shares.path) > 1 else ""
    yield FieldError(shares.path, found, f"shares that add up to at most 1{inherited}")


def _others_exist(shares: _Shares, num_parties: int) -> Iterator[FieldError]:
    """Overlap and conflict between parties need two."""
    if num_parties > 1:
        return
    if shares.overlap > 0:
        found = f"found {shares.overlap:g} with one party: there is nobody to share edits with"
        yield FieldError((*shares.path, "overlap"), found, "0, or parties.count of at least 2")
    party = shares.conflict.party if isinstance(shares.conflict, ConflictSpec) else shares.conflict
    if party > 0:
        found = f"found {party:g} with one party: there is nobody to contradict"
        allowed = "0, or {party: 0, round: SHARE} to contradict earlier rounds, or parties.count of at least 2"
        yield FieldError((*shares.path, "conflict"), found, allowed)


def _earlier_rounds_exist(scenario: Scenario) -> Iterator[FieldError]:
    """Repeats, and conflicts asked for with earlier rounds, need two rounds."""
    for shares in _all_shares(scenario):
        allowed = "0, or stream.rounds of at least 2"
        if shares.repeat > 0:
            yield FieldError((*shares.path, "repeat"), f"found {shares.repeat:g} in a single round", allowed)
        if isinstance(shares.conflict, ConflictSpec) and shares.conflict.round > 0:
            found = f"found {shares.conflict.round:g} in a single round"
            yield FieldError((*shares.path, "conflict", "round"), found, allowed)
