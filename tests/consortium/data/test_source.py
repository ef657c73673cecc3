"""Facts out of files of every kind, of datasets with configurations, and out of what is no good file."""

import gzip
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from consortium.common import reading
from consortium.common.errors import FactsError
from consortium.data import tables
from consortium.data.edit import Edit, Neighbor
from consortium.data.load import load_facts
from consortium.scenario.schema import FactsSpec

ROWS = [
    {"subject": "Ann", "prompt": "{} is in", "target_new": "Rome", "target_old": "Paris", "paraphrases": ["Where? "]},
    {"subject": "Bo, b", "prompt": "{} is in", "target_new": "Oslo", "target_old": None, "paraphrases": None},
]
EDITS = (
    Edit("1", "{} is in", "Ann", "{} is in", "Rome", "Paris", ("Where?",)),
    Edit("2", "{} is in", "Bo, b", "{} is in", "Oslo"),
)
CSV = (
    "subject,prompt,target_new,target_old,paraphrases\n"
    'Ann,{} is in,Rome,Paris,"[""Where? ""]"\n\n'
    '"Bo, b",{} is in,Oslo,,\n'
)
KNOWEDIT = {"subject": "Sun", "target_new": "Motown", "prompt": "Label of Sun?", "ground_truth": ["Virgin"]}
BLOCKS = {
    "portability": {"Reasoning": [{"prompt": "Q?", "ground_truth": ["Y"]}]},
    "locality": {"Relation_Specificity": [{"prompt": "The label is", "ground_truth": ["x"]}]},
}
NULLS = {"portability": None, "locality": None}


def load(source, **spec):
    table = load_facts(FactsSpec(source=str(source), **spec))
    return tuple(table.edit(number) for number in range(len(table)))


def lines(rows):
    return "\n".join(json.dumps(row) for row in rows)


def test_files_are_read_by_the_end_of_their_names(tmp_path):
    pq.write_table(pa.Table.from_pylist([{**row, "__index_level_0__": 7} for row in ROWS]), tmp_path / "facts.parquet")
    (tmp_path / "facts.CSV").write_text(CSV, encoding="utf-8-sig")
    (tmp_path / "facts.tsv").write_text("\tsubject\tprompt\ttarget_new\n0\tAnn\t{} is in\tRome\n")
    (tmp_path / "facts.jsonl").write_text(lines(ROWS))
    (tmp_path / "facts.csv.gz").write_bytes(gzip.compress(CSV.encode()))
    (tmp_path / "facts.jsonl.gz").write_bytes(gzip.compress(lines(ROWS).encode()))
    for name in ("facts.parquet", "facts.CSV", "facts.jsonl", "facts.csv.gz", "facts.jsonl.gz"):
        assert load(tmp_path / name) == EDITS, name
    assert [edit.subject for edit in load(tmp_path / "facts.tsv")] == ["Ann"]


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_a_csv_file_may_be_separated_by_something_else_than_commas(tmp_path, delimiter):
    rows = (("subject", "prompt", "target_new", "target_old"), ("Bo, b", "{} is in", "Oslo", ""))
    (tmp_path / "a.csv").write_text("\ufeff" + "".join(delimiter.join(row) + "\r\n" for row in rows), newline="")
    (edit,) = load(tmp_path / "a.csv")
    assert (edit.subject, edit.prompt, edit.target_new, edit.target_old) == ("Bo, b", "{} is in", "Oslo", None)


