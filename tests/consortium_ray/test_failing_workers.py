"""Workers that raise errors, and calls that no worker survives: what a run makes of it, over workers in this
process."""

from collections import Counter

import pytest
from consortium.common.errors import ModelError, RunError
from consortium.loading.prepare import open_facts
from consortium.records.directory import RunDirectory
from consortium.scenario.faults import OnFailureSpec
from support.pools import LocalPool, run_on
from support.scenarios import associative_scenario, difference
from support.tiers import one_quick

SCENARIO = associative_scenario(merge={"methods": ["global", "collabedit"]}, cluster={"parties_per_batch": 1})


class CudaError(RuntimeError):
    """As torch raises where a device has no memory left."""


@pytest.fixture(scope="module")
def whole(finished_run):
    return finished_run(SCENARIO)


def run_where(breaks, path, **settings):
    """A run in which ``breaks`` says what workers raise: its directory and the pool."""
    with RunDirectory.create(path, SCENARIO) as directory:
        pool = LocalPool(SCENARIO, open_facts(SCENARIO), 3, breaks=breaks, policy=OnFailureSpec(**settings))
        run_on(pool, directory)
    return RunDirectory.open(path), pool


def assert_same(whole, directory):
    assert difference(whole.arm_states(), directory.arm_states()) == []
    for table in ("edits", "parties", "metrics"):
        assert directory.table(table).equals(whole.table(table)), table


def losses(directory):
    return [row["detail"] for row in directory.table("events").to_pylist() if row["kind"] == "worker-lost"]


@pytest.mark.parametrize(
    "method", one_quick(["collect", "describe", "contexts", "covariance_sum", "targets", "evaluate"])
)
def test_one_error_of_one_worker_costs_that_worker_and_no_bit(whole, tmp_path, method):
    struck = []

    def breaks(worker, called, party_batch):
        if called == method and not struck:
            struck.append(worker)
            raise CudaError("CUDA out of memory")

    directory, _ = run_where(breaks, tmp_path / "run")
    assert losses(directory) == ["CudaError: CUDA out of memory"]
    assert_same(whole, directory)


def test_an_error_on_each_of_several_calls_is_borne_where_others_answer(whole, tmp_path):
    """Every third worker is on a device that fails at its second collect."""
    made = Counter()

    def breaks(worker, called, party_batch):
        made[worker] += called == "collect"
        if called == "collect" and worker % 3 == 0 and made[worker] == 2:
            raise CudaError(f"CUDA error on {worker}")

    directory, _ = run_where(breaks, tmp_path / "run")
    assert len(losses(directory)) >= 2
    assert_same(whole, directory)


def test_a_call_that_fails_everywhere_is_given_up_by_name_with_all_reasons(tmp_path):
    """Its texts differ, as those of CUDA do; other calls are answered all the while."""
    tried = []

    def breaks(worker, called, party_batch):
        if called == "collect" and party_batch == 4:
            tried.append(worker)
            raise CudaError(f"{100 + worker} MiB are missing")

    with pytest.raises(RunError) as caught:
        run_where(breaks, tmp_path / "run", max_losses=3)
    assert "`collect of party batch 4` was tried 4 times in vain" in caught.value.found
    assert len(set(tried)) == len(tried) == 4
    for worker in tried:
        assert f"{100 + worker} MiB are missing" in caught.value.found
    assert caught.value.exit_code == 1


def test_a_call_that_fails_in_the_same_way_on_three_workers_is_given_up_then(tmp_path):
    tried = []

    def breaks(worker, called, party_batch):
        if called == "collect" and party_batch == 4:
            tried.append(worker)
            raise TypeError("unhashable type")

    with pytest.raises(
        RunError, match=r"(?s)`collect of party batch 4` .* 3 of them for the same reason:.*unhashable type"
    ):
        run_where(breaks, tmp_path / "run", max_losses=30)
    assert len(tried) == 3


def test_what_our_own_checks_say_stops_the_run_at_once(tmp_path):
    tried = []

    def breaks(worker, called, party_batch):
        if called == "collect":
            tried.append(worker)
            raise RunError("numbers are not finite")

    with pytest.raises(RunError, match=r"^numbers are not finite$"):
        run_where(breaks, tmp_path / "run")
    assert len(tried) == 1


def test_a_policy_to_stop_stops_at_an_error_too(tmp_path):
    def breaks(worker, called, party_batch):
        if called == "collect":
            raise CudaError("CUDA out of memory")

    with pytest.raises(RunError, match=r"a worker was lost: worker-. on node machine-0: CudaError: CUDA out of memory"):
        run_where(breaks, tmp_path / "run", worker="stop")


class TestOpening:
    def test_late_workers_that_cannot_open_the_model_cost_nothing(self, whole, tmp_path):
        """The first one opened it; a hub says 429 to the two that follow."""

        def breaks(worker, called, party_batch):
            if called == "open" and worker in (1, 2):
                raise ModelError("429 Too Many Requests")

        directory, _ = run_where(breaks, tmp_path / "run", max_losses=1)
        assert 0 < len(losses(directory)) <= 2
        assert_same(whole, directory)

    def test_where_nobody_opens_it_the_reason_is_the_input(self, tmp_path):
        def breaks(worker, called, party_batch):
            if called == "open":
                raise ModelError("no such model")

        with pytest.raises(ModelError, match="no such model") as caught:
            run_where(breaks, tmp_path / "run")
        assert caught.value.exit_code == 2

    @pytest.mark.parametrize("setup_call", ["open", "begin"])
    def test_workers_that_always_die_of_a_setup_call_end_the_run(self, tmp_path, setup_call):
        tried = []

        def breaks(worker, called, party_batch):
            if called == setup_call:
                tried.append(worker)
                raise OSError(f"disk {worker} is gone")

        with pytest.raises(RunError, match=f"workers in a row did not come through `{setup_call}`"):
            run_where(breaks, tmp_path / "run", max_losses=4)
        assert len(tried) == 5
