"""Fluency (KnowEdit): the entropy of what a model writes about an edit's subject.

A model that repeats itself has little.

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
from collections.abc import Iterator, Sequence

from consortium.evaluation.item import Item, Written
from consortium.evaluation.knowedit import SUFFIXES, in_both_ways
from consortium.evaluation.metric import EvaluatedBatch, Metric, probed
from consortium.evaluation.sums import ProbeSum

#: Length of n-grams → weight.
WEIGHTS = {2: 2 / 3, 3: 4 / 3}
#: Tokens are drawn from this many of the likeliest, as in the reference; greedy decoding takes the likeliest.
TOP_K = {"teacher_forcing": 5, "greedy": 1}

_WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")


def items(batch: EvaluatedBatch) -> Iterator[Item]:
    """The beginnings of texts about each edit's subject; of the edit's own prompt where its source has none."""
    scenario = batch.scenario
    for decoding in scenario.evaluate.decoding:
        for each in probed(batch):
            # A round's texts have draws of their own, the same in every arm.
            draws = scenario.seed, "fluency", each.of_round, batch.number
            way = Written(scenario.evaluate.generation_tokens, TOP_K[decoding], draws)
            prompts = each.edit.generation_prompts or (each.edit.text,)
            yield Item("fluency" + SUFFIXES[decoding], each.of_round, prompts, way, each)


def reduce(item: Item, texts: Sequence[str | None], _: Sequence[str | None]) -> dict[str, ProbeSum]:
    """The mean entropy of one edit's texts, but for those written from numbers that are not finite."""
    bits = [entropy(text) for text in texts if text is not None]
    missing = len(texts) - len(bits)
    return {item.column: ProbeSum(sum(bits) / len(bits) if bits else 0.0, None, int(bool(bits)), len(bits), missing)}


def entropy(text: str) -> float:
    """Weighted entropy of a text's 2- and 3-grams in bits; 0 for a text too short to have any."""
    words = _WORD.findall(text)
    return sum(weight * _entropy_of_ngrams(words, n) for n, weight in WEIGHTS.items()) / len(WEIGHTS)


def _entropy_of_ngrams(words: list[str], n: int) -> float:
    counts = Counter(tuple(words[start : start + n]) for start in range(len(words) - n + 1))
    total = counts.total()
    return math.fsum(-count / total * math.log2(count / total) for count in counts.values())


_MEANING = (
    "Entropy of words in what the model writes about the subjects, in hundredths of a bit, no percentage: "
    "a model that repeats itself has little."
)
METRIC = Metric(
    "fluency",
    _MEANING,
    items,
    reduce,
    order=130,
    unit="0.01 bit",
    counted_in="text",
    columns=in_both_ways({"fluency": _MEANING}),
    reads=lambda edit: ("generation_prompts",),
    is_decoded=True,
    needs_language=True,
)