def test_parquet_with_two_columns_of_one_name_is_refused(tmp_path):
    table = pa.Table.from_arrays([pa.array(["A"]), pa.array(["B"])], names=["subject", "subject"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(FactsError, match=r"a\.parquet: the heading 'subject' is there twice"):
        load(tmp_path / "a.parquet")


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_parquet_may_keep_text_in_any_of_its_ways(tmp_path, kind):
    columns = {name: pa.array([row[name] for row in ROWS]).cast(kind) for name in ("subject", "prompt", "target_new")}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert [edit.subject for edit in load(tmp_path / "a.parquet")] == ["Ann", "Bo, b"]


def test_parquet_keeps_lists_of_objects(tmp_path):
    row = {**ROWS[0], "neighbors": [{"prompt": "Bo is in", "target": "Paris"}]}
    pq.write_table(pa.Table.from_pylist([row, {**ROWS[1], "neighbors": None}]), tmp_path / "facts.pq")
    assert load(tmp_path / "facts.pq")[0].neighbors == (Neighbor("Bo is in", "Paris"),)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.parquet", b"PAR1 and no more", r"a\.parquet: cannot be read as Parquet: (.|\n)*Parquet"),
        ("a.jsonl", b"PAR1\xff\xfe", "byte 4 is not UTF-8: it is Parquet, whose name should end in .parquet"),
        ("a.json", "[1]".encode("utf-16"), "it begins as UTF-16"),
        ("a.json.gz", b"no gzip", "is no whole gzip file"),
        ("a.json.gz", gzip.compress(b"[" * 9999, mtime=0)[:-9], "is no whole gzip file"),
        ("a.csv", b"", "is empty"),
        ("a.csv", b"subject,prompt,target_new\nA,{} is\n", r"a\.csv, line 2: 2 cells under 3 headings"),
        ("a.csv", b"subject,subject\nA,B\n", r"a\.csv, line 1: the heading 'subject' is there twice"),
        ("a.csv", b'subject,prompt\n"A,B\n', r"a\.csv, line 2: no CSV: unexpected end of data"),
        ("a.csv", b"subject,prompt\n" + b"A" * 200_000 + b",B\n", r"a\.csv, line 2: no CSV: field larger than field"),
        ("a.csv", b"subject,prompt,target_new,paraphrases\nA,{} is,b,['c']\n", "line 2: field `paraphrases`: a list"),
        ("a.csv", b"subject,prompt,target_new\nA\0,{} is,b\n", r"record 1 \(line 2\), field `subject`: a zero"),
    ],
)
def test_a_table_that_is_damaged_is_refused_with_the_place(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FactsError, match=message):
        load(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "line 1: lists and objects more than 64 deep"),
        ('{"subject": ' + "[" * 100_000 + "]" * 100_000 + "}", "line 1: lists and objects more than 64 deep"),
        ('{"subject": ' + "[" * 70 + "]" * 70 + "}", "line 1: lists and objects more than 64 deep"),
        ('{"fact_id": ' + "9" * 5000 + "}", "line 1: a whole number of thousands of digits"),
        (lines([{**ROWS[0], "subject": "A\ud800"}]), r"record 1 \(line 1\), field `subject`: half of a surrogate pair"),
        (lines([{**ROWS[0], "rivals": ["x", "\udfff"]}]), r"field `rivals\[1\]`: half of a surrogate pair"),
        (lines([{**ROWS[0], "prompt": "{} is\0 in"}]), r"field `prompt`: a zero character \(U\+0000\) at place 5"),
        (lines([{**ROWS[0], "fact_id": "\ud83d"}]), r"field `fact_id`: half of a surrogate pair \(U\+D83D\)"),
    ],
)
def test_json_without_measure_and_text_of_halves_are_refused(tmp_path, text, message):
    (tmp_path / "facts.jsonl").write_text(text)
    with pytest.raises(FactsError, match=message):
        load(tmp_path / "facts.jsonl")


