"""Texts and numbers of others in the report: none is obeyed, and none keeps the report from being written."""

from __future__ import annotations

import json

import numpy as np
import pytest
from consortium.common.terminal import finite
from consortium.report import figures, html, words
from consortium.report.page import build_report
from consortium.report.pictures import write_pictures
from consortium.report.style import LaneStyle

NASTY = "a\x1b[31m\r\x07\x9b2J\u202eb\u2066\u2069<i>"
STYLES = {"one": LaneStyle("#0072B2", "o", "-"), "two": LaneStyle("#D55E00", "s", "--")}
FORBIDDEN = ("\x1b", "\r", "\x07", "\x9b", "\u202e", "\u2066", "\u2069", "<i>")


def test_texts_of_others_have_their_own_direction_and_command_nothing() -> None:
    shown = "a\\x1b[31m\\r\\x07\\x9b2J\\u202eb\\u2066\\u2069&lt;i&gt;"
    assert html.text(NASTY) == f"<bdi>{shown}</bdi>"
    assert html.sentence(f"asked for “{words.own(NASTY)}” & more") == f"asked for “<bdi>{shown}</bdi>” &amp; more"


def test_a_page_holds_no_control_character_whatever_users_wrote(invent, tmp_path) -> None:
    run = invent(rounds=1, description=NASTY)
    run.mark_failed(RuntimeError(NASTY))
    page = build_report(run).read_text(encoding="utf-8")
    assert not [each for each in FORBIDDEN if each in page]
    assert "<bdi>a\\x1b[31m" in page
    for path in write_pictures(run, tmp_path / "pictures"):
        if path.suffix == ".svg":
            assert "bdi" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("failure", [ValueError("too wide"), OverflowError(), MemoryError("much")])
def test_a_picture_that_cannot_be_drawn_is_left_out_with_its_reason(invent, monkeypatch, failure) -> None:
    def fail(*_: object, **__: object) -> str:
        raise failure

    for name in ("percent_curves", "percent_bars", "time_bars", "traffic_ranges", "distance_curves"):
        monkeypatch.setattr(figures, name, fail)
    monkeypatch.setattr("consortium.report.sections.retention.heat_map", fail)
    monkeypatch.setattr("consortium.report.sections.work.timeline", fail)
    page = build_report(invent(rounds=2)).read_text(encoding="utf-8")
    assert page.count("This picture could not be drawn") >= 4
    assert type(failure).__name__ in page
    assert "Results" in page


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
    for picture in drawn:
        assert all(style.colour.lower() in picture.lower() for style in STYLES.values())
    if values["two"]:
        assert "600" in drawn[0]


def test_a_bar_beside_one_of_zero_has_its_length(monkeypatch) -> None:
    from matplotlib.axes import Axes

    lengths = []
    barh = Axes.barh
    monkeypatch.setattr(
        Axes, "barh", lambda self, y, width, **more: (lengths.append(width), barh(self, y, width, **more))
    )
    figures.value_bars({"one": 0.0, "two": 600.0}, STYLES, None, "bit")
    assert lengths == [0.0, 600.0]
