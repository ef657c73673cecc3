"""As processes of their own: what is tried is how a process is started."""

import json
import os
import subprocess
import sys

import pytest

ASKED = """
import getpass, json, os, sys
from pathlib import Path
from consortium.cli.environment import make_usable, open_streams
open_streams()
make_usable()
found = {"home": str(Path.home()), "user": getpass.getuser(), "cache": os.environ.get("CONSORTIUM_CACHE"),
         "matplotlib": os.environ.get("MPLCONFIGDIR"), "next": os.open(os.devnull, os.O_RDONLY)}
Path(sys.argv[1]).write_text(json.dumps(found))
"""


def surroundings(tmp_path, code="", prepare=None, **environment):
    out = tmp_path / "found.json"
    environment = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path), **environment}
    subprocess.run(
        [sys.executable, "-c", code + ASKED, str(out)],
        env=environment,
        cwd=tmp_path,
        preexec_fn=prepare,
        check=True,
        timeout=60,
    )
    return json.loads(out.read_text())


@pytest.mark.parametrize("home", ["/nonexistent", "relative"])
def test_who_has_no_home_gets_one(tmp_path, home):
    found = surroundings(tmp_path, HOME=home)
    assert found["home"] == str(tmp_path / f"consortium-{os.getuid()}")


def test_a_home_stays_what_it_is(tmp_path):
    assert surroundings(tmp_path, HOME=str(tmp_path))["home"] == str(tmp_path)


def test_a_user_whom_the_machine_does_not_know_has_a_name(tmp_path):
    unknown = "import os, pwd\nos.getuid = lambda: 2_000_000_000\nos.getgid = os.getuid\n"
    assert surroundings(tmp_path, unknown, HOME=str(tmp_path))["user"] == "uid-2000000000"


def test_a_relative_cache_is_named_by_its_whole_path(tmp_path):
    assert surroundings(tmp_path, HOME=str(tmp_path), CONSORTIUM_CACHE="here")["cache"] == str(tmp_path / "here")


def test_closed_streams_are_opened_so_that_no_file_takes_their_place(tmp_path):
    found = surroundings(tmp_path, prepare=lambda: [os.close(number) for number in range(3)], HOME=str(tmp_path))
    assert found["next"] > 2


@pytest.mark.slow
def test_an_output_that_cannot_be_written_counts_as_closed():
    for redirected in ("1</dev/null", "2</dev/null", "1</dev/null 2</dev/null"):
        script = f"{sys.executable} -m consortium.cli schema {redirected}"
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")


def test_a_folder_that_is_gone_is_said_and_help_is_given_all_the_same(tmp_path):
    gone = tmp_path / "gone"
    script = f"mkdir {gone} && cd {gone} && rmdir {gone} && {sys.executable} -m consortium.cli"
    for arguments, code, said in (("ls", 2, "the present folder is not there any more"), ("--help", 0, "")):
        done = subprocess.run(["bash", "-c", f"{script} {arguments}"], capture_output=True, text=True, timeout=60)
        assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
        assert said in done.stderr
