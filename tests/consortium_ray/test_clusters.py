"""Runs on several nodes and on clusters that grow: the same bits as the serial twin, and nothing left behind.

Every run is a process of its own, since this one may be connected to another Ray. Nodes take seconds to start, so runs
are few and each shows several things.
"""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import jsonschema
import pytest
import ray.autoscaler
from consortium.common.errors import ClusterError, RunDirectoryError
from consortium.engine.audit import verify
from consortium.records.directory import RunDirectory
from consortium.scenario.cluster import AutoscaleSpec
from consortium_ray import runtime
from consortium_ray.local_cluster import autoscaling
from consortium_ray.local_cluster.autoscaling import LocalNodes, cluster_config
from consortium_ray.nodes import nodes
from consortium_ray.nodes.nodes import growth_of_cluster, growth_of_file
from consortium_ray.nodes.placement import FIXED, NodeType
from ray.autoscaler import tags
from support.machines import family, left_of, listening, ray_nodes
from support.scenarios import associative_scenario, difference, run_serially

PATIENCE_S = 600
SPEC = AutoscaleSpec(max_nodes=2, node_cpus=1, idle_s=2.0)


@contextmanager
def running(scenario, folder, *options):
    """``consortium run`` as a process of its own, in a process group of its own."""
    file = folder / "scenario.yaml"
    file.write_text(json.dumps(scenario.model_dump(mode="json")))
    command = [sys.executable, "-m", "consortium.cli", "run", str(file), "--out", str(folder / "run"), *options]
    # A shell that starts tests in the background has them ignore the signal, and children inherit that.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=heed
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def wait_for(process, is_so):
    give_up = time.monotonic() + PATIENCE_S
    while not is_so():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < give_up
        time.sleep(0.1)


def committed(path):
    try:
        return RunDirectory.open(path).committed_round or 0
    except RunDirectoryError:
        return 0


def finished(process, folder):
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    return RunDirectory.open(folder / "run")


def has_serial_bits(directory, folder):
    whole = run_serially(directory.scenario, folder / "serial")
    assert difference(whole.arm_states(), directory.arm_states()) == []
    assert directory.table("metrics").equals(whole.table("metrics"))


def run_by(module, scenario, folder, *arguments):
    """Run a scenario by a module of the tests' own library, as a process of its own."""
    file = folder / "scenario.yaml"
    file.write_text(json.dumps(scenario.model_dump(mode="json")))
    command = [sys.executable, "-m", module, str(file), str(folder / "run"), *arguments]
    library = Path(__file__).parents[1] / "lib"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(library), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_kinds_of_workers_on_three_nodes_of_which_one_dies_in_the_middle_of_a_round(tmp_path):
    """Two workers share one logical GPU, two need none; a killed node takes its workers along."""
    kinds = [{"min": 1, "max": 2, "cpus": 0.5, "gpus": 0.5, "device": "cpu"}, {"min": 1, "max": 2, "cpus": 0.5}]
    scenario = associative_scenario(
        model={"key_width": 192}, stream={"rounds": 12}, cluster={"parties_per_batch": 1, "workers": kinds}
    )
    workers = ({"num_cpus": 1}, {"num_cpus": 1, "num_gpus": 1}, {"num_cpus": 1})
    with ray_nodes(*workers) as (address, started), running(scenario, tmp_path, "--address", address) as process:
        wait_for(process, lambda: committed(tmp_path / "run") >= 1)
        started[1].end(graceful=False)
        directory = finished(process, tmp_path)
    has_serial_bits(directory, tmp_path)
    rows = directory.table("nodes").to_pylist()
    assert max(row["workers"] for row in rows if row["gpus"]) == 2
    assert len({row["node"] for row in rows if row["workers"]}) >= 2
    lost = [row for row in directory.table("events").to_pylist() if row["kind"] == "worker-lost"]
    assert len(lost) >= 2


