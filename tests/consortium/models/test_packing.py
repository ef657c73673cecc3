"""Packing: every token has a place of its own, sequences do not see each other, equal calls lay out equally."""

from __future__ import annotations

import pytest
import torch
from consortium.models.packing import Packing, pack
from hypothesis import given, settings
from hypothesis import strategies as st


def places(packing: Packing, number: int) -> list[tuple[int, int]]:
    return [packing.place(number, token) for token in range(len(packing.sequences[number]))]


def assert_well_packed(packing: Packing) -> None:
    """What must hold of any layout, token by token."""
    ids_RT, positions_RT, mask_RTT = packing.tensors()
    assert ids_RT.shape == positions_RT.shape == (packing.num_rows, packing.width)
    assert mask_RTT.shape == (packing.num_rows, packing.width, packing.width)
    owner: dict[tuple[int, int], tuple[int, int]] = {}
    for number, ids in enumerate(packing.sequences):
        for token, place in enumerate(places(packing, number)):
            assert place not in owner, "two tokens share a place"
            owner[place] = (number, token)
            assert ids_RT[place] == ids[token]
            assert positions_RT[place] == token
            assert (place[1] < packing.split) == (token < packing.splits[number])
    for row in range(packing.num_rows):
        for query in range(packing.width):
            for key in range(packing.width):
                asks, answers = owner.get((row, query)), owner.get((row, key))
                if asks is None or answers is None:
                    seen = query == key
                else:
                    seen = asks[0] == answers[0] and answers[1] <= asks[1]
                assert bool(mask_RTT[row, query, key]) == seen, (row, query, key)


def test_two_sequences_in_one_row_by_hand() -> None:
    """The longer one first; each sees itself up to its own token."""
    packing = pack([[7, 8], [4, 5, 6]])
    ids_RT, positions_RT, mask_RTT = packing.tensors()
    assert ids_RT.tolist() == [[4, 5, 6, 7, 8]]
    assert positions_RT.tolist() == [[0, 1, 2, 0, 1]]
    assert mask_RTT[0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [0, 0, 0, 1, 0],
        [0, 0, 0, 1, 1],
    ]
    assert packing.place(0, -1) == (0, 4)


def test_prefixes_stand_before_the_split_and_suffixes_behind_it_by_hand() -> None:
    """Suffixes 1·2·3 of the second and 9 of the first; the first one's prefix 8 and the second one's 0."""
    packing = pack([[8, 9], [0, 1, 2, 3]], [1, 1])
    ids_RT, positions_RT, _ = packing.tensors()
    assert packing.split == 2
    assert ids_RT.tolist() == [[0, 8, 1, 2, 3, 9]]
    assert positions_RT.tolist() == [[0, 0, 1, 2, 3, 1]]
    assert packing.columns(1) == [0, 2, 3, 4]


@settings(deadline=None)
@given(st.data())
def test_any_sequences_with_any_splits_are_well_packed(data: st.DataObject) -> None:
    sequences = data.draw(st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=14), min_size=1, max_size=12))
    splits = [data.draw(st.integers(0, len(ids) - 1)) for ids in sequences]
    packing = pack(sequences, splits)
    assert packing.sequences == tuple(map(tuple, sequences))
    assert packing.splits == tuple(splits)
    assert pack(sequences, splits) == packing
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("consortium.models.packing._ROW_TOKENS", 16)
        assert_well_packed(pack(sequences, splits))


def test_rows_are_filled_evenly() -> None:
    """40 sequences of 16 tokens make 10 rows of 64 without any padding."""
    packing = pack([[1] * 16] * 40)
    assert (packing.num_rows, packing.width) == (10, 64)


def test_a_sequence_longer_than_a_row_is_not_cut() -> None:
    packing = pack([[1] * 100, [2] * 3])
    assert packing.width >= 100
    assert packing.columns(0) == list(range(packing.columns(0)[0], packing.columns(0)[0] + 100))


def test_padding_sees_itself_alone_so_that_attention_stays_finite() -> None:
    packing = pack([[1] * 60, [2] * 60, [3] * 9])
    ids_RT, _, mask_RTT = packing.tensors()
    padding = [(row, column) for row in range(packing.num_rows) for column in range(packing.width)]
    for number in range(3):
        padding = [place for place in padding if place not in places(packing, number)]
    assert padding
    for row, column in padding:
        assert mask_RTT[row, column].nonzero().flatten().tolist() == [column]
        assert mask_RTT[row, :, column].nonzero().flatten().tolist() == [column]
    assert mask_RTT.any(-1).all()
    assert torch.equal(ids_RT, packing.tensors()[0])
