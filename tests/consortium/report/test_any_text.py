"""Texts and numbers of others in the report: none is obeyed, and none keeps the report from being written."""

from __future__ import annotations

import json

import numpy as np
import pytest
from consortium.common.terminal import finite
from consortium.report import figures, words
from consortium.report.content import Cell, Figure, Figures, Folded, Meanings, Notice, Section, Table, Verbatim
from consortium.report.drawing import drawing_of
from consortium.report.head import head_of
from consortium.report.page import build_report, run_of
from consortium.report.pictures import write_pictures
from consortium.report.render import render
from consortium.report.style import ArmStyle

NASTY = "a\x1b[31m\r\x07\x9b2J\u202eb\u2066\u2069<i>"
STYLES = {"one": ArmStyle("#0072B2", "o", "-"), "two": ArmStyle("#D55E00", "s", "--")}
FORBIDDEN = ("\x1b", "\r", "\x07", "\x9b", "\u202e", "\u2066", "\u2069", "<i>")


SHOWN = "a\\x1b[31m\\r\\x07\\x9b2J\\u202eb\\u2066\\u2069&lt;i&gt;"


def everywhere(text: str) -> Section:
    """A section with the text wherever one can stand: 18 places."""
    table = Table(
        [text, text], [[Cell(text, [text, text]), text], [Cell(text, is_best=True, style=STYLES["one"]), text]]
    )
    figure = Figure(text, text, lambda: None, ())
    figures = Figures([figure], Meanings({text: text}), legend={text: STYLES["two"]})
    return Section(text, [text, table, figures, Notice(text), Folded(text, [Verbatim(text)])])


@pytest.mark.parametrize(("text", "shown"), [(words.own(NASTY), f"<bdi>{SHOWN}</bdi>"), (NASTY, SHOWN)])
def test_texts_of_others_have_their_own_direction_and_command_nothing(finished, text, shown) -> None:
    """Those that nobody marked as others' command nothing either."""
    head = head_of(run_of(finished))
    page = render("page.html", head=head, sections=[everywhere(text)], version="1")
    assert page.count(shown) == 18
    assert not [each for each in FORBIDDEN if each in page]


def test_marked_texts_in_a_sentence_are_taken_apart() -> None:
    parts = words.parts(f"asked for “{words.own('<b>')}” & more")
    assert parts == [("asked for “", False), ("<b>", True), ("” & more", False)]
    assert words.plain(words.own("a") + "b") == "ab"


@pytest.mark.slow
def test_a_page_holds_no_control_character_whatever_users_wrote(invent, tmp_path) -> None:
    run = invent(rounds=1, description=NASTY)
    run.mark_failed(RuntimeError(NASTY))
    report = build_report(run)
    page = report.path.read_text(encoding="utf-8")
    assert not [each for each in FORBIDDEN if each in page]
    assert "<bdi>a\\x1b[31m" in page
    for path in write_pictures(report, tmp_path / "pictures"):
        if path.suffix == ".svg":
            assert "bdi" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("failure", [ValueError("too wide"), OverflowError(), MemoryError("much")])
def test_a_picture_that_cannot_be_drawn_is_left_out_with_its_reason(invent, monkeypatch, tmp_path, failure) -> None:
    def fail(*_: object, **__: object) -> None:
        raise failure

    for name in ("percent_curves", "percent_bars", "stacked_bars", "traffic_ranges", "distance_curves"):
        monkeypatch.setattr(figures, name, fail)
    monkeypatch.setattr("consortium.report.sections.retention.heat_map", fail)
    monkeypatch.setattr("consortium.report.sections.time_spent.timeline", fail)
    run = invent(rounds=2)
    report = build_report(run)
    page = report.path.read_text(encoding="utf-8")
    assert page.count("This picture could not be drawn") >= 4
    assert type(failure).__name__ in page
    assert "Results" in page
    assert [path.name for path in write_pictures(report, tmp_path / "pictures")] == [
        "what-was-asked-for-edits-by-kind.svg"
    ]


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan"), 0.0, 1e300, 1e-300, 5e-324])
def test_any_number_is_shown(value: float) -> None:
    for show in (words.duration, words.distance, words.size, lambda x: words.measured(x, None)):
        assert show(abs(value) if show is words.duration else value)
    assert words.measured(value, "nats")
    json.dumps(finite({"a": [value, (value, {"b": value})]}), allow_nan=False)


def test_numbers_that_are_not_finite_are_null_in_json() -> None:
    assert finite({"a": [float("nan"), 1.5], "b": (float("inf"), "x", None)}) == {
        "a": [None, 1.5],
        "b": [None, "x", None],
    }


@pytest.mark.parametrize("values", [{"one": 0.0, "two": 0.0}, {"one": 0.0, "two": 600.0}])
def test_a_value_of_zero_is_drawn_and_shortens_no_other(values: dict[str, float]) -> None:
    with np.errstate(all="raise"):
        drawn = [
            figures.value_bars(values, STYLES, 0.0, "bit"),
            figures.percent_bars({name: value / 10 for name, value in values.items()}, STYLES, None),
            figures.value_curves({name: [(1, value), (2, value)] for name, value in values.items()}, STYLES, None),
            figures.percent_curves({name: [(1, 0.0), (2, 0.0)] for name in values}, STYLES, 0.0),
            figures.distance_curves({name: [(1, 0.0), (2, value)] for name, value in values.items()}, STYLES),
        ]
    pictures = [drawing_of(lambda figure=figure: figure).svg for figure in drawn]
    for picture in pictures:
        assert all(style.colour.lower() in picture.lower() for style in STYLES.values())
    if values["two"]:
        assert "600" in pictures[0]


def test_a_bar_beside_one_of_zero_has_its_length(monkeypatch) -> None:
    from matplotlib.axes import Axes

    lengths = []
    barh = Axes.barh
    monkeypatch.setattr(
        Axes, "barh", lambda self, y, width, **more: (lengths.append(width), barh(self, y, width, **more))
    )
    figures.value_bars({"one": 0.0, "two": 600.0}, STYLES, None, "bit")
    assert lengths == [0.0, 600.0]
