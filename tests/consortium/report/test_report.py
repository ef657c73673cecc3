"""The page: complete in itself, its numbers those of the tables, and standing up to unusual runs."""

from __future__ import annotations

import re
from contextlib import nullcontext
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from unittest.mock import patch
from xml.etree import ElementTree

import pytest
from consortium.merging.arm_state import ArmState
from consortium.records.directory import RunDirectory
from consortium.records.rows import EventRow, MetricRow, RoundRow, RoundRows
from consortium.report import figures
from consortium.report.drawing import Drawing, drawing_of
from consortium.report.page import build_report, run_of
from consortium.report.results import read_results
from consortium.report.sections import retention
from consortium.report.style import arm_styles
from consortium.report.summary import result_table, summary
from consortium.report.words import count, distance, duration, size
from consortium.scenario.schema import UNEDITED

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Tags are checked to close in order; text of table rows and all outside references are gathered."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.references: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.references += [value for name, value in attrs if name in ("src", "href", "xlink:href", "action", "data")]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_data(self, data):
        if any(tag in ("td", "th") for tag in self.open):
            self.rows[-1][-1] += f" {data}"

    def row(self, first: str, nth: int = 0) -> list[str]:
        return [row for row in self.rows if row[0].split()[: len(first.split())] == first.split()][nth]


