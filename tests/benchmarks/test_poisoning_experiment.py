"""The experiment of poisoning, on a small memory."""

from consortium.loading.prepare import prepare

from benchmarks.experiments.poisoning import main, measures, overrides_of, table

SMALL = [
    "model={name: associative, key_width: 48, value_width: 24, num_objects: 24}",
    "parties={count: 6, edits_per_round: 2}",
    "stream={rounds: 1, overlap: 1, sharing_group_size: 6}",
    "merge.methods=[collabedit, {name: median_of_means, buckets: 5, alpha: 0.2}]",
]


def test_settings_are_attacks():
    assert overrides_of("none", 0.2) == ["attacks=[]"]
    kinds = prepare("poisoning", overrides_of("targeted+scale", 0.3)).scenario.attacks
    assert [(each.kind, each.share) for each in kinds] == [("targeted", 0.3), ("scale", 0.3)]


def test_a_median_bears_what_collabedit_does_not():
    found = measures("poisoning", ["none", "targeted+scale"], ["0", "1"], 0.2, SMALL)
    assert list(found) == [
        (each, arm) for each in ("none", "targeted+scale") for arm in ("collabedit", "median_of_means")
    ]
    assert all(len(values) == 2 for each in found.values() for values in each.values())
    means = {key: sum(values["strict_efficacy"]) / 2 for key, values in found.items()}
    assert means["none", "collabedit"] == means["none", "median_of_means"] == 100
    assert means["targeted+scale", "median_of_means"] == 100
    assert means["targeted+scale", "collabedit"] <= 25


def test_the_table_has_means_and_costs():
    found = {("none", "a"): {"efficacy": [50.0, 100.0], "merge_s": [0.5], "bytes_sent": [2048.0]}}
    assert table(found).splitlines() == [
        "| setting | arm | efficacy | merge s | bytes sent |",
        "|---|---|--:|--:|--:|",
        "| none | a | 75.0 | 0.500 | 2,048 |",
    ]


def test_what_is_no_attack_is_told(capsys):
    assert main(["--settings", "steal"]) == 2
    assert "attacks.0.kind" in capsys.readouterr().err
