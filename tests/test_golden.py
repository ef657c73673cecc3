"""Checksums that show whether a change has a numeric effect."""

import pytest
from consortium.loading.prepare import prepare
from support.golden import checksums, overrides, scenario_names
from support.pico import pico_folder


@pytest.fixture(scope="module")
def pico(tmp_path_factory):
    return pico_folder(tmp_path_factory.mktemp("pico") / "pico", "llama", num_layers=4)


@pytest.mark.parametrize("name", scenario_names())
def test_every_shipped_scenario_has_a_small_size(name, pico):
    scenario = prepare(name, overrides(name, pico)).scenario
    assert scenario.parties.count * scenario.parties.edits_per_round * scenario.stream.rounds <= 1000


@pytest.mark.slow
@pytest.mark.usefixtures("own_cache")
def test_equal_runs_have_equal_checksums_and_others_have_not(pico, tmp_path, monkeypatch):
    first = checksums("unlearning", tmp_path / "first", pico)
    assert set(first) == {"round-0004/collabedit", "round-0004/global"}
    assert checksums("unlearning", tmp_path / "second", pico) == first
    monkeypatch.setattr("support.golden._SMALLER", {"unlearning": ["seed=9"]})
    other = checksums("unlearning", tmp_path / "third", pico)
    assert all(other[name] != first[name] for name in first)
