"""Fixtures of the whole suite."""

from __future__ import annotations

from collections.abc import Iterator

import consortium_ray  # noqa: F401 (sets what Ray reads from the environment once, before anything imports it)
import pytest
import torch
from consortium.models.language import LanguageModel
from consortium.models.open import open_model
from consortium.scenario.schema import LanguageModelSpec

# Pico models are too small for more threads to help, and sums are the same on every machine with one.
torch.set_num_threads(1)


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
