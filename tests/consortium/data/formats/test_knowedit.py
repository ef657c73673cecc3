import pytest
from consortium.common.errors import FactsError
from consortium.data.edit import LocalityProbe, PortabilityProbe
from consortium.data.formats.knowedit import parse, recognises
from consortium.data.formats.record import Record, SkippedProbeError, SkippedRecordError

WIKI = {
    "subject": "Ada Quill",
    "prompt": "The names of the siblings of Ada Quill are",
    "target_new": "Ben Tarn",
    "ground_truth": "Cy Quill",
    "portability": {
        "Subject_Aliasing": [
            {"prompt": "The names of the siblings of A. Quill are", "ground_truth": [["Ben Tarn", "B. Tarn"]]}
        ],
        "Reasoning": [{"prompt": "The siblings of Ada Quill were born in", "ground_truth": [["Lyon"], ["Rhône"]]}],
        "Logical_Generalization": [
            {"prompt": "The names of the siblings of Ben Tarn are", "ground_truth": [["Ada Quill", "A. Quill"]]}
        ],
    },
    "locality": {
        "Relation_Specificity": [{"prompt": "The gender of Ada Quill is", "ground_truth": [["female", "woman"]]}],
        "Forgetfulness": [
            {"prompt": "The sibling of Ada Quill, which is not Ben Tarn, is", "ground_truth": [["Cy Quill"]]}
        ],
    },
}
ZSRE = {
    "subject": "Epaspidoceras",
    "prompt": "Which family does Epaspidoceras belong to?",
    "target_new": "Noctuidae",
    "ground_truth": ["Aspidoceratidae"],
    "rephrase_prompt": "What family are Epaspidoceras?",
    "cond": "Geometridae >> Noctuidae || Which family does Epaspidoceras belong to?",
    "locality": {"Relation_Specificity": [{"prompt": "The rank of Epaspidoceras is", "ground_truth": ["genus"]}]},
    "portability": {"Reasoning": [{"prompt": "What is the family's common name?", "ground_truth": "Owlet moths"}]},
}


def parse_with(base=WIKI, **change):
    fields = {name: value for name, value in {**base, **change}.items() if value is not ...}
    return parse(Record(fields, "wiki.json", 4))


def test_a_record_of_wikidata_counterfact():
    assert recognises(WIKI)
    (edit,) = parse_with()
    assert (edit.fact_id, edit.subject, edit.prompt) == (
        "knowedit-4",
        "Ada Quill",
        "The names of the siblings of {} are",
    )
    assert (edit.target_new, edit.target_old, edit.paraphrases) == ("Ben Tarn", "Cy Quill", ())
    assert edit.portability == (
        PortabilityProbe("alias", "The names of the siblings of A. Quill are", ("Ben Tarn", "B. Tarn")),
        PortabilityProbe("reasoning", "The siblings of Ada Quill were born in", ("Lyon", "Rhône")),
        PortabilityProbe("generalisation", "The names of the siblings of Ben Tarn are", ("Ada Quill", "A. Quill")),
    )
    assert edit.locality == (
        LocalityProbe("relation_specificity", "The gender of Ada Quill is", "female"),
        LocalityProbe("forgetfulness", "The sibling of Ada Quill, which is not Ben Tarn, is", "Cy Quill"),
    )


def test_a_record_of_wikidata_recent_has_no_old_answer_and_may_have_empty_blocks():
    (edit,) = parse_with(ground_truth=..., portability={})
    assert recognises({**WIKI, "portability": {}})
    assert (edit.target_old, edit.portability) == (None, ())


@pytest.mark.parametrize("empty", [None, [], {}, ""])
def test_blocks_and_paraphrases_that_are_empty_in_any_way_have_nothing(empty):
    (edit,) = parse_with(ZSRE, portability=empty, locality=empty, rephrase_prompt=empty or "")
    assert (edit.portability, edit.locality, edit.paraphrases) == ((), (), ())


def test_nulls_among_answers_count_for_nothing():
    question = {"prompt": "The gender of Ada Quill is", "ground_truth": [[None, "female"], [None], None]}
    (edit,) = parse_with(ground_truth=[None, "Cy Quill"], locality={"F": [question]}, portability=None)
    assert edit.target_old == "Cy Quill"
    assert edit.locality == (LocalityProbe("f", "The gender of Ada Quill is", "female"),)


def test_a_record_of_zsre_has_a_paraphrase_and_answers_in_plain_text():
    assert recognises(ZSRE)
    (edit,) = parse_with(ZSRE)
    assert (edit.target_old, edit.paraphrases) == ("Aspidoceratidae", ("What family are Epaspidoceras?",))
    assert edit.portability == (PortabilityProbe("reasoning", "What is the family's common name?", ("Owlet moths",)),)
    assert edit.locality == (LocalityProbe("relation_specificity", "The rank of Epaspidoceras is", "genus"),)


def test_an_old_answer_that_is_the_new_one_is_none():
    assert parse_with(ZSRE, ground_truth=["Noctuidae"])[0].target_old is None
    assert parse_with(ZSRE, ground_truth=["Noctuidae", "Aspidoceratidae"])[0].target_old == "Aspidoceratidae"


def test_questions_without_an_answer_are_left_out_one_by_one():
    question = {"prompt": "The gender of Ada Quill is", "ground_truth": [[]]}
    edit, *unasked = parse_with(
        locality={"Relation_Specificity": [question, {**question, "ground_truth": [[], ["female"]]}]},
        portability={"Reasoning": [{**question, "ground_truth": []}]},
    )
    assert edit.locality == (LocalityProbe("relation_specificity", "The gender of Ada Quill is", "female"),)
    assert edit.portability == ()
    assert [str(each) for each in unasked] == ["no answer to 'The gender of Ada Quill is'"] * 2
    assert all(isinstance(each, SkippedProbeError) for each in unasked)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subject": "Ada Quil l"}, "the prompt does not contain the subject 'Ada Quil l'"),
        ({"prompt": "In {set} Ada Quill is"}, "the prompt holds braces of its own"),
    ],
)
def test_a_prompt_that_cannot_be_a_template_leaves_the_record_out(change, message):
    with pytest.raises(SkippedRecordError, match=message):
        parse_with(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subject": ...}, "field `subject`: missing"),
        ({"target_new": " "}, "field `target_new`: empty text"),
        ({"portability": {"Guessing": [{}]}}, "field `portability.Guessing`: an unknown kind"),
        (
            {"portability": {"Reasoning": [{"ground_truth": "x"}]}},
            r"field `portability.Reasoning\[0\].prompt`: missing",
        ),
        (
            {"locality": {"F": [{"prompt": "x", "ground_truth": [[3]]}]}},
            r"`locality.F\[0\].ground_truth\[0\]`: a number",
        ),
        ({"locality": ["x"]}, "field `locality`: a list"),
    ],
)
def test_a_malformed_record_is_refused_with_place_and_field(change, message):
    with pytest.raises(FactsError, match=rf"wiki\.json, record 4, .*{message}"):
        parse_with(**change)
