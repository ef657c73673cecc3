"""Overlap and contradiction as they show in a sum, and in nothing else."""

from __future__ import annotations

import pytest
import torch
from consortium.merging.key_overlap import KeyOverlap, key_overlap
from consortium.merging.statistics import Basis, Statistics, joined_statistics, statistics_of, zero

BASIS = Basis("collabedit", 1, 5)


def sent(party: int, keys_KE: torch.Tensor, residuals_VE: torch.Tensor, form: str = "auto") -> Statistics:
    """What a party sends, its columns mixed by a rotation of its own."""
    generator = torch.Generator().manual_seed(party)
    return statistics_of(BASIS, keys_KE, residuals_VE, form, generator)  # type: ignore[arg-type]


def drawn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def found(*parts: Statistics) -> KeyOverlap:
    answer = key_overlap(joined_statistics(list(parts)))
    assert answer is not None
    return answer


def test_requests_about_different_subjects_do_not_meet() -> None:
    answer = found(
        sent(0, drawn(16, 3, seed=0), drawn(4, 3, seed=1)), sent(1, drawn(16, 2, seed=2), drawn(4, 2, seed=3))
    )
    assert answer == KeyOverlap(num_edits=5, num_shared_keys=0, unresolvable_share=0.0)


def test_two_parties_that_ask_the_same_meet_and_do_not_contradict() -> None:
    keys_KE, residuals_VE = drawn(16, 3, seed=0), drawn(4, 3, seed=1)
    # The same request of another party comes out of another batch, in float32.
    again = sent(1, keys_KE[:, :1] * (1 + 1e-6), residuals_VE[:, :1] * (1 - 1e-6))
    answer = found(sent(0, keys_KE, residuals_VE), again)
    assert answer.num_shared_keys == 1
    assert answer.unresolvable_share < 1e-9


def test_two_parties_that_contradict_each_other_show_what_cannot_be_had() -> None:
    """One key, residuals a and -a: no update gives either its due; beside them an edit b that is met.

    The best update gives the pair their mean, 0. What is missing is 2·‖a‖² of 2·‖a‖² + ‖b‖².
    """
    keys_KE = drawn(16, 2, seed=0)
    a_V1, b_V1 = torch.tensor([[3.0], [4.0]]), torch.tensor([[0.0], [1.0]])
    answer = found(sent(0, keys_KE, torch.cat([a_V1, b_V1], dim=1)), sent(1, keys_KE[:, :1], -a_V1))
    assert answer.num_shared_keys == 1
    assert answer.unresolvable_share == pytest.approx(50 / 51)


def test_it_is_what_least_squares_leaves() -> None:
    keys_KE = torch.cat([drawn(16, 4, seed=0), drawn(16, 4, seed=0)[:, :2]], dim=1)
    residuals_VE = drawn(4, 6, seed=1)
    best_VK = torch.linalg.lstsq(keys_KE.T, residuals_VE.T, driver="gelsd").solution.T
    left = (best_VK @ keys_KE - residuals_VE).square().sum() / residuals_VE.square().sum()
    answer = found(sent(0, keys_KE[:, :3], residuals_VE[:, :3]), sent(1, keys_KE[:, 3:], residuals_VE[:, 3:]))
    assert answer.unresolvable_share == pytest.approx(float(left), rel=1e-9)
    assert answer.num_shared_keys == 2


def test_sums_that_are_multiplied_out_or_empty_say_nothing() -> None:
    dense = sent(0, drawn(16, 3, seed=0), drawn(4, 3, seed=1), form="dense")
    assert key_overlap(dense) is None
    assert key_overlap(zero(BASIS, 16, 4)) is None
    assert key_overlap(sent(0, drawn(16, 3, seed=0), drawn(4, 3, seed=1)).gram) is None
    assert key_overlap("something else") is None
