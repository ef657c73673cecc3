"""The audit: what it says of whole runs, and that it notices whatever is missing, twice, or not what it should be."""

from __future__ import annotations

import shutil
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from consortium.data.edit import Edit
from consortium.data.party_batch import WeightedEdit
from consortium.data.request import Request
from consortium.engine import audit
from consortium.features.audit.inclusion_record import inclusion_record_of
from consortium.records import tables
from consortium.records.directory import RunDirectory
from support.scenarios import associative_scenario, unlearning_scenario

RESOLVING = {
    "stream": {"rounds": 2, "sharing_group_size": 3, "overlap": 0.25, "conflict": 0.25, "repeat": 0.25},
    "overlap": {"duplicates": "count_once"},
    "conflicts": {"policy": "priority", "num_paraphrases": 1},
}
KINDS = {
    "plain": lambda: associative_scenario(merge={"methods": ["global", "collabedit"]}),
    "resolution": lambda: associative_scenario(merge={"methods": ["collabedit"]}, **RESOLVING),
    "unlearning": unlearning_scenario,
    "rejected": lambda: associative_scenario(
        merge={"methods": ["global", "collabedit"]}, attacks=[{"kind": "nan", "parties": [1], "rounds": [2, 2]}]
    ),
    "held": lambda: associative_scenario(
        model={"key_width": 96},
        merge={"methods": ["collabedit"]},
        stream={"rounds": 3, "repeat": 0.5},
        overlap={"skip_known": "residual", "threshold": 0.5},
    ),
    "tuned": lambda: associative_scenario(
        editor={"method": "ft", "layers": [1]}, merge={"methods": ["simple_average"]}, stream={"rounds": 1}
    ),
}


@pytest.fixture(scope="module", params=KINDS)
def run(request, finished_run):
    return finished_run(KINDS[request.param]())


@pytest.fixture(scope="module")
def plain(finished_run):
    return finished_run(KINDS["plain"]())


def test_every_accepted_edit_is_in_exactly_one_merge(run):
    assert audit.verify(run.path) == ()


def test_the_numbers_are_those_of_the_scenario(plain):
    """7 parties × 4 edits × 2 rounds; 2 rounds × 2 arms × 3 layers; 4 party batches in each."""
    found = audit.account(plain)
    assert (found.num_edits, found.num_merges, found.num_entries) == (56, 12, 48)
    rows = plain.table("audit").to_pylist()
    assert {row["num_edits"] for row in rows} == {8, 4}, "the last party batch has one party"
    assert {(row["num_attempts"], row["num_dropped"], row["worker"]) for row in rows} == {(1, 0, None)}


def test_what_is_rejected_left_out_copied_or_taken_back_is_counted(finished_run):
    resolution = finished_run(KINDS["resolution"]())
    summed = Counter()
    for row in resolution.table("edits").to_pylist():
        summed["edits"] += row["status"] != "rejected"
        summed["copies"] += row["num_paraphrases"]
    rows = [row for row in resolution.table("audit").to_pylist() if row["layer"] == 0]
    assert sum(row["num_edits"] for row in rows) == summed["edits"] < 56
    assert sum(row["num_summed"] for row in rows) == summed["edits"] + summed["copies"] > summed["edits"]

    held = finished_run(KINDS["held"]())
    rows = [row for row in held.table("audit").to_pylist() if row["layer"] == 0]
    left_out = sum(row["num_skipped"] for row in held.table("parties").to_pylist())
    assert sum(row["num_edits"] - row["num_summed"] for row in rows) == left_out > 0

    unlearning = finished_run(KINDS["unlearning"]())
    back = [row for row in unlearning.table("audit").to_pylist() if row["kind"] == "unlearn"]
    assert {row["round"] for row in back} == {3, 4}


def drop(rows):
    return rows[1:]


def repeat(rows):
    return [*rows, rows[0]]


