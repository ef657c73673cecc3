import pytest
from consortium.common.errors import FactsError
from consortium.data.edit import Neighbor
from consortium.data.formats.counterfact import parse, recognises
from consortium.data.formats.record import Record

REWRITE = {
    "prompt": "The mother tongue of {} is",
    "relation_id": "P103",
    "target_new": {"str": "English", "id": "Q1860"},
    "target_true": {"str": "French", "id": "Q150"},
    "subject": "Danielle Darrieux",
}
NESTED = {
    "case_id": 0,
    "pararel_idx": 2796,
    "requested_rewrite": REWRITE,
    "paraphrase_prompts": ["{|class=wikitable Danielle Darrieux, a native"],
    "neighborhood_prompts": ["The mother tongue of Léon Blum is", "Montesquieu, a native"],
    "attribute_prompts": [],
    "generation_prompts": [],
}
FLAT = {
    "case_id": 3,
    "prompt": "The mother tongue of Danielle Darrieux is",
    "subject": "Danielle Darrieux",
    "target_new": "English",
    "ground_truth": "French",
    "rephrase_prompt": "Danielle Darrieux, a native",
    "locality_prompt": "Montesquieu, a native",
    "locality_ground_truth": "French",
}


def test_the_published_shape():
    edit = parse(Record(NESTED, "cf.json", 1))
    assert (edit.fact_id, edit.relation, edit.target_new, edit.target_old) == ("0", "P103", "English", "French")
    assert edit.text == "The mother tongue of Danielle Darrieux is"
    assert edit.paraphrases == ("{|class=wikitable Danielle Darrieux, a native",)


def test_white_space_before_a_target_says_how_it_joins():
    new = {**REWRITE, "target_new": {"str": " English"}}
    assert parse(Record({**NESTED, "requested_rewrite": new}, "cf.json", 1)).join == " "
    assert parse(Record(NESTED, "cf.json", 1)).join is None
    assert parse(Record({**FLAT, "target_new": " English"}, "cf.json", 1)).join == " "
    assert parse(Record(FLAT, "cf.json", 1)).join is None


def test_beginnings_of_texts_count_once():
    prompts = ["Danielle Darrieux was born in", "Danielle Darrieux's mother tongue is", "Danielle Darrieux was born in"]
    edit = parse(Record({**NESTED, "generation_prompts": prompts}, "cf.json", 1))
    assert edit.generation_prompts == tuple(prompts[:2])


def test_neighbors_must_still_say_the_true_target():
    assert parse(Record(NESTED, "cf.json", 1)).neighbors == (
        Neighbor("The mother tongue of Léon Blum is", "French"),
        Neighbor("Montesquieu, a native", "French"),
    )
    own = {**NESTED, "neighborhood_prompts": [{"prompt": "Sophia Loren, a native", "target": "Italian"}]}
    assert parse(Record(own, "cf.json", 1)).neighbors == (Neighbor("Sophia Loren, a native", "Italian"),)


def test_what_multicounterfact_leaves_out_has_defaults():
    rewrite = {**REWRITE, "target_new": "English", "relation_id": None}
    edit = parse(Record({"requested_rewrite": rewrite}, "mcf.json", 9))
    assert (edit.fact_id, edit.relation) == ("9", "The mother tongue of {} is")
    assert (edit.target_new, edit.paraphrases, edit.neighbors) == ("English", (), ())


def test_the_flat_shape():
    edit = parse(Record(FLAT, "flat.json", 1))
    assert (edit.fact_id, edit.prompt, edit.target_old) == ("3", "The mother tongue of {} is", "French")
    assert edit.paraphrases == ("Danielle Darrieux, a native",)
    assert edit.neighbors == (Neighbor("Montesquieu, a native", "French"),)


def test_the_flat_shape_with_other_names_and_leading_spaces():
    fields = {
        "relation_id": "P103",
        "prompt": FLAT["prompt"],
        "subject": FLAT["subject"],
        "target_true": " French",
        "target_false": " English",
    }
    edit = parse(Record(fields, "tracing", 4))
    assert (edit.fact_id, edit.relation, edit.target_new, edit.target_old) == ("4", "P103", "English", "French")
    assert parse(Record({**FLAT, "ground_truth": ["French", "français"]}, "flat.json", 1)).target_old == "French"


def test_both_shapes_are_recognised_and_others_are_not():
    assert recognises(NESTED)
    assert recognises(FLAT)
    assert not recognises({"subject": "A", "prompt": "{} is", "target_new": "b"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subject": ...}, "field `requested_rewrite.subject`: missing"),
        ({"subject": ""}, "field `requested_rewrite.subject`: empty text"),
        ({"prompt": "The mother tongue is"}, r"field `requested_rewrite.prompt`: 0 times \{\}"),
        ({"prompt": "{x} {} is"}, "field `requested_rewrite.prompt`: stray braces"),
        ({"target_new": {"id": "Q1860"}}, "field `requested_rewrite.target_new.str`: missing"),
        ({"target_new": 5}, "field `requested_rewrite.target_new`: a number, 5\nExpected: an object"),
        ({"target_true": {"str": " "}}, "field `requested_rewrite.target_true.str`: empty text"),
        ({"target_true": {"str": "English"}}, "field `requested_rewrite.target_new`: 'English', the same as the old"),
    ],
)
def test_a_malformed_rewrite_is_refused_with_place_and_field(change, message):
    rewrite = {name: value for name, value in {**REWRITE, **change}.items() if value is not ...}
    with pytest.raises(FactsError, match=rf"cf\.json, record 12, {message}"):
        parse(Record({**NESTED, "requested_rewrite": rewrite}, "cf.json", 12))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({**NESTED, "requested_rewrite": "?"}, "field `requested_rewrite`: text, '\\?'\nExpected: an object"),
        ({"case_id": 1}, "field `requested_rewrite`: missing"),
        ({**NESTED, "neighborhood_prompts": [7]}, r"field `neighborhood_prompts\[0\]`: a number, 7"),
        ({**NESTED, "neighborhood_prompts": [{"prompt": "x"}]}, r"field `neighborhood_prompts\[0\].target`: missing"),
        ({**NESTED, "paraphrase_prompts": [""]}, r"field `paraphrase_prompts\[0\]`: empty text"),
        ({**FLAT, "subject": "Marie"}, "field `prompt`: no mention of the subject 'Marie'"),
        ({**FLAT, "ground_truth": []}, "field `ground_truth`: an empty list"),
        ({**FLAT, "locality_prompt": None}, "field `locality_ground_truth`: 1 answer for 0 prompts"),
    ],
)
def test_a_malformed_record_is_refused_with_place_and_field(fields, message):
    with pytest.raises(FactsError, match=rf"cf\.json, record 12, {message}"):
        parse(Record(fields, "cf.json", 12))
