"""The round as plain functions, against plans and numbers worked out by hand."""

import numpy as np
import pytest
from consortium.common.errors import RunError, StatisticsError
from consortium.data.stream import Stream
from consortium.editing.layer_schedule import Part, Step, plan_round
from consortium.engine.metric_rows import metric_rows
from consortium.evaluation.schedule import (
    is_evaluated,
    is_first_evaluation,
    num_probed,
    num_sampled,
    sampled_requests,
    superseded,
)
from consortium.evaluation.sums import ProbeSum
from consortium.merging.arm_state import ArmState
from consortium.merging.history import GramHistory
from consortium.merging.layer_update import distances, merge_layer
from consortium.merging.solver import CovarianceSolver
from consortium.merging.statistics import Basis, DenseStatistics
from consortium.scenario.editor import MemitSpec
from hypothesis import given
from hypothesis import strategies as st
from support.methods import create
from support.scenarios import associative_scenario


def editor(*layers: int, residual_schedule: str = "spread") -> MemitSpec:
    return MemitSpec(layers=layers, residual_schedule=residual_schedule)


def stream_of(scenario, num_facts=400):
    return Stream(scenario.seed, scenario.parties, scenario.stream, ["r"] * num_facts, scenario.unlearn)


class TestPlan:
    def test_memit_layer_by_layer_divides_by_the_layers_still_to_come(self):
        """Layers 4, 5, 6: one third of what is missing, then half of the rest, then all of it; targets once."""
        assert plan_round(editor(4, 6), "layer") == (
            Step((6,), (Part(4, 6, 3),)),
            Step((), (Part(5, 6, 2),)),
            Step((), (Part(6, 6, 1),)),
        )

    def test_memit_at_once_gives_every_layer_the_same_share(self):
        assert plan_round(editor(4, 6), "round") == (Step((6,), (Part(4, 6, 3), Part(5, 6, 3), Part(6, 6, 3))),)

    def test_boundary_layer_by_layer_has_targets_before_each_step(self):
        assert plan_round(editor(4, 6, residual_schedule="first_last"), "layer") == (
            Step((4,), (Part(4, 4, 1),)),
            Step((6,), (Part(6, 6, 1),)),
        )

    def test_boundary_at_once_has_all_targets_first(self):
        assert plan_round(editor(4, 6, residual_schedule="first_last"), "round") == (
            Step((4, 6), (Part(4, 4, 1), Part(6, 6, 1))),
        )

    @pytest.mark.parametrize("exchange", ["layer", "round"])
    @pytest.mark.parametrize("residual_schedule", ["spread", "first_last"])
    def test_a_single_layer_gets_everything_in_one_step(self, residual_schedule, exchange):
        assert plan_round(editor(3, residual_schedule=residual_schedule), exchange) == (Step((3,), (Part(3, 3, 1),)),)

    @pytest.mark.parametrize("layers", [(0, 4), (1, 3, 6)])
    def test_what_is_missing_is_shared_out_exactly(self, layers):
        """If each layer delivers its share of what is then missing, nothing is missing at the end."""
        missing = 1.0
        for step in plan_round(editor(*layers), "layer"):
            missing -= sum(missing / part.divisor for part in step.parts)
        assert missing == pytest.approx(0.0)
        (step,) = plan_round(editor(*layers), "round")
        assert sum(1 / part.divisor for part in step.parts) == pytest.approx(1.0)


