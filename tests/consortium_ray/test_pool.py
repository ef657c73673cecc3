"""Pools and placement without Ray."""

import pytest
from consortium.errors import ClusterError, RunError
from consortium_ray.messages import Call
from consortium_ray.pool import ReplacePolicy
from consortium_ray.runtime import num_hosts
from support.scenarios import associative_scenario


def size(nodes, **hosts):
    """Hosts for a scenario of four cohorts on nodes of so many (CPUs, GPUs)."""
    scenario = associative_scenario(cluster={"hosts": hosts})
    return num_hosts(scenario, [{"CPU": cpus, "GPU": gpus} if gpus else {"CPU": cpus} for cpus, gpus in nodes])


def test_as_many_hosts_as_asked_if_there_is_room():
    assert size([(8, 0)], max=3) == 3
    assert size([(2, 0)], max=3) == 2


def test_never_more_than_cohorts():
    assert size([(64, 0)], max=50) == 4
    assert size([(64, 0)], min=6, max=50) == 6


def test_fractions_fill_a_node():
    assert size([(0.3, 0)], cpus=0.1, max=4) == 3


def test_a_host_does_not_stretch_over_nodes():
    """Three nodes of two CPUs have six, but room for no host of three."""
    assert size([(2, 0)] * 3, cpus=2, max=4) == 3
    with pytest.raises(ClusterError, match="1 hosts at 3 CPU and 0 GPU each"):
        size([(2, 0)] * 3, cpus=3, max=4)


def test_gpus_count_too():
    assert size([(8, 1), (8, 0), (8, 2)], gpus=1, max=4) == 3
    with pytest.raises(ClusterError, match="at most 0"):
        size([(8, 0)], gpus=1)


def test_hosts_that_need_nothing_always_fit():
    assert size([(0, 0)], cpus=0, gpus=0, max=3) == 3


def test_the_refusal_says_what_to_do():
    with pytest.raises(ClusterError) as caught:
        size([(2, 0)], min=3, max=3)
    assert caught.value.found == "cluster.hosts.min: 3 hosts at 1 CPU and 0 GPU each"
    assert "the cluster's nodes have 2 CPU, 0 GPU" in caught.value.expected
    assert "cluster.hosts.cpus" in caught.value.remedy
    assert caught.value.exit_code == 2


def test_losses_in_a_row_are_borne_up_to_a_limit():
    policy = ReplacePolicy(max_losses=2)
    policy.decide(2, "gone")
    with pytest.raises(RunError, match="3 hosts were lost one after another without an answer; the last: gone"):
        policy.decide(3, "gone")


def test_calls_are_named_in_words():
    assert str(Call(("collect", "ties", 1, 5, 3), "collect", (), 3)) == "collect of cohort 3"
    assert str(Call(("describe",), "describe")) == "describe"
