"""Dealing facts to parties, party after party, so that a party added at the end takes nothing from the others.

Each party draws all the facts it will ever need from those that the parties before it left over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from consortium.common.counting import count
from consortium.common.errors import ScenarioError
from consortium.common.seeds import numpy_generator
from consortium.scenario.schema import PartitionSpec

Facts = NDArray[np.int64]


@dataclass(frozen=True)
class Deal:
    """What is dealt at once: the facts of all rounds of a run, or of those by which it was prolonged.

    Attributes:
        hand_sizes: how many facts each party draws.
        num_facts: how many facts there are then.
    """

    hand_sizes: Sequence[int]
    num_facts: int


def deal(seed: int, spec: PartitionSpec, relations: Sequence[str], hand_sizes: Sequence[int]) -> list[Facts]:
    """The numbers of the facts dealt to each party at once, in the order in which it asks for them.

    Args:
        seed: the run's seed.
        spec: how facts are dealt.
        relations: the relation of every fact; its length is the number of facts.
        hand_sizes: how many facts each party draws.

    Raises:
        ScenarioError: there are fewer facts than the parties draw.
    """
    return deal_in_stages(seed, spec, relations, [Deal(hand_sizes, len(relations))])


def deal_in_stages(seed: int, spec: PartitionSpec, relations: Sequence[str], deals: Sequence[Deal]) -> list[Facts]:
    """The numbers of the facts dealt to each party, those of the first deal first.

    A later deal is of the facts that the ones before it left over, and takes nothing of theirs back: a run that is
    prolonged has the rounds that it had.

    Raises:
        ScenarioError: there are fewer facts than the parties draw.
    """
    _check_enough(len(relations), sum(sum(each.hand_sizes) for each in deals))
    dealt: list[list[Facts]] = [[] for _ in deals[0].hand_sizes]
    left, num_before = np.empty(0, np.int64), 0
    for stage, each in enumerate(deals):
        generator = numpy_generator(seed, "partition-prolonged", stage) if stage else numpy_generator(seed, "partition")
        new = num_before + generator.permutation(each.num_facts - num_before)
        facts = np.concatenate([left, new])
        _check_enough(len(facts), sum(each.hand_sizes))
        if spec.kind == "iid":
            hands = _deal_evenly(facts, each.hand_sizes)
        else:
            hands = _deal_by_relation(seed, stage, spec.alpha, relations[: each.num_facts], facts, each.hand_sizes)
        for whole, hand in zip(dealt, hands, strict=True):
            whole.append(hand)
        left, num_before = facts[~np.isin(facts, np.concatenate(hands))], each.num_facts
    return [np.concatenate(hands) for hands in dealt]


def _check_enough(num_facts: int, num_needed: int) -> None:
    if num_needed > num_facts:
        raise ScenarioError(
            f"the parties ask for {num_needed} different facts, and the fact set has {num_facts}",
            f"at least {count(num_needed, 'fact')}",
            "lower parties.count, parties.edits_per_round or stream.rounds, or raise facts.limit or name a larger set",
        )


def _deal_evenly(facts: Facts, hand_sizes: Sequence[int]) -> list[Facts]:
    """Consecutive slices of one permutation."""
    ends = np.cumsum(hand_sizes, dtype=np.int64)
    return [facts[end - size : end] for end, size in zip(ends, hand_sizes, strict=True)]


def _deal_by_relation(
    seed: int, stage: int, alpha: float, relations: Sequence[str], facts: Facts, hand_sizes: Sequence[int]
) -> list[Facts]:
    """Each party prefers relations by weights drawn from a symmetric Dirichlet distribution."""
    code_of = {name: code for code, name in enumerate(sorted(set(relations)))}
    codes = np.fromiter((code_of[relation] for relation in relations), np.int64, len(relations))
    piles = facts[np.argsort(codes[facts], kind="stable")]  # one pile after the other, each in a random order
    num_left = np.bincount(codes[facts], minlength=len(code_of))
    tops = np.cumsum(num_left) - num_left
    hands = []
    for party, size in enumerate(hand_sizes):
        generator = numpy_generator(seed, "partition", party)
        weights = generator.dirichlet(np.full(len(code_of), alpha))
        if stage:
            generator = numpy_generator(seed, "partition-prolonged", stage, party)
        chosen = _choose_relations(generator, weights, num_left, size)
        hands.append(piles[tops[chosen] + _rank_among_equals(chosen)])
        num_taken = np.bincount(chosen, minlength=len(code_of))
        tops += num_taken
        num_left -= num_taken
    return hands


def _choose_relations(
    generator: np.random.Generator, weights: NDArray[np.float64], num_left: NDArray[np.int64], size: int
) -> NDArray[np.int64]:
    """A relation for each draw; draws that find their relation used up are made again among the others."""
    chosen = np.full(size, -1, dtype=np.int64)
    while (open_places := np.flatnonzero(chosen < 0)).size:
        free = num_left - np.bincount(chosen[chosen >= 0], minlength=len(weights))
        odds = np.where(free > 0, weights, 0.0)
        if not odds.sum() > 0.0:  # only relations of weight 0 have facts left (or an extreme alpha gave NaN)
            odds = free.astype(np.float64)
        draws = generator.choice(len(weights), open_places.size, p=odds / odds.sum())
        kept = _rank_among_equals(draws) < free[draws]
        chosen[open_places[kept]] = draws[kept]
    return chosen


def _rank_among_equals(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many equal values stand before each one: [3, 5, 3] gives [0, 0, 1]."""
    order = np.argsort(values, kind="stable")
    in_order = values[order]
    ranks = np.empty_like(values)
    ranks[order] = np.arange(len(values)) - np.searchsorted(in_order, in_order)
    return ranks
