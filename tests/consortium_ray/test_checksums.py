"""Answers under a checksum: what was checksummed comes back; one flipped bit anywhere is noticed."""

import numpy as np
import pytest
import ray
from consortium.merging.statistics import Basis, DenseStatistics
from consortium_ray.checksums import Checksummed, verified, with_checksum, with_flipped_bit
from consortium_ray.messages import Reply

GRAM_KK, CROSS_VK = np.arange(9.0).reshape(3, 3), np.ones((2, 3))
STATISTICS = DenseStatistics(Basis("a", 1, 0), GRAM_KK, CROSS_VK, 4, 2)
VALUES = {
    "arrays": STATISTICS,
    "columns": {"x": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "every second": np.arange(8)[::2]},
    "no arrays": ("text", 3, None),
    "empty": np.zeros((0, 4)),
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_what_was_sealed_comes_back(value):
    found = verified(with_checksum(Reply(7, value, 0.25)))
    assert (found.incarnation, found.seconds) == (7, 0.25)
    assert repr(found.value) == repr(value)


def test_arrays_travel_beside_the_pickle_and_arrive_without_a_copy():
    checksummed = with_checksum(Reply(0, STATISTICS, 0.0))
    assert [array.nbytes for array in checksummed.arrays] == [72, 48]
    assert np.shares_memory(checksummed.arrays[0], GRAM_KK)
    found = verified(checksummed).value
    assert np.shares_memory(found.gram_KK, checksummed.arrays[0])
    assert not found.gram_KK.flags.writeable


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_flipped_bit_is_noticed(value):
    assert verified(with_flipped_bit(with_checksum(Reply(7, value, 0.25)))) is None


def test_a_bit_of_the_pickle_or_of_any_array_is_noticed():
    checksummed = with_checksum(Reply(0, STATISTICS, 0.0))
    for place in range(len(checksummed.head)):
        head = bytearray(checksummed.head)
        head[place] ^= 4
        assert verified(Checksummed(bytes(head), checksummed.arrays, checksummed.checksum)) is None
    assert verified(Checksummed(checksummed.head, checksummed.arrays[::-1], checksummed.checksum)) is None
    assert verified(Checksummed(checksummed.head, checksummed.arrays[:1], checksummed.checksum)) is None


def test_the_answer_that_was_sealed_is_not_touched_by_the_damage():
    before = CROSS_VK.copy()
    with_flipped_bit(with_checksum(Reply(0, STATISTICS, 0.0)))
    np.testing.assert_array_equal(CROSS_VK, before)


def test_references_travel_beside_the_pickle():
    """Ray has to see them, to keep what they point to for as long as somebody may ask for it."""
    ref, other = ray.ObjectRef.from_random(), ray.ObjectRef.from_random()
    checksummed = with_checksum(Reply(0, {"first": ref, "rest": [other, ref]}, 0.0))
    assert set(checksummed.refs) == {ref, other}
    assert ref.binary() not in checksummed.head
    assert verified(checksummed).value == {"first": ref, "rest": [other, ref]}
