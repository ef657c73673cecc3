"""Signals: as a process of its own gets them, in every place of a command."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from consortium.cli import main
from consortium.common.interruption import GRACE_S, exit_code, is_interrupted
from support.scenarios import associative_scenario

CODES = {signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGINT: 130}

#: What a library does: handlers of its own, in C++ too, where Python's are not called any more.
START = """
import ctypes, os, signal, sys, time
from consortium.cli import main as cli
from consortium.common import interruption
def ready(): print("ready", flush=True)
def rest(args):
    ready()
    for _ in range(300): time.sleep(0.1)
"""


def command(code, arguments=("ls",), prepare=None):
    """A process whose command ``ls`` is ``code``, a function of the arguments named ``rest``."""
    run = f"{START}{code}\ncli.COMMANDS['ls'] = rest\nsys.exit(cli.main())\n"
    restore = prepare or default_signals
    return subprocess.Popen(
        [sys.executable, "-c", run, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=restore,
    )


def default_signals():
    # A shell that starts tests in the background has them ignore some, and children inherit that.
    for each in CODES:
        signal.signal(each, signal.SIG_DFL)


def ended(process, *signals, gap_s=0.0):
    """Exit code, standard output and error of a process that gets signals when it is ready."""
    assert process.stdout.readline() == "ready\n", process.stderr.read()
    for each in signals:
        process.send_signal(each)
        time.sleep(gap_s)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize("how", ["script", "module"])
def test_a_signal_while_the_command_is_imported(number, how):
    code = f"""
import os, runpy, sys
class Watcher:
    def find_spec(name, *_):
        if name == "consortium.common.counting": os.kill(os.getpid(), {int(number)})
sys.meta_path.insert(0, Watcher)
sys.argv = ["/somewhere/bin/consortium" if {how == "script"} else "cli.py", "ls"]
if {how == "module"}:
    runpy.run_module("consortium.cli", run_name="__main__", alter_sys=True)
from consortium.cli.main import main
sys.exit(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, preexec_fn=default_signals)
    assert (done.returncode, done.stderr) == (CODES[number], "Interrupted; nothing was started\n")


@pytest.mark.parametrize("number", CODES)
def test_each_signal_ends_a_command_in_words_and_with_its_code(number):
    code, _, err = ended(command(""), number)
    assert (code, err) == (CODES[number], "Interrupted; nothing was started\n")


#: Puts something away when it was interrupted, and says when it begins with that. It is ready within ``try``: on a busy
#: machine a signal may come before the next statement.
PUTTING_AWAY = """
def rest(args):
    try:
        ready()
        time.sleep(30)
    finally:
        with interruption.shielded():
            print("interrupted", flush=True)
            time.sleep(0.7)
        print("put away", flush=True)
"""


@pytest.mark.parametrize("first", CODES)
def test_more_signals_change_nothing(first):
    process = command(PUTTING_AWAY)
    assert process.stdout.readline() == "ready\n", process.stderr.read()
    process.send_signal(first)
    assert process.stdout.readline() == "interrupted\n"
    for more in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        process.send_signal(more)
        time.sleep(0.05)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (CODES[first], "put away\n", "Interrupted; nothing was started\n")


