"""MQuAKE: one edit for each rewrite of a case, its questions of several hops as portability."""

import json

import pytest
from consortium.common.errors import FactsError
from consortium.data.edit import Edit, PortabilityProbe
from consortium.data.formats import counterfact, mquake
from consortium.data.formats.record import Record, SkippedProbeError, SkippedRecordError
from consortium.data.load import load_facts
from consortium.scenario.schema import FactsSpec

SPOUSE = {
    "prompt": "{} is married to",
    "relation_id": "P26",
    "subject": "Ann Lee",
    "question": "Who is Ann Lee married to?",
    "target_new": {"str": "Carlo Rossi", "id": "Q1"},
    "target_true": {"str": "Bob Ray", "id": "Q2"},
}
CITIZEN = {
    "prompt": "{} is a citizen of",
    "relation_id": "P27",
    "subject": "Carlo Rossi",
    "question": "Which country is Carlo Rossi a citizen of?",
    "target_new": {"str": "Peru", "id": "Q3"},
    "target_true": {"str": "Italy", "id": "Q4"},
}
CASE = {
    "case_id": 17,
    "requested_rewrite": [SPOUSE, CITIZEN],
    "questions": ["What is the citizenship of Ann Lee's spouse?", "Where is the spouse of Ann Lee a citizen?"],
    "answer": "France",
    "answer_alias": ["French Republic"],
    "new_answer": "Peru",
    "new_answer_alias": ["Republic of Peru", "Peru"],
    "single_hops": [
        {
            "question": "Who is Ann Lee's spouse?",
            "cloze": "Ann Lee is married to",
            "answer": "Bob Ray",
            "answer_alias": [],
        }
    ],
    "new_single_hops": [
        {"question": "Whom is Ann Lee married to?", "cloze": "Ann Lee is married to", "answer": "Carlo Rossi"},
        {"question": CITIZEN["question"], "cloze": "Carlo Rossi is a citizen of", "answer": "Peru", "answer_alias": []},
    ],
    "orig": {"triples": [["Q5", "P26", "Q2"]]},
}
PORTABILITY = tuple(
    PortabilityProbe("reasoning", question, ("Peru", "Republic of Peru")) for question in CASE["questions"]
)


def parse(fields):
    return mquake.parse(Record(fields, "mquake.json", 3))


def test_each_rewrite_of_a_case_is_an_edit_with_all_its_questions():
    assert mquake.recognises(CASE)
    assert not counterfact.recognises(CASE)
    spouse, citizen = parse(CASE)
    assert spouse == Edit(
        "mquake-17/1",
        "P26",
        "Ann Lee",
        "{} is married to",
        "Carlo Rossi",
        "Bob Ray",
        paraphrases=("Who is Ann Lee married to?", "Whom is Ann Lee married to?"),
        portability=PORTABILITY,
    )
    assert citizen == Edit(
        "mquake-17/2",
        "P27",
        "Carlo Rossi",
        "{} is a citizen of",
        "Peru",
        "Italy",
        paraphrases=("Which country is Carlo Rossi a citizen of?",),
        portability=PORTABILITY,
    )


@pytest.mark.parametrize("format_name", ["auto", "mquake"])
def test_a_file_of_cases_is_known_by_its_fields_and_by_name(tmp_path, format_name):
    (tmp_path / "cases.json").write_text(json.dumps([CASE, {**CASE, "case_id": 18}]))
    facts = load_facts(FactsSpec(source=str(tmp_path / "cases.json"), format=format_name))
    assert [edit.fact_id for edit in facts.edits] == ["mquake-17/1", "mquake-17/2", "mquake-18/1", "mquake-18/2"]
    assert all(edit.portability == PORTABILITY for edit in facts.edits)
    assert (facts.name_of(1), facts.name_of(2)) == ("record 1", "record 2")


def test_what_cannot_be_asked_is_left_out_with_its_reason():
    held = {**SPOUSE, "target_true": {"str": "Carlo Rossi"}}
    skipped, citizen = parse({**CASE, "requested_rewrite": [held, CITIZEN]})
    assert isinstance(skipped, SkippedRecordError)
    assert "so already" in str(skipped)
    assert citizen.subject == "Carlo Rossi"
    edit, *unasked = parse({**CASE, "requested_rewrite": [SPOUSE], "new_answer": None, "new_answer_alias": []})
    assert edit.portability == ()
    assert all(isinstance(each, SkippedProbeError) for each in unasked)
    assert len(unasked) == 2


def test_a_rewrite_that_names_no_old_answer_has_none():
    for missing in (
        {key: value for key, value in SPOUSE.items() if key != "target_true"},
        {**SPOUSE, "target_true": None},
    ):
        spouse, citizen = parse({**CASE, "requested_rewrite": [missing, CITIZEN]})
        assert (spouse.target_old, spouse.target_new, citizen.target_old) == (None, "Carlo Rossi", "Italy")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"requested_rewrite": []}, "field `requested_rewrite`: no rewrites"),
        ({"requested_rewrite": [{**SPOUSE, "prompt": "Ann"}]}, r"field `requested_rewrite\[0\]\.prompt`: 0 times {}"),
        ({"requested_rewrite": [SPOUSE, 4]}, r"field `requested_rewrite\[1\]`: a number, 4"),
        ({"requested_rewrite": [{**SPOUSE, "target_new": {}}]}, r"`requested_rewrite\[0\]\.target_new\.str`: missing"),
        ({"questions": [""]}, r"field `questions\[0\]`: empty text"),
        ({"new_answer_alias": [3]}, r"field `new_answer_alias\[0\]`: a number, 3"),
    ],
)
def test_malformed_cases_are_refused_with_their_field(change, message):
    with pytest.raises(FactsError, match=message):
        parse({**CASE, **change})
