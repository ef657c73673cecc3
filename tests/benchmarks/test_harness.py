"""The harness: what is counted, interleaved, refused and written, on cases that can be checked by hand."""

import io
import json
from dataclasses import asdict, replace

import pytest
import torch
from consortium.common.errors import InputError

from benchmarks.harness import measure as measuring
from benchmarks.harness.case import Case, Moved, Product, relative_difference
from benchmarks.harness.flops import counted
from benchmarks.harness.measure import Budget, measure
from benchmarks.harness.memory import PeakMemory, available_bytes
from benchmarks.harness.progress import LineWriter
from benchmarks.harness.rate import product_rate
from benchmarks.harness.record import Record, Span, append, from_plain, newest, read
from benchmarks.harness.table import BEGIN, END, markdown, with_results, write_tables

CPU = torch.device("cpu")
PRODUCT = Product(4, 3, 5, torch.float32, CPU)


def rows(count):
    """A result of one number an item; 2·1·1·count operations."""
    return torch.arange(1.0, count + 1)[:, None] @ torch.ones(1, 1)


def case(**changes):
    settings = {"ours": rows, "naive": rows, "difference": lambda ours, naive: 0.0, "product": PRODUCT} | changes
    return Case("a case", "item", settings.pop("items", 8), **settings)


def measured(a_case, seconds=1e9, repeats=2):
    return measure("toy", a_case, Budget(seconds, repeats), lambda line: None)


def test_both_ways_alternate_on_the_same_items():
    calls = []

    def way(name):
        return lambda count: calls.append((name, count)) or rows(count)

    record = measured(case(ours=way("ours"), naive=way("naive")), repeats=3)
    assert calls[-6:] == [("ours", 8), ("naive", 8)] * 3
    assert (record.repeats, record.items_naive, record.naive_from) == (3, 8, "timed on all items")


def test_seconds_are_per_item_and_the_ratio_is_of_each_repetition(monkeypatch):
    """Ours takes 2 s and then 4 s, naive 8 s and 8 s: 8 items at 0.375 s in the median, ratios 4 and 2."""
    times = iter([2.0, 8.0, 4.0, 8.0])
    monkeypatch.setattr(measuring, "_seconds", lambda case, work, items: next(times, 8.0))
    monkeypatch.setattr(measuring, "_items_naive", lambda case, seconds, small: 8)
    found = measuring._interleaved(case(), 8, 2, lambda line: None)
    ours = measuring._Pass(rows(8), 1.0, 160, 7, "VmHWM")
    record = measuring._with_ours(Record("toy", "a case", "item", 8, items_naive=8), case(), ours, found)
    record = measuring._with_naive(record, case(), ours, ours, found)
    assert record.seconds_ours == Span(0.375, 0.25, 0.5)
    assert record.seconds_naive == Span(1.0, 1.0, 1.0)
    assert record.ratio == Span(3.0, 2.0, 4.0)
    assert record.flops_ours == 20
    assert record.rate_ours == 160 / 3


def test_a_slow_naive_way_gets_fewer_items_and_the_record_says_so():
    record = measured(case(), seconds=1e-9)
    assert record.items_naive == 1
    assert record.naive_from == "timed on 1 of 8 items, 12.5 % of the work, in proportion"


def test_ours_is_timed_on_all_items_whatever_the_naive_way_gets():
    calls = []
    measured(case(ours=lambda count: calls.append(count) or rows(count)), seconds=1e-9)
    assert calls[-1] == 8


def test_the_naive_way_gets_whole_granules():
    assert measured(case(granule=4), seconds=1e-9).items_naive == 4


def test_a_fixed_part_is_not_multiplied():
    """A way of 1 s and 2 s an item: 3 s for one item, 5 s for two, so 17 s for eight and not 20 s."""
    timed = measuring._Times([1.0], [5.0], [], small=3.0)
    times, how = measuring._for_all_items(case(has_fixed_part=True), timed, 2, 0.25)
    assert times == [17.0]
    assert how == "straight line through 1 and 2 of 8 items"
    record = measured(case(has_fixed_part=True), seconds=1e-9)
    assert (record.items_naive, record.naive_from) == (2, how)


def test_items_that_are_more_work_than_others_count_for_more():
    """The first item is half of the work: 3 s for it, so 6 s for all eight."""
    timed = measuring._Times([1.0], [3.0], [])
    times, how = measuring._for_all_items(case(), timed, 1, 0.5)
    assert times == [6.0]
    assert how == "timed on 1 of 8 items, 50 % of the work, in proportion"
    record = measured(case(share=lambda value, count: value[:count].sum() / value.sum()), seconds=1e-9)
    assert record.naive_from == "timed on 1 of 8 items, 2.78 % of the work, in proportion"


