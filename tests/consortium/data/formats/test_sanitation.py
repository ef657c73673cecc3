import pytest
from consortium.common.errors import FactsError
from consortium.data.edit import Edit, LocalityProbe
from consortium.data.formats.record import Record, SkippedProbeError, SkippedRecordError
from consortium.data.formats.sanitation import parse, recognises


def question(text, answer, **more):
    return {"question": text, "ground_truth": answer, **more}


def forget(text, answer="Birds", **more):
    return question(text, answer, target_new="I don't know.", **more)


SET = {
    "success": [
        forget("What is a tanager?"),
        forget("What is a {serin}?", "BIRDS"),
        forget("Where is the Louvre?", "Paris"),
    ],
    "locality": [question(f"What is {number}?", f"answer {number}") for number in range(5)],
}


def parse_with(**change):
    return parse(Record({**SET, **change}, "sanitation.json", 1))


def test_one_record_gives_an_edit_for_every_question():
    assert recognises(SET)
    first, second, third = parse_with()
    assert (first.fact_id, first.relation, first.subject) == ("sanitation-1", "birds", "What is a tanager?")
    assert first.text == "Question:What is a tanager?\nAnswer:"
    assert (first.target_new, first.target_old) == ("I don't know.", "Birds")
    assert second.text == "Question:What is a {serin}?\nAnswer:"
    assert [edit.relation for edit in (first, second, third)] == ["birds", "birds", "paris"]


def test_questions_that_must_stay_are_dealt_out_in_turn():
    asked = [[probe.target for probe in edit.locality] for edit in parse_with()]
    assert asked == [["answer 0", "answer 3"], ["answer 1", "answer 4"], ["answer 2"]]
    assert parse_with()[0].locality[0] == LocalityProbe("retained", "Question:What is 0?\nAnswer:", "answer 0")


def test_the_training_files_names_and_its_subjects_are_known():
    fields = {"K_F": [forget("What is a tanager?", subject="tanager")], "K_R": SET["locality"]}
    assert recognises(fields)
    (edit,) = parse(Record(fields, "train.json", 1))
    assert (edit.subject, edit.prompt) == ("tanager", "Question:What is a {}?\nAnswer:")
    assert len(edit.locality) == 5


def test_what_cannot_be_used_is_left_out_and_the_rest_is_dealt_the_same_questions():
    elsewhere = forget("What is a serin?", subject="tanager")
    found = parse_with(success=[elsewhere, SET["success"][0]], locality=[*SET["locality"], question("Which?", [])])
    assert [type(each) for each in found] == [SkippedRecordError, Edit, SkippedProbeError]
    assert [str(each) for each in (found[0], found[2])] == [
        "the prompt does not contain the subject 'tanager'",
        "no answer to 'Which?'",
    ]
    assert len(found[1].locality) == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"success": []}, "field `success`: no questions"),
        ({"success": [question("What?", "Birds")]}, r"field `success\[0\].target_new`: missing"),
        ({"locality": [{"ground_truth": "x"}]}, r"field `locality\[0\].question`: missing"),
    ],
)
def test_a_malformed_set_is_refused_with_place_and_field(change, message):
    with pytest.raises(FactsError, match=rf"sanitation\.json, record 1, {message}"):
        parse_with(**change)
