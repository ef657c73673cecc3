"""Fluency: the entropy of what a model writes about an edit's subject. A model that repeats itself has little.

    fluency = ½ (⅔ H₂ + 4⁄3 H₃),   H_n = − Σ f log₂ f   over the frequencies f of a text's n-grams of words

reported × 100, as in the code of ROME (arXiv 2202.05262) and of EasyEdit (KnowEdit, arXiv 2401.01286; their papers
print the sum without its ½). A text of 70 different words has (⅔ log₂ 69 + 4⁄3 log₂ 68) / 2 ≈ 6.1 bits: 609.

What differs: words are cut by a regular expression here (runs of letters and digits, apostrophes within them, and
every other sign by itself) instead of by NLTK's tokenizer, which wants data of its own; and only what the model wrote
is counted, while the reference counts the prompt too.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass

#: Length of n-grams → weight.
WEIGHTS = {2: 2 / 3, 3: 4 / 3}
#: Tokens are drawn from so many of the likeliest, as in the reference.
TOP_K = 5

_WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")


@dataclass(frozen=True)
class FluencySum:
    """Sums over edits of the mean entropy of their texts.

    Attributes:
        bits: Σ over edits.
        num_edits: edits.
        num_probes: texts, but for those that were written from numbers that are not finite.
        num_not_finite: these.
    """

    bits: float = 0.0
    num_edits: int = 0
    num_probes: int = 0
    num_not_finite: int = 0

    def __add__(self, other: FluencySum) -> FluencySum:
        return FluencySum(
            self.bits + other.bits,
            self.num_edits + other.num_edits,
            self.num_probes + other.num_probes,
            self.num_not_finite + other.num_not_finite,
        )


def entropy(text: str) -> float:
    """Weighted entropy of a text's 2- and 3-grams in bits; 0 for a text too short to have any."""
    words = _WORD.findall(text)
    return sum(weight * _entropy_of_ngrams(words, n) for n, weight in WEIGHTS.items()) / len(WEIGHTS)


def _entropy_of_ngrams(words: list[str], n: int) -> float:
    counts = Counter(tuple(words[start : start + n]) for start in range(len(words) - n + 1))
    total = counts.total()
    return math.fsum(-count / total * math.log2(count / total) for count in counts.values())
