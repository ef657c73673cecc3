"""Opening a backend: what a model cannot do is refused before anything is computed with it."""

import pytest
from consortium.common.errors import ScenarioError
from consortium.data.builtin import builtin_edits
from consortium.data.table import FactTable
from consortium.editing.open import open_backend
from support.pico import pico_folder
from support.scenarios import pico_scenario

BFLOAT16 = {"target": {"arithmetic": "bfloat16"}}


def test_another_arithmetic_is_refused_where_the_backbone_is_not_written_out(tmp_path):
    scenario = pico_scenario(pico_folder(tmp_path, "gpt2", num_layers=4), editor=BFLOAT16)
    with pytest.raises(ScenarioError, match=r"editor\.target\.arithmetic: bfloat16 for a model of type gpt2"):
        open_backend(scenario, FactTable(builtin_edits()))


def test_another_arithmetic_is_taken_by_llamas_kin(tmp_path):
    scenario = pico_scenario(pico_folder(tmp_path, "llama", num_layers=4), editor=BFLOAT16)
    assert open_backend(scenario, FactTable(builtin_edits())).base_weights()
