"""The benchmark of scale: its fits and sums are those of the textbook, and a small run on Ray is measured as one."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from consortium.common.errors import InputError, RunError
from consortium.loading.load import load_scenario

from benchmarks.__main__ import build_parser, main
from benchmarks.harness.record import RESULTS, Record, Span, read
from benchmarks.scale import AXES, page
from benchmarks.scale.growth import growth_of
from benchmarks.scale.watch import family, watch

SMALL = (
    "model.key_width=16",
    "model.value_width=8",
    "model.num_objects=8",
    "cluster.parties_per_batch=2",
    "stream.rounds=1",
)


def record(axis, size, work_s=1.0, coordinator=500, changes=("a",), cpu="C", threads=1, time=None):
    return Record(
        "scale",
        f"{size} {axis}",
        "edit",
        10 * size,
        seconds_ours=Span.of([work_s / (10 * size)]),
        stages={"work": work_s},
        memory={"together": 3 * coordinator, "coordinator": coordinator, "worker": 2 * coordinator},
        parameters={"axis": axis, "size": size, "edits": 10 * size, "workers": 2, "scenario": "s", "changes": changes},
        machine={"cpu": cpu, "cores": 2, "threads": threads},
        time=time or f"2026-01-0{1 + len(str(size))}T00:00:00",
    )


def test_an_exact_power_has_its_exponent_and_no_error():
    growth = growth_of([10, 100, 1000], [7 * size**1.5 for size in (10, 100, 1000)])
    assert growth.exponent == pytest.approx(1.5)
    assert growth.error == pytest.approx(0.0, abs=1e-12)


def test_the_error_is_that_of_a_straight_lines_slope():
    """Points e⁰, e¹, e² with logarithms 0, 1, 1: slope 1/2, residuals -1/6, 1/3, -1/6, so √(1/6 / 1 / 2)."""
    growth = growth_of(np.exp([0, 1, 2]), np.exp([0, 1, 1]))
    assert (growth.exponent, growth.error) == (pytest.approx(0.5), pytest.approx((1 / 12) ** 0.5))
    assert str(growth) == "0.50 ± 0.29"


def test_two_sizes_leave_no_error_and_one_no_growth():
    assert growth_of([1, 10], [2, 20]).error is None
    assert growth_of([5], [2]) is None


def test_a_family_is_all_that_descends_and_nothing_else():
    assert sorted(family(2, {2: 1, 3: 2, 4: 3, 5: 1, 6: 5, 7: 3})) == [2, 3, 4, 7]


@pytest.mark.slow
def test_memory_of_a_command_and_its_children_is_seen():
    """A parent and a child that hold 60 MB each and share little of it."""
    hold = "data = bytearray(b'x' * 60_000_000); import time; time.sleep(7)"
    parent = f"import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', {hold!r}]); {hold}; child.wait()"
    seen = watch([sys.executable, "-c", parent], Path.cwd(), os.environ, 60)
    assert len(seen.of("other")) == 2
    assert all(peak > 60_000_000 for peak in seen.of("other"))
    assert seen.together_bytes > 120_000_000
    assert seen.processor_s > 0


def test_a_command_that_fails_is_told_with_its_words():
    with pytest.raises(RunError, match="no such luck"):
        watch([sys.executable, "-c", "raise SystemExit('no such luck')"], Path.cwd(), os.environ, 60)


@pytest.mark.slow
def test_a_small_run_is_measured_as_one(tmp_path, capfd, monkeypatch):
    """On Ray, in processes of its own: the coordinator and the workers are told from the rest."""
    monkeypatch.setattr(sys.modules["benchmarks.scale.watch"], "_EVERY_S", 0.05)  # Ray names workers while they work
    changes = [part for change in (*SMALL, "evaluate.sample=4") for part in ("--set", change)]
    folder = tmp_path / "results"
    arguments = ["scale", "--axis", "parties", "--sizes", "4", "--results", str(folder), "--format", "json", *changes]
    assert main(arguments) == 0
    (found,) = json.loads(capfd.readouterr().out)["records"]
    assert (found["label"], found["items"]) == ("4 parties", 40)
    assert found["parameters"]["workers"] in (1, 2)  # the run may be over before the second one has begun
    assert set(found["memory"]) == {"together", "coordinator", "worker"}
    assert found["memory"]["together"] > found["memory"]["coordinator"] > 100 * 2**20
    assert list(found["stages"]) == ["whole command", "start-up", "work", "processor"]
    assert found["stages"]["processor"] > 1.0
    (kept,) = read(folder)
    assert page.by_axis([kept]) == {}  # more was changed than the size


@pytest.mark.parametrize("axis", AXES)
def test_every_axis_changes_its_scenario_and_leaves_no_targets_to_a_cache(axis):
    """Targets of an earlier run would be read instead of made, and the measured time would be of nothing."""
    few, many = (
        load_scenario(AXES[axis].scenario, [change.format(size) for change in AXES[axis].changes]).scenario
        for size in (1, 2)
    )
    assert few != many
    assert few.model.name == "associative" or not few.cluster.target_cache


@pytest.mark.parametrize("axis", AXES)
def test_every_axis_can_be_asked_for(axis):
    assert build_parser().parse_args(["scale", "--axis", axis]).axis == axis


def test_sizes_need_an_axis(capsys):
    assert main(["scale", "--sizes", "4"]) == InputError.exit_code
    assert "--axis" in capsys.readouterr().err


def test_the_page_shows_the_newest_of_each_size_and_how_it_grows():
    records = [record("parties", size, work_s=size / 10, coordinator=500) for size in (100, 10, 1000)]
    text = page.with_results(f"head {page.BEGIN} old {page.END} tail", [*records, record("workers", 1)])
    assert text.startswith("head ")
    assert text.endswith(" tail")
    assert "old" not in text
    assert "| seconds of work | 1.00 ± 0.00 |" in text
    assert "| memory, coordinator | 0.00 ± 0.00 |" in text
    assert text.index("| 10 |") < text.index("| 100 |") < text.index("| 1,000 |")
    assert "scale-parties.svg" in text
    assert "scale-workers.svg" not in text, "one size is no curve"


def test_a_size_has_one_record_and_an_axis_one_machine():
    """How many threads the measuring process had says nothing about the runs, which take theirs from the scenario."""
    old = [record("parties", size, threads=1) for size in (10, 100)]
    newer = record("parties", 10, threads=2, time="2026-02-01T00:00:00")
    assert page.by_axis([newer, *old])["parties"] == [newer, old[1]]
    elsewhere = record("parties", 100, cpu="D", time="2026-03-01T00:00:00")
    assert page.by_axis([newer, *old, elsewhere])["parties"] == [elsewhere]


def test_pictures_are_files_that_stand_alone():
    picture = page.picture("parties", [record("parties", size) for size in (10, 100)])
    assert picture.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    assert "largest worker" in picture
    assert picture == page.picture("parties", [record("parties", size) for size in (10, 100)])


def test_the_page_of_the_docs_is_the_newest():
    """After new results: python -m benchmarks --write-docs."""
    text = page.DOCS.read_text(encoding="utf-8")
    assert text == page.with_results(text, read(RESULTS))
    for axis, group in page.by_axis(read(RESULTS)).items():
        assert axis in AXES
        assert page.DOCS.with_name(f"scale-{axis}.svg").is_file() == (len(group) > 1)
