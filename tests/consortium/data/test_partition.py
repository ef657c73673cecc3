"""Dealing facts."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from consortium.common.errors import ScenarioError
from consortium.data.partition import deal
from consortium.scenario.schema import PartitionSpec

EVEN = PartitionSpec(kind="iid")
RELATIONS = [f"r{number % 4}" for number in range(400)]


def skewed(alpha: float) -> PartitionSpec:
    return PartitionSpec(kind="dirichlet", alpha=alpha)


@pytest.mark.parametrize("spec", [EVEN, skewed(0.3)])
def test_every_fact_is_dealt_at_most_once_and_hands_have_their_sizes(spec: PartitionSpec) -> None:
    hands = deal(1, spec, RELATIONS, [50, 0, 120])
    assert [len(hand) for hand in hands] == [50, 0, 120]
    assert len(set(np.concatenate(hands).tolist())) == 170


@pytest.mark.parametrize("spec", [EVEN, skewed(0.3)])
def test_all_facts_can_be_dealt_out(spec: PartitionSpec) -> None:
    hands = deal(1, spec, RELATIONS, [100] * 4)
    assert sorted(np.concatenate(hands).tolist()) == list(range(400))


@pytest.mark.parametrize("spec", [EVEN, skewed(0.3)])
def test_a_party_at_the_end_takes_nothing_from_the_others(spec: PartitionSpec) -> None:
    few, more = deal(1, spec, RELATIONS, [30] * 3), deal(1, spec, RELATIONS, [30] * 4)
    assert [hand.tolist() for hand in few] == [hand.tolist() for hand in more[:3]]


@pytest.mark.parametrize("spec", [EVEN, skewed(0.3)])
def test_the_seed_alone_decides(spec: PartitionSpec) -> None:
    first, again, other = (deal(seed, spec, RELATIONS, [30])[0].tolist() for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_even_hands_hold_all_relations_alike() -> None:
    (hand,) = deal(1, EVEN, RELATIONS, [200])
    # 50 of each are expected, with a standard deviation of about 4.3.
    assert all(abs(amount - 50) < 20 for amount in Counter(RELATIONS[fact] for fact in hand).values())


@pytest.mark.parametrize(("alpha", "low", "high"), [(0.05, 0.75, 1.0), (1000.0, 0.25, 0.45)])
def test_a_small_alpha_gives_a_party_few_relations(alpha: float, low: float, high: float) -> None:
    """Mean share of a party's commonest relation: near 1 for small alpha, near 1/4 (of four) for a large one."""
    relations = [f"r{number % 4}" for number in range(40_000)]
    hands = deal(3, skewed(alpha), relations, [40] * 100)
    tops = [Counter(relations[fact] for fact in hand).most_common(1)[0][1] / 40 for hand in hands]
    assert low <= float(np.mean(tops)) <= high


@pytest.mark.parametrize("alpha", [1e-300, 1e-3, 1e300])
def test_extreme_alphas_deal_all_the_same(alpha: float) -> None:
    hands = deal(1, skewed(alpha), RELATIONS, [100] * 4)
    assert sorted(np.concatenate(hands).tolist()) == list(range(400))


def test_a_used_up_relation_is_replaced_by_others() -> None:
    relations = ["rare"] * 3 + ["common"] * 40
    (hand,) = deal(1, skewed(1.0), relations, [43])
    assert sorted(hand.tolist()) == list(range(43))


def test_too_few_facts_are_refused_with_both_numbers() -> None:
    with pytest.raises(ScenarioError, match="ask for 401 different facts, and the fact set has 400"):
        deal(1, EVEN, RELATIONS, [401])
