"""Three hosts in network namespaces of their own: a node dies, and a link is cut and comes back."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from consortium.engine import audit
from consortium.records.directory import RunDirectory
from support.machines import left_of
from support.namespaced_run import WHATS, scenario
from support.namespaces import contained, marked, new_mark, on, seen_outside, why_not
from support.scenarios import difference

PATIENCE_S = 500
#: Joins hosts, has one of them sleep, and says so.
IDLE = f"""
import subprocess, sys, time
from support.namespaces import join, on
join(["left", "right"])
subprocess.Popen({on("left", ["sleep", "600"])!r}, stdout=subprocess.DEVNULL)
sys.stdout.write("ready\\n")
sys.stdout.flush()
time.sleep(600)
"""

pytestmark = pytest.mark.namespaces


@pytest.fixture(scope="module", autouse=True)
def _can_be_made():
    found = why_not()
    if found is not None:
        pytest.skip(f"hosts cannot have network namespaces of their own: {found}")


@pytest.fixture
def mark():
    """What a contained program's processes are known by; afterwards there is nothing of it any more."""
    found, before = new_mark(), seen_outside()
    yield found
    assert left_of(marked(found), 20) == []
    assert seen_outside() == before


@pytest.fixture
def folder():
    """Names of sockets are short, and pytest's own folders are not."""
    with tempfile.TemporaryDirectory(prefix="cns-") as name:
        yield Path(name)


@pytest.mark.parametrize("what", WHATS)
def test_whatever_befalls_a_host_the_run_goes_on(folder, mark, finished_run, what):
    command = [sys.executable, "-m", "support.namespaced_run", str(folder), what]
    with contained(command, mark, stderr=subprocess.PIPE) as process:
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err + (folder / "said.txt").read_text()
    found = json.loads((folder / "found.json").read_text())
    # It happened while the run went on, and the host's node did not come back with its link.
    assert found == {"code": 0, "is_early": True, "left": [], "num_alive": 2}
    directory = RunDirectory.open(folder / "run")
    whole = finished_run(scenario())
    assert difference(whole.arm_states(), directory.arm_states()) == []
    assert directory.table("metrics").equals(whole.table("metrics"))
    assert audit.verify(directory) == ()
    lost = [row["detail"] for row in directory.table("events").to_pylist() if row["kind"] == "worker-lost"]
    # The other host may take over the work of one that is cut off, and the run be over before its node is given up.
    assert len(lost) == 1 if what == "dies" else len(lost) <= 1


def test_nothing_is_left_when_the_program_is_killed(mark):
    with contained([sys.executable, "-c", IDLE], mark, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == "ready\n"
        assert len(marked(mark)) == 3  # unshare, the program, and what sleeps
