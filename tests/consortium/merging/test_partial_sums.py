"""The tree of additions: the naive nested sum, in any number of groups, and in the smaller form at every level."""

import numpy as np
import pytest
import torch
from consortium.loading.prepare import open_facts
from consortium.merging.method import sum_in_order
from consortium.merging.partial_sums import PartialSums
from consortium.merging.statistics import Basis, DenseStatistics, FactoredStatistics, statistics_of
from support.scenarios import associative_scenario, difference

BASIS = Basis("collabedit", 1, 4)


def contribution(party_batch, num_edits=3, width=12):
    generator = torch.Generator().manual_seed(party_batch)
    keys_KE = torch.randn(width, num_edits, generator=generator, dtype=torch.float64)
    residuals_VE = torch.randn(5, num_edits, generator=generator, dtype=torch.float64)
    return statistics_of(BASIS, keys_KE, residuals_VE, "auto", generator)


def bucketed(party_batches, size):
    total = PartialSums(size)
    for party_batch in party_batches:
        total.add(party_batch, contribution(party_batch))
    return total.total()


def bits(statistics):
    return type(statistics), {name: array.tobytes() for name, array in statistics.arrays().items()}


@pytest.mark.parametrize("size", [1, 3, 4, 100])
@pytest.mark.parametrize("party_batches", [range(10), [0, 2, 3, 7, 8, 9], [5]])
def test_as_nested_sums(party_batches, size):
    nested = [
        sum_in_order([contribution(party_batch) for party_batch in party_batches if party_batch // size == bucket])
        for bucket in range(10)
        if any(party_batch // size == bucket for party_batch in party_batches)
    ]
    assert bits(bucketed(party_batches, size)) == bits(sum_in_order(nested))


def test_one_group_is_the_plain_sum():
    """So runs of up to ``reduce_fanout`` party batches have the bits that they had before there were groups."""
    assert bits(bucketed(range(10), 10)) == bits(sum_in_order(map(contribution, range(10))))
    assert bits(bucketed(range(10), 3)) != bits(sum_in_order(map(contribution, range(10))))


def test_whole_groups_made_elsewhere_give_the_same_bits():
    total = PartialSums(4)
    for bucket in ([0, 1, 2, 3], [4, 5, 6, 7], [8, 9]):
        total.add_group(sum_in_order(map(contribution, bucket)))
    assert bits(total.total()) == bits(bucketed(range(10), 4))


def test_the_smaller_form_at_every_level():
    """Three columns a party batch, K = 12: groups of four have 12 and stay factored, two of them have more than K."""
    assert isinstance(bucketed(range(4), 4), FactoredStatistics)
    assert isinstance(bucketed(range(5), 4), DenseStatistics)
    assert isinstance(bucketed(range(4), 2), FactoredStatistics)
    assert isinstance(bucketed(range(6), 2), DenseStatistics)
    dense = bucketed(range(30), 4)
    assert dense.nbytes == 8 * 12 * (12 + 5)
    np.testing.assert_allclose(dense.gram_KK, bucketed(range(30), 100).gram_KK, rtol=1e-12, atol=1e-12)


def test_party_batches_come_in_ascending_order():
    total = PartialSums(4)
    total.add(3, contribution(3))
    with pytest.raises(AssertionError, match="party batch 3 after 3"):
        total.add(3, contribution(3))


def test_bits_of_a_run_depend_on_groups_only_where_there_are_several(finished_run):
    """Four party batches: groups of 4 and of 16 are one group, groups of 1 are four that are added as before."""

    def states(size):
        scenario = associative_scenario(merge={"methods": ["collabedit"]}, cluster={"reduce_fanout": size})
        assert len(open_facts(scenario)) > 0
        return finished_run(scenario).arm_states()

    assert difference(states(4), states(16)) == []