def test_signals_that_come_together_are_one():
    """Which of them is seen first is for the system to say: of several that wait, it takes the lowest number."""
    code, out, err = ended(command(PUTTING_AWAY), signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    assert code in CODES.values()
    assert (out, err) == ("interrupted\nput away\n", "Interrupted; nothing was started\n")


def test_handlers_that_libraries_install_do_not_matter():
    taking = """
def rest(args):
    signal.signal(signal.SIGTERM, lambda *_: os._exit(15))
    ctypes.CDLL(None).signal(signal.SIGTERM, ctypes.CDLL(None)._exit)
    ready()
    time.sleep(30)
"""
    code, _, err = ended(command(taking), signal.SIGTERM)
    assert (code, err) == (143, "Interrupted; nothing was started\n")


def test_a_block_that_is_shielded_runs_to_its_end_first():
    whole = """
def rest(args):
    with interruption.shielded():
        ready()
        time.sleep(0.7)
        print("whole", flush=True)
    print("never", flush=True)
"""
    assert ended(command(whole), signal.SIGTERM)[:2] == (143, "whole\n")


def test_an_interruption_that_a_library_swallows_is_raised_again():
    swallowing = """
def rest(args):
    try:
        ready()
        time.sleep(30)
    except BaseException: pass
    time.sleep(30)
"""
    start = time.monotonic()
    assert ended(command(swallowing), signal.SIGTERM)[0] == 143
    assert time.monotonic() - start < 25


def test_what_a_library_makes_of_an_interruption_is_not_its_failure():
    turning = """
def rest(args):
    try:
        ready()
        time.sleep(30)
    except BaseException as error: raise ConnectionError("lost") from error
"""
    code, _, err = ended(command(turning), signal.SIGHUP)
    assert (code, err) == (129, "Interrupted; nothing was started\n")


def test_what_does_not_end_is_ended_by_force():
    code = (
        "interruption.GRACE_S = 0.5\ndef rest(args):\n    ready()\n    with interruption.shielded(): time.sleep(30)\n"
    )
    found, _, err = ended(command(code), signal.SIGTERM)
    assert (found, err) == (143, "Interrupted; nothing was started\n")
    assert GRACE_S < 60


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_was_ignored_stays_ignored(number):
    """As after ``nohup``, and for what a shell starts in the background."""

    def ignore():
        default_signals()
        signal.signal(number, signal.SIG_IGN)

    code = "def rest(args):\n    ready()\n    time.sleep(1)\n    print('done', flush=True)\n    return 0\n"
    assert ended(command(code, prepare=ignore), number)[:2] == (0, "done\n")


def test_children_hear_the_signals_that_are_kept_from_this_process():
    child = """
import subprocess
def rest(args):
    child = subprocess.Popen(["sleep", "30"], preexec_fn=lambda: None)
    child.terminate()
    print("ready", child.wait(), flush=True)
    return 0
"""
    process = command(child)
    assert process.communicate(timeout=60)[0] == "ready -15\n"


def test_a_terminal_that_is_gone_takes_no_message_and_the_code_is_right():
    gone = "def rest(args):\n    ready()\n    os.close(2)\n    time.sleep(30)\n"
    assert ended(command(gone), signal.SIGHUP)[0] == 129


def test_json_says_it_too():
    """Whatever else is printed goes to standard error."""
    code = "def rest(args):\n    ready()\n    time.sleep(30)\ncli.COMMANDS['run'] = rest\n"
    process = command(code, ("run", "quickstart", "--format", "json"))
    assert process.stderr.readline() == "ready\n"
    process.terminate()
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    assert '"exit_code": 143' in out


def test_a_call_within_a_program_leaves_its_signals_as_they_were():
    before = [signal.getsignal(each) for each in (*CODES, signal.SIGURG)], signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert main.main(["schema"]) == 0
    after = [signal.getsignal(each) for each in (*CODES, signal.SIGURG)], signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert before == after
    assert not is_interrupted()
    assert exit_code() == 130


@pytest.mark.slow
def test_a_serial_run_can_be_resumed_after_sigterm(tmp_path):
    scenario = associative_scenario(stream={"rounds": 400})
    file, path = tmp_path / "long.yaml", tmp_path / "run"
    file.write_text(scenario.model_dump_json())
    arguments = [sys.executable, "-m", "consortium.cli", "run", str(file), "--serial", "--out", str(path)]
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, preexec_fn=default_signals)
    while not (path / "checkpoints").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert err.endswith(f"Interrupted; to go on: consortium resume {path}\n")
    listed = subprocess.run([sys.executable, "-m", "consortium.cli", "ls", tmp_path], capture_output=True, text=True)
    assert "interrupted" in listed.stdout
    assert os.listdir(tmp_path) == ["long.yaml", "run"] or set(os.listdir(tmp_path)) == {"long.yaml", "run"}


def test_a_machine_without_room_for_a_thread_is_told_in_words(monkeypatch, capsys):
    def refuse(*arguments):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert main.main(["schema"]) == 0
    monkeypatch.setitem(main.COMMANDS, "ls", refuse)
    assert main.main(["ls"]) == 1
    err = capsys.readouterr().err
    assert "no further thread or process can be started" in err
    assert "Something went wrong" not in err
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & {signal.SIGINT, signal.SIGTERM}
