"""Fixtures of the whole suite."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

import consortium_ray  # noqa: F401 (sets what Ray reads from the environment once, before anything imports it)
import pytest
import torch
from consortium.models.language import LanguageModel
from consortium.models.open import open_model
from consortium.scenario.schema import LanguageModelSpec
from support.shared_runs import SharedRuns

# Pico models are too small for more threads to help, and sums are the same on every machine with one.
torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with the most slow tests come first, so that processes which share the files end at about the same time."""
    num_slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -num_slow[item.path])


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_disks() -> Iterator[None]:
    """No test can tell whether bytes have reached a disk, and a small run would wait for that two hundred times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)  # which minds a descriptor that is closed, too
        yield


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache folder that the tests of one file share with nobody."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONSORTIUM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def smollm2() -> LanguageModel:
    """The bundled real model on the CPU, opened once; a test that sets weights puts the old ones back."""
    return open_model(LanguageModelSpec(device="cpu"))


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedRuns]:
    """Gives the finished serial run of a scenario, which all tests share and none may change."""
    base = tmp_path_factory.getbasetemp()
    runs = SharedRuns((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared-runs")
    yield runs
    runs.check()
