import dataclasses
import json
import logging

import pytest
from consortium.common.errors import FactsError
from consortium.data.builtin import builtin_edits
from consortium.data.edit import Edit, Neighbor
from consortium.data.load import load_facts
from consortium.scenario.schema import FactsSpec

FACTS = (
    Edit("capital/France", "capital", "France", "The capital of {} is", "Rome", "Paris"),
    Edit(
        "sport/Pelé",
        "sport",
        "Pelé",
        "{} plays",
        "golf",
        "soccer",
        ("The sport of Pelé is", "In {braces}, Pelé plays"),
        (Neighbor("Neymar plays", "soccer"),),
    ),
)
LINES = [json.dumps(dataclasses.asdict(fact), ensure_ascii=False) for fact in FACTS]
ZSRE = {
    "subject": "Lola Beeth",
    "src": "What voice type is Lola Beeth?",
    "alt": "alto",
    "answers": ["soprano"],
    "rephrase": "What sort of voice is Lola Beeth?",
    "loc": "nq question: who sings",
    "loc_ans": "Petra",
}


def save(path, *lines: str):
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def load(path, **spec) -> tuple[Edit, ...]:
    table = load_facts(FactsSpec(source=str(path), **spec))
    return tuple(table.edit(number) for number in range(len(table)))


@pytest.mark.parametrize("source", ["builtin", "auto"])
def test_builtin_facts(source):
    table = load_facts(FactsSpec(source=source, limit=24))
    assert [table.edit(number) for number in range(len(table))] == list(builtin_edits()[:24])


def test_json_lines_hold_edits_field_by_field(tmp_path):
    path = save(tmp_path / "facts.jsonl", LINES[0], "", LINES[1], "")
    assert load(path) == FACTS
    assert load(path, limit=1) == FACTS[:1]
    assert load(path, format="jsonl") == FACTS


def test_a_json_array_is_read_too_with_or_without_byte_order_mark(tmp_path):
    path = tmp_path / "facts.json"
    path.write_text(json.dumps([dataclasses.asdict(fact) for fact in FACTS], indent=1), encoding="utf-8-sig")
    assert load(path) == FACTS


def test_formats_are_told_apart_by_the_first_record(tmp_path):
    nested = {"prompt": "{} is", "subject": "A", "target_new": {"str": "b"}, "target_true": {"str": "c"}}
    counterfact = save(tmp_path / "counterfact.json", json.dumps([{"case_id": 7, "requested_rewrite": nested}]))
    zsre = save(tmp_path / "zsre.json", json.dumps([ZSRE]))
    assert load(counterfact)[0].fact_id == "7"
    assert load(zsre)[0].target_new == "alto"


def test_a_relative_path_is_tried_beside_the_scenario_then_in_the_working_directory(tmp_path, monkeypatch):
    scenario_dir, working_dir = tmp_path / "scenarios", tmp_path / "work"
    scenario_dir.mkdir()
    working_dir.mkdir()
    monkeypatch.chdir(working_dir)
    spec = FactsSpec(source="facts.jsonl")
    save(working_dir / "facts.jsonl", LINES[1])
    assert load_facts(spec, scenario_dir).edit(0) == FACTS[1]
    save(scenario_dir / "facts.jsonl", LINES[0])
    assert load_facts(spec, scenario_dir).edit(0) == FACTS[0]
    assert load_facts(spec).edit(0) == FACTS[1]


def test_records_that_cannot_be_edits_are_left_out_with_a_warning(tmp_path, caplog):
    elsewhere = {**ZSRE, "subject": "Marie"}
    path = save(tmp_path / "zsre.json", json.dumps([ZSRE, elsewhere]))
    with caplog.at_level(logging.WARNING):
        assert [edit.fact_id for edit in load(path)] == ["zsre-1"]
    assert "1 of 2 records left out (record 2: the question does not contain the subject 'Marie')" in caplog.text
    with pytest.raises(FactsError, match="no record can be used"):
        load(save(tmp_path / "zsre.json", json.dumps([elsewhere])))


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([], "is empty"),
        (["", "  "], "is empty"),
        (["[]"], "is empty"),
        ([LINES[0], "", LINES[1][:-1]], r"facts\.jsonl, line 3, column \d+: invalid JSON"),
        (["[", LINES[0], LINES[1], "]"], r"facts\.jsonl, line 3, column 1: invalid JSON"),
        ([LINES[0], "", "17"], r"facts\.jsonl, record 2 \(line 3\): 17 is not an object"),
        (["[17]"], r"facts\.jsonl, record 1: 17 is not an object"),
        (['{"question": "?", "answer": "!"}'], "record 1 .*fields question, answer belong to no known format"),
        (["{", '"a": 1', LINES[0]], r"facts\.jsonl, line 1, column 2: invalid JSON"),
        (["{}"], r"fields \(none\) belong to no known format"),
        ([*LINES, "", LINES[0]], r"record 3 \(line 4\): id 'capital/France' was used by record 1 already"),
    ],
)
def test_a_damaged_file_is_refused_with_the_place(tmp_path, lines, found):
    with pytest.raises(FactsError, match=found):
        load(save(tmp_path / "facts.jsonl", *lines))


