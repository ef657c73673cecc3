"""A node of a cluster dies, or is cut off and comes back: the run ends with the same bits, and nothing stays behind."""

import json
import os
import subprocess
import sys

import pytest
from consortium.engine import audit
from consortium.records.directory import RunDirectory
from support.node_loss import FAULTS, scenario_of
from support.scenarios import difference

PATIENCE_S = 500


@pytest.fixture(scope="module")
def whole(finished_run):
    return finished_run(scenario_of("nothing"))


def run_where(what, path):
    """The run directory, and what was left of the cluster's processes."""
    command = [sys.executable, "-m", "support.node_loss", str(path), what]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    return RunDirectory.open(path), json.loads(path.with_suffix(".json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("what", list(FAULTS))
def test_whatever_befalls_a_node_the_run_goes_on(whole, tmp_path, what):
    directory, processes = run_where(what, tmp_path / "run")
    assert difference(whole.arm_states(), directory.arm_states()) == []
    assert directory.table("metrics").equals(whole.table("metrics"))
    assert audit.verify(directory) == ()
    events = directory.table("events").to_pylist()
    (fault,) = [row for row in events if row["kind"] == "fault"]
    words = {"dies": "kill node", "short-cut": "partition 3", "long-cut": "partition 30"}
    assert (fault["detail"], fault["round"]) == (words[what], 2)
    lost = [row["worker"] for row in events if row["kind"] == "worker-lost"]
    if what == "short-cut":
        # The worker answers when its node is back.
        assert lost == []
        assert max(row["round_trip_s"] or 0 for row in events if row["worker"] == fault["worker"]) > 3
    else:
        assert lost == [fault["worker"]]
    # A node that was declared dead does not come back: its raylet ends, and its workers with it.
    assert processes == {"num_ended": int(what != "short-cut"), "left": [], "left_of_all": []}
