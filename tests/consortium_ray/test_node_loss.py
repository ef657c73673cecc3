"""A node of a cluster dies with its host, and the run ends with the same bits on what is left."""

import os
import subprocess
import sys

from consortium import ledger
from consortium.records.directory import RunDirectory
from support import node_loss
from support.scenarios import difference, run_serially


def test_a_node_that_dies_takes_its_hosts_with_it_and_the_run_goes_on(tmp_path):
    command = [sys.executable, "-m", "support.node_loss", str(tmp_path / "run")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    directory = RunDirectory.open(tmp_path / "run")
    assert (
        difference(run_serially(node_loss.SCENARIO, tmp_path / "serial").lane_states(), directory.lane_states()) == []
    )
    assert ledger.verify(directory) == ()
    events = directory.table("events").to_pylist()
    (fault,) = [row for row in events if row["kind"] == "fault"]
    assert (fault["detail"], fault["round"]) == ("kill node", 2)
    assert fault["host"] in [row["host"] for row in events if row["kind"] == "host-lost"]
