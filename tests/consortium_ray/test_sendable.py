"""Errors of every kind on their way between processes: what was raised is told, and nobody dies of telling it."""

import pickle
import threading

import pytest
import ray
import torch
from consortium.common.errors import ModelError, RunError
from consortium_ray.coordinator.coordinator_process import _meant
from consortium_ray.sendable import WorkError, errors_that_travel, first_line
from consortium_ray.workers.ray_pool import said_by
from ray._raylet import raise_sys_exit_with_custom_error_message
from ray.exceptions import RayTaskError


class NeedsMoreError(Exception):
    """Made of two things, as errors of HTTP libraries are; read from its pickle it gets one."""

    def __init__(self, response, request):
        super().__init__(f"{response} Too Many Requests")


class HoldsLockError(Exception):
    def __init__(self):
        super().__init__("it holds a lock")
        self.lock = threading.Lock()


class CannotBePickledError(Exception):
    def __reduce__(self):
        raise ValueError("no way")


class SaysNothingError(Exception):
    def __str__(self):
        raise ValueError("no words")


def local_error():
    class LocalError(Exception):
        pass

    return LocalError("a class of a function")


ODD = {
    "needs-more": (lambda: NeedsMoreError(429, "GET"), "NeedsMoreError: 429 Too Many Requests"),
    "holds-lock": (HoldsLockError, "HoldsLockError: it holds a lock"),
    "no-pickle": (lambda: CannotBePickledError("at all"), "CannotBePickledError: at all"),
    "no-words": (SaysNothingError, "SaysNothingError"),
    "exit": (lambda: SystemExit(3), "SystemExit: 3"),
    "keyboard": (KeyboardInterrupt, "KeyboardInterrupt"),
    "generator": (GeneratorExit, "GeneratorExit"),
}
PLAIN = {
    "cuda": (lambda: torch.OutOfMemoryError("CUDA out of memory"), "OutOfMemoryError: CUDA out of memory"),
    "memory": (MemoryError, "MemoryError"),
    "local": (local_error, "LocalError: a class of a function"),
    "group": (
        lambda: ExceptionGroup("two", [ValueError("a"), TypeError("b")]),
        "ExceptionGroup: two (2 sub-exceptions)",
    ),
    "long": (lambda: ValueError("y" * 5_000_000), f"ValueError: {'y' * 500}…"),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_cannot_travel_goes_as_its_words_and_its_place(kind):
    make, words = ODD[kind]
    with pytest.raises(WorkError) as caught, errors_that_travel():
        raise make()
    again = pickle.loads(pickle.dumps(caught.value))
    assert first_line(again).startswith(f"{words} (test_sendable.py:")


@pytest.mark.parametrize("kind", PLAIN)
def test_what_can_travel_stays_what_it_is(kind):
    make, words = PLAIN[kind]
    error = make()
    with pytest.raises(type(error)) as caught, errors_that_travel():
        raise error
    assert caught.value is error
    assert first_line(error) == words


def test_our_own_errors_stay_what_they_are():
    error = ModelError("no such model", "another", "name it")
    with pytest.raises(ModelError) as caught, errors_that_travel():
        raise error
    assert caught.value is error


def test_an_end_that_ray_brings_about_is_one():
    with pytest.raises(SystemExit), errors_that_travel():
        raise_sys_exit_with_custom_error_message("The process receives a SIGTERM.", exit_code=1)


def test_a_coordinator_that_fails_in_such_a_way_stops_the_run_with_the_reason():
    error = _meant(RayTaskError("step", "", WorkError("HTTPStatusError: 429 Too Many Requests (hub.py:3)")))
    assert isinstance(error, RunError)
    assert "the coordinator failed: HTTPStatusError: 429 Too Many Requests (hub.py:3)" in error.found
    assert error.exit_code == 1


class Raises:
    """An actor that raises what it is asked to, as workers do."""

    def answer(self, kind):
        with errors_that_travel():
            raise (ODD | PLAIN)[kind][0]()


@pytest.mark.slow
def test_an_actor_raises_each_of_them_and_goes_on(ray_here):
    actor = ray.remote(num_cpus=0.1)(Raises).remote()
    for kind, (_, words) in (ODD | PLAIN).items():
        with pytest.raises(RayTaskError) as caught:
            ray.get(actor.answer.remote(kind), timeout=240)
        assert said_by(caught.value).startswith(f"{words} (test_sendable.py:"), kind
    ray.kill(actor)
