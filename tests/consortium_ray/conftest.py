"""One Ray for all tests, one cache of their own, and pico models."""

import pytest
from consortium_ray import runtime
from consortium_ray.coordinator import dispatcher
from support.pico import pico_folder


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Set before Ray starts, whose processes take the environment over."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONSORTIUM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _no_worker_is_slow(monkeypatch):
    """On a busy machine any call may take long, and whose work others take over would depend on the clock.

    Tests of just that have a fixture of this name that does nothing.
    """
    monkeypatch.setattr(dispatcher, "takes_over", lambda *seconds: False)
    monkeypatch.setattr(dispatcher, "is_overlong", lambda *seconds: False)


@pytest.fixture(scope="session")
def pico(tmp_path_factory):
    return {kind: pico_folder(tmp_path_factory.mktemp(kind), kind, num_layers=4) for kind in ("llama", "gpt2")}


@pytest.fixture(scope="session")
def ray_here(_own_cache):
    """A Ray that runs in this process already use."""
    with runtime.connected(None):
        yield
