"""Signals that end a command: Ctrl-C, SIGTERM of a batch system or of Kubernetes, and SIGHUP of a lost terminal.

All three end in one way: :class:`Interruption` is raised in the main thread, what was begun is put away, and the
command says how to go on. Other libraries install handlers of their own, in C++ too, so none is relied upon here. The
signals are blocked in every thread, one thread waits for them, and it wakes the main thread by SIGURG, which nobody
else uses and which does nothing where it is not expected.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_WAKING = signal.SIGURG
#: Time after which the main thread is woken again if nothing shows that it heard: an exception that is raised inside a
#: callback of a library can get lost there.
_AGAIN_S = 3.0
#: Longest time for putting away what was begun; after that the process ends by force.
GRACE_S = 45.0


class Interruption(KeyboardInterrupt):
    """A signal asks this process to end."""


class _Signals:
    """What is known of signals in this process; only the main thread and the waiting one touch it."""

    def __init__(self) -> None:
        self.blocked: set[signal.Signals] = set()
        self.forget()

    def forget(self) -> None:
        """As if no signal had ever come."""
        self.first: signal.Signals | None = None
        self.depth = 0  # of blocks that are not to be interrupted
        self.was_raised = self.is_heard = False
        self.over = threading.Event()

    def wake(self, *_: object) -> None:
        """Runs in the main thread when it is woken."""
        if self.first is not None and not self.depth and not self.is_heard:
            self.was_raised = True
            raise Interruption

    def wait(self, awaited: set[signal.Signals], on_stuck: Callable[[], None]) -> None:
        """Runs in a thread of its own: wait for the first signal, and see that it is followed."""
        found = signal.Signals(signal.sigwait(awaited))
        if self.over.is_set():
            return
        self.first, give_up = found, time.monotonic() + GRACE_S
        while not self.over.is_set():
            if time.monotonic() > give_up:
                on_stuck()
                os._exit(exit_code())
            _wake_main_thread()
            self.over.wait(_AGAIN_S)

    def unblock(self) -> None:
        """Runs in a child process, which is to hear the signals that this one sends it."""
        if self.blocked:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self.blocked)


_SIGNALS = _Signals()
os.register_at_fork(after_in_child=_SIGNALS.unblock)


def _wake_main_thread() -> None:
    ident = threading.main_thread().ident
    assert ident is not None
    signal.pthread_kill(ident, _WAKING)


def is_interrupted() -> bool:
    """Whether a signal has asked this process to end."""
    return _SIGNALS.first is not None


def is_without_room(error: BaseException) -> bool:
    """Whether an error says that the machine, or a limit, has no room for a further thread or process."""
    if isinstance(error, RuntimeError):  # Python has no type of its own for it
        return "can't start new thread" in str(error)
    return isinstance(error, BlockingIOError) and error.strerror == os.strerror(errno.EAGAIN)  # of a fork


def exit_code() -> int:
    """The exit code of a process that a signal ends, as shells count: 130, 143 or 129."""
    return 128 + (_SIGNALS.first or signal.SIGINT)


@contextmanager
def shielded() -> Iterator[None]:
    """A block that is not interrupted: a signal that comes meanwhile is followed at its end.

    It is for what must be done as a whole, and for putting things away, an interruption being under way or not.
    """
    _SIGNALS.depth += 1
    _SIGNALS.is_heard = _SIGNALS.was_raised
    try:
        yield
    finally:
        _SIGNALS.depth -= 1
        if is_interrupted() and not _SIGNALS.was_raised:
            _SIGNALS.wake()


def keep_until_heeded() -> None:
    """Keep signals that come from now on until :func:`heeded` follows them: for a command that still imports itself."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {each for each in _ENDING if signal.getsignal(each) is not signal.SIG_IGN})


def _follow() -> None:
    _SIGNALS.depth -= 1
    _SIGNALS.wake()


@contextmanager
def heeded(on_stuck: Callable[[], None], *, to_the_end: bool) -> Iterator[Callable[[], None]]:
    """Follow signals in the block, from where it calls what it is given: there it can catch the interruption.

    One that was ignored before, as after ``nohup``, stays ignored.

    Where no thread can be started, signals do what they do by themselves; whatever else needs one will say so.

    Args:
        on_stuck: called, in another thread, before the process is ended by force.
        to_the_end: the process ends with this block, so that after an interruption no further signal counts.
    """
    if threading.current_thread() is not threading.main_thread() or _SIGNALS.blocked:
        yield lambda: None
        return
    awaited = {each for each in _ENDING if signal.getsignal(each) is not signal.SIG_IGN}
    # SIGTERM also where it is ignored: Ray would install a handler, and no longer ignore it.
    _SIGNALS.blocked = awaited | {signal.SIGTERM}
    before = signal.signal(_WAKING, _SIGNALS.wake)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS.blocked)
    thread = threading.Thread(target=_SIGNALS.wait, args=(awaited, on_stuck), name="signals", daemon=True)
    _SIGNALS.depth += 1
    if awaited:
        try:
            thread.start()
        except RuntimeError as error:
            if not is_without_room(error):
                raise
            signal.pthread_sigmask(signal.SIG_UNBLOCK, awaited)
    try:
        yield _follow
    finally:
        _SIGNALS.over.set()
        if not (to_the_end and is_interrupted()):
            _end(thread, awaited)
            signal.signal(_WAKING, before)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            _SIGNALS.blocked = set()
            _SIGNALS.forget()


def _end(thread: threading.Thread, awaited: set[signal.Signals]) -> None:
    """End the thread that waits; signals that came meanwhile are forgotten."""
    if not is_interrupted() and thread.ident is not None:
        with suppress(ProcessLookupError):
            signal.pthread_kill(thread.ident, next(iter(awaited)))
    if thread.ident is not None:
        thread.join()
    while is_interrupted() and signal.sigtimedwait(awaited, 0) is not None:
        pass
