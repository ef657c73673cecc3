import pytest
from consortium.common.errors import FactsError
from consortium.data.edit import Edit, LocalityProbe, Neighbor, PortabilityProbe
from consortium.data.formats.jsonl import parse
from consortium.data.formats.record import Record

MINIMAL = {"subject": "France", "prompt": "The capital of {} is", "target_new": "Rome"}
FULL = {
    **MINIMAL,
    "fact_id": "c1",
    "relation": "capital",
    "target_old": "Paris",
    "paraphrases": ["In {curly} terms, France's capital is"],
    "neighbors": [{"prompt": "The capital of Spain is", "target": "Madrid"}],
    "portability": [{"kind": "alias", "prompt": "The capital of Gaul is", "answers": ["Rome", "Roma"]}],
    "locality": [{"kind": "near", "prompt": "France lies in", "target": "Europe"}],
    "generation_prompts": ["In France, the government"],
    "rivals": ["Lyon"],
    "augmentations": ["{} is governed from"],
}


def test_needed_fields_alone_make_an_edit():
    assert parse(Record(MINIMAL, "f", 3)) == Edit("3", MINIMAL["prompt"], "France", MINIMAL["prompt"], "Rome")


def test_null_stands_for_an_absent_field():
    absent = dict.fromkeys(("fact_id", "relation", "target_old", "paraphrases", "neighbors", "augmentations"))
    assert parse(Record({**MINIMAL, **absent}, "f", 3)) == parse(Record(MINIMAL, "f", 3))


def test_all_fields_and_braces_in_whole_prompts():
    edit = parse(Record(FULL, "f", 1))
    assert (edit.fact_id, edit.relation, edit.target_old) == ("c1", "capital", "Paris")
    assert edit.paraphrases == ("In {curly} terms, France's capital is",)
    assert edit.neighbors == (Neighbor("The capital of Spain is", "Madrid"),)
    assert edit.portability == (PortabilityProbe("alias", "The capital of Gaul is", ("Rome", "Roma")),)
    assert edit.locality == (LocalityProbe("near", "France lies in", "Europe"),)
    assert (edit.generation_prompts, edit.rivals) == (("In France, the government",), ("Lyon",))
    assert edit.augmentations == ("{} is governed from",)


def test_white_space_at_the_ends_is_removed():
    edit = parse(Record({**MINIMAL, "prompt": "The capital of {} is ", "target_new": " Rome", "fact_id": 5}, "f", 1))
    assert (edit.prompt, edit.target_new, edit.fact_id) == ("The capital of {} is", "Rome", "5")


@pytest.mark.parametrize(
    ("change", "join"),
    [
        ({}, None),
        ({"join": None}, None),
        ({"join": ""}, ""),
        ({"join": " "}, " "),
        ({"target_new": " Rome"}, " "),
        ({"prompt": "The capital of {} is "}, " "),
        ({"prompt": "The capital of {} is ", "target_new": " Rome"}, " "),
        ({"target_new": "\nRome"}, "\n"),
        ({"prompt": "The capital of {} is\u3000"}, "\u3000"),
        ({"prompt": "The capital of {} is ", "join": ""}, ""),
    ],
)
def test_a_record_says_how_its_target_joins(change, join):
    """By a field of its own, or by white space; null and nothing leave it to the rule."""
    edit = parse(Record({**MINIMAL, **change}, "f", 1))
    assert (edit.prompt, edit.target_new, edit.join) == ("The capital of {} is", "Rome", join)


def test_a_line_break_at_the_end_of_a_prompt_is_its_own():
    fields = {**MINIMAL, "prompt": "Capital of {}?\n", "paraphrases": ["Capital of France:\nA: \n "]}
    edit = parse(Record(fields, "f", 1))
    assert (edit.prompt, edit.paraphrases, edit.join) == ("Capital of {}?\n", ("Capital of France:\nA: \n",), None)


def test_each_question_says_how_its_answer_joins():
    fields = {
        **MINIMAL,
        "neighbors": [{"prompt": "首都は", "target": "東京", "join": " "}, {"prompt": "首都は", "target": "東京"}],
        "portability": [{"kind": "alias", "prompt": "首都は", "answers": [" 東京", "Tokyo"]}],
        "locality": [{"kind": "near", "prompt": "首都は ", "target": "東京"}],
    }
    edit = parse(Record(fields, "f", 1))
    assert [each.join for each in (*edit.neighbors, *edit.portability, *edit.locality)] == [" ", None, " ", " "]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subject": ...}, "field `subject`: missing\nExpected: text"),
        ({"subject": None}, "field `subject`: null\nExpected: text"),
        ({"subject": "  "}, "field `subject`: empty text"),
        ({"target_new": ""}, "field `target_new`: empty text"),
        ({"target_new": 2006}, "field `target_new`: a number, 2006\nExpected: text"),
        ({"target_new": "Paris"}, "field `target_new`: 'Paris', the same as target_old"),
        ({"target_old": " "}, "field `target_old`: empty text"),
        ({"relation": ["capital"]}, r"field `relation`: a list, \['capital'\]\nExpected: text"),
        ({"fact_id": True}, "field `fact_id`: true or false, True"),
        ({"prompt": "The capital is"}, r"field `prompt`: 0 times \{\} in 'The capital is'"),
        ({"augmentations": ["{} is", "no place"]}, r"field `augmentations\[1\]`: 0 times \{\}"),
        ({"prompt": "{} and {} are"}, r"field `prompt`: 2 times \{\}"),
        ({"prompt": "{} in {2} is"}, "field `prompt`: stray braces in"),
        ({"prompt": "{{}} is"}, "field `prompt`: stray braces in"),
        ({"paraphrases": [1]}, r"field `paraphrases\[0\]`: a number, 1\nExpected: text"),
        ({"paraphrases": {"a": "b"}}, "field `paraphrases`: an object, .*\nExpected: a list"),
        (
            {"portability": [{"kind": "guess", "prompt": "x", "answers": ["y"]}]},
            r"field `portability\[0\].kind`: 'guess'",
        ),
        (
            {"portability": [{"kind": "alias", "prompt": "x", "answers": []}]},
            r"field `portability\[0\].answers`: no answers",
        ),
        ({"locality": [{"kind": "near", "prompt": "x"}]}, r"field `locality\[0\].target`: missing"),
        ({"join": 1}, r"field `join`: a number, 1\nExpected: text"),
        ({"neighbors": [{"prompt": "x", "target": "y", "join": []}]}, r"field `neighbors\[0\].join`: a list, \[\]"),
        ({"rivals": ["Lyon", "Rome"]}, "field `rivals`: 'Rome', the target itself"),
        ({"neighbors": ["Madrid"]}, r"field `neighbors\[0\]`: text, 'Madrid'\nExpected: an object"),
        ({"neighbors": [None]}, r"field `neighbors\[0\]`: null\nExpected: an object"),
        ({"neighbors": [{"prompt": "x"}]}, r"field `neighbors\[0\].target`: missing"),
        ({"neighbors": [{"prompt": "x", "targt": "y"}]}, r"field `neighbors\[0\].targt`: unknown field"),
        ({"paraphrase": ["x"]}, "field `paraphrase`: unknown field\nExpected: one of fact_id, relation"),
    ],
)
def test_a_malformed_record_is_refused_with_place_and_field(change, message):
    fields = {name: value for name, value in {**FULL, **change}.items() if value is not ...}
    with pytest.raises(FactsError, match=rf"f\.jsonl, record 2 \(line 5\), {message}"):
        parse(Record(fields, "f.jsonl", 2, line=5))
