"""A run on three hosts in network namespaces, of which one dies or loses its link: python -m support.namespaced_run.

    … FOLDER WHAT                    the whole of it, as :func:`support.namespaces.contained` runs it
    … FOLDER node HOST [ADDRESS]     a Ray node on a host; without the address of another, the head

The coordinator is on the head, and each of the others has one worker of the run. Which nodes are there, as Ray's head
says, is written down twice a second.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil  # type: ignore[import-untyped]
from consortium.common.errors import RunDirectoryError
from consortium.records.directory import RunDirectory
from consortium.scenario.schema import Scenario
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.core.generated.gcs_pb2 import GcsNodeInfo  # type: ignore[attr-defined]
from support.machines import SILENCE_COUNTS, family, left_of, start_head, start_worker
from support.namespaces import address_of, join, on, set_link
from support.scenarios import associative_scenario

HOSTS = ("head", "left", "right")
#: What befalls the host `left` in the middle of a round.
WHATS = ("dies", "link")
_PATIENCE_S = 200.0
_LOOK_S = 0.5


def scenario() -> Scenario:
    """A first round so long that both workers have started in it, and then short ones: one is always going on."""
    return associative_scenario(
        model={"key_width": 192},
        faults=[{"round": 1, "during": "targets", "action": "delay", "seconds": 10.0}],
        merge={"methods": ["collabedit"]},
        stream={"rounds": 16},
        cluster={"parties_per_batch": 1, "reduce_fanout": 2, "workers": {"min": 2, "max": 2, "cpus": 1}},
    )


def main(folder: Path, what: str) -> None:
    """Join the hosts, start a node on each, run, and have it happen."""
    join(HOSTS)
    nodes = {"head": _start_node(folder, "head")}
    _wait_for("the head", lambda: _alive(folder) == 1)
    address = json.loads((folder / "nodes.json").read_text(encoding="utf-8"))["address"]
    # One after the other: their files are in one folder, where nodes that start at once take the same names.
    for number, host in enumerate(HOSTS[1:], start=2):
        nodes[host] = _start_node(folder, host, address)
        _wait_for(f"node {number}", partial(_is_alive, folder, number))
    run = _run(folder, address)
    _wait_for("hosts", lambda: _num_started(folder) == len(HOSTS) - 1, run)
    of_node = family(nodes["left"].pid)
    _inject(what, [psutil.Process(nodes["left"].pid), *of_node])
    _wait_for("a node less", lambda: _alive(folder) == len(HOSTS) - 1, run)
    is_early = run.poll() is None
    set_link("left", is_up=True)
    code = run.wait(_PATIENCE_S)
    # Ray's processes on the host learn what was said of them when the link is back, and end by themselves.
    left = [str(each) for each in left_of(of_node, _PATIENCE_S)]
    found = {"code": code, "is_early": is_early, "left": left, "num_alive": _alive(folder)}
    (folder / "found.json").write_text(json.dumps(found), encoding="utf-8")


def _inject(what: str, processes: Sequence[psutil.Process]) -> None:
    """Cut the host `left` off, or end all of its processes."""
    if what == "link":
        set_link("left", is_up=False)
        return
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)


def _start_node(folder: Path, host: str, *address: str) -> subprocess.Popen[bytes]:
    return _start(folder, host, [sys.executable, "-m", __spec__.name, str(folder), "node", host, *address])


def _run(folder: Path, address: str) -> subprocess.Popen[bytes]:
    file = folder / "scenario.yaml"
    file.write_text(json.dumps(scenario().model_dump(mode="json")), encoding="utf-8")
    command = [sys.executable, "-m", "consortium.cli", "run", str(file), "--out", str(folder / "run")]
    return _start(folder, "head", [*command, "--address", address])


def _start(folder: Path, host: str, command: list[str]) -> subprocess.Popen[bytes]:
    with (folder / "said.txt").open("ab") as said:
        return subprocess.Popen(on(host, command), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said)


def _wait_for(what: str, is_so: Callable[[], bool], run: subprocess.Popen[bytes] | None = None) -> None:
    give_up = time.monotonic() + _PATIENCE_S
    while not is_so():
        if time.monotonic() > give_up or (run is not None and run.poll() is not None):
            raise TimeoutError(f"no sign of {what}")
        time.sleep(0.1)


def _alive(folder: Path) -> int:
    try:
        number: int = json.loads((folder / "nodes.json").read_text(encoding="utf-8"))["alive"]
    except FileNotFoundError:
        return 0
    return number


def _is_alive(folder: Path, number: int) -> bool:
    return _alive(folder) == number


def _num_started(folder: Path) -> int:
    """Workers of the run that had started when the last committed round was."""
    try:
        return RunDirectory.open(folder / "run").table("events", ["kind"])["kind"].to_pylist().count("worker-started")
    except RunDirectoryError:
        return 0


def node(folder: Path, host: str, address: str | None) -> None:
    """Be a Ray node until it ends, or somebody ends this process."""
    own = {"node_ip_address": address_of(host, HOSTS)}
    if address is not None:
        worker = start_worker(address, {**own, "num_cpus": 1})
        # Workers notice that their raylet has ended when it is no zombie any more, and looking at it makes it none.
        while worker.remaining_processes_alive():
            time.sleep(_LOOK_S)
        return
    head = start_head(SILENCE_COUNTS, **own, temp_dir=str(folder / "ray"))
    client = GcsClient(address=head.gcs_address)
    while True:
        states = [each.state for each in client.get_all_node_info(timeout=10).values()]
        _write(folder / "nodes.json", {"address": head.gcs_address, "alive": states.count(GcsNodeInfo.ALIVE)})
        time.sleep(_LOOK_S)


def _write(path: Path, found: dict[str, object]) -> None:
    """Whoever reads it sees all or nothing."""
    half = path.with_suffix(".half")
    half.write_text(json.dumps(found), encoding="utf-8")
    os.replace(half, path)


if __name__ == "__main__":
    if sys.argv[2] == "node":
        node(Path(sys.argv[1]), sys.argv[3], sys.argv[4] if len(sys.argv) > 4 else None)
    else:
        main(Path(sys.argv[1]), sys.argv[2])