@pytest.mark.slow
def test_workers_of_two_nodes_add_group_by_group_where_they_are(tmp_path):
    """Seven party batches in four groups: contributions are kept in the object store of the node that made them."""
    cluster = {"parties_per_batch": 1, "reduce_fanout": 2, "workers": {"min": 2, "max": 2}}
    scenario = associative_scenario(stream={"rounds": 3}, merge={"methods": ["collabedit", "ties"]}, cluster=cluster)
    workers = ({"num_cpus": 1}, {"num_cpus": 1})
    with ray_nodes(*workers) as (address, _), running(scenario, tmp_path, "--address", address) as process:
        directory = finished(process, tmp_path)
    has_serial_bits(directory, tmp_path)
    kinds = directory.table("events", ["kind"])["kind"].to_pylist()
    # Sums that begin before the second node's worker has started are the coordinator's; the others have four groups.
    assert 0 < kinds.count("add") <= 4 * 2 * 3 * 3
    assert kinds.count("add") % 4 == 0
    assert verify(directory) == ()


@pytest.mark.slow
def test_a_cluster_that_grows_with_the_run_and_shrinks_after_it(tmp_path):
    autoscale = SPEC.model_dump(mode="json")
    scenario = associative_scenario(cluster={"workers": {"min": 2, "max": 2}, "autoscale": autoscale})
    with running(scenario, tmp_path, "--autoscale") as process:
        wait_for(process, lambda: committed(tmp_path / "run") >= 1)
        processes = family(process.pid)
        directory = finished(process, tmp_path)
    assert left_of(processes, 20) == []
    has_serial_bits(directory, tmp_path)
    moments = {}
    for row in directory.table("nodes").to_pylist():
        moments.setdefault(row["time_s"], []).append(row["type"])
    counts = [kinds.count("worker") for _, kinds in sorted(moments.items())]
    assert (counts[0], max(counts), counts[-1]) == (0, 2, 0)
    assert "<h2>The cluster</h2>" in directory.report_path.read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_cluster_grows_though_another_job_holds_the_node_that_is_there(tmp_path):
    """Room for one worker is there already, and not free: demand for the worker alone would start no node."""
    cluster = {"workers": {"min": 1, "max": 1, "cpus": 1}, "timeout_s": 120}
    scenario = associative_scenario(merge={"methods": ["collabedit"]}, cluster=cluster)
    run_by("support.shared_cluster", scenario, tmp_path)
    directory = RunDirectory.open(tmp_path / "run")
    has_serial_bits(directory, tmp_path)
    assert max(row["workers"] for row in directory.table("nodes").to_pylist()) == 1


@pytest.mark.slow
def test_no_worker_is_lost_to_a_merge_that_takes_longer_than_their_limit(tmp_path):
    """Two nodes: the answer of a worker on the other node exists during the merge, and is not here yet."""
    scenario = associative_scenario(
        model={"key_width": 512, "value_width": 128},
        parties={"edits_per_round": 20},
        merge={"methods": ["collabedit", "simple_average"], "statistics": "factored"},
        cluster={"parties_per_batch": 1, "workers": {"min": 2, "max": 2, "cpus": 1}, "timeout_s": 600},
    )
    with ray_nodes({"num_cpus": 1}, {"num_cpus": 1}) as (address, _):
        run_by("support.slow_merge", scenario, tmp_path, address)
    directory = RunDirectory.open(tmp_path / "run")
    has_serial_bits(directory, tmp_path)
    assert "worker-lost" not in directory.table("events", ["kind"])["kind"].to_pylist()