def test_sources_that_are_no_regular_file_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(FactsError, match=r"pipe\.jsonl is a pipe \(FIFO\)"):
        load(tmp_path / "pipe.jsonl")
    with pytest.raises(FactsError, match="/dev/zero is a device"):
        load("/dev/zero")
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "gone")
    with pytest.raises(FactsError, match="is a link to nothing"):
        load(tmp_path / "link.jsonl")
    with open(tmp_path / "huge.jsonl", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(FactsError, match=r"has 1,099,511,627,776 bytes, and 1,073,741,824 are read at most"):
        load(tmp_path / "huge.jsonl")
    for name in ("~nosuchuser/facts.jsonl", "x" * 300, "a\0b"):
        with pytest.raises(FactsError, match=r"no file|File name too long|no file can have"):
            load(name)


@pytest.mark.parametrize(
    "rows",
    [
        [KNOWEDIT | NULLS, KNOWEDIT | BLOCKS],
        [KNOWEDIT | NULLS, KNOWEDIT | NULLS],
        [KNOWEDIT | {"rephrase_prompt": "R?"} | NULLS] * 2,
        [{key: KNOWEDIT[key] for key in ("subject", "target_new", "prompt")} | NULLS, KNOWEDIT | BLOCKS],
        [
            {key: KNOWEDIT[key] for key in ("subject", "target_new", "prompt")},
            KNOWEDIT | {"locality": BLOCKS["locality"]},
        ],
    ],
)
def test_knowedit_is_known_by_what_several_records_have_together(tmp_path, rows):
    rows = [{**row, "subject": "Label" if number else "Sun"} for number, row in enumerate(rows)]
    (tmp_path / "facts.json").write_text(json.dumps(rows))
    assert [edit.fact_id for edit in load(tmp_path / "facts.json")] == ["knowedit-1", "knowedit-2"]


def test_other_formats_are_known_by_later_records_too(tmp_path):
    nested = {"prompt": "{} is", "subject": "A", "target_new": {"str": "b"}, "target_true": {"str": "c"}}
    (tmp_path / "facts.jsonl").write_text(
        lines([{"case_id": 1, "requested_rewrite": None}, {"requested_rewrite": nested}])
    )
    with pytest.raises(FactsError, match=r"record 1 .*field `requested_rewrite`: null(.|\n)*in the format counterfact"):
        load(tmp_path / "facts.jsonl")


def test_a_malformed_record_is_told_with_the_format_and_a_likelier_one(tmp_path):
    (tmp_path / "facts.jsonl").write_text(lines([KNOWEDIT | BLOCKS]))
    with pytest.raises(FactsError, match=r"(?s)read in the format jsonl.*its fields look like knowedit"):
        load(tmp_path / "facts.jsonl", format="jsonl")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data set in a folder: two configurations, and `datasets` with its cache beside it."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    place = tmp_path / "set"
    (place / "a").mkdir(parents=True)
    (place / "b").mkdir()
    (place / "a" / "x.jsonl").write_text(lines(ROWS))
    (place / "b" / "x.jsonl").write_text(lines([{**row, "target_new": "Lima"} for row in ROWS]))
    return place


def test_a_configuration_of_a_dataset_is_named(folder):
    configs = "".join(f"- config_name: {name}\n  data_files: {name}/x.jsonl\n" for name in "ab")
    (folder / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    assert load(f"hub:{folder}", config="a") == EDITS
    assert {edit.target_new for edit in load(f"hub:{folder}", config="b")} == {"Lima"}
    with pytest.raises(FactsError, match=r"(?s)Config name is missing.*\['a', 'b'\].*facts\.config"):
        load(f"hub:{folder}")
    with pytest.raises(FactsError, match=r"config 'c', split 'train', cannot be opened: .*Available: \['a', 'b'\]"):
        load(f"hub:{folder}", config="c")


def test_single_files_of_a_dataset_are_read_where_columns_differ(folder):
    (folder / "b" / "x.jsonl").write_text(lines([KNOWEDIT | BLOCKS]))
    with pytest.raises(FactsError, match=r"(?s)generating the dataset.*column names don't match.*facts\.files"):
        load(f"hub:{folder}")
    assert load(f"hub:{folder}", files=("a/x.jsonl",)) == EDITS
    assert load(f"hub:{folder}", files=("b/x.jsonl",))[0].fact_id == "knowedit-1"
    again = folder / "a" / "y.csv"
    again.write_text(CSV)
    assert [edit.fact_id for edit in load(f"hub:{folder}", files=("a/x.jsonl", "a/y.csv"))] == ["1", "2", "3", "4"]
    with pytest.raises(FactsError, match=r"(?s)no file 'c\.json'.*a/x\.jsonl, a/y\.csv, b/x\.jsonl"):
        load(f"hub:{folder}", files=("c.json",))
    for outside in ("../secret.jsonl", "/etc/passwd", " "):
        with pytest.raises(FactsError, match="is not inside hub:"):
            load(f"hub:{folder}", files=(outside,))


def test_a_dataset_that_brings_a_script_is_refused_and_runs_nothing(folder, tmp_path):
    place = tmp_path / "scripted"
    place.mkdir()
    (place / "scripted.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    with pytest.raises(FactsError, match="Dataset scripts are no longer supported"):
        load(f"hub:{place}")
    assert not (tmp_path / "ran").exists()


SMALL = {"subject": "Ann", "prompt": "{} is in", "target_new": "Rome"}


def write_rows(path, number, **fields):
    rows = {name: [value] * number for name, value in {**SMALL, **fields}.items()}
    pq.write_table(pa.table(rows), path, compression="zstd")


def test_parquet_that_unpacks_into_more_than_is_read_is_refused(tmp_path, monkeypatch):
    """A few hundred bytes that say one thing 20 million times, or a long text a thousand times."""
    monkeypatch.setattr(tables, "MOST_PARTS", 5000)
    write_rows(tmp_path / "rows.parquet", 5001)
    with pytest.raises(FactsError, match="has 5,001 rows, and 5,000 are read at most"):
        load(tmp_path / "rows.parquet")
    monkeypatch.setattr(tables, "MOST_BYTES", 100_000)
    write_rows(tmp_path / "once.parquet", 1000, note="x" * 1000)
    with pytest.raises(FactsError, match="holds more than 100,000 bytes, and no more are read"):
        load(tmp_path / "once.parquet")
    write_rows(tmp_path / "packed.parquet", 1, note="x" * 200_000)
    with pytest.raises(FactsError, match=r"holds 200,\d\d\d bytes when unpacked, and 100,000 are read at most"):
        load(tmp_path / "packed.parquet")


@pytest.mark.parametrize(
    ("bound", "name", "text", "words"),
    [
        ("MOST_JSON", "whole.json", lines([{**SMALL, "id": "x" * 2000}]), "one JSON value of 2,[0-9]{3} characters"),
        ("MOST_PARTS", "empty.json", "[" + "[]," * 1500 + "[]]", "one JSON value of more than 1,000 fields"),
        ("MOST_PARTS", "blank.jsonl", lines([SMALL]) + "\n" * 1500, "has more than 1,000 lines"),
        ("MOST_PARTS", "blank.csv", CSV + "\n" * 1500, "has more than 1,000 lines"),
        ("MOST_PARTS", "old.csv", CSV + "\r" * 1500, "has more than 1,000 lines"),
    ],
)
def test_text_with_more_in_it_than_is_read_is_refused(tmp_path, monkeypatch, bound, name, text, words):
    monkeypatch.setattr(reading, bound, 1000)
    (tmp_path / name).write_text(text)
    with pytest.raises(FactsError, match=words):
        load(tmp_path / name)


def test_many_small_lines_are_not_one_value(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MOST_JSON", 1000)
    (tmp_path / "facts.jsonl").write_text(lines([{**SMALL, "fact_id": str(number)} for number in range(100)]))
    assert len(load(tmp_path / "facts.jsonl")) == 100