def test_a_result_over_all_items_is_made_again_on_the_naive_ones_items():
    """Sums over 8 items and over 1 differ by nature; ours is done again on the one item that the naive way did."""
    total = case(
        ours=lambda count: rows(count).sum(),
        naive=lambda count: rows(count).sum(),
        difference=relative_difference,
    )
    assert measured(replace(total, is_whole=True), seconds=1e-9).difference == 0
    assert measured(total, seconds=1e-9).difference == 35  # 36 against 1


def test_a_wrong_result_shows():
    record = measured(case(ours=lambda count: rows(count) * 1.5, difference=relative_difference))
    assert record.difference == 0.5


def test_what_does_not_fit_into_memory_is_skipped_with_a_reason():
    record = measured(case(needed_bytes=1 << 60))
    assert record.seconds_ours is None
    assert record.skipped.startswith("needs about 1.07e+09 GiB of memory, and ")


def test_what_our_way_cannot_write_in_time_is_skipped_with_a_reason():
    record = measured(case(written_bytes=1 << 50), seconds=1)
    assert record.seconds_ours is None
    assert record.skipped.startswith("our way alone writes 1.05e+06 GiB and would take ")


def test_a_naive_way_that_takes_for_ever_is_left_out_and_ours_is_measured():
    record = measured(case(least_flops=lambda count: 1e30 * count))
    assert record.seconds_ours is not None
    assert record.seconds_naive is None
    assert record.skipped.startswith("naive left out: 1 item would take ")


def test_a_count_below_the_floor_has_missed_something():
    record = measured(case(floor=lambda value: 8e6))
    assert (record.flops_from, record.flops_ours, record.floor_flops) == ("formula", 1e6, 1e6)
    record = measured(case(floor=lambda value: 8.0))
    assert (record.flops_from, record.flops_ours, record.floor_flops) == ("counted", 2, 1)
    assert record.times_floor > 0


def test_bytes_are_those_of_our_result():
    record = measured(case(moved=lambda value: Moved(value.nbytes, "all rows")))
    assert (record.bytes_moved, record.bytes_meaning) == (32, "all rows")


def _spd(size):
    return torch.eye(size, dtype=torch.float64) * 2 + 1


