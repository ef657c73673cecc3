"""Editors as a scenario names them: references, settings, and what is refused before anything starts."""

import json

import pytest
from consortium.common.errors import ScenarioError
from consortium.editing.editors.registry import create_editor
from consortium.loading.check import check_scenario
from consortium.loading.load import load_scenario
from consortium.scenario.editor import EDITORS, FineTuningSpec, MemitSpec, RomeSpec
from consortium.scenario.methods import METHODS


def check(folder, **sections):
    path = folder / "s.yaml"
    path.write_text(json.dumps({"name": "a"} | sections))
    check_scenario(load_scenario(str(path)))


@pytest.mark.parametrize("name", EDITORS)
def test_an_editor_names_itself_and_its_paper(name):
    spec = EDITORS[name](method=name)
    assert spec.title
    assert "arXiv" in spec.paper
    assert (spec.merges is None) == (spec.why_not_others == "")
    assert set(spec.merges or ()) <= set(METHODS)
    assert create_editor(spec).spec is spec


@pytest.mark.parametrize(
    ("editor", "message"),
    [
        ({"method": "alphaedit", "treshold": 1}, r"unknown key\n.*threshold, share, l2\n.*did you mean"),
        ({"method": "alphaedit", "share": 0}, r"editor.share.*found 0"),
        ({"method": "alphaedit", "l2": 0}, r"editor.l2.*found 0\n.*a number above 0"),
        ({"method": "emmet", "alpha": 0}, r"editor.alpha.*found 0\n.*at least 1e-06"),
        ({"method": "ft", "steps": 0}, r"editor.steps.*found 0"),
        ({"method": "rome", "alpha": 1}, r"editor.alpha.*unknown key"),
    ],
)
def test_settings_out_of_bounds_are_refused(editor, message, tmp_path):
    with pytest.raises(ScenarioError, match=message):
        check(tmp_path, editor=editor)


@pytest.mark.parametrize(
    ("name", "method"),
    [(name, method) for name in EDITORS for method in METHODS if method not in (EDITORS[name].merges or [method])],
)
def test_a_merge_method_that_does_not_suit_is_refused_with_the_reason(name, method, tmp_path):
    sections = {"editor": {"method": name}, "merge": {"methods": ["ties", method], "exchange": "round"}}
    reason = (
        rf"merge.methods.1.*merge method '{method}' with the editor {name}: {EDITORS[name].why_not_others}\n.*one of"
    )
    with pytest.raises(ScenarioError, match=reason):
        check(tmp_path, **sections)


def test_collabedit_suits_neither_single_edits_nor_fine_tuning():
    assert "collabedit" not in {*RomeSpec.merges, *FineTuningSpec.merges}


class TestExchange:
    def test_tuning_several_layers_asks_for_one_exchange(self, tmp_path):
        with pytest.raises(ScenarioError, match=r"merge.exchange.*'layer' with the editor ft, which changes 2 layers"):
            check(tmp_path, editor={"method": "ft"}, merge={"methods": ["ties"]})

    @pytest.mark.parametrize(
        ("editor", "exchange"), [({"layers": [9]}, "layer"), ({}, "round"), ({"residual_schedule": "spread"}, "round")]
    )
    def test_what_can_run_is_accepted(self, editor, exchange, tmp_path):
        check(tmp_path, editor={"method": "ft", **editor}, merge={"methods": ["ties"], "exchange": exchange})

    def test_layers_that_are_none_are_the_only_mistake(self, tmp_path):
        with pytest.raises(ScenarioError, match=r"1 mistake\n.*editor.layers"):
            check(tmp_path, editor={"method": "ft", "layers": [9, 5]}, merge={"methods": ["ties"], "exchange": "round"})


def test_single_edits_change_one_layer():
    assert RomeSpec(method="rome", layers=(5, 9)).edited_layers == (9,)
    assert RomeSpec(method="rome", layers=(5, 9), residual_schedule="spread").edited_layers == (9,)
    assert MemitSpec(layers=(5, 9)).edited_layers == (5, 9)
