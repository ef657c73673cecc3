"""Lanes: states and versions within a round, and how work is counted."""

import numpy as np
import pytest
from consortium.data.stream import Stream
from consortium.engine.lanes import all_distances, expected_work, num_optimisations, open_lanes, unedited, units_of
from consortium.merging.lane_state import LaneState
from consortium.merging.solver import PriorSolver
from consortium.merging.statistics import Basis, DenseStatistics, zero
from support.scenarios import associative_scenario


def base():
    return {0: np.ones((1, 2), np.float32), 2: np.ones((1, 2), np.float32)}


def scenario_of(**changes):
    return associative_scenario(merge={"methods": ["global", "collabedit"]}, **changes)


def merge_one_layer(lane, layer=0, round_number=1):
    total = DenseStatistics(Basis(lane.name, round_number, layer), np.eye(2), np.ones((1, 2)), 1)
    lane.merge(total, PriorSolver(np.eye(2), None, "a layer"))


def test_lanes_start_unedited_and_under_one_name():
    lanes = open_lanes(scenario_of(), base(), {})
    assert [lane.name for lane in lanes] == ["global", "collabedit"]
    assert lanes[0].snapshot().key == lanes[1].snapshot().key == unedited(base()).snapshot().key


def test_a_merge_gives_one_layer_a_name_of_its_own():
    _, lane = open_lanes(scenario_of(), base(), {})
    merge_one_layer(lane)
    assert lane.snapshot().versions == {0: "collabedit@1", 2: "base"}
    assert lane.history_now().versions == {0: "collabedit@1"}


def test_a_snapshot_stays_what_it_was():
    _, lane = open_lanes(scenario_of(), base(), {})
    before, history = lane.snapshot(), lane.history_now()
    merge_one_layer(lane)
    np.testing.assert_array_equal(before.read(0), base()[0])
    assert before.versions[0] == "base"
    assert history.versions == {}
    assert not np.array_equal(lane.snapshot().read(0), base()[0])


def test_a_resumed_lane_has_the_same_names_as_one_that_ran_on():
    """Names decide what hosts take for loaded already; after a resumption they must mean the same contents."""
    scenario = scenario_of()
    lane = open_lanes(scenario, base(), {})[1]
    for layer in (0, 2):
        merge_one_layer(lane, layer)
    resumed = open_lanes(scenario, base(), {"collabedit": lane.state(1), "global": LaneState("global", 1, base(), {})})
    assert resumed[1].snapshot().versions == lane.snapshot().versions
    assert resumed[1].history_now().versions == lane.history_now().versions


def test_a_history_keeps_its_name_while_no_edits_come():
    """What a host solved against it stays good; and a lane resumed after such rounds goes on under that name."""
    _, lane = open_lanes(scenario_of(), base(), {})
    merge_one_layer(lane)
    lane.merge(zero(Basis(lane.name, 2, 0), 2, 1), PriorSolver(np.eye(2), None, "a layer"))
    assert lane.history_now().versions == {0: "collabedit@1"}
    resumed = open_lanes(scenario_of(), base(), {"collabedit": lane.state(2)})[1]
    assert resumed.history_now().versions == {0: "collabedit@1"}


def test_distances_are_from_the_lane_that_runs_global_whatever_it_is_called():
    methods = ["collabedit", {"name": "global", "label": "owner"}]
    lanes = open_lanes(associative_scenario(merge={"methods": methods}), base(), {})
    merge_one_layer(lanes[0])
    found = all_distances(lanes, base(), 1)
    assert found["owner"].update_norm == 0
    assert found["collabedit"].weights_distance > 0
    no_reference = all_distances(lanes[:1], base(), 1)
    assert no_reference["collabedit"].weights_distance is None


@pytest.mark.parametrize(
    ("sharing", "exchange", "first", "later"),
    [("memit", "layer", 1, 2), ("boundary", "layer", 1 + 2, 2 + 2), ("boundary", "round", 2, 4)],
)
def test_lanes_share_targets_of_the_unedited_model_only(sharing, exchange, first, later):
    """Two lanes: targets of round 1's first step once, all others once for each lane."""
    merge = {"methods": ["global", "collabedit"], "exchange": exchange}
    scenario = associative_scenario(editor={"sharing": sharing}, merge=merge)
    assert num_optimisations(scenario, 1) == first
    assert num_optimisations(scenario, 2) == later


def test_lanes_have_history_weights_of_their_own():
    """λ is 10 in these scenarios; a lane that says nothing takes what holds for all."""
    methods = [
        "collabedit",
        *({"name": "collabedit", "label": f"h-{h}", "history_weight": h} for h in (0, 2.5, "prior")),
    ]
    for common, expected in ((1.0, [1.0, 0.0, 2.5, 10.0]), ("prior", [10.0, 0.0, 2.5, 10.0])):
        scenario = associative_scenario(merge={"methods": methods, "history_weight": common})
        assert [lane.history_weight for lane in open_lanes(scenario, base(), {})] == expected


def test_work_by_hand():
    """7 parties × 4 edits = 28; 3 layers; 2 lanes; sample 12, evaluated after rounds 2 and 3 in 3 lanes."""
    scenario = scenario_of(stream={"rounds": 3}, evaluate={"every": 2})
    stream = Stream(scenario.seed, scenario.parties, scenario.stream, ["r"] * 200)
    assert expected_work(scenario, stream, 1) == {
        "targets": 28 * (1 + 2 + 2),
        "collect": 28 * 3 * 2 * 3,
        "evaluate": 12 * 3 * 2,
    }
    assert expected_work(scenario, stream, 3) == {"targets": 28 * 2, "collect": 28 * 3 * 2, "evaluate": 12 * 3}
    assert expected_work(scenario, stream, 4) == {"targets": 0, "collect": 0, "evaluate": 0}


def test_cohorts_add_up_to_the_phase():
    scenario = scenario_of()
    stream = Stream(scenario.seed, scenario.parties, scenario.stream, ["r"] * 200)
    for phase, total in (("targets", 28), ("collect", 28), ("evaluate", 12), ("prior", 4)):
        assert sum(units_of(scenario, stream, phase, 1, cohort) for cohort in range(4)) == total
