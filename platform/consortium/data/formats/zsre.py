"""zsRE records as MEND prepared them (Levy et al., arXiv 1706.04115; Mitchell et al., arXiv 2110.11309).

::

    {"subject": "Lola Beeth", "src": "What voice type is Lola Beeth?", "alt": "mezzo-soprano",
     "answers": ["soprano"], "rephrase": "What sort of voice is Lola Beeth?",
     "loc": "nq question: what is the altitude of the sacred valley in peru", "loc_ans": "3,000 metres"}

* ``alt`` is the new target and the first other answer the old one (as in MEND and EasyEdit; MEMIT's code
  teaches ``answers[0]`` instead). Where ``alt`` is the only true answer, there is no old target.
* The prompt is the question with ``{}`` for the subject. Published files hold a few records whose
  question spells the subject in another way (1 of 300 looked at): those cannot be edited at the
  subject, so they are left out with a warning that counts them.
* The neighbour is the unrelated question ``loc``. MEND's prefix ``nq question: `` stays and a question mark
  is added, as MEMIT's code does, so that numbers compare. About one record in seven has no ``loc``.
* zsRE as prepared names no relation; the question with ``{}`` serves as one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from consortium.data.edit import Edit, Neighbor
from consortium.data.formats.record import Record, SkippedRecordError, subject_template


def recognises(fields: Mapping[str, Any]) -> bool:
    """Whether a record with these fields is in MEND's shape."""
    return "src" in fields and "alt" in fields


def parse(record: Record) -> Edit:
    """The edit of a record; FactsError if it is malformed, SkippedRecordError if its question lacks the subject."""
    subject = record.text("subject")
    target_new = record.text("alt")
    prompt = subject_template(record, "src", subject)
    answers = [answer.strip() for answer in record.texts("answers")]
    if not answers:
        raise record.rejection("answers", "no answers", "a list of true answers")
    paraphrases = record.texts("rephrase")
    neighbors = _neighbors(record)
    if prompt is None:
        raise SkippedRecordError(f"the question does not contain the subject {subject!r}")
    return Edit(
        fact_id=f"zsre-{record.number}",
        relation=prompt,
        subject=subject,
        prompt=prompt,
        target_new=target_new,
        target_old=next((answer for answer in answers if answer != target_new), None),
        paraphrases=paraphrases,
        neighbors=neighbors,
        join=record.spacing("src", "alt"),
    )


def _neighbors(record: Record) -> tuple[Neighbor, ...]:
    if not record.has("loc") and not record.has("loc_ans"):
        return ()
    question = record.prompt("loc")
    return (Neighbor(question if question.endswith("?") else f"{question}?", record.text("loc_ans")),)
