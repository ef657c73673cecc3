"""cluster.yaml, prepared as Ray's launcher does, and every command of it run on a machine with nothing on it."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from support.clean_root import CleanRoot, why_not

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "cluster.yaml"
#: Makes the header's scenario small.
SMALL = "--set parties.count=8 --set parties.edits_per_round=2 --set model.key_width=32 --set model.value_width=8"


@pytest.fixture(scope="module")
def prepared():
    """The file with all that the launcher adds to it."""
    config = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    with_defaults = prepare_config(config)
    validate_config(with_defaults)
    return with_defaults


def run_line() -> str:
    """What the file's header runs on the head."""
    text = FILE.read_text(encoding="utf-8")
    found = re.search(r"ray exec cluster\.yaml --tmux '(.+)'\n", text)
    assert found, "the header runs something with `ray exec cluster.yaml --tmux '…'`"
    return found[1]


class TestPrepared:
    def test_the_launcher_adds_no_commands_of_its_own(self, prepared):
        own = yaml.safe_load(FILE.read_text(encoding="utf-8"))
        assert prepared["head_setup_commands"] == prepared["worker_setup_commands"] == own["setup_commands"]
        assert prepared["initialization_commands"] == own["initialization_commands"]

    def test_what_the_launcher_needs_is_in_an_extra(self):
        text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        assert re.search(r'^cluster = \[.*"boto3"', text, re.MULTILINE)
        assert re.search(r"^boto3==", (ROOT / "constraints.txt").read_text(encoding="ascii"), re.MULTILINE)
        assert "./scripts/setup dev cluster" in FILE.read_text(encoding="utf-8")

    def test_every_process_has_the_same_mode_of_authentication(self, prepared):
        starting = [*prepared["head_start_ray_commands"], *prepared["worker_start_ray_commands"]]
        modes = {re.search(r"RAY_AUTH_MODE=(\w+)", line)[1] for line in starting if "ray start" in line}
        assert modes == {re.search(r"RAY_AUTH_MODE=(\w+)", run_line())[1]}

    def test_all_machines_have_processors_of_one_family(self, prepared):
        """m6a and g6 both have AMD EPYC of the third generation."""
        kinds = {each["node_config"]["InstanceType"] for each in prepared["available_node_types"].values()}
        assert {kind.split(".")[0] for kind in kinds} <= {"m6a", "g6"}

    def test_installing_waits_for_the_machines_own_updates(self, prepared):
        lines = [line for line in prepared["initialization_commands"] if "apt-get" in line]
        assert lines
        assert all("DPkg::Lock::Timeout" in line for line in lines)


@pytest.mark.launcher
def test_a_clean_machine_becomes_a_cluster_that_runs_a_scenario(prepared, tmp_path):
    """Every command in its order; then head and worker in a network of their own, and the run line of the header."""
    reason = why_not()
    if reason is not None:
        pytest.skip(f"no clean machine can be made: {reason}")
    root = CleanRoot.make(tmp_path / "root", "ubuntu")
    _copy_checkout(root.home / "consortium")
    root.run("chown -R ubuntu:ubuntu /home/ubuntu", as_user="root")
    for command in [*prepared["initialization_commands"], *prepared["head_setup_commands"]]:
        root.run(command)
    on_site = {"type": "local", "head_ip": "127.0.0.1", "worker_ips": []}
    launcher = {"cluster_name": "consortium", "provider": on_site, "auth": {"ssh_user": "ubuntu"}}
    (root.home / "ray_bootstrap_config.yaml").write_text(yaml.safe_dump(launcher), encoding="utf-8")
    said = start_and_run(root, prepared)
    assert '"collabedit"' in said
    assert (root.home / "consortium/runs/thousand-parties/report.html").is_file()


def start_and_run(root, prepared) -> str:
    """Head and worker in a network of their own, and the run line of the header; returns what is printed."""
    worker = " && ".join(prepared["worker_start_ray_commands"]) + " --block"
    # Processes of its own, so that the worker's `ray stop` finds no head.
    alone = "sudo -E unshare --pid --fork --propagation unchanged --mount-proc"
    lines = [
        *(f"{{ {command}\n}} || exit 1" for command in prepared["head_start_ray_commands"]),
        "export RAY_HEAD_IP=127.0.0.1",
        f"{alone} su ubuntu -c {shlex.quote(worker)} &",
        f"cd ~; {run_line()} {SMALL} --format json",
    ]
    return root.run("\n".join(lines), has_network=False, timeout_s=400)


def _copy_checkout(target: Path) -> None:
    """The files that the launcher would send: what git knows of."""
    target.mkdir(parents=True)
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    pack = subprocess.run(["tar", "-c", "--null", "-T", "-"], cwd=ROOT, input=names, capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", str(target)], input=pack.stdout, check=True)
