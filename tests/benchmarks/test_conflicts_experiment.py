"""The experiment of resolving duplicates and contradictions, on a small memory."""

import pytest
from consortium.common.errors import ScenarioError

from benchmarks.experiments.conflicts import main, measures, overrides_of, table

SMALL = [
    "model={name: associative, key_width: 48, value_width: 24, num_objects: 24}",
    "editor={layers: [0, 1], covariance_weight: 20}",
    "merge.methods=[collabedit]",
]


def test_settings_are_overrides():
    assert overrides_of("count_once") == ["overlap.duplicates=count_once"]
    assert overrides_of("latest") == ["conflicts.policy=latest", "conflicts.num_paraphrases=0"]
    assert overrides_of("majority+3") == ["conflicts.policy=majority", "conflicts.num_paraphrases=3"]
    assert overrides_of("majority/run+3") == [*overrides_of("majority+3"), "conflicts.scope=run"]


def test_every_setting_is_measured_with_every_seed():
    found = measures("conflict", ["none", "latest+2"], ["0", "1"], SMALL)
    assert list(found) == [(setting, "collabedit", number) for setting in ("none", "latest+2") for number in (1, 2)]
    assert all(len(values) == 2 for each in found.values() for values in each.values())
    plain, resolution = found["none", "collabedit", 1], found["latest+2", "collabedit", 1]
    assert max(plain["conflict_magnitude"]) < min(resolution["conflict_magnitude"])


def test_the_table_has_means_and_dashes():
    found = {("a", "arm", 1): {"conflict_score": [50.0, 100.0]}, ("b", "arm", 1): {"update_norm": [2.0]}}
    assert table(found).splitlines() == [
        "| setting | arm | round | conflict score | update norm |",
        "|---|---|--:|--:|--:|",
        "| a | arm | 1 | 75.00 | – |",
        "| b | arm | 1 | – | 2.00 |",
    ]


def test_all_settings_are_checked_before_the_first_run(capsys):
    with pytest.raises(ScenarioError, match=r"conflicts\.policy"):
        measures("conflict", ["none", "mayority"], ["0"], SMALL)
    assert main(["conflict", "--settings", "mayority"]) == 2
    assert "did you mean 'majority'?" in capsys.readouterr().err