class TestMerge:
    """K = 2, V = 1: one edit with key (1, 0) and residual 2 against C = I; so Δ = (2·1/(1 + 1), 0) = (1, 0)."""

    basis = Basis("arm", 1, 0)
    statistics = DenseStatistics(basis, np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([[2.0, 0.0]]), 1)
    weight_VK = np.array([[10.0, 20.0]], np.float32)

    def merge(self, history=None, weight=1.0, statistics=statistics):
        solver = CovarianceSolver(np.eye(2), history and history.base_KK, "layer 0")
        return merge_layer(create("collabedit", {}), statistics, solver, self.weight_VK, history, weight)

    def test_the_update_is_added(self):
        merged = self.merge()
        np.testing.assert_allclose(merged.weight_VK, [[11.0, 20.0]])
        assert merged.weight_VK.dtype == np.float32

    def test_history_counts_in_the_solve_once_and_grows_by_the_weighted_gram(self):
        """With H = diag(2, 0): Δ = 2/(1 + 2 + 1) = 0.5; then H becomes diag(2 + h·1, 0), h = 0.5."""
        merged = self.merge(GramHistory("arm", 1, np.diag([2.0, 0.0])), weight=0.5)
        np.testing.assert_allclose(merged.weight_VK, [[10.5, 20.0]])
        np.testing.assert_array_equal(merged.history.base_KK, np.diag([2.5, 0.0]))

    def test_the_first_round_starts_a_history(self):
        np.testing.assert_array_equal(self.merge(weight=3.0).history.base_KK, np.diag([3.0, 0.0]))

    def test_history_weight_0_keeps_none(self):
        assert self.merge(weight=0.0).history is None

    def test_the_sum_is_rounded_once(self):
        """1 + 2⁻²⁵ + 2⁻²⁵ is 1 when each step is rounded to float32, and so is 1 + 2⁻²⁴; but 3·2⁻²⁵ rounds up."""
        tiny = DenseStatistics(self.basis, np.zeros((2, 2)), np.array([[3 * 2.0**-25, 0.0]]), 1)
        solver = CovarianceSolver(np.eye(2), None, "layer 0")
        weight_VK = np.array([[1.0, 1.0]], np.float32)
        merged = merge_layer(create("collabedit", {}), tiny, solver, weight_VK, None, 0.0)
        assert merged.weight_VK[0, 0] == np.float32(1 + 2.0**-23)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_bad_statistics_are_refused(self, bad):
        statistics = DenseStatistics(self.basis, np.eye(2), np.array([[bad, 0.0]]), 1)
        with pytest.raises(StatisticsError, match="arm arm, round 1, layer 0"):
            self.merge(statistics=statistics)

    def test_a_weight_that_overflows_is_refused(self):
        statistics = DenseStatistics(self.basis, np.eye(2), np.array([[1e300, 0.0]]), 1)
        with pytest.raises(RunError, match="layer 0 in round 1, arm arm, is not finite"):
            self.merge(statistics=statistics)


@pytest.mark.parametrize(("every", "rounds", "first"), [(1, 5, 1), (2, 5, 2), (9, 5, 5)])
def test_the_first_evaluation_is_one(every, rounds, first):
    scenario = associative_scenario(stream={"rounds": rounds}, evaluate={"every": every})
    assert [number for number in range(1, rounds + 1) if is_first_evaluation(scenario, number)] == [first]
    assert is_evaluated(scenario, first)


@pytest.mark.parametrize(("every", "due"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (9, [5])])
def test_evaluation_is_due_every_so_often_and_always_at_the_end(every, due):
    scenario = associative_scenario(stream={"rounds": 5}, evaluate={"every": every})
    assert [number for number in range(1, 6) if is_evaluated(scenario, number)] == due


