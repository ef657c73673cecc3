"""Entropy of word n-grams, by hand."""

from __future__ import annotations

import math

import pytest
from consortium.evaluation.metrics.fluency import METRIC, entropy
from consortium.evaluation.sums import ProbeSum


def test_by_hand_on_five_words() -> None:
    """Pairs ab ba ab bc: ½, ¼, ¼, so 1.5 bits. Triples aba bab abc: log₂ 3 bits. ½ (⅔ · 1.5 + 4⁄3 · log₂ 3)."""
    assert entropy("a b a b c") == pytest.approx((1 + 4 / 3 * math.log2(3)) / 2)


def test_different_words_give_the_logarithm_of_their_number() -> None:
    words = " ".join(f"w{number}" for number in range(70))
    assert entropy(words) == pytest.approx((2 / 3 * math.log2(69) + 4 / 3 * math.log2(68)) / 2)
    assert 100 * entropy(words) == pytest.approx(609, abs=0.5)


def test_a_model_that_repeats_itself_has_none() -> None:
    assert entropy("no " * 50) == 0
    assert entropy("") == entropy("word") == 0
    assert entropy("two words") == 0


def test_signs_are_words_and_apostrophes_belong_to_theirs() -> None:
    """Both are four words in four places: three pairs and two triples."""
    assert entropy("It's Zoë, yes") == entropy("a b c d") == pytest.approx((2 / 3 * math.log2(3) + 4 / 3) / 2)


def test_sums_come_to_hundredths_of_a_bit() -> None:
    total = ProbeSum(4.5, None, 1, 2) + ProbeSum(6.5, None, 1, 1)
    assert total == ProbeSum(11.0, None, 2, 3)
    assert (METRIC.value(total), METRIC.strict(total), METRIC.unit) == (550.0, None, "0.01 bit")
