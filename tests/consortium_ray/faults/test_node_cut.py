"""The program that stops a node's processes and continues them: over a family of sleeping processes, without Ray."""

import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import psutil
import pytest
from consortium_ray.faults import node_cut
from support.machines import left_of

PATIENCE_S = 60
#: A process that has a child.
FAMILY = "import subprocess, time; subprocess.Popen(['sleep', '600']); time.sleep(600)"
#: One that adopts orphans and has itself cut off, as the worker of a node does, and says when it is back.
ITSELF = """
import ctypes, os, subprocess, sys
PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
subprocess.run([*sys.argv[1:], str(os.getpid()), "1"], stdout=subprocess.PIPE)
print("back")
"""
#: The program, but for what it is told.
PROGRAM = [sys.executable, "-I", "-S", node_cut.__file__]


@contextmanager
def family():
    """A parent and its child, which stand for a raylet and its worker."""
    with subprocess.Popen([sys.executable, "-c", FAMILY]) as parent:
        members = [psutil.Process(parent.pid)]
        try:
            wait_until(lambda: members[0].children())
            members += members[0].children()
            yield members
        finally:
            for member in members:
                if member.is_running():
                    member.kill()


@contextmanager
def cutting(raylet, seconds):
    """The program at work, and the process that is left of it; its output ends with it."""
    mark = f"{raylet.pid}"
    with subprocess.Popen([*PROGRAM, mark, str(seconds)], stdout=subprocess.PIPE, start_new_session=True) as started:
        assert started.wait(PATIENCE_S) == 0, "whoever started it does not wait for it"
        yield started.stdout
    assert [each for each in psutil.process_iter(["cmdline"]) if (each.info["cmdline"] or [])[-2:-1] == [mark]] == []


def wait_until(is_so):
    give_up = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def states(members):
    return {member.status() for member in members}


def is_cut(members):
    return states(members) == {psutil.STATUS_STOPPED}


def helper_of(raylet):
    (found,) = [each for each in psutil.process_iter(["cmdline"]) if str(raylet.pid) in (each.info["cmdline"] or [])]
    return found


def test_a_family_is_stopped_and_continued():
    with family() as members:
        with cutting(members[0], 1.0) as output:
            wait_until(lambda: is_cut(members))
            assert output.read() == b""
        assert psutil.STATUS_STOPPED not in states(members)


def test_who_has_it_started_is_stopped_and_waits_for_its_end():
    """The program is of the node's family here, and would stop itself if it did not leave itself out."""
    with subprocess.Popen([sys.executable, "-c", ITSELF, *PROGRAM], stdout=subprocess.PIPE) as worker:
        wait_until(lambda: is_cut([psutil.Process(worker.pid)]))
        assert worker.communicate(timeout=PATIENCE_S)[0] == b"back\n"


def test_asked_to_end_it_continues_the_node_first():
    with family() as members:
        with cutting(members[0], 600) as output:
            wait_until(lambda: is_cut(members))
            helper_of(members[0]).send_signal(signal.SIGTERM)
            assert output.read() == b""
        assert psutil.STATUS_STOPPED not in states(members)


@pytest.mark.parametrize("number", [0, 1])
def test_processes_that_die_meanwhile_are_left_out(number):
    """Where the raylet dies the cut is over at once: there is no node left."""
    with family() as members:
        with cutting(members[0], 600 if number == 0 else 2.0) as output:
            wait_until(lambda: is_cut(members))
            members[number].kill()
            assert output.read() == b""
        assert left_of([members[number]], PATIENCE_S) == []
        assert members[1 - number].status() != psutil.STATUS_STOPPED


def test_a_node_that_is_gone_is_not_cut_off():
    with family() as members:
        pass
    with cutting(members[0], 600) as output:
        assert output.read() == b""