class TestSample:
    @given(st.integers(1, 9), st.integers(1, 30) | st.none(), st.integers(1, 4))
    def test_party_batches_have_the_sample_between_them(self, num_parties, sample, parties_per_batch):
        scenario = associative_scenario(
            parties={"count": num_parties, "edits_per_round": 3},
            evaluate={"sample": sample},
            cluster={"parties_per_batch": parties_per_batch},
        )
        stream = stream_of(scenario)
        party_batches = [scenario.party_batch(number) for number in range(scenario.num_party_batches)]
        parts = [sampled_requests(scenario, stream, 2, parties) for parties in party_batches]
        assert [num_sampled(scenario, stream, 2, parties) for parties in party_batches] == [len(part) for part in parts]
        together = [request for part in parts for request in part]
        assert together == sampled_requests(scenario, stream, 2, range(num_parties))
        places = [(request.party, request.index) for request in together]
        assert places == sorted(set(places))
        assert len(together) == min(sample or 99, 3 * num_parties)
        assert all(request in stream.requests(2, request.party) for request in together)

    def test_all_rounds_are_probed_where_that_is_asked_for(self):
        """12 of 28 edits a round."""
        for edits, numbers in (("round", [12, 12, 12]), ("all", [12, 24, 36])):
            scenario = associative_scenario(stream={"rounds": 3}, evaluate={"edits": edits})
            found = [num_probed(scenario, stream_of(scenario), number, range(7)) for number in (1, 2, 3)]
            assert found == numbers

    def test_rounds_have_samples_of_their_own(self):
        scenario = associative_scenario(parties={"count": 50, "edits_per_round": 4}, evaluate={"sample": 20})
        stream = stream_of(scenario)
        first, second = (sampled_requests(scenario, stream, number, range(50)) for number in (1, 2))
        assert [(each.party, each.index) for each in first] != [(each.party, each.index) for each in second]

    def test_no_party_is_favoured(self):
        """Over 200 seeds, each of 10 requests is among 5 drawn about 100 times; 4.5 standard deviations are 32."""
        counts = np.zeros(10)
        for seed in range(200):
            scenario = associative_scenario(
                seed=seed, parties={"count": 5, "edits_per_round": 2}, evaluate={"sample": 5}
            )
            for request in sampled_requests(scenario, stream_of(scenario), 1, range(5)):
                counts[2 * request.party + request.index] += 1
        assert np.abs(counts - 100).max() < 32


class TestMetrics:
    scenario = associative_scenario()

    def rows(self, sums):
        return {(row.metric, row.of_round): row for row in metric_rows(self.scenario, 2, "arm", sums)}

    def test_percent_and_harmonic_mean(self):
        """3/(1/50 + 1/100 + 1/25) = 3/0.07 = 42.857; strict 3/(1/25 + 1/50 + 1/50) = 37.5."""
        rows = self.rows(
            {
                ("efficacy", 2): ProbeSum(2.0, 1.0, 4, 4),
                ("paraphrase", 2): ProbeSum(4.0, 2.0, 4, 8),
                ("neighborhood", 2): ProbeSum(0.5, 1.0, 2, 6),
                ("retention", 1): ProbeSum(1.0, 0.0, 4, 4),
            }
        )
        assert (rows["efficacy", 2].success, rows["efficacy", 2].strict) == (50.0, 25.0)
        assert rows["retention", 1].success == 25.0
        mean = rows["score", 2]
        assert mean.success == pytest.approx(300 / 7)
        assert mean.strict == pytest.approx(37.5)
        assert (mean.num_edits, mean.num_probes) == (2, 18)

    def test_conflict_has_no_part_in_the_harmonic_mean(self):
        three = {(metric, 2): ProbeSum(1.0, 1.0, 4, 4) for metric in ("efficacy", "paraphrase", "neighborhood")}
        with_conflict = self.rows({**three, ("conflict_score", 2): ProbeSum(1.0, 1.0, 1, 1)})
        assert with_conflict["score", 2] == self.rows(three)["score", 2]

    def test_no_harmonic_mean_of_two(self):
        assert ("score", 2) not in self.rows({("efficacy", 2): ProbeSum(1.0, 1.0, 1, 1)})

    def test_over_all_rounds_there_is_a_row_for_each_and_one_for_all(self):
        """Of rounds 1 and 2: efficacy (3 + 1)/(4 + 4), paraphrase (2 + 1)/(4 + 2), neighborhood (4 + 4)/(4 + 4)."""
        scenario = associative_scenario(evaluate={"edits": "all"})
        sums = {
            ("efficacy", 1): ProbeSum(3.0, 0.0, 4, 4),
            ("efficacy", 2): ProbeSum(1.0, 0.0, 4, 4),
            ("paraphrase", 1): ProbeSum(2.0, 0.0, 4, 8),
            ("paraphrase", 2): ProbeSum(1.0, 0.0, 2, 4),
            ("neighborhood", 1): ProbeSum(4.0, 0.0, 4, 9),
            ("neighborhood", 2): ProbeSum(4.0, 0.0, 4, 9),
            ("retention", 1): ProbeSum(3.0, 0.0, 4, 4),
        }
        rows = {(row.metric, row.of_round): row for row in metric_rows(scenario, 2, "arm", sums)}
        assert [rows[metric, None].success for metric in ("efficacy", "paraphrase", "neighborhood")] == [50, 50, 100]
        assert rows["score", None].success == pytest.approx(3 / (2 / 50 + 1 / 100))
        assert rows["score", 1].success == pytest.approx(3 / (1 / 75 + 1 / 50 + 1 / 100))
        assert rows["score", 2].num_edits == 2
        assert ("retention", None) not in rows
        assert rows["efficacy", None].num_edits == 8

    def test_what_is_of_no_edits_is_of_no_round(self):
        """exp(4/2); 3 of 4."""
        rows = self.rows(
            {("perplexity", 0): ProbeSum(4.0, num_probes=2), ("downstream_accuracy", 0): ProbeSum(3.0, num_probes=4)}
        )
        found = rows["perplexity", None]
        assert (found.success, found.strict, found.unit) == (pytest.approx(np.e**2), None, "1")
        assert (found.num_edits, found.num_probes) == (0, 2)
        assert (rows["downstream_accuracy", None].success, rows["downstream_accuracy", None].unit) == (75.0, None)

    def test_nothing_probed_gives_no_rows(self):
        assert self.rows({}) == {}


