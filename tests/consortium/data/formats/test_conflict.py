import pytest
from consortium.common.errors import FactsError
from consortium.data.edit import PortabilityProbe
from consortium.data.formats.conflict import parse, recognises
from consortium.data.formats.record import Record, SkippedRecordError
from consortium.data.table import FactTable


def relation(number, prompt, query="Which is it for {}?"):
    return {"id": f"P{number}", "prompt": prompt, "query": query, "label": "…"}


def entity(label):
    return {"id": "Q1", "label": label}


def change(relation, subject, old, new, **more):
    fields = {"subject": entity(subject), "object": entity(old), "new_object": entity(new)}
    return {"relation": relation, **fields, **more}


GENRE = relation(136, "The genre of {} is")
EASY = {
    "type": "1-2@P136",
    "edit": {**change(GENRE, "Live Peace", "rock", "x"), "new_object": "space pop", "conflict_object": entity("jazz")},
    "true_objects": [entity("rock"), entity("folk")],
}
COVERAGE = {
    "type": "coverage",
    "edits": [change(GENRE, "Live Peace", "rock", "jazz"), change(GENRE, "Live Peace", "jazz", "choro")],
}
WORK, CREATOR = relation(800, "The notable work of {} is"), relation(170, "The creator of {} is")
REVERSE = {
    "type": "reverse",
    "edits": [change(WORK, "Goya", "The Second of May", "Bulls"), change(CREATOR, "Bulls", "Goya", "Strauss")],
}
SPOUSE, FATHER = relation(26, "The spouse of {} is"), relation(22, "The father of {} is")
COMPOSITE = {
    "type": "composite",
    "prerequisites": [0],
    "edits": [
        change(SPOUSE, "Maria", "Francis", "Gena"),
        change(FATHER, "Josepha", "Francis", "John", true_object=entity("Gena")),
    ],
}


def parse_of(fields):
    return parse(Record(fields, "conflict.json", 7))


def test_the_formats_are_recognised():
    assert all(map(recognises, (EASY, COVERAGE, REVERSE, COMPOSITE)))
    assert not recognises({"edit": "Paris"})


def test_a_1_to_n_conflict_is_an_edit_with_the_other_side_as_its_rival():
    (edit,) = parse_of(EASY)
    assert (edit.fact_id, edit.relation, edit.text) == ("conflict-7", "P136", "The genre of Live Peace is")
    assert (edit.target_new, edit.target_old, edit.rivals) == ("space pop", "rock", ("jazz",))
    assert edit.paraphrases == ("Which is it for Live Peace?",)
    assert FactTable((edit,)).edit(0, variant=1).target_new == "jazz"


def test_without_a_new_object_the_true_one_is_asked_for():
    (edit,) = parse_of({"edit": {**EASY["edit"], "new_object": None}})
    assert (edit.target_new, edit.target_old, edit.rivals) == ("rock", None, ("jazz",))


def test_coverage_is_one_edit_and_its_variant_the_second():
    (edit,) = parse_of(COVERAGE)
    second = FactTable((edit,)).edit(0, variant=1)
    assert (edit.target_new, edit.target_old, second.target_new) == ("jazz", "rock", "choro")


def test_reverse_edits_imply_the_opposite_of_each_other():
    first, second = parse_of(REVERSE)
    assert (first.fact_id, first.text, first.target_new) == ("reverse-7/1", "The notable work of Goya is", "Bulls")
    assert (second.fact_id, second.text, second.target_new) == ("reverse-7/2", "The creator of Bulls is", "Strauss")
    assert first.portability == (PortabilityProbe("generalisation", "The creator of Bulls is", ("Goya",)),)
    assert second.portability == (PortabilityProbe("generalisation", "The notable work of Strauss is", ("Bulls",)),)
    assert (first.rivals, second.rivals) == ((), ("Goya",))


def test_a_composite_pair_conflicts_in_what_the_first_implies():
    first, second = parse_of(COMPOSITE)
    assert first.portability == (PortabilityProbe("reasoning", "The father of Josepha is", ("Gena",)),)
    assert (second.target_new, second.target_old, second.rivals) == ("John", "Francis", ("Gena",))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"edit": {**EASY["edit"], "new_object": "jazz"}}, "both sides want 'jazz'"),
        ({**COVERAGE, "edits": [COVERAGE["edits"][0]] * 2}, "both sides want 'jazz'"),
        ({**COVERAGE, "edits": [COVERAGE["edits"][0], REVERSE["edits"][0]]}, "two questions"),
        ({**REVERSE, "edits": [REVERSE["edits"][0], COMPOSITE["edits"][0]]}, "not about the first one's object"),
        ({**COVERAGE, "edits": [change(GENRE, "A", "b", "b"), change(GENRE, "A", "b", "c")]}, "which is so already"),
    ],
)
def test_pairs_without_a_conflict_are_left_out(fields, message):
    with pytest.raises(SkippedRecordError, match=message):
        parse_of(fields)


def test_an_edit_of_a_pair_that_changes_nothing_is_left_out_alone():
    first, second = COMPOSITE["edits"]
    found = parse_of({**COMPOSITE, "edits": [change(SPOUSE, "Maria", "Gena", "Gena"), second]})
    assert [type(each).__name__ for each in found] == ["SkippedRecordError", "Edit"]
    assert first != second


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"type": "1-2@P136", "edit": {"relation": GENRE}}, "field `edit.conflict_object`: missing"),
        ({"type": "other", "edits": []}, "field `type`: 'other'\nExpected: one of coverage, reverse, composite"),
        ({"type": "reverse", "edits": REVERSE["edits"][:1]}, "field `edits`: 1 edit"),
    ],
)
def test_a_malformed_record_is_refused_with_place_and_field(fields, message):
    with pytest.raises(FactsError, match=rf"conflict\.json, record 7, {message}"):
        parse_of(fields)