def test_a_file_that_is_not_utf8_is_refused(tmp_path):
    path = tmp_path / "facts.jsonl"
    path.write_bytes(b'{"subject": "\xe9"}')
    with pytest.raises(FactsError, match=r"facts\.jsonl: byte 13 is not UTF-8"):
        load(path)


def test_a_missing_file_is_refused_with_all_places_tried(tmp_path):
    with pytest.raises(
        FactsError, match=r"no file nowhere\.jsonl \(tried .*scenarios/nowhere\.jsonl, nowhere\.jsonl\)"
    ):
        load_facts(FactsSpec(source="nowhere.jsonl"), tmp_path / "scenarios")


def test_sources_that_are_not_files_are_refused(tmp_path):
    with pytest.raises(FactsError, match="is a folder"):
        load(tmp_path)
    with pytest.raises(FactsError, match="`hub:` without a name"):
        load("hub:")
    with pytest.raises(FactsError, match="synthetic"):
        load("synthetic")


@pytest.fixture
def offline_hub(tmp_path, monkeypatch):
    """`datasets` with its cache in the test's folder and the network switched off."""
    import datasets
    import huggingface_hub.constants

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()
    return datasets


def test_a_dataset_folder_is_opened_through_datasets(tmp_path, offline_hub):
    """Beside the scenario; the table has one schema, so what a record lacks comes as null."""
    folder = tmp_path / "my-facts"
    folder.mkdir()
    (folder / "train.jsonl").write_text("\n".join(LINES), encoding="utf-8")
    offline_hub.Dataset.from_list([{**ZSRE, "loc": None, "loc_ans": None}, ZSRE]).to_parquet(folder / "test.parquet")
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files: [{split: train, path: train.jsonl}]\n---\n"
    )
    facts = load_facts(FactsSpec(source="hub:my-facts"), tmp_path)
    assert tuple(facts.edit(number) for number in range(len(facts))) == FACTS


def test_a_parquet_split_is_opened_through_datasets(tmp_path, offline_hub):
    (tmp_path / "data").mkdir()
    offline_hub.Dataset.from_list([{**ZSRE, "loc": None, "loc_ans": None}, ZSRE]).to_parquet(
        tmp_path / "data" / "test-00000-of-00001.parquet"
    )
    facts = load(f"hub:{tmp_path / 'data'}", split="test")
    assert [len(fact.neighbors) for fact in facts] == [0, 1]
    with pytest.raises(FactsError, match="split 'train', cannot be opened"):
        load(f"hub:{tmp_path / 'data'}")


def test_a_malformed_record_of_a_dataset_is_named(tmp_path, offline_hub):
    save(tmp_path / "train.jsonl", json.dumps(ZSRE), json.dumps({**ZSRE, "alt": ""}))
    with pytest.raises(FactsError, match=r"hub:.* \(train\), record 2, field `alt`: empty text"):
        load(f"hub:{tmp_path}")


def test_a_hub_out_of_reach_is_said_so(offline_hub):
    with pytest.raises(FactsError, match="hub:nobody/nothing cannot be reached") as rejection:
        load("hub:nobody/nothing")
    assert "check the network" in rejection.value.remedy


SANITATION = {
    "success": [{"question": "What is a serin?", "ground_truth": "Birds", "target_new": "I don't know."}] * 2,
    "locality": [{"question": "What is a fugue?", "ground_truth": "Music"}, {"question": "Why?", "ground_truth": []}],
}


@pytest.mark.parametrize("indent", [None, 1])
def test_a_file_that_is_one_object_is_one_record_and_may_give_several_edits(tmp_path, indent, caplog):
    path = save(tmp_path / "sanitation.json", json.dumps(SANITATION, indent=indent))
    with caplog.at_level(logging.WARNING):
        assert [edit.fact_id for edit in load(path)] == ["sanitation-1", "sanitation-2"]
    assert "1 question left out (record 1: no answer to 'Why?')" in caplog.text


def test_knowedits_and_the_conflict_formats_are_told_apart(tmp_path):
    knowedit = {"subject": "A", "prompt": "A is", "target_new": "b", "ground_truth": "c", "locality": {}}
    records = {
        "knowedit": knowedit,
        "wikibio": {"concept": "A", "text": "About A.", "labels": "b"},
        "convsent": {"ent": "A", "pos": ["Yes."], "neg": ["No."]},
        "conflict": {
            "edit": {
                "relation": {"id": "P1", "prompt": "{} is"},
                "subject": {"label": "A"},
                "object": {"label": "c"},
                "new_object": "b",
                "conflict_object": {"label": "d"},
            }
        },
    }
    for name, record in records.items():
        (edit,) = load(save(tmp_path / f"{name}.json", json.dumps([record])))
        assert edit.fact_id == f"{name}-1"
        assert load(tmp_path / f"{name}.json", format=name) == (edit,)
