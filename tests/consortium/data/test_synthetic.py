"""Facts made of numbers."""

from __future__ import annotations

import pytest
from consortium.common.errors import FactsError
from consortium.data.edit import FactSet
from consortium.data.synthetic import Query, SyntheticFacts, object_number, read_query
from consortium.scenario.schema import AssociativeModelSpec

SPEC = AssociativeModelSpec(name="associative", key_width=64, num_relations=4, num_objects=10)


def drawn(count: int = 200, seed: int = 1, spec: AssociativeModelSpec = SPEC) -> SyntheticFacts:
    return SyntheticFacts(spec, count, seed)


def test_an_edit_reads_as_what_it_asks() -> None:
    facts: FactSet = drawn()
    edit = facts.edit(17)
    assert (edit.fact_id, edit.subject, edit.relation) == ("s17", "s17", facts.relations()[17])
    assert edit.prompt == f"the {edit.relation} of {{}} is"
    assert edit.text == f"the {edit.relation} of s17 is"
    assert edit.paraphrases == (f"paraphrase 1: {edit.text}", f"paraphrase 2: {edit.text}")
    assert edit.target_new != edit.target_old


def test_other_words_to_ask_in_are_queries_of_their_own() -> None:
    edit = drawn().edit(17)
    asked = [read_query(template.replace("{}", edit.subject)) for template in edit.augmentations]
    assert [query.paraphrase for query in asked] == list(range(3, 11))
    assert {query.subject for query in asked} == {34}
    assert not {read_query(text) for text in edit.paraphrases} & set(asked)


def test_prompts_and_targets_are_read_back_to_their_numbers() -> None:
    assert read_query("the r3 of s17 is") == Query(subject=34, relation=3, paraphrase=0)
    assert read_query("paraphrase 2: the r3 of n17 is") == Query(subject=35, relation=3, paraphrase=2)
    assert object_number(" o5") == object_number("o5") == 5


@pytest.mark.parametrize("prompt", ["", "the capital of France is", "the r3 of s17 is not", "the r3 of {} is"])
def test_a_prompt_in_a_language_is_refused(prompt: str) -> None:
    with pytest.raises(FactsError, match=r"the associative model was asked .*\n.*\n.*set facts\.source to drawn"):
        read_query(prompt)


def test_a_target_in_a_language_is_refused() -> None:
    with pytest.raises(FactsError, match="given the target 'Paris'"):
        object_number("Paris")


def test_variants_are_different_objects_and_never_the_old_one() -> None:
    facts = drawn()
    for fact in range(50):
        targets = [facts.edit(fact, variant).target_new for variant in range(9)]
        assert len(set(targets)) == 9
        assert facts.edit(fact).target_old not in targets
        assert facts.edit(fact, 9).target_new == targets[0]


def test_with_two_objects_variants_alternate() -> None:
    facts = drawn(spec=SPEC.model_copy(update={"num_objects": 2}))
    targets = [facts.edit(0, variant).target_new for variant in range(4)]
    assert targets[0] == targets[2] != targets[1] == targets[3]
    assert targets[0] != facts.edit(0).target_old


def test_neighbours_are_held_out_subjects_of_the_same_relation_that_the_memory_knows() -> None:
    facts = drawn()
    queries, objects = facts.known()
    answers = dict(zip(queries, objects, strict=True))
    for fact in range(50):
        edit = facts.edit(fact)
        assert len(edit.neighbors) == 2
        for neighbor in edit.neighbors:
            query = read_query(neighbor.prompt)
            assert f"r{query.relation}" == edit.relation
            assert query.subject % 2 == 1
            assert answers[query] == object_number(neighbor.target)


def test_the_memory_knows_true_objects_of_the_first_facts_within_half_of_its_capacity() -> None:
    facts = drawn()
    queries, objects = facts.known()
    assert len(queries) == len(objects) == 16 + 16 == SPEC.key_width // 2
    for fact in range(16):
        assert queries[fact] == read_query(facts.edit(fact).text)
        assert f"o{objects[fact]}" == facts.edit(fact).target_old


def test_the_same_seed_gives_the_same_facts_and_the_first_ones_do_not_depend_on_the_number() -> None:
    few, many, other = drawn(), drawn(count=1000), drawn(seed=2)
    assert [few.edit(fact) for fact in range(200)] == [many.edit(fact) for fact in range(200)]
    assert many.relations()[:200] == few.relations() != other.relations()
    assert len(few) == len(few.relations()) == 200
    assert len(many) == 1000