@pytest.mark.parametrize(
    ("work", "flops"),
    [
        (lambda: torch.ones(2, 3) @ torch.ones(3, 5), 2 * 2 * 3 * 5),
        (lambda: torch.ones(2, 5).addmm_(torch.ones(2, 3), torch.ones(3, 5)), 2 * 2 * 3 * 5),
        (lambda: torch.ones(4, 2, 5).baddbmm_(torch.ones(4, 2, 3), torch.ones(4, 3, 5)), 4 * 2 * 2 * 3 * 5),
        (lambda: torch.ones(2, 3) @ torch.ones(3), 2 * 2 * 3),
        (lambda: torch.linalg.cholesky(_spd(12)), 12**3 // 3),
        (lambda: torch.cholesky_solve(torch.ones(6, 4), torch.eye(6)), 2 * 6 * 6 * 4),
        (lambda: torch.linalg.solve_triangular(torch.eye(6), torch.ones(6, 4), upper=False), 6 * 6 * 4),
        (lambda: torch.linalg.solve_triangular(torch.eye(6), torch.ones(4, 6), upper=True, left=False), 6 * 6 * 4),
        (lambda: torch.linalg.inv(_spd(6)), 2 * 6**3),
        (lambda: torch.linalg.solve(_spd(6), torch.ones(6, 4, dtype=torch.float64)), 2 * 6**3 // 3 + 2 * 6 * 6 * 4),
        (lambda: torch.linalg.qr(torch.ones(9, 3)), 4 * 9 * 8),
    ],
)
def test_linear_algebra_is_counted(work, flops):
    assert counted(work)[1] == flops


def test_attention_on_the_cpu_is_counted_there_and_back():
    """Two products of 2·B·H·Q·S·D forward; five backward."""
    query, key = torch.ones(2, 3, 5, 8, requires_grad=True), torch.ones(2, 3, 7, 8)
    mask = torch.ones(5, 7, dtype=torch.bool)
    product = 2 * 2 * 3 * 5 * 7 * 8

    def attend():
        return torch.nn.functional.scaled_dot_product_attention(query, key, key, attn_mask=mask)

    out, forward = counted(attend)
    assert forward == 2 * product
    assert counted(lambda: out.sum().backward())[1] == 5 * product


def test_peak_memory_shows_what_was_freed_again():
    with PeakMemory(CPU) as peak:
        torch.ones(64 << 20, dtype=torch.uint8).sum()
    assert peak.num_bytes >= 60 << 20
    with PeakMemory(CPU) as idle:
        pass
    assert idle.num_bytes < 32 << 20


def test_a_thread_looks_where_the_peak_cannot_be_reset(monkeypatch, tmp_path):
    monkeypatch.setattr("benchmarks.harness.memory._CLEAR", tmp_path)  # a folder: it cannot be written
    with PeakMemory(CPU) as peak:
        kept = torch.ones(64 << 20, dtype=torch.uint8)
    assert peak.source.startswith("VmRSS every")
    assert peak.num_bytes >= 60 << 20
    assert kept.numel()


def test_memory_that_can_be_had():
    assert 0 < available_bytes(CPU) < 1 << 60


def test_the_product_is_multiplied():
    assert product_rate(PRODUCT) > 0
    assert (PRODUCT.flops, str(PRODUCT)) == (120, "[4, 3]·[3, 5] float32")


def some_record(**changes):
    settings = {
        "seconds_ours": Span(0.002, 0.001, 0.003),
        "seconds_naive": Span(0.02, 0.02, 0.02),
        "ratio": Span(10.0, 6.7, 20.0),
        "items_naive": 3,
        "flops_ours": 2e9,
        "flops_from": "counted",
        "rate_ours": 1e12,
        "share_of_product": 0.5,
        "bytes_moved": 1200,
        "difference": 1e-7,
        "parameters": {"model": "toy", "dtype": "float32"},
        "machine": {"cpu": "a processor", "threads": 2, "gpu": None},
        "versions": {"torch": "2"},
        "commit": "abc",
        "time": "2025-01-01T00:00:00+00:00",
    }
    return Record(**{"benchmark": "toy", "label": "8 items", "unit": "item", "items": 8, **settings, **changes})


def test_records_survive_their_file(tmp_path):
    records = [some_record(), some_record(skipped="why", ratio=None)]
    for record in records:
        append(record, tmp_path)
    assert read(tmp_path) == records
    assert from_plain(json.loads(json.dumps(asdict(records[0])))) == records[0]


@pytest.mark.parametrize("line", ["{", '{"benchmark": "toy"}', '{"color": 1}', "[1]"])
def test_a_line_that_is_no_record_is_refused_by_file_and_number(tmp_path, line):
    append(some_record(), tmp_path)
    with (tmp_path / "toy.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(InputError, match=r"toy\.jsonl, line 2: "):
        read(tmp_path)


def test_the_newest_record_of_each_case_and_machine_counts():
    old, new = some_record(), some_record(time="2025-02-01T00:00:00+00:00", difference=2.0)
    elsewhere = some_record(machine={"cpu": "another"})
    assert newest([new, elsewhere, old]) == [elsewhere, new]


def test_the_page_shows_one_table_a_machine():
    text = markdown([some_record(), some_record(machine={"gpu": "a GPU"}), some_record(label="9 items", skipped="Why")])
    assert text.count("| benchmark |") == 2
    assert (
        "| toy | 8 items | 2 ms | item | 20 ms, on 3 of them | 10 (6.7 to 20) | 2 G | 1 T/s (50 %) | – | 1.2 kB | – |"
        " 1.0e-07 |"
    ) in text
    assert "### a processor, 2 threads; toy, float32" in text
    assert "* toy, 9 items: Why." in text
    assert markdown([]) == "No measurements are recorded yet."


def test_only_the_page_between_the_marks_changes():
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert with_results(page, []) == f"before\n{BEGIN}\n\nNo measurements are recorded yet.\n\n{END}\nafter\n"
    with pytest.raises(InputError, match="lacks"):
        with_results("no marks", [])


def test_tables_for_people():
    stream = io.StringIO()
    write_tables([some_record(), Record("startup", "serial", "start", 1, stages={"imports": 1.5})], stream)
    assert "20 ms, on 3 of them" in stream.getvalue().replace("\n", " ")
    assert "1.50 s" in stream.getvalue()


def test_lines_come_once_a_second_at_most():
    now = iter([0.0, 0.0, 0.5, 1.2])
    stream = io.StringIO()
    tell = LineWriter(stream, lambda: next(now))
    for line in ("first", "too soon", "later"):
        tell(line)
    assert stream.getvalue() == "first\nlater\n"
