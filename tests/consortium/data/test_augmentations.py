"""Other words in which an edit may be asked for: where they come from, and that they are never those that judge it."""

import json

import pytest
from consortium.common.errors import FactsError
from consortium.data.augmentations import asked_again, read_augmentations, with_augmentations
from consortium.data.edit import Edit, Neighbor
from consortium.data.load import load_facts
from consortium.scenario.schema import FactsSpec

TOWER = Edit(
    "tower",
    "P276",
    "Eiffel Tower",
    "The {} is in",
    "Rome",
    "Paris",
    ("Eiffel Tower lies in",),
    (Neighbor("Big Ben is in", "London"),),
    augmentations=("{} can be found in", "{} lies in", "The {} is in", "The spot for {} is"),
)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "more.json"


def test_an_edit_is_asked_again_with_its_subject_and_target_and_without_probes():
    first, second = asked_again(TOWER, 5)
    assert [each.text for each in (first, second)] == ["Eiffel Tower can be found in", "The spot for Eiffel Tower is"]
    assert {(each.subject, each.target_new, each.paraphrases, each.neighbors) for each in (first, second)} == {
        ("Eiffel Tower", "Rome", (), ())
    }


def test_what_an_edit_is_judged_by_is_left_out_before_the_templates_are_counted():
    assert [each.prompt for each in asked_again(TOWER, 1)] == ["{} can be found in"]
    assert asked_again(TOWER, 2)[1].prompt == "The spot for {} is"
    assert asked_again(TOWER, 0) == ()


def test_templates_of_a_file_come_after_a_facts_own_and_none_twice(file):
    file.write_text(json.dumps({"P276": ["{} lies in", "Geographically, {} is located in"], "P69": ["{} attended"]}))
    (edit,) = with_augmentations([TOWER], read_augmentations(file))
    assert edit.augmentations == (*TOWER.augmentations, "Geographically, {} is located in")


def test_facts_are_loaded_with_the_templates_of_a_file(file):
    file.write_text(json.dumps({"capital": ["The first city of {} is"]}))
    facts = load_facts(FactsSpec(source="builtin", augmentations=str(file)))
    ends = {facts.edit(fact, 1).augmentations[-1] for fact in range(len(facts)) if facts.relations()[fact] == "capital"}
    assert ends == {"The first city of {} is"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "holds no object"),
        ("{", "line 1, column 2: invalid JSON"),
        ('{"P1": ["no place"]}', r"field `P1\[0\]`: 0 times {} in 'no place'"),
        ('{"P1": ["{} and {}"]}', "2 times {}"),
        ('{"P1": [3]}', r"field `P1\[0\]`: a number, 3"),
        ('{"P1": {"a": 1}}', "field `P1`: an object"),
        ("{}", "holds no templates"),
        ('{"P1": []}', "holds no templates"),
        ('{"P1": ' + "[" * 100_000, "lists and objects more than 64 deep"),
        ('{"P1": [' + "9" * 5000 + "]}", "a whole number of thousands of digits"),
        ('{"P1": ["{} is \\ud800"]}', r"field `P1\[0\]`: half of a surrogate pair"),
    ],
)
def test_a_file_of_another_shape_is_refused(file, text, message):
    file.write_text(text)
    with pytest.raises(FactsError, match=message):
        read_augmentations(file)


def test_a_file_that_is_not_there_is_named_with_its_key(tmp_path):
    with pytest.raises(FactsError, match=r"facts\.augmentations: no file no\.json .*\n.*the path of a JSON file"):
        load_facts(FactsSpec(source="builtin", augmentations="no.json"), tmp_path)


def test_templates_of_no_relation_of_the_facts_are_refused(tmp_path):
    (tmp_path / "more.json").write_text('{"P69": ["{} studied at"]}')
    with pytest.raises(FactsError, match=r"(?s)its relations \(P69, …\) are none of the facts'.*such as animal_class"):
        load_facts(FactsSpec(source="builtin", augmentations="more.json"), tmp_path)
