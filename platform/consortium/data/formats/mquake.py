"""MQuAKE's cases: several rewrites, and questions of several hops that they change (Zhong et al., arXiv 2305.14795).

::

    {"case_id": 1, "requested_rewrite": [{"prompt": "{} is married to", "relation_id": "P26", "subject": "Ellie Kemper",
      "question": "Who is Ellie Kemper married to?", "target_true": {"str": "Michael Koman", "id": "Q6832257"},
      "target_new": {"str": "Carlo Ponti", "id": "Q213581"}}, …],
     "questions": ["What is the country of citizenship of Ellie Kemper's spouse?", …],
     "answer": "United States of America", "answer_alias": ["USA", …], "new_answer": "Italy", "new_answer_alias": […],
     "new_single_hops": [{"question": "Who is Ellie Kemper married to?", "cloze": "Ellie Kemper is married to",
                          "answer": "Carlo Ponti", "answer_alias": []}, …]}

* Each rewrite is an edit. Its paraphrases are its ``question``, and the ``question`` of the hop in ``new_single_hops``
  whose ``cloze`` is the edit's prompt.
* Each of a case's edits brings all its ``questions`` as portability of the kind ``reasoning``; ``new_answer`` and its
  other names are right. A question of a case with several edits can be answered rightly only once all of them are made.
* Edits that ask for what is so already are left out. One without ``target_true`` has no old answer.
* Not used: ``answer``, the old ``single_hops``, the triples in ``orig``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from consortium.data.edit import Edit, PortabilityProbe
from consortium.data.formats.record import Record, SkippedProbeError, SkippedRecordError

MquakeProbes = Edit | SkippedRecordError | SkippedProbeError


def recognises(fields: Mapping[str, Any]) -> bool:
    """Whether a record with these fields is in MQuAKE's shape."""
    return isinstance(fields.get("requested_rewrite"), list)


def parse(record: Record) -> tuple[MquakeProbes, ...]:
    """The edits of a case, and the reasons for what of it is left out; FactsError if it is malformed."""
    rewrites = record.parts("requested_rewrite")
    if not rewrites:
        raise record.rejection("requested_rewrite", "no rewrites", "a list of one rewrite or more")
    case = record.name("case_id", str(record.number))
    portability, unasked = _portability(record)
    hops = dict(_hops(record))
    edits = [_edit(rewrite, f"mquake-{case}/{n}", portability, hops) for n, rewrite in enumerate(rewrites, start=1)]
    return *edits, *unasked


def _edit(
    rewrite: Record, fact_id: str, portability: tuple[PortabilityProbe, ...], hops: Mapping[str, str]
) -> Edit | SkippedRecordError:
    subject, prompt = rewrite.text("subject"), rewrite.template("prompt")
    new = _target(rewrite, "target_new")
    old = _target(rewrite, "target_true") if rewrite.has("target_true") else None
    if old == new:
        return SkippedRecordError(f"asks for {new!r}, which is so already")
    questions = rewrite.texts("question")
    hop = hops.get(prompt.replace("{}", subject, 1))
    return Edit(
        fact_id,
        rewrite.name("relation_id", prompt),
        subject,
        prompt,
        new,
        old,
        paraphrases=tuple(dict.fromkeys([*questions, *([hop] if hop is not None else [])])),
        portability=portability,
        join=rewrite.spacing("prompt", "target_new"),
    )


def _target(rewrite: Record, field: str) -> str:
    if isinstance(rewrite.fields.get(field), str):
        return rewrite.text(field)
    return rewrite.part(field).text("str")


def _portability(record: Record) -> tuple[tuple[PortabilityProbe, ...], list[SkippedProbeError]]:
    questions = record.texts("questions")
    answers = tuple(dict.fromkeys([*record.answers("new_answer"), *record.answers("new_answer_alias")]))
    if not answers:
        return (), [SkippedProbeError(f"no answer to {question!r}") for question in questions]
    return tuple(PortabilityProbe("reasoning", question, answers) for question in questions), []


def _hops(record: Record) -> Iterator[tuple[str, str]]:
    """Beginning of a sentence and question of every hop after the edits that has both."""
    for hop in record.parts("new_single_hops"):
        if hop.has("cloze") and hop.has("question"):
            yield hop.prompt("cloze"), hop.prompt("question")
