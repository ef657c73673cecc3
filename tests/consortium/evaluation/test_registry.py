"""The metrics that there are, and what is known of each without naming it anywhere else."""

from __future__ import annotations

import subprocess
import sys

import pytest
from consortium.common.errors import ScenarioError
from consortium.evaluation import registry
from consortium.scenario.schema import EvaluateSpec

ALL = registry.all_metrics()


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
def test_a_metric_is_named_after_its_file_and_says_what_it_means(metric):
    assert registry.get(metric.name) is metric
    for column in metric.columns_in_order():
        assert column.startswith(metric.name)
        assert registry.of_column(column) is metric
        assert metric.meaning_of(column).endswith(".") or metric.meaning_of(column).endswith(" nothing.")
        assert "_" not in metric.title_of(column)
    assert metric.details < set(metric.columns_in_order())


def test_no_two_metrics_have_the_same_place_or_column():
    assert len({metric.order for metric in ALL}) == len(ALL)
    columns = [column for metric in ALL for column in metric.columns_in_order()]
    assert len(set(columns)) == len(columns)


def test_columns_are_shown_metric_by_metric_and_those_that_nobody_knows_last():
    given = [
        *(
            "fluency_greedy",
            "downstream_accuracy",
            "unheard_of",
            "paraphrase",
            "conflict_score",
            "portability_reasoning",
            "portability",
        ),
        *("efficacy_with_start", "score", "conflict_magnitude", "efficacy", "fluency"),
    ]
    assert registry.in_order(given) == [
        *("score", "efficacy", "efficacy_with_start", "paraphrase", "conflict_score", "conflict_magnitude"),
        *("portability", "portability_reasoning", "fluency", "fluency_greedy", "downstream_accuracy", "unheard_of"),
    ]
    stranger = registry.of_column("unheard_of")
    assert (stranger.title_of("unheard_of"), stranger.meaning_of("unheard_of")) == ("unheard of", "")


def test_names_and_what_is_asked_for():
    named = registry.by_name()
    shown = [name for name in named if name in ("retention", "neighborhood", "paraphrase", "efficacy")]
    assert shown == ["efficacy", "paraphrase", "neighborhood", "retention"]
    assert not {"perplexity", "downstream_accuracy", "score"} & set(named)
    spec = EvaluateSpec(metrics=("retention", "efficacy"), perplexity_text="builtin")
    assert [metric.name for metric in registry.asked(spec)] == ["retention", "efficacy", "perplexity"]


def test_an_unknown_name_is_refused_with_the_nearest():
    assert not registry.is_known("score")
    assert not registry.is_known("eficacy")
    with pytest.raises(ScenarioError, match=r"unknown metric 'eficacy'(.|\n)*one of efficacy, (.|\n)*efficacy"):
        registry.get("eficacy")


def test_a_run_imports_the_metrics_that_it_asks_for_and_none_of_a_feature_besides():
    """Names are those of files, so features are not imported to know what there is."""
    code = (
        "import sys; from consortium.evaluation import registry as r; from consortium.scenario.schema import *\n"
        "r.asked(EvaluateSpec()), r.is_known('efficacy'), r.in_order(['efficacy', 'perplexity']), r.combined()\n"
        "print(any('features' in name for name in sys.modules), 'torch' in sys.modules)\n"
        "r.asked(EvaluateSpec(metrics=('conflict_score',)))\n"
        "print(sorted(name for name in sys.modules if name.endswith('.conflicts')))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert found.stdout.splitlines() == ["False False", "['consortium.features.conflicts']"]