class TestDistances:
    @property
    def base(self):
        return {0: np.array([[3.0, 0.0]], np.float32), 1: np.array([[0.0, 4.0]], np.float32)}

    def arm(self, first, second):
        weights = {0: np.array([first], np.float32), 1: np.array([second], np.float32)}
        return ArmState("arm", 1, weights, {})

    def test_by_hand(self):
        """‖W₀‖ = 5. Global moves by (0, 6) and (8, 0): ΔW 10 long, W √125. The arm moves half as far: 5 away."""
        reference = self.arm([3.0, 6.0], [8.0, 4.0])
        found = distances(self.arm([3.0, 3.0], [4.0, 4.0]), self.base, reference)
        assert found.update_norm == pytest.approx(1.0)
        assert found.update_distance == pytest.approx(0.5)
        assert found.weights_distance == pytest.approx(5 / 125**0.5)

    def test_to_itself_nothing_and_without_a_reference_none(self):
        arm = self.arm([3.0, 3.0], [4.0, 4.0])
        found = distances(arm, self.base, arm)
        assert (found.weights_distance, found.update_distance) == (0.0, 0.0)
        found = distances(arm, self.base, None)
        assert (found.weights_distance, found.update_distance) == (None, None)

    def test_small_differences_of_large_numbers_count(self):
        """In float32, (10⁴ + 10⁻³)² - … would be lost; squares are summed in float64."""
        base = {0: np.full((1, 1000), 1e4, np.float32)}
        moved = base[0].copy()
        moved[0, 0] = np.nextafter(np.float32(1e4), np.float32(2e4))
        found = distances(ArmState("arm", 1, {0: moved}, {}), base, None)
        assert found.update_norm == pytest.approx((float(moved[0, 0]) - 1e4) / (1e4 * 1000**0.5), rel=1e-9)


class _Contradictions:
    """A stream in which some facts are contradicted."""

    def __init__(self, facts):
        self.facts = facts

    def contradicted(self, round_number, until):
        return self.facts.get(round_number, [])


def test_the_last_contradiction_of_a_fact_counts():
    stream = _Contradictions({2: [1], 3: [1, 2], 4: [0]})
    assert superseded(stream, range(1, 4)) == {1: 3, 2: 3}
    assert superseded(stream, range(1, 2)) == {}
