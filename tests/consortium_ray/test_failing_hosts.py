"""Hosts that raise errors, and calls that no host survives: what a run makes of it, over hosts in this process."""

from collections import Counter

import pytest
from consortium.common.errors import ModelError, RunError
from consortium.loading.prepare import open_facts
from consortium.records.directory import RunDirectory
from consortium.scenario.faults import OnFailureSpec
from support.pools import LocalPool, run_on
from support.scenarios import associative_scenario, difference

SCENARIO = associative_scenario(merge={"methods": ["global", "collabedit"]}, cluster={"cohort_size": 1})


class CudaError(RuntimeError):
    """As torch raises where a device has no memory left."""


@pytest.fixture(scope="module")
def whole(finished_run):
    return finished_run(SCENARIO)


def run_where(breaks, path, **settings):
    """A run in which ``breaks`` says what hosts raise: its directory and the pool."""
    with RunDirectory.create(path, SCENARIO) as directory:
        pool = LocalPool(SCENARIO, open_facts(SCENARIO), 3, breaks=breaks, policy=OnFailureSpec(**settings))
        run_on(pool, directory)
    return RunDirectory.open(path), pool


def assert_same(whole, directory):
    assert difference(whole.lane_states(), directory.lane_states()) == []
    for table in ("edits", "parties", "metrics"):
        assert directory.table(table).equals(whole.table(table)), table


def losses(directory):
    return [row["detail"] for row in directory.table("events").to_pylist() if row["kind"] == "host-lost"]


@pytest.mark.parametrize("method", ["describe", "contexts", "prior_sum", "targets", "collect", "evaluate"])
def test_one_error_of_one_host_costs_that_host_and_no_bit(whole, tmp_path, method):
    struck = []

    def breaks(host, called, cohort):
        if called == method and not struck:
            struck.append(host)
            raise CudaError("CUDA out of memory")

    directory, _ = run_where(breaks, tmp_path / "run")
    assert losses(directory) == ["CudaError: CUDA out of memory"]
    assert_same(whole, directory)


def test_an_error_on_each_of_several_calls_is_borne_where_others_answer(whole, tmp_path):
    """Every third host is on a device that fails at its second collect."""
    made = Counter()

    def breaks(host, called, cohort):
        made[host] += called == "collect"
        if called == "collect" and host % 3 == 0 and made[host] == 2:
            raise CudaError(f"CUDA error on {host}")

    directory, _ = run_where(breaks, tmp_path / "run")
    assert len(losses(directory)) >= 2
    assert_same(whole, directory)


def test_a_call_that_fails_everywhere_is_given_up_by_name_with_all_reasons(tmp_path):
    """Its texts differ, as those of CUDA do; other calls are answered all the while."""
    tried = []

    def breaks(host, called, cohort):
        if called == "collect" and cohort == 4:
            tried.append(host)
            raise CudaError(f"{100 + host} MiB are missing")

    with pytest.raises(RunError) as caught:
        run_where(breaks, tmp_path / "run", max_losses=3)
    assert "`collect of cohort 4` was tried 4 times in vain" in caught.value.found
    assert len(set(tried)) == len(tried) == 4
    for host in tried:
        assert f"{100 + host} MiB are missing" in caught.value.found
    assert caught.value.exit_code == 1


def test_a_call_that_fails_in_the_same_way_on_three_hosts_is_given_up_then(tmp_path):
    tried = []

    def breaks(host, called, cohort):
        if called == "collect" and cohort == 4:
            tried.append(host)
            raise TypeError("unhashable type")

    with pytest.raises(RunError, match=r"(?s)`collect of cohort 4` .* 3 of them for the same reason:.*unhashable type"):
        run_where(breaks, tmp_path / "run", max_losses=30)
    assert len(tried) == 3


def test_what_our_own_checks_say_stops_the_run_at_once(tmp_path):
    tried = []

    def breaks(host, called, cohort):
        if called == "collect":
            tried.append(host)
            raise RunError("numbers are not finite")

    with pytest.raises(RunError, match=r"^numbers are not finite$"):
        run_where(breaks, tmp_path / "run")
    assert len(tried) == 1


def test_a_policy_to_stop_stops_at_an_error_too(tmp_path):
    def breaks(host, called, cohort):
        if called == "collect":
            raise CudaError("CUDA out of memory")

    with pytest.raises(RunError, match=r"a host was lost: host-. on node machine-0: CudaError: CUDA out of memory"):
        run_where(breaks, tmp_path / "run", host="stop")


class TestOpening:
    def test_late_hosts_that_cannot_open_the_model_cost_nothing(self, whole, tmp_path):
        """The first one opened it; a hub says 429 to the two that follow."""

        def breaks(host, called, cohort):
            if called == "open" and host in (1, 2):
                raise ModelError("429 Too Many Requests")

        directory, _ = run_where(breaks, tmp_path / "run", max_losses=1)
        assert 0 < len(losses(directory)) <= 2
        assert_same(whole, directory)

    def test_where_nobody_opens_it_the_reason_is_the_input(self, tmp_path):
        def breaks(host, called, cohort):
            if called == "open":
                raise ModelError("no such model")

        with pytest.raises(ModelError, match="no such model") as caught:
            run_where(breaks, tmp_path / "run")
        assert caught.value.exit_code == 2

    @pytest.mark.parametrize("greeting", ["open", "begin"])
    def test_hosts_that_always_die_of_a_greeting_end_the_run(self, tmp_path, greeting):
        tried = []

        def breaks(host, called, cohort):
            if called == greeting:
                tried.append(host)
                raise OSError(f"disk {host} is gone")

        with pytest.raises(RunError, match=f"hosts in a row did not come through `{greeting}`"):
            run_where(breaks, tmp_path / "run", max_losses=4)
        assert len(tried) == 5
