import pytest
from consortium.common.errors import FactsError
from consortium.data.edit import Neighbor
from consortium.data.formats.record import Record, SkippedRecordError
from consortium.data.formats.zsre import parse, recognises

MEND = {
    "subject": "Lola Beeth",
    "src": "What voice type is Lola Beeth?",
    "pred": "soprano",
    "rephrase": "What sort of voice is Lola Beeth?",
    "alt": "mezzo-soprano",
    "answers": ["soprano"],
    "loc": "nq question: what is the altitude of the sacred valley in peru",
    "loc_ans": "3,000 metres",
}


def parse_with(**change):
    fields = {name: value for name, value in {**MEND, **change}.items() if value is not ...}
    return parse(Record(fields, "zsre.json", 8))


def test_a_record_of_mend():
    assert recognises(MEND)
    edit = parse_with()
    assert (edit.fact_id, edit.subject, edit.prompt) == ("zsre-8", "Lola Beeth", "What voice type is {}?")
    assert (edit.target_new, edit.target_old) == ("mezzo-soprano", "soprano")
    assert edit.paraphrases == ("What sort of voice is Lola Beeth?",)
    assert edit.relation == edit.prompt


def test_the_neighbor_keeps_its_prefix_and_gets_a_question_mark():
    question = "nq question: what is the altitude of the sacred valley in peru?"
    assert parse_with().neighbors == (Neighbor(question, "3,000 metres"),)
    assert parse_with(loc=question).neighbors == (Neighbor(question, "3,000 metres"),)
    assert parse_with(loc=None, loc_ans=None).neighbors == ()


def test_the_subjects_first_whole_word_is_replaced_once():
    edit = parse_with(subject="Art", src="Which Artist drew Art, and who owns Art?")
    assert edit.prompt == "Which Artist drew {}, and who owns Art?"
    assert parse_with(subject="Ion", src="Who wrote Ionia?").prompt == "Who wrote {}ia?"


def test_a_new_target_that_is_true_is_not_the_old_one():
    assert parse_with(alt="soprano").target_old is None
    assert parse_with(alt="soprano", answers=["soprano", "alto"]).target_old == "alto"


def test_a_question_that_spells_the_subject_otherwise_is_left_out():
    with pytest.raises(SkippedRecordError, match="does not contain the subject 'Lola Beth'"):
        parse_with(subject="Lola Beth")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"src": ...}, "field `src`: missing"),
        ({"src": "What {voice} type is Lola Beeth?"}, "field `src`: stray braces"),
        ({"subject": " "}, "field `subject`: empty text"),
        ({"alt": None}, "field `alt`: null"),
        ({"alt": ""}, "field `alt`: empty text"),
        ({"answers": []}, "field `answers`: no answers"),
        ({"answers": [3]}, r"field `answers\[0\]`: a number, 3"),
        ({"loc": 1}, "field `loc`: a number, 1"),
        ({"loc": None}, "field `loc`: null"),
        ({"loc_ans": ""}, "field `loc_ans`: empty text"),
    ],
)
def test_a_malformed_record_is_refused_with_place_and_field(change, message):
    with pytest.raises(FactsError, match=rf"zsre\.json, record 8, {message}"):
        parse_with(**change)
