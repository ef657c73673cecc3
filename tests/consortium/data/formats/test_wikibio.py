import pytest
from consortium.common.errors import FactsError
from consortium.data.edit import LocalityProbe
from consortium.data.formats.record import Record, SkippedProbeError, SkippedRecordError
from consortium.data.formats.wikibio import parse, recognises

BIOGRAPHY = {
    "concept": "ada quill",
    "text": "This is a Wikipedia passage about ada quill. Ada Quill was a botanist. ",
    "labels": " She was born in Lyon in 1822.",
    "locality": {"Relation_Specificity": [{"prompt": "ada quill field of work", "ground_truth": ["botany"]}]},
}


def parse_with(**change):
    return parse(Record({**BIOGRAPHY, **change}, "wikibio.json", 2))


def test_a_biography_goes_on_with_the_sentence_that_is_true():
    assert recognises(BIOGRAPHY)
    (edit,) = parse_with()
    assert (edit.fact_id, edit.relation, edit.subject) == ("wikibio-2", "biography", "ada quill")
    assert edit.prompt == "This is a Wikipedia passage about {}. Ada Quill was a botanist."
    assert (edit.target_new, edit.target_old) == ("She was born in Lyon in 1822.", None)
    assert edit.locality == (LocalityProbe("relation_specificity", "ada quill field of work", "botany"),)


def test_what_cannot_be_used_is_left_out():
    with pytest.raises(SkippedRecordError, match="does not contain the subject 'bo tarn'"):
        parse_with(concept="bo tarn")
    _, unasked = parse_with(locality={"Relation_Specificity": [{"prompt": "x", "ground_truth": []}]})
    assert isinstance(unasked, SkippedProbeError)
    with pytest.raises(FactsError, match=r"wikibio\.json, record 2, field `labels`: empty text"):
        parse_with(labels="")
