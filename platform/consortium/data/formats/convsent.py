"""KnowEdit's ConvSent records: the sentiment about a topic is to change (Mitchell et al., arXiv 2206.06520;
Zhang et al., arXiv 2401.01286).

::

    {"ent": "Fleetwood Mac", "pos": [" I love them. ", …], "neg": [" I'm not a fan. ", …]}

* The edit asks for the first answer of one sentiment, which a hash of the record's id draws (EasyEdit draws it too).
  The old target is the first answer of the other sentiment: whether an edit took says whether the sentiment did.
* The prompt is the bare question. EasyEdit edits with ``From the sentiment dataset, answer What do you think of X?
  positively.``, which names the wanted sentiment in the question; here the sentiment must come from the edit.
* Rivals are answers of the two sentiments by turns, so that each contradicts the one before.
* Paraphrases are the set's other wordings of the question.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from consortium.common.seeds import derive
from consortium.data.edit import Edit
from consortium.data.formats.record import Record, SkippedRecordError

PROMPT = "What do you think of {}?"
_NOUNS = (
    "opinion of", "stance on", "position on", "attitude about", "view on", "take on", "impression of",
    "assessment of", "judgment of", "sentiment of",
)  # fmt: skip
PARAPHRASES = (
    "What do you feel about {}?",
    "How do you view {}?",
    *(f"What is your {noun} {{}}?" for noun in _NOUNS),
)


def recognises(fields: Mapping[str, Any]) -> bool:
    """Whether a record with these fields is in ConvSent's shape."""
    return all(name in fields for name in ("ent", "pos", "neg"))


def parse(record: Record) -> Edit:
    """The edit of a record; FactsError if it is malformed, SkippedRecordError if a sentiment has no answer."""
    subject = record.text("ent")
    sides = [record.answers("pos"), record.answers("neg")]
    if not all(sides):
        raise SkippedRecordError(f"{'no negative' if sides[0] else 'no positive'} answer about {subject!r}")
    fact_id = f"convsent-{record.number}"
    wanted = derive(0, "convsent", fact_id) % 2
    ours, theirs = sides[wanted], [answer for answer in sides[1 - wanted] if answer not in sides[wanted]]
    if not theirs:
        raise SkippedRecordError(f"the two sentiments about {subject!r} have the same answers")
    return Edit(
        fact_id=fact_id,
        relation=("positive", "negative")[wanted],
        subject=subject,
        prompt=PROMPT,
        target_new=ours[0],
        target_old=theirs[0],
        paraphrases=tuple(template.format(subject) for template in PARAPHRASES),
        rivals=tuple(_by_turns(theirs, ours[1:])),
    )


def _by_turns(theirs: Sequence[str], ours: Sequence[str]) -> Iterator[str]:
    """One of theirs, one of ours, one of theirs, … until a side has no more."""
    yield theirs[0]
    for our, their in zip(ours, theirs[1:], strict=False):
        yield from (our, their)