class Outline(HTMLParser):
    """What a page consists of, without its numbers: an indented line for each element that structures it."""

    HEADINGS = frozenset({"title", "h1", "h2", "figcaption", "th", "dt", "summary"})
    BLOCKS = frozenset({"style", "header", "p", "dl", "ul", "table", "tr", "figure", "svg", "details", "pre", "footer"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        if tag in self.HEADINGS | self.BLOCKS and "svg" not in self.open:
            depth = sum(each in self.HEADINGS | self.BLOCKS for each in self.open)
            self.lines.append("  " * depth + ".".join([tag, *(named.get("class") or "").split()]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        self.open.pop()

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_data(self, data):
        if data.strip() and any(each in self.HEADINGS for each in self.open) and "svg" not in self.open:
            self.lines[-1] += f" {' '.join(data.split())}"


def page_of(run: RunDirectory, *, is_drawn: bool = False) -> tuple[Page, str]:
    """The page's elements and its text; without its pictures, which take most of the time, where not asked for."""
    with nullcontext() if is_drawn else patch("consortium.report.content.drawing_of", return_value=Drawing()):
        text = build_report(run).path.read_text(encoding="utf-8")
    return Page(text), text


def written(run: RunDirectory) -> tuple[Page, str]:
    """The page that already lies in the run."""
    text = run.report_path.read_text(encoding="utf-8")
    return Page(text), text


def test_the_page_loads_nothing_and_runs_nothing(finished):
    page, text = written(finished)
    assert "http" not in text
    assert all(each.startswith(("#", "data:")) for each in page.references)
    assert page.tags.isdisjoint({"script", "link", "iframe", "object", "embed"})
    assert not re.search(r"@import|url\((?!#)", text)
    assert len(re.findall(r"<svg [^>]*viewBox=\"0 0 \d{3}", text)) == 17  # pictures, besides the swatches


def test_the_page_is_built_as_it_always_was(finished):
    """Headings, tables with their columns and numbers of rows, figures, lists: a change shows in page_outline.txt."""
    golden = Path(__file__).with_name("page_outline.txt")
    assert Outline(written(finished)[1]).lines == golden.read_text(encoding="utf-8").splitlines()


def test_numbers_in_the_result_table_are_those_of_the_tables(finished):
    run = finished
    page, _ = written(run)
    metrics = [MetricRow(**row) for row in run.table("metrics").to_pylist()]
    titles = {"global": "Global edit", "collabedit": "CollabEdit", "ties": "TIES"}
    for arm, title in titles.items():
        cells = page.row(title)
        for column, name in enumerate(("score", "efficacy", "paraphrase", "neighborhood"), start=1):
            row = next(m for m in metrics if (m.round, m.arm, m.metric) == (3, arm, name))
            assert cells[column].replace("★", "").split()[:2] == [f"{row.success:.1f}", f"{row.strict:.1f}"]
        held = [m for m in metrics if (m.round, m.arm, m.metric) == (3, arm, "retention")]
        assert cells[5].split()[:1] == [f"{sum(m.success for m in held) / 2:.1f}"]
    last = {row["arm"]: row for row in run.table("rounds").to_pylist() if row["round"] == 3}
    assert page.row("TIES")[6].strip() == distance(last["ties"]["weights_distance"])
    assert page.row("CollabEdit")[7].strip() == distance(last["collabedit"]["update_distance"])
    assert page.row("Global edit")[6].strip() == "reference"


def test_the_unedited_model_and_the_best_values_are_marked(invent):
    run = invent(rounds=1)
    page, text = page_of(run)
    unedited = next(row for row in run.table("metrics").to_pylist() if row["arm"] == UNEDITED)
    assert page.row("unedited model")[2].split()[0] == f"{unedited['success']:.1f}"
    values = {row["arm"]: row["success"] for row in run.table("metrics").to_pylist() if row["metric"] == "efficacy"}
    values.pop(UNEDITED)
    assert f'<span class="best">{max(values.values()):.1f}</span>' in text
    assert f'<span class="best">{min(values.values()):.1f}</span>' not in text


def test_time_and_traffic_are_those_of_the_tables(finished):
    run = finished
    page, text = written(run)
    collabedit = [row for row in run.table("rounds").to_pylist() if row["arm"] == "collabedit"]
    assert page.row("collabedit")[1].strip() == duration(sum(row["targets_s"] for row in collabedit))
    sent = [row["bytes_sent"] for row in run.table("parties").to_pylist() if row["arm"] == "collabedit"]
    assert page.row("collabedit", 1)[3].strip() == size(sum(sent))
    # Two layers (boundary sharing) of K = 6, V = 4 in float64: 2 · 8 · 6 · (6 + 4) bytes.
    assert f"take {size(960)} for each party" in text


def test_overhead_is_that_of_the_events(invent):
    """By hand: from 3 s, when the key covariance was called for, to the commit at 70.5 s, 67.5 s for each of three
    workers.

    All work 0.94 of 18 s + 5 arms x (3 + 4) s, and one 6 s more on the key covariance; 5 merges of 0.94 s come between.
    """
    run = invent(rounds=1)
    _, text = page_of(run)
    assert "3 workers worked for 1 min 8 s, after 3.0 s of start-up" in text
    assert "76.8 % was arithmetic on the model and 7.0 % solving" in text
    assert "16.3 % was overhead (16.3 % waiting, 0.0 % calls, 0.0 % records)" in text
    time = summary(run)["time"]
    assert time["arithmetic"] == pytest.approx(3 * 0.94 * 53 + 6)
    assert time["solving"] == pytest.approx(3 * 0.94 * 5)
    assert time["overhead_share"] == pytest.approx(1 - (155.46 + 14.1) / 202.5, abs=1e-4)


def test_targets_from_disk_are_told(invent):
    run = invent(rounds=1, done=0, methods=["collabedit"])
    read = "4 of 4 targets from the disk cache"
    events = [EventRow(n, "targets", 1, None, 5, n, "worker-0", 0.1, None, read if n else None) for n in range(4)]
    run.commit(1, [], RoundRows(events=events))
    assert "3 of 4 calls for targets found them on disk." in page_of(run)[1]
    assert "on disk" not in page_of(invent(rounds=1))[1]


def test_the_headline_says_how_far_collabedit_is_from_global(finished, invent):
    """3.1e-8 a round in the invented rows: 9.3e-8 after three."""
    _, text = written(finished)
    assert "The weights of collabedit are 9.3 × 10⁻⁸ away from those of global: the same model but for rounding" in text
    _, text = page_of(invent(rounds=1, methods=["collabedit", "ties"]))
    assert "away from those of" not in text
    assert "weights from global" not in text


def test_what_is_not_exact_is_not_called_exact(invent):
    """6e-5 apart is far above rounding: 3.1e-8 · 2000 rounds."""
    run = invent(rounds=1, done=0)
    arms = run.arm_states().values()
    rows = invent(rounds=1).table("rounds").to_pylist()
    changed = [RoundRow(**(row | {"weights_distance": 6e-5})) for row in rows]
    run.commit(1, [ArmState(s.arm, 1, s.weights, {}) for s in arms], RoundRows(rounds=changed))
    _, text = page_of(run)
    assert "6.0 × 10⁻⁵ away" in text
    assert "the same model but for rounding" not in text


@pytest.mark.parametrize(
    "options",
    [
        {"rounds": 1},
        {"rounds": 1, "methods": ["collabedit"]},
        {"rounds": 3, "methods": ["ties"], "parties": 1},
        {"rounds": 2, "done": 0},
        {"rounds": 2, "done": -1},
        {"rounds": 14, "methods": [{"name": "ties", "label": f"t{n}"} for n in range(9)]},
        {"rounds": 1, "parties": 3000, "methods": ["global", "collabedit"]},
        {"rounds": 2, "model": {"name": "associative"}, "editor": {"layers": (0, 1)}},
    ],
    ids=lambda options: "-".join(options) + str(options["rounds"]),
)
def test_unusual_runs_have_a_page_too(invent, options):
    page, text = page_of(invent(**options), is_drawn=True)
    assert "<h1><bdi>invented" in text
    assert "http" not in text
    assert not re.search(r"\b(nan|None|inf)\b", re.sub(r"<pre>.*</pre>|<style>.*?</style>", "", text, flags=re.DOTALL))
    assert ("table" in page.tags) == (options.get("done") != -1)


def test_other_metrics_than_those_known_are_shown(invent):
    run = invent(rounds=1, done=-1, methods=["collabedit"], model={"name": "associative"}, editor={"layers": (0, 1)})
    run.commit(0, [], RoundRows(metrics=[MetricRow(0, UNEDITED, "recall", None, 1.5, None, 4, 4)]))
    run.commit(1, [], RoundRows(metrics=[MetricRow(1, "collabedit", "recall", None, 98.7, None, 4, 4)]))
    page, text = page_of(run)
    assert page.row("CollabEdit")[1].split() == ["98.7", "50–100"]
    assert "collabedit reached a recall of 98.7 (unedited model 1.5)" in text


def perplexed(invent, rounds):
    """A run of two arms with a perplexity after each round: 40 unedited; collabedit near it, ties ruined."""
    run = invent(rounds=rounds, done=-1, methods=["collabedit", "ties"])
    for number in range(rounds + 1):
        values = {"collabedit": 40.0 + number, "ties": 1e6 * number} if number else {}
        values |= {UNEDITED: 40.0} if number == min(1, rounds) else {}
        rows = [MetricRow(number, arm, "perplexity", None, v, None, 0, 700, "1") for arm, v in values.items()]
        run.commit(number, [], RoundRows(metrics=rows))
    return run


@pytest.mark.parametrize("rounds", [1, 3])
def test_a_perplexity_is_no_percentage_and_less_of_it_is_better(invent, rounds):
    run = perplexed(invent, rounds)
    page, text = page_of(run)
    assert page.row("unedited model")[1].strip() == "40.0"
    assert f'<span class="best">{40 + rounds:.1f}</span>' in text
    assert page.row("TIES")[1].strip() == f"{rounds:.1f} × 10⁶"
    expected = f"40.0 before any edit: collabedit {40 + rounds:.1f}, ties {rounds:.1f} × 10⁶."
    assert f"Perplexity of a fixed text, {expected}" in text
    assert result_table(summary(run)).rows[1][1] == f"{rounds:.1f} × 10⁶"
    ruined = f"collabedit {40.0 + rounds}, ties {rounds}000000.0"
    assert f"By perplexity, best first: {ruined} (unedited model 40.0); on 700 tokens." in text


def test_what_holds_of_each_round_is_a_map_of_its_numbers(finished):
    """Rows are rounds after which was measured, columns rounds of the edits; the diagonal is the efficacy."""
    held = read_results(finished).held["ties"]
    rows = [MetricRow(**row) for row in finished.table("metrics").to_pylist() if row["arm"] == "ties"]
    expected = {(row.round, row.of_round): row.success for row in rows if row.metric == "retention"}
    expected |= {(row.round, row.of_round): row.success for row in rows if row.metric == "efficacy"}
    assert held == expected
    assert set(held) == {(after, of) for after in (1, 2, 3) for of in range(1, after + 1)}


def test_a_map_has_a_row_for_each_round_after_which_was_measured():
    """After round 2 the edits of rounds 1 and 2 across, below it after round 4 those of 1 to 4."""
    held = {(2, 1): 21.0, (2, 2): 22.0, (4, 1): 41.0, (4, 2): 42.0, (4, 3): 43.0, (4, 4): 44.0}
    axes = retention.heat_map(held).axes[0]
    place = {int(each.get_text()): each.get_position() for each in axes.texts}
    assert place == {21: (0.5, 0.5), 22: (1.5, 0.5), 41: (0.5, 1.5), 42: (1.5, 1.5), 43: (2.5, 1.5), 44: (3.5, 1.5)}
    assert [each.get_text() for each in axes.get_yticklabels()] == ["2", "4"]
    assert axes.yaxis_inverted(), "from the top down"


def test_a_run_that_looks_back_at_nothing_has_no_map(invent):
    assert "What holds of each round" not in page_of(invent(rounds=1))[1]
    assert "What holds of each round" in page_of(invent(rounds=2))[1]


def test_a_large_map_is_a_picture_of_pixels(finished):
    run = run_of(finished)
    assert not any(each.is_heavy for each in retention.section(run).figures)
    held = {(after, of): 50.0 for after in range(1, 41) for of in range(1, after + 1)}
    (figure,) = retention.section(replace(run, results=replace(run.results, held={"ties": held}))).figures
    assert figure.is_heavy
    assert figure.drawing.png.startswith(b"\x89PNG")
    assert not figure.drawing.svg


def test_failed_running_and_interrupted_runs_say_so(invent):
    run = invent(rounds=3, done=1, methods=["collabedit"])
    assert "This run is still going on. This page shows what was committed: 1 round of 3." in page_of(run)[1]
    run.mark_failed("worker <1> did not answer")
    assert "This run failed: <bdi>worker &lt;1&gt; did not answer</bdi>" in page_of(run)[1]
    run.mark_running()
    run.close()
    assert "This run was interrupted" in page_of(run)[1]
    run.mark_done()
    assert 'class="notice"' not in page_of(run)[1]


def test_faults_and_resumes_are_told(invent):
    run = invent(rounds=2, methods=["collabedit"])
    page, text = page_of(run)
    assert [row[1:] for row in page.rows if " worker-lost" in row] == [
        [" 2", " worker-lost", " worker-1", " killed on purpose <by the scenario>"]
    ]
    assert "killed on purpose &lt;by the scenario&gt;" in text
    assert "The run was resumed: " not in text
    run.close()
    run = RunDirectory.open(run.path)
    run.mark_running()
    assert "The run was resumed: " in page_of(run)[1]


def test_text_of_users_is_escaped(invent):
    _, text = page_of(invent(rounds=1, description="<script>alert(1)</script>"))
    assert "<script>" not in text
    assert "“<bdi>Rome &amp; &lt;Milan&gt;</bdi>” instead of “<bdi>Paris</bdi>”" in text


def test_many_events_become_a_picture_of_bounded_size(invent):
    run = invent(rounds=1, done=0, methods=["collabedit"])
    events = [
        EventRow(n * 0.1, "collect", 1, "collabedit", 5, n, f"worker-{n % 60}", 0.09, None, None) for n in range(20_000)
    ]
    run.commit(1, [], RoundRows(events=events))
    _, text = page_of(run, is_drawn=True)
    assert 'src="data:image/png;base64,' in text
    assert len(text) < 500_000


def test_titles_can_be_given(invent):
    run = invent(rounds=1, methods=["collabedit"])
    text = build_report(run, {"collabedit": ("My method", "Me, 2031")}).path.read_text(encoding="utf-8")
    assert "My method" in text
    assert "Me, 2031" in text


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (size(999), "999 B"),
        (size(1500), "1.5 kB"),
        (size(2.345e9), "2.35 GB"),
        (size(999_999), "1 MB"),
        (duration(3.21), "3.2 s"),
        (duration(9.99), "10 s"),
        (duration(200), "3 min 20 s"),
        (duration(7384), "2 h 3 min"),
        (distance(None), "–"),
        (distance(0.0), "0"),
        (distance(0.12345), "0.123"),
        (distance(3.14e-9), "3.1 × 10⁻⁹"),
        (count(1, "party"), "1 party"),
        (count(1000, "party"), "1,000 parties"),
        (count(2, "edit"), "2 edits"),
    ],
)
def test_numbers_read_well(found, expected):
    assert found == expected


def test_a_metric_that_is_no_percentage_is_not_drawn_as_one() -> None:
    styles, curves = arm_styles([("a", "ties")]), {"a": [(1, 586.5), (2, 601.25)]}
    line = _words(figures.value_curves, curves, styles, 612.0)
    assert "%" not in line
    assert any(550 <= float(word) <= 650 for word in line.split() if word.replace(".", "").isdigit())
    bar = _words(figures.value_bars, {"a": 586.5}, styles, 612.0, "0.01 bit")
    assert "586.5" in bar
    assert "%" not in bar
    assert "%" in _words(figures.percent_curves, {"a": [(1, 50.0), (2, 60.0)]}, styles, None)


@pytest.mark.parametrize("others", [{}, {"b": [(1, 0.25), (2, 30.0)]}])
def test_a_distance_of_zero_is_marked_zero_on_a_logarithmic_axis(others) -> None:
    styles = arm_styles([("a", "collabedit"), ("b", "ties")])
    marks = _words(figures.distance_curves, {"a": [(1, 0.0), (2, 0.0)], **others}, styles).split()
    assert "0" in marks
    assert ("10" in marks) == bool(others)
    assert "0" not in _words(figures.distance_curves, {"a": [(1, 1e-9), (2, 0.25)]}, styles).split()


def _words(function, *data) -> str:
    """What is written in a picture."""
    svg = ElementTree.fromstring(drawing_of(lambda: function(*data)).svg)
    return " ".join("".join(each.itertext()) for each in svg.iter("text"))
