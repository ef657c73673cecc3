"""Arms: states and versions within a round, and how work is counted."""

import numpy as np
import pytest
from consortium.data.stream import Stream
from consortium.engine.arms import all_distances, expected_work, num_optimisations, open_arms, unedited, units_of
from consortium.merging.arm_state import ArmState
from consortium.merging.solver import CovarianceSolver
from consortium.merging.statistics import Basis, DenseStatistics, zero
from support.scenarios import associative_scenario


def base():
    return {0: np.ones((1, 2), np.float32), 2: np.ones((1, 2), np.float32)}


def scenario_of(**changes):
    return associative_scenario(merge={"methods": ["global", "collabedit"]}, **changes)


def merge_one_layer(arm, layer=0, round_number=1):
    total = DenseStatistics(Basis(arm.name, round_number, layer), np.eye(2), np.ones((1, 2)), 1)
    arm.merge(total, CovarianceSolver(np.eye(2), None, "a layer"))


def test_arms_start_unedited_and_under_one_name():
    arms = open_arms(scenario_of(), base(), {})
    assert [arm.name for arm in arms] == ["global", "collabedit"]
    assert arms[0].snapshot().key == arms[1].snapshot().key == unedited(base()).snapshot().key


def test_a_merge_gives_one_layer_a_name_of_its_own():
    _, arm = open_arms(scenario_of(), base(), {})
    merge_one_layer(arm)
    assert arm.snapshot().versions == {0: "collabedit@1", 2: "base"}
    assert arm.history_now().versions == {0: "collabedit@1"}


def test_a_snapshot_stays_what_it_was():
    _, arm = open_arms(scenario_of(), base(), {})
    before, history = arm.snapshot(), arm.history_now()
    merge_one_layer(arm)
    np.testing.assert_array_equal(before.read(0), base()[0])
    assert before.versions[0] == "base"
    assert history.versions == {}
    assert not np.array_equal(arm.snapshot().read(0), base()[0])


def test_a_resumed_arm_has_the_same_names_as_one_that_ran_on():
    """Names decide what workers take for loaded already; after a resumption they must mean the same contents."""
    scenario = scenario_of()
    arm = open_arms(scenario, base(), {})[1]
    for layer in (0, 2):
        merge_one_layer(arm, layer)
    resumed = open_arms(scenario, base(), {"collabedit": arm.state(1), "global": ArmState("global", 1, base(), {})})
    assert resumed[1].snapshot().versions == arm.snapshot().versions
    assert resumed[1].history_now().versions == arm.history_now().versions


def test_a_history_keeps_its_name_while_no_edits_come():
    """What a worker solved against it stays good; and an arm resumed after such rounds goes on under that name."""
    _, arm = open_arms(scenario_of(), base(), {})
    merge_one_layer(arm)
    arm.merge(zero(Basis(arm.name, 2, 0), 2, 1), CovarianceSolver(np.eye(2), None, "a layer"))
    assert arm.history_now().versions == {0: "collabedit@1"}
    resumed = open_arms(scenario_of(), base(), {"collabedit": arm.state(2)})[1]
    assert resumed.history_now().versions == {0: "collabedit@1"}


def test_distances_are_from_the_arm_that_runs_global_whatever_it_is_called():
    methods = ["collabedit", {"name": "global", "label": "owner"}]
    arms = open_arms(associative_scenario(merge={"methods": methods}), base(), {})
    merge_one_layer(arms[0])
    found = all_distances(arms, base(), 1)
    assert found["owner"].update_norm == 0
    assert found["collabedit"].weights_distance > 0
    no_reference = all_distances(arms[:1], base(), 1)
    assert no_reference["collabedit"].weights_distance is None


@pytest.mark.parametrize(
    ("residual_schedule", "exchange", "first", "later"),
    [("spread", "layer", 1, 2), ("first_last", "layer", 1 + 2, 2 + 2), ("first_last", "round", 2, 4)],
)
def test_arms_share_targets_of_the_unedited_model_only(residual_schedule, exchange, first, later):
    """Two arms: targets of round 1's first step once, all others once for each arm."""
    merge = {"methods": ["global", "collabedit"], "exchange": exchange}
    scenario = associative_scenario(editor={"residual_schedule": residual_schedule}, merge=merge)
    assert num_optimisations(scenario, 1) == first
    assert num_optimisations(scenario, 2) == later


def test_arms_have_history_weights_of_their_own():
    """λ is 10 in these scenarios; an arm that says nothing takes what holds for all."""
    methods = [
        "collabedit",
        *({"name": "collabedit", "label": f"h-{h}", "history_weight": h} for h in (0, 2.5, "covariance")),
    ]
    for common, expected in ((1.0, [1.0, 0.0, 2.5, 10.0]), ("covariance", [10.0, 0.0, 2.5, 10.0])):
        scenario = associative_scenario(merge={"methods": methods, "history_weight": common})
        assert [arm.history_weight for arm in open_arms(scenario, base(), {})] == expected


def test_work_by_hand():
    """7 parties × 4 edits = 28; 3 layers; 2 arms; sample 12, evaluated after rounds 2 and 3 in 3 arms."""
    scenario = scenario_of(stream={"rounds": 3}, evaluate={"every": 2})
    stream = Stream(scenario.seed, scenario.parties, scenario.stream, ["r"] * 200, scenario.unlearn)
    assert expected_work(scenario, stream, 1) == {
        "targets": 28 * (1 + 2 + 2),
        "collect": 28 * 3 * 2 * 3,
        "evaluate": 12 * 3 * 2,
    }
    assert expected_work(scenario, stream, 3) == {"targets": 28 * 2, "collect": 28 * 3 * 2, "evaluate": 12 * 3}
    assert expected_work(scenario, stream, 4) == {"targets": 0, "collect": 0, "evaluate": 0}


def test_party_batches_add_up_to_the_phase():
    scenario = scenario_of()
    stream = Stream(scenario.seed, scenario.parties, scenario.stream, ["r"] * 200, scenario.unlearn)
    for phase, total in (("targets", 28), ("collect", 28), ("evaluate", 12), ("covariance", 4)):
        assert sum(units_of(scenario, stream, phase, 1, party_batch) for party_batch in range(4)) == total
