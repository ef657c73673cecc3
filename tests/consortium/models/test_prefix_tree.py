"""Trees of token sequences: every sequence is there whole, what is shared stands once, and nothing else is seen."""

from __future__ import annotations

import random

import pytest
import torch
from consortium.models.partial_forward import run_lower_layers
from consortium.models.prefix_tree import PrefixTrees, build_trees
from support.pico import PICO_TYPES, pico_model

SHARED = [[1, 2, 3, 4], [1, 2, 3, 5, 6], [1, 2], [7, 8], [1, 2, 3, 4], [1, 9]]


def drawn(count: int, seed: int = 0) -> list[list[int]]:
    """Sequences over few tokens, so that many begin alike."""
    draw = random.Random(seed)
    return [[draw.randrange(3) for _ in range(draw.randint(1, 9))] for _ in range(count)]


def columns_of(trees: PrefixTrees) -> dict[int, tuple[int, tuple[int, ...]]]:
    return {
        number: (row, columns) for number, row, columns in zip(trees.numbers, trees.row_N, trees.columns_N, strict=True)
    }


def test_beginnings_stand_once() -> None:
    """1 2 3 4 | 1 2 3 5 6 | 1 9 | 7 8: nine columns for eighteen tokens."""
    (trees,) = build_trees(SHARED, 100)
    assert (trees.num_rows, trees.width) == (1, 9)
    places = columns_of(trees)
    assert places[0] == places[4]
    assert places[2][1] == places[0][1][:2] == places[1][1][:2]
    assert places[5][1][:1] == places[0][1][:1]
    assert not set(places[3][1]) & {column for number in (0, 1, 5) for column in places[number][1]}


@pytest.mark.parametrize("row_tokens", [1, 5, 12, 200])
@pytest.mark.parametrize("tokens_at_once", [1, 30, 1000])
def test_every_sequence_is_there_and_sees_itself_alone(row_tokens: int, tokens_at_once: int) -> None:
    sequences = drawn(60)
    all_trees = build_trees(sequences, tokens_at_once, row_tokens)
    assert sorted(number for trees in all_trees for number in trees.numbers) == list(range(60))
    for trees in all_trees:
        ids_RT, positions_RT, mask_RTT = trees.tensors()
        assert ids_RT.shape == (trees.num_rows, trees.width)
        assert trees.width <= max(row_tokens, 9)
        assert trees.num_rows == 1 or ids_RT.numel() <= tokens_at_once
        for number, (row, columns) in columns_of(trees).items():
            assert trees.sequences[trees.numbers.index(number)] == tuple(sequences[number])
            assert ids_RT[row, columns].tolist() == sequences[number]
            assert positions_RT[row, columns].tolist() == list(range(len(columns)))
            for step, column in enumerate(columns):
                assert mask_RTT[row, column].nonzero()[:, 0].tolist() == list(columns[: step + 1])


def test_a_wide_row_holds_every_beginning_once() -> None:
    sequences = drawn(80)
    prefix_cache = {tuple(tokens[:end]) for tokens in sequences for end in range(1, len(tokens) + 1)}
    (trees,) = build_trees(sequences, 10_000, 10_000)
    assert trees.width == len(prefix_cache)


def test_ends_are_the_last_tokens() -> None:
    (trees,) = build_trees(SHARED, 100, 6)
    ids_RT, _, _ = trees.tensors()
    assert ids_RT[trees.ends()].tolist() == [SHARED[number][-1] for number in trees.numbers]


def test_the_layout_follows_from_the_sequences_alone() -> None:
    """Their order changes numbers only, so that a batch's bits do not depend on it."""
    sequences = drawn(50)
    turned = sequences[::-1]
    for one, other in zip(build_trees(sequences, 60, 20), build_trees(turned, 60, 20), strict=True):
        for mine, its in zip(one.tensors(), other.tensors(), strict=True):
            assert torch.equal(mine, its)


def test_batches_are_of_nearly_equal_size() -> None:
    """Seven full rows at four a batch: four and three, not one left over with the last."""
    sequences = [[number] * 10 for number in range(9)]
    assert [trees.num_rows for trees in build_trees(sequences, 40, 10)] == [3, 3, 3]


def test_no_sequences_are_no_forest() -> None:
    assert build_trees([], 100) == []


@pytest.mark.parametrize("model_type", PICO_TYPES)
def test_a_tree_gives_what_each_sequence_gives_by_itself(model_type: str) -> None:
    model = pico_model(model_type)
    sequences = [[5, 6, 7, 8], [5, 6, 9, 10, 11], [12, 5, 6], [5, 6]]
    (trees,) = build_trees(sequences, 100)
    hidden_RTV = run_lower_layers(model, trees, 2, [], print)
    for number, (row, columns) in columns_of(trees).items():
        (alone,) = build_trees([sequences[number]], 100)
        expected_TV = run_lower_layers(model, alone, 2, [], print)[0]
        torch.testing.assert_close(hidden_RTV[row, list(columns)], expected_TV, atol=2e-6, rtol=1e-5)
