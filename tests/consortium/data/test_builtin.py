"""The built-in facts' promises, each checked over all of them."""

import re
from collections import Counter

import pytest
from consortium.data.builtin import builtin_edits, builtin_relations
from consortium.data.table import FactTable

RELATIONS = builtin_relations()
EDITED_SUBJECTS = {subject for relation in RELATIONS for subject in relation.facts}
BY_RELATION = pytest.mark.parametrize("relation", RELATIONS, ids=lambda relation: relation.name)


def test_there_are_enough_facts_in_enough_relations():
    assert len(builtin_edits()) >= 420
    assert len(RELATIONS) >= 13
    assert len({relation.name for relation in RELATIONS}) == len(RELATIONS)


def test_ids_are_unique_and_name_relation_and_subject():
    ids = [edit.fact_id for edit in builtin_edits()]
    assert len(set(ids)) == len(ids)
    assert "capital/France" in ids


def test_every_fact_has_probes_and_a_plausible_false_target():
    objects = {relation.name: set(relation.facts.values()) for relation in RELATIONS}
    for edit in builtin_edits():
        assert len(set(edit.paraphrases) - {edit.text}) >= 2, edit
        assert 3 <= len(set(edit.neighbors)) <= 5, edit
        assert edit.target_new != edit.target_old, edit
        assert edit.target_new in objects[edit.relation], edit
        assert all(neighbor.target != edit.target_new for neighbor in edit.neighbors), edit


def test_neighbors_with_the_same_object_are_taken_first():
    for edit in builtin_edits():
        held_out = next(relation for relation in RELATIONS if relation.name == edit.relation).neighbors
        num_same = min(len(edit.neighbors), list(held_out.values()).count(edit.target_old))
        assert [neighbor.target for neighbor in edit.neighbors[:num_same]] == [edit.target_old] * num_same, edit


def test_neighbors_are_about_subjects_that_no_relation_edits():
    mention = re.compile("|".join(rf"(?<!\w){re.escape(subject)}(?!\w)" for subject in EDITED_SUBJECTS))
    for relation in RELATIONS:
        for subject in relation.neighbors:
            assert subject not in EDITED_SUBJECTS
            assert not mention.search(relation.prompt.format(subject)), (relation.name, subject)


@BY_RELATION
def test_templates_have_one_place_for_the_subject_and_end_where_the_target_begins(relation):
    templates = (relation.prompt, *relation.paraphrases, *relation.augmentations)
    assert len(set(templates)) == len(templates) >= 3
    for template in templates:
        assert template.count("{}") == 1
        assert not re.search(r"[{}]", template.replace("{}", ""))
        assert template == template.strip()
        assert not template.endswith((".", "?", ":", "{}"))


@BY_RELATION
def test_no_edit_is_asked_for_in_the_words_that_judge_it(relation):
    screened = {template.casefold() for template in (relation.prompt, *relation.paraphrases)}
    assert len(relation.augmentations) >= 4
    assert screened.isdisjoint(template.casefold() for template in relation.augmentations)


@BY_RELATION
def test_subjects_and_objects_are_clean_text(relation):
    assert len(relation.facts) >= 20
    assert len(relation.neighbors) >= 5
    for subject, target in (*relation.facts.items(), *relation.neighbors.items()):
        for text in (subject, target):
            assert isinstance(text, str)
            assert text == text.strip() != ""
            assert not set(text) & set("{}\n")


@BY_RELATION
def test_no_subject_stands_twice_in_a_file(relation):
    """YAML keeps the last of two equal keys in silence, so the lines are counted."""
    from importlib import resources

    file = resources.files("consortium.data") / "builtin_facts" / f"{relation.name}.yaml"
    entries = [line for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("  ")]
    assert len(entries) == len(relation.facts) + len(relation.neighbors)


def test_the_first_facts_are_a_mix_of_all_relations():
    first = [edit.relation for edit in builtin_edits()[: len(RELATIONS)]]
    assert first == [relation.name for relation in RELATIONS] == sorted(first)
    assert max(Counter(edit.relation for edit in builtin_edits()[:24]).values()) <= 2


def test_every_fact_can_be_contradicted_within_its_relation():
    table = FactTable(builtin_edits())
    for number, own in enumerate(builtin_edits()):
        objects = {edit.target_old for edit in builtin_edits() if edit.relation == own.relation}
        first, second = (table.edit(number, variant) for variant in (1, 2))
        assert len({own.target_new, own.target_old, first.target_new, second.target_new}) == 4
        assert {first.target_new, second.target_new} <= objects
        assert min(len(first.neighbors), len(second.neighbors)) >= 3
