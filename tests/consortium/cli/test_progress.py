"""Progress lines: what they say, and how often."""

import io
import time

import pytest
from consortium.cli.progress import LineWriter, line_of, repeated, short_duration, shown_progress
from consortium.common.progress import Progress


def snapshot(phase="targets", share_done=0.25, elapsed_s=60.0, waiting_for="", left_s=180.0):
    return Progress(phase, 1, 2, 3, 18, "edits", share_done, elapsed_s, waiting_for, left_s)


def test_a_line_says_where_the_run_is():
    expected = "round 1/2 | targets | 3/18 edits | 25 % of the run | 1 min 00 s so far | about 3 min 00 s left"
    assert line_of(snapshot()) == expected


def test_a_line_of_a_phase_without_units_counts_none():
    start = Progress("start", 0, 2, 0, 0, "steps", 0.0, 3.0, "Ray on this machine")
    assert line_of(start) == "round 0/2 | start | 0 % of the run | 3 s so far | waiting for Ray on this machine"


def test_a_line_says_what_is_waited_for():
    assert line_of(snapshot(waiting_for="party batch 2")).endswith("waiting for party batch 2")


def test_a_line_without_an_estimate_says_nothing_of_the_time_left():
    assert "left" not in line_of(snapshot(left_s=None))


def test_what_is_left_shrinks_while_nothing_comes_and_is_not_believed_for_long():
    assert snapshot().later(30.0) == snapshot(elapsed_s=90.0, left_s=150.0)
    assert snapshot().later(100.0).left_s is None


def test_who_is_waited_for_commands_nothing():
    assert line_of(snapshot(waiting_for="node \x1b[31m")).endswith("waiting for node \\x1b[31m")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_durations_are_for_people(seconds, text):
    assert short_duration(seconds) == text


def test_lines_come_at_a_change_of_phase_and_now_and_then():
    """Snapshots at 0, 2, 4 and 6 s of one phase, then a new phase at 7.5 s and again at 8 s."""
    clock = iter([0.0, 2.0, 4.0, 6.0, 7.5, 8.0])
    stream = io.StringIO()
    write = LineWriter(stream, lambda: next(clock))
    for phase in ["targets"] * 4 + ["collect"] * 2:
        write(snapshot(phase))
    assert [line.split(" | ")[1] for line in stream.getvalue().splitlines()] == ["targets", "targets", "collect"]


def test_the_last_snapshot_is_shown_again_while_nothing_comes():
    shown = []
    with repeated(shown.append, every_s=0.1) as report:
        time.sleep(0.25)
        assert not shown, "there is nothing to show yet"
        report(snapshot(elapsed_s=60.0))
        time.sleep(0.35)
        report(snapshot("collect", elapsed_s=70.0))
    phases = [each.phase for each in shown]
    assert phases[-1] == "collect"
    assert 3 <= phases.count("targets") <= 4
    waited = [each.elapsed_s for each in shown[:-1]]
    assert waited == sorted(waited)
    assert 60.05 < waited[1] < 60.3
    num_shown = len(shown)
    time.sleep(0.15)
    assert len(shown) == num_shown, "nothing is shown when it is over"


class Terminal(io.StringIO):
    def isatty(self):
        return True


class AsciiTerminal(Terminal):
    encoding = "ascii"


@pytest.mark.parametrize("terminal", [Terminal, AsciiTerminal])
def test_a_terminal_gets_a_live_line(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = terminal()
    with shown_progress(stream) as show:
        show(snapshot(waiting_for="party batch 2"))
    assert "3/18 edits" in stream.getvalue()
    if terminal is AsciiTerminal:
        assert stream.getvalue().isascii()