@pytest.mark.slow
def test_ctrl_c_ends_the_whole_cluster(tmp_path):
    scenario = associative_scenario(stream={"rounds": 40}, cluster={"autoscale": SPEC.model_dump(mode="json")})
    with running(scenario, tmp_path, "--autoscale") as process:
        wait_for(process, lambda: committed(tmp_path / "run") >= 1)
        processes, addresses = family(process.pid), listening(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert len(addresses) >= 5
    assert all(each.is_loopback for each in addresses), "a port is open to the network"
    assert left_of(processes, 20) == []
    assert RunDirectory.open(tmp_path / "run").status == "interrupted"


def test_the_autoscaler_is_told_what_its_schema_knows():
    config = cluster_config(SPEC, "ab")
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(config, schema)
    module, name = config["provider"]["module"].rsplit(".", 1)
    assert getattr(sys.modules[module], name) is LocalNodes
    assert config["idle_timeout_minutes"] == pytest.approx(2 / 60)
    growth = growth_of_file(config)
    assert (growth.types, growth.max_nodes, growth.is_known) == ([NodeType("worker", {"CPU": 1.0}, 2)], 2, True)


def test_a_process_with_a_connection_is_not_taken_to_another_cluster(monkeypatch, tmp_path):
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    with pytest.raises(ClusterError, match="connected to Ray already"):
        runtime.run_on_ray(associative_scenario(), None, None, print, autoscale=True)


class _FakeNode:
    """Processes of a node that do not run."""

    def __init__(self):
        self.is_alive = True

    def remaining_processes_alive(self):
        return self.is_alive

    def end(self):
        self.is_alive = False


@pytest.fixture
def provider(monkeypatch):
    monkeypatch.setattr(LocalNodes, "_start", lambda self, node_id, kind, resources: _FakeNode())
    monkeypatch.setattr(autoscaling.atexit, "register", lambda function: None)
    return LocalNodes(cluster_config(SPEC, "head-id")["provider"], "consortium")


WORKER = {tags.TAG_RAY_NODE_KIND: tags.NODE_KIND_WORKER, tags.TAG_RAY_USER_NODE_TYPE: "worker"}


class TestProvider:
    def create(self, provider, count):
        provider.create_node_with_resources_and_labels({}, WORKER, count, {"CPU": 1}, {})
        return provider.non_terminated_nodes({tags.TAG_RAY_NODE_KIND: tags.NODE_KIND_WORKER})

    def test_the_head_is_there_from_the_beginning(self, provider):
        assert provider.non_terminated_nodes({}) == ["head-id"]
        assert provider.node_tags("head-id")[tags.TAG_RAY_NODE_STATUS] == tags.STATUS_UP_TO_DATE

    def test_nodes_come_and_go(self, provider):
        first, second = self.create(provider, 2)
        assert provider.is_running(first)
        assert provider.internal_ip(first) == first
        provider.terminate_node(first)
        assert provider.is_terminated(first)
        assert provider.non_terminated_nodes({tags.TAG_RAY_NODE_KIND: tags.NODE_KIND_WORKER}) == [second]
        provider.end_all()
        assert provider.non_terminated_nodes({}) == ["head-id"]

    def test_a_node_that_died_by_itself_is_not_there_any_more(self, provider):
        (node_id,) = self.create(provider, 1)
        provider._nodes[node_id].is_alive = False
        assert provider.non_terminated_nodes({}) == ["head-id"]

    def test_tags_can_be_set(self, provider):
        (node_id,) = self.create(provider, 1)
        provider.set_node_tags(node_id, {"colour": "red"})
        assert provider.non_terminated_nodes({"colour": "red"}) == [node_id]
        provider.set_node_tags("gone", {"colour": "red"})
        assert provider.node_tags("gone") == {}


class TestGrowthOfOtherClusters:
    @pytest.fixture
    def status(self, monkeypatch):
        def say(*types):
            report = {"autoscaler_report": {"active_nodes": dict.fromkeys(types, 1)}}
            monkeypatch.setattr(nodes, "is_autoscaler_v2", lambda: False)
            monkeypatch.setattr(nodes, "_internal_kv_get", lambda key: json.dumps(report).encode() if types else None)

        return say

    def test_a_cluster_that_only_reports_its_nodes_stays_as_it_is(self, status):
        status()
        assert growth_of_cluster() == FIXED
        status("node_093079fab1f297ea")
        assert growth_of_cluster() == FIXED

    def test_a_launched_cluster_says_by_its_file_what_may_come(self, status, monkeypatch):
        status("head", "cpu-worker")
        monkeypatch.setattr(nodes, "LAUNCHERS_FILE", Path(__file__).parents[2] / "cluster.yaml")
        growth = growth_of_cluster()
        assert growth.max_nodes == 12
        assert {kind.name: (kind.resources, kind.max_nodes) for kind in growth.types} == {
            "cpu-worker": ({"CPU": 16}, 8),
            "gpu-worker": ({"CPU": 8, "GPU": 1}, 4),
        }

    def test_where_nobody_says_anything_may_come(self, status, monkeypatch, tmp_path):
        status("head-group", "small-group")
        monkeypatch.setattr(nodes, "LAUNCHERS_FILE", tmp_path / "none.yaml")
        growth = growth_of_cluster()
        assert growth.is_possible
        assert not growth.is_known