def exchange(rows):
    """Two party batches' edits, wherever they are, so that arms and layers still agree."""
    swapped = {0: 1, 1: 0}
    of = {row["party_batch"]: row["digest"] for row in rows if row["round"] == 1}
    return [
        row | {"digest": of[swapped.get(row["party_batch"], row["party_batch"])]} if row["round"] == 1 else row
        for row in rows
    ]


def miscount(rows):
    return [rows[0] | {"num_edits": rows[0]["num_edits"] - 1}, *rows[1:]]


def lose_a_round(rows):
    return [row for row in rows if row["round"] != 2]


def differ(rows):
    return [rows[0] | {"digest": "0" * 32}, *rows[1:]]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop, "merge of round 1, arm global, layer 0: party batch 0 is in it 0 times"),
        (repeat, "merge of round 1, arm global, layer 0: party batch 0 is in it 2 times"),
        (exchange, "merge of round 1, arm global, layer 0: not the 8 edits that party batch 0 must have"),
        (miscount, "merge of round 1, arm global, layer 0: 27 edits, where the table of rounds has 28"),
        (lose_a_round, "merge of round 2, arm collabedit, layer 2: party batch 3 is in it 0 times"),
        (differ, "merge of round 1: arms or layers differ in the edits of party batch 0"),
    ],
)
def test_what_does_not_add_up_is_told(plain, tmp_path, damage, message):
    copy = shutil.copytree(plain.path, tmp_path / "run")
    path = tables.table_path(copy, "audit")
    whole = pq.read_table(path)
    pq.write_table(pa.Table.from_pylist(damage(whole.to_pylist()), schema=whole.schema), path)
    found = audit.verify(copy)
    assert message in found
    assert found[0] == "tables/audit.parquet is damaged: its SHA-256 differs from the one in manifest.json"


def test_a_run_without_an_audit_says_so(plain, tmp_path):
    copy = shutil.copytree(plain.path, tmp_path / "run")
    with RunDirectory.open(copy) as directory:
        directory.lock()
        directory._write_manifest(tables=tuple(name for name in directory.manifest.tables if name != "audit"))
    assert audit.account(RunDirectory.open(copy)) is None
    assert "older than the audit" in audit.verify(copy)[0]


class TestInclusionRecords:
    """Whatever a merge depends on changes the digest; what is edited does not."""

    first = Request(1, 4, 0, 17, 0, "fresh")
    copy = Edit(fact_id="f", relation="r", subject="s", prompt="{} is", target_new="a", target_old=None)

    @pytest.mark.parametrize(
        "edits",
        [
            (),
            (WeightedEdit(first, 0.5),),
            (WeightedEdit(Request(2, 4, 0, 17, 0, "fresh"), 1.0),),
            (WeightedEdit(Request(1, 5, 0, 17, 0, "fresh"), 1.0),),
            (WeightedEdit(Request(1, 4, 1, 17, 0, "fresh"), 1.0),),
            (WeightedEdit(first, 1.0), WeightedEdit(first, 1.0)),
            (WeightedEdit(first, 1.0), WeightedEdit(first, 1.0, copy)),
        ],
    )
    def test_other_edits_have_another_digest(self, edits):
        assert inclusion_record_of(0, edits).digest != inclusion_record_of(0, [WeightedEdit(self.first, 1.0)]).digest

    def test_it_tells_nothing_of_what_is_edited(self):
        other = Request(1, 4, 0, 99, 2, "conflict-round", 1)
        assert inclusion_record_of(0, [WeightedEdit(other, 1.0)]) == inclusion_record_of(
            0, [WeightedEdit(self.first, 1.0)]
        )

    def test_copies_are_summed_but_are_no_edits(self):
        found = inclusion_record_of(3, [WeightedEdit(self.first, 1.0), WeightedEdit(self.first, 1.0, self.copy)])
        assert (found.party_batch, found.num_edits, found.num_summed) == (3, 1, 2)
